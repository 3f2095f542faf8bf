"""Paths: one form, decoded once, and nothing that two programs read differently."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.core.http import path

segments = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=8).filter(
    lambda text: text not in (".", "..")
)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"/", "/"),
        (b"/a/b", "/a/b"),
        (b"/a/", "/a/"),
        (b"/A", "/A"),
        (b"//a", "//a"),
        (b"/a//b/", "/a//b/"),
        (b"/%61dmin", "/admin"),
        (b"/caf%C3%A9", "/café"),
        (b"/a%2Fb", "/a%2Fb"),
        (b"/a%2fb", "/a%2Fb"),
        (b"/a%252Fb", "/a%252Fb"),
        (b"/100%25", "/100%25"),
        (b"/a;x=1/b", "/a;x=1/b"),
        (b"/a+b", "/a+b"),
        (b"/a%20b", "/a b"),
        (b"/a%5Cb", "/a\\b"),
        (b"/...", "/..."),
        (b"/.well-known/x", "/.well-known/x"),
        (b"/a/..;/b", "/a/..;/b"),
        (b"/a%3Fb%23c", "/a?b#c"),
        (b'/{a}|^`"<>[]~', '/{a}|^`"<>[]~'),
    ],
)  # fmt: skip
def test_a_path_is_cut_first_and_each_segment_is_decoded_once(raw: bytes, expected: str) -> None:
    assert path.canonical(raw) == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"*", b"a", b"http://example.com/", b"/..", b"/../a", b"/a/..", b"/a/../b", b"/.", b"/./a", b"/a/.", b"/a/./b",
        b"/%2e%2e/a", b"/.%2E", b"/%2e", b"/a/%2E%2e/b", b"/a%00", b"/%00", b"/a%0Ab", b"/a%0d%0ab", b"/%7F", b"/%C2%80", b"/%E2%80%A8",
        b"/%", b"/%4", b"/%zz", b"/%u0041", b"/%FF", b"/%C0%AF", b"/%C0%80", b"/%ED%A0%80", b"/%C3", b"/a b", b"/a\\b", b"/a#b", b"/a?b",
        b"/a\x00", b"/a\nb", b"/a\n", b"/caf\xc3\xa9", b"/a\x7f",
    ],
)  # fmt: skip
def test_what_two_programs_read_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="the path"):
        path.canonical(raw)


@given(st.lists(segments, min_size=1, max_size=5))
@example(["%2F", "/", "%", "%25"])
def test_any_segments_come_back_as_they_were_sent(sent: list[str]) -> None:
    found = path.canonical(("/" + "/".join(quote(segment, safe="") for segment in sent)).encode())
    assert [path.value(segment) for segment in found[1:].split("/")] == sent


@given(st.lists(segments, min_size=1, max_size=5), st.lists(segments, min_size=1, max_size=5))
def test_two_paths_are_one_only_if_their_segments_are(one: list[str], other: list[str]) -> None:
    forms = [
        path.canonical(("/" + "/".join(quote(each, safe="") for each in all_)).encode())
        for all_ in (one, other)
    ]
    assert (forms[0] == forms[1]) == (one == other)


@given(st.binary(max_size=30).map(lambda rest: b"/" + rest))
def test_whatever_comes_is_a_path_that_reads_back_or_is_refused(raw: bytes) -> None:
    try:
        found = path.canonical(raw)
    except ValueError:
        return
    assert found.startswith("/")
    assert not {".", ".."} & set(found.split("/"))
    assert found.count("/") == raw.count(b"/")
    assert not any(ord(character) < 32 for character in found)
    assert path.canonical(path.encoded(found).encode()) == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [("/café", "/café"), ("/caf%C3%A9", "/café"), ("/a b", "/a b"), ("/orders/{id}", "/orders/{id}"), ("/a%2Fb", "/a%2Fb")],
)  # fmt: skip
def test_a_path_in_a_route_may_hold_letters_of_all_scripts(text: str, expected: str) -> None:
    assert path.declared(text) == expected


@pytest.mark.parametrize("text", ["", "a", "/a/../b", "/%", "/a\nb", "/a?b", "/a#b", "/a\\b"])
def test_a_path_in_a_route_is_refused_as_one_of_a_request_is(text: str) -> None:
    with pytest.raises(ValueError, match="the path"):
        path.declared(text)


@pytest.mark.parametrize(
    "text", ["/a{b}", "/{a}b", "/{}", "/{1}", "/{a b}", "/{a", "/a}", "/{a}/{a}", "/{a.b}"]
)
def test_a_name_in_braces_is_a_whole_segment_and_stands_once(text: str) -> None:
    with pytest.raises(ValueError, match=r"whole segment|twice"):
        path.names(text)
