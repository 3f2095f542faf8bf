"""Subjects: what a template accepts, and wildcard algebra against a matcher that tries everything."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core.subject import (
    LONGEST,
    Template,
    covers,
    is_reserved,
    matches,
    overlaps,
    problem,
    wire_problem,
)

# Every subject of up to four tokens over two letters: enough to tell any two patterns of up to three apart.
LITERALS = [".".join(tokens) for length in (1, 2, 3, 4) for tokens in product("ab", repeat=length)]
PATTERNS = [
    ".".join([*tokens, *end])
    for length in (0, 1, 2, 3)
    for tokens in product("a*", repeat=length)
    for end in ((), (">",))
    if tokens or end
]
patterns = st.sampled_from(PATTERNS)
tokens = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters=".*>{}$"), min_size=1, max_size=6
)


def brute_force(pattern: str, subject: str) -> bool:
    """NATS's rule, told recursively instead of by position."""
    head, _, rest = pattern.partition(".")
    token, _, tail = subject.partition(".")
    if head == ">":
        return True
    if head not in ("*", token):
        return False
    if not rest or not tail:
        return not rest and not tail
    return brute_force(rest, tail)


def meant_by(pattern: str) -> set[str]:
    return {subject for subject in LITERALS if brute_force(pattern, subject)}


@given(patterns, st.sampled_from(LITERALS))
def test_a_pattern_matches_what_a_brute_force_matcher_finds(pattern: str, subject: str) -> None:
    assert matches(pattern, subject) == brute_force(pattern, subject)


@given(patterns, patterns)
def test_a_pattern_covers_another_exactly_if_its_subjects_are_a_superset(outer: str, inner: str) -> None:
    assert covers(outer, inner) == (meant_by(inner) <= meant_by(outer))


@given(patterns, patterns)
def test_patterns_overlap_exactly_if_they_share_a_subject(a: str, b: str) -> None:
    assert overlaps(a, b) == bool(meant_by(a) & meant_by(b))
    assert overlaps(a, b) == overlaps(b, a)


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("orders.*.created", "orders.c1.created", True),
        ("orders.*.created", "orders.created", False),
        ("orders.>", "orders", False),
        ("orders.>", "orders.c1.created", True),
        (">", "orders", True),
        ("orders", "orders.c1", False),
    ],
)
def test_wildcards_follow_the_rules_of_nats(pattern: str, subject: str, *, expected: bool) -> None:
    assert matches(pattern, subject) is expected


@pytest.mark.parametrize(
    ("text", "wildcard", "names", "positions"),
    [
        ("orders", "orders", (), ()),
        ("orders.{customer}.created", "orders.*.created", ("customer",), (1,)),
        ("{a}.{b}.>", "*.*.>", ("a", "b"), (0, 1)),
        ("ledger.{account}.*", "ledger.*.*", ("account",), (1,)),
        ("größe.{kunde}", "größe.*", ("kunde",), (1,)),
        (">", ">", (), ()),
    ],
)
def test_a_template_remembers_its_names_and_where_they_stand(
    text: str, wildcard: str, names: tuple[str, ...], positions: tuple[int, ...]
) -> None:
    assert Template.parse(text) == Template(text, wildcard, names, positions)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("orders..created", "empty token"),
        (".orders", "empty token"),
        ("orders.", "empty token"),
        ("orders. c1", "whitespace"),
        ("orders.\x00", "control"),
        ("orders.\ud800", "control"),
        ("orders.>.created", "last"),
        ("orders.a*", "whole token"),
        ("orders.a>", "whole token"),
        ("orders.{a}x", "whole token"),
        ("orders.{a}{b}", "whole token"),
        ("orders.{a", "whole token"),
        ("orders.a}", "whole token"),
        ("orders.{}", "identifier"),
        ("orders.{1a}", "identifier"),
        ("orders.{a-b}", "identifier"),
        ("{a}.{a}", "twice"),
        ("$JS.API.>", "system"),
        ("$KV.bucket.>", "system"),
        ("_INBOX.>", "system"),
        ("_INBOX_runner.x", "system"),
        ("a" * (LONGEST + 1), "longer"),
    ],
)
def test_a_wrong_template_says_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Template.parse(text)


@given(tokens, tokens)
def test_what_is_rendered_is_matched_and_extracted_again(customer: str, item: str) -> None:
    template = Template.parse("orders.{customer}.items.{item}")
    values = {"customer": customer, "item": item}
    subject = template.render(values)
    assert matches(template.wildcard, subject)
    assert template.extract(subject) == values
    assert problem(subject) is None


@given(st.text(max_size=5))
def test_rendering_never_makes_a_subject_of_another_shape(value: str) -> None:
    template = Template.parse("orders.{customer}.created")
    try:
        subject = template.render({"customer": value})
    except ValueError:
        return
    assert problem(subject) is None
    assert template.extract(subject) == {"customer": value}


@pytest.mark.parametrize("value", ["", "a.b", "*", ">", "a b", "a\n", "\x7f", "\ud800"])
def test_a_value_that_is_not_one_token_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="not one token"):
        Template.parse("orders.{customer}").render({"customer": value})


def test_rendering_needs_every_name_and_no_bare_wildcard() -> None:
    with pytest.raises(ValueError, match=r"no value for \{customer\}"):
        Template.parse("orders.{customer}").render({})
    with pytest.raises(ValueError, match="bare wildcard"):
        Template.parse("orders.{customer}.*").render({"customer": "c1"})


def test_extracting_from_a_subject_that_is_too_short_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not match"):
        Template.parse("orders.{customer}").extract("orders")


@pytest.mark.parametrize(
    ("text", "literal", "renderable"),
    [
        ("orders", True, True),
        ("orders.{id}", False, True),
        ("orders.*", False, False),
        ("orders.>", False, False),
    ],
)
def test_a_template_knows_whether_it_is_one_subject(text: str, *, literal: bool, renderable: bool) -> None:
    template = Template.parse(text)
    assert (template.is_literal, template.renderable) == (literal, renderable)


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ("", "empty"),
        ("a..b", "empty token"),
        ("a b", "whitespace"),
        ("a\tb", "whitespace"),
        ("a.\r\nPUB", "whitespace"),
        ("a.*", "wildcard"),
        ("a.>", "wildcard"),
        ("ä" * (LONGEST // 2 + 1), "longer"),
    ],
)
def test_a_subject_that_cannot_be_published_to_says_why(subject: str, why: str) -> None:
    assert why in (problem(subject) or "")


@pytest.mark.parametrize("subject", ["a", "a.b-c_d", "größe.1", "a.b*c", "ä" * (LONGEST // 2)])
def test_a_subject_that_can_be_published_to_has_no_problem(subject: str) -> None:
    assert problem(subject) is None


@pytest.mark.parametrize(
    "bad",
    [b"", b" ", b"a b", b"a\r\nb", b"a\nb", b"a\rb", b"a\tb", b"a\x00b", b"a\x1bb", b"\x7f", b"x" * 3_001],
)
def test_what_is_no_subject_has_a_problem_on_the_wire(bad: bytes) -> None:
    assert wire_problem(bad, b"")
    if bad:
        assert wire_problem(b"a", bad) or len(bad) == 3_001


def test_a_control_line_has_room_for_subject_and_reply_together() -> None:
    assert wire_problem(b"x" * LONGEST, b"r" * 750) is None
    assert wire_problem(b"x" * LONGEST, b"r" * 751)
    assert wire_problem("flüge.✈".encode(), b"_INBOX.a.1") is None
    assert wire_problem(b"x" * 100, b"", 99)


@pytest.mark.parametrize(
    "word", ["$JS.API.INFO", "$KV.jetrunner.claim.a", "$JETRUNNER.due.shop", "deadletters.shop.charge"]
)
def test_subjects_of_the_server_and_of_jetrunner_are_reserved(word: str) -> None:
    assert is_reserved(word)


@pytest.mark.parametrize("word", ["orders.a", "$KV.prices.a", "due.a", "again.a", "jetrunner-shop.a"])
def test_subjects_of_a_project_are_not(word: str) -> None:
    assert not is_reserved(word)
