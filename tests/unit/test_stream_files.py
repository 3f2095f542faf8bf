"""Stream files: what they may say, what they become, and how every mistake is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.core.streams.config import Change, DeclaredStream, difference, merged, shown
from runner.core.streams.danger import StandingConsumer, StreamHoldings
from runner.errors import StreamFileError
from runner.streams.file import declare, load_streams

SECOND = 10**9
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


@pytest.fixture
def write(tmp_path: Path) -> Any:
    (tmp_path / "streams").mkdir()

    def write_files(*texts: str, **files: str) -> Path:
        for name, text in {**dict(zip(("orders", "ledger"), texts, strict=False)), **files}.items():
            (tmp_path / "streams" / f"{name}.toml").write_text(text, encoding="utf-8")
        return tmp_path

    return write_files


def stream(**fields: Any) -> DeclaredStream:
    return DeclaredStream("ORDERS", "streams/orders.toml", {"name": "ORDERS", **fields})


def real(**fields: Any) -> dict[str, Any]:
    """A stream as nats-server 2.15 describes one that `apply` made, then changed by hand."""
    return {
        "name": "ORDERS",
        "subjects": ["orders.>", "_jetrunner.ORDERS.>"],
        "retention": "limits",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msgs_per_subject": -1,
        "max_msg_size": -1,
        "discard": "old",
        "storage": "file",
        "num_replicas": 1,
        "duplicate_window": 15 * MINUTE,
        "compression": "none",
        "allow_direct": True,
        "mirror_direct": False,
        "sealed": False,
        "deny_delete": False,
        "deny_purge": False,
        "allow_rollup_hdrs": False,
        "consumer_limits": {},
        "allow_msg_ttl": False,
        "allow_atomic": True,
        "metadata": {"_nats.req.level": "2"},
        **fields,
    }


def only(changes: tuple[Change, ...]) -> Change:
    assert len(changes) == 1, changes
    return changes[0]


def test_a_file_is_one_stream_in_the_servers_own_units(write: Any) -> None:
    root = write(
        """
        name = "ORDERS"
        subjects = ["orders.{customer}.created", "orders.*.paid"]
        max_age = "7d"
        max_bytes = "1GiB"
        duplicate_window = 90
        subject_delete_marker_ttl = "1m"
        max_msgs = 0
        metadata = { team = "sales" }
        consumer_limits = { inactive_threshold = "1h" }
        sources = [{ name = "EU", filter_subject = "eu.{customer}", opt_start_time = 2026-01-31T12:00:00.500+02:00 }]
        """
    )
    assert load_streams(root) == (
        DeclaredStream(
            "ORDERS",
            "streams/orders.toml",
            {
                "name": "ORDERS",
                "subjects": ["orders.*.created", "orders.*.paid"],
                "max_age": 7 * 24 * HOUR,
                "max_bytes": 2**30,
                "duplicate_window": 90 * SECOND,
                "subject_delete_marker_ttl": MINUTE,
                "max_msgs": -1,
                "metadata": {"team": "sales"},
                "consumer_limits": {"inactive_threshold": HOUR},
                "sources": [
                    {"name": "EU", "filter_subject": "eu.*", "opt_start_time": "2026-01-31T10:00:00.5Z"}
                ],
            },
        ),
    )


def test_a_new_stream_gets_what_jetrunner_needs() -> None:
    config = merged(stream(subjects=["orders.>"]), None)
    assert config == {
        "name": "ORDERS",
        "subjects": ["orders.>", "_jetrunner.ORDERS.>"],
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "num_replicas": 1,
        "allow_direct": True,
        "allow_atomic": True,
        "duplicate_window": 15 * MINUTE,
    }


def test_the_default_duplicate_window_is_never_longer_than_the_messages_live() -> None:
    assert merged(stream(subjects=["a"], max_age=MINUTE), None)["duplicate_window"] == MINUTE
    assert merged(stream(subjects=["a"]), real(max_age=MINUTE))["duplicate_window"] == MINUTE


def test_a_mirror_is_declared_without_what_a_mirror_cannot_have(write: Any) -> None:
    root = write('name = "COPY"\nmirror = { name = "ORDERS" }')
    config = merged(load_streams(root)[0], None)
    assert not {"subjects", "allow_atomic", "duplicate_window"} & config.keys()


def test_a_project_without_streams_declares_none(tmp_path: Path) -> None:
    assert load_streams(tmp_path) == ()


ORDERS = 'name = "ORDERS"\nsubjects = ["orders.>"]\n'
SHARDED = 'name = "LEDGER"\nsubjects = ["ledger.{account}.*"]\n[shards]\ncount = 4\nby = ["account"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "ORDERS"\nsubjects = ["orders.>"\nmax_age = 1', "streams/orders.toml:3: not TOML: "),
        ('name = "ORDERS', "streams/orders.toml:1: not TOML: "),
        ('subjects = ["orders.>"]', "streams/orders.toml: name: missing"),
        ('name = "ORDERS"', "streams/orders.toml: subjects: missing"),
        (
            ORDERS + 'max_agee = "1h"',
            'streams/orders.toml:3: max_agee: no such field; did you mean "max_age"?',
        ),
        (
            ORDERS + 'retention = "limit"',
            'retention: "limit" is none of "limits", "interest", "workqueue"; did you',
        ),
        (ORDERS + 'max_age = "1 hour"', "streams/orders.toml:3: max_age: '1 hour' is not a duration"),
        (ORDERS + "max_age = 900000000000", "is over 292 years; a bare number counts seconds"),
        (ORDERS + "max_age = 0.01", "max_age: 0.01 is under 100ms"),
        (ORDERS + "max_age = -1", "max_age: -1 is not a duration"),
        (ORDERS + "max_age = true", "max_age: true is not a duration"),
        (ORDERS + 'max_bytes = "1GiBi"', "max_bytes: '1GiBi' is not a size"),
        (ORDERS + 'max_msg_size = "4GiB"', 'max_msg_size: "4GiB" is over 2 GiB'),
        (ORDERS + 'max_msgs = "many"', 'max_msgs: "many" is not a whole number'),
        (ORDERS + "max_msgs = -5", "max_msgs: -5 is not a limit"),
        (ORDERS + "allow_direct = 1", "allow_direct: 1 is neither true nor false"),
        (ORDERS + "num_replicas = 6", "num_replicas: 6 is not between 1 and 5"),
        ('name = "OR.DERS"\nsubjects = ["a"]', "name: \"OR.DERS\" holds '.', which a stream name cannot"),
        ('name = "DEADLETTERS"\nsubjects = ["a"]', "name: DEADLETTERS is Jetrunner's own stream"),
        ('name = "A"\nsubjects = "a.>"', 'subjects: "a.>" is not a list: write ["a.>"]'),
        (
            'name = "A"\nsubjects = ["a..b"]',
            "streams/orders.toml:2: subjects: subject 'a..b': it has an empty token",
        ),
        ('name = "A"\nsubjects = ["a.{b"]', "{name} is a whole token"),
        ('name = "A"\nsubjects = ["a.*", "*.b"]', 'subjects: "a.*" and "*.b" overlap'),
        (
            'name = "A"\nsubjects = [">"]',
            'subjects: ">" overlaps "$JETRUNNER.again.>", which belongs to the stream JETRUNNER',
        ),
        (SHARDED.replace("4", "0"), "streams/orders.toml:4: shards.count: 0 is not between 1 and 1,024"),
        (SHARDED.replace("4", "1025"), "shards.count: 1025 is not between 1 and 1,024"),
        (SHARDED.replace("4", '"4"'), "shards.count: '4' is not a whole number"),
        (SHARDED.replace("4", "true"), "shards.count: True is not a whole number"),
        (SHARDED.replace("count", "counts"), 'shards.counts: no such field; did you mean "count"?'),
        (SHARDED.replace("count = 4", ""), ":3: shards.count: missing: say how many, as count = 32"),
        (
            SHARDED.replace('by = ["account"]', ""),
            ':3: shards.by: missing: name the tokens of the key, as by = ["account"]',
        ),
        (SHARDED.replace('["account"]', '"account"'), 'is not a list of tokens: write ["account"]'),
        (SHARDED.replace('["account"]', "[]"), "shards.by: empty: name the tokens of the key"),
        (SHARDED.replace('["account"]', '["account", "account"]'), "shards.by: a token is named twice"),
        (
            SHARDED.replace('["account"]', '["acount"]'),
            ':5: shards.by: "acount" is not a token of the subject "ledger.{account}.*"; did you mean "account"?',
        ),
        (
            SHARDED.replace('["account"]', '["kind"]'),
            '"kind" is not a token of the subject "ledger.{account}.*": write {kind}',
        ),
        (SHARDED.replace("{account}", "*"), 'is not a token of the subject "ledger.*.*": write {account}'),
        (ORDERS + 'shards = { count = 0, by = ["a"] }', "streams/orders.toml:3: shards.count: 0 is not"),
        (
            SHARDED.replace('"ledger.{account}.*"', '"ledger.{account}.*", "bank.eu.{account}"'),
            'it is token 2 of "ledger.{account}.*", but token 3 of "bank.eu.{account}"',
        ),
        (
            SHARDED.replace("ledger.", "shard."),
            'subjects that start with "shard" are those of stored messages',
        ),
        ('name = "A"\nsubjects = ["a"]\nshards = 4', ":3: shards: 4 is not a table: write [shards]"),
        (
            'subject_transform = { dest = "x.>" }\n' + SHARDED,
            "streams/orders.toml:1: subject_transform: [shards] makes its own",
        ),
        (
            'name = "A"\nmirror = { name = "B" }\n[shards]\ncount = 1\nby = ["a"]',
            "a mirror cannot be sharded",
        ),
        ('sources = [{ name = "B" }]\n' + SHARDED, 'to shard another stream, write source = "NAME" instead'),
        ('name = "A"\n[shards]\ncount = 1\nby = ["a"]', "subjects: missing: [shards] needs to know where"),
        (ORDERS + 'source = "THEIRS"', "streams/orders.toml:3: source: [shards] is missing"),
        ('source = "a.b"\n' + SHARDED, "source: \"a.b\" holds '.', which a stream name cannot"),
        ('source = "LEDGER"\n' + SHARDED, "source: a stream cannot copy itself"),
        (
            'source = "B"\nduplicate_window = "1m"\n' + SHARDED,
            "duplicate_window: it would drop what the other",
        ),
        (ORDERS + "shard = 4", 'shard: no such field; did you mean "shards"?'),
        (ORDERS + '[republish]\nsource = "a"', "streams/orders.toml:4: republish.source: no such field"),
        (ORDERS + '[republish]\nsrc = "a"', "republish: dest is missing"),
        (ORDERS + '[[sources]]\nname = "B"\nfilter = "a"', "sources.filter: no such field; did you mean"),
        (ORDERS + '[metadata]\n"_nats.ver" = "1"', "metadata._nats.ver: the server keeps"),
        (
            ORDERS + 'max_age = "1m"\nduplicate_window = "2m"',
            ":4: duplicate_window: duplicate_window cannot be longer",
        ),
        (ORDERS + "discard_new_per_subject = true", 'discard_new_per_subject needs discard = "new"'),
        (ORDERS + 'allow_msg_schedules = true\ndiscard = "new"', "schedules cannot be kept with"),
        (
            ORDERS + 'persist_mode = "async"\nallow_atomic = true',
            "allow_atomic cannot be had with persist_mode",
        ),
        (ORDERS + 'mirror = { name = "B" }', ":2: subjects: a mirror only copies"),
    ],
)
def test_every_mistake_names_the_file_and_the_field(write: Any, text: str, message: str) -> None:
    with pytest.raises(StreamFileError) as caught:
        load_streams(write(text))
    assert str(caught.value).startswith("streams/orders.toml")
    assert message in str(caught.value)


def test_a_file_that_is_not_text_is_named(write: Any) -> None:
    root = write()
    (root / "streams" / "broken.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(StreamFileError, match=r"^streams/broken.toml: not UTF-8 text"):
        load_streams(root)


def test_two_files_cannot_declare_one_name(write: Any) -> None:
    root = write('name = "A"\nsubjects = ["a"]', 'name = "A"\nsubjects = ["b"]')
    with pytest.raises(
        StreamFileError, match=r'streams/orders.toml: name: "A" is declared in streams/ledger.toml'
    ):
        load_streams(root)


def test_two_files_cannot_capture_the_same_subject(write: Any) -> None:
    root = write('name = "A"\nsubjects = ["a.{b}.c"]', 'name = "B"\nsubjects = ["a.b.>"]')
    with pytest.raises(StreamFileError, match=r'"a.\*.c" overlaps "a.b.>" of streams/ledger.toml') as caught:
        load_streams(root)
    assert "narrower" in caught.value.hint


def test_nothing_differs_where_only_the_servers_defaults_stand() -> None:
    assert difference(stream(subjects=["orders.>"]), real()) == ()
    assert difference(stream(subjects=["orders.>"], persist_mode="default", max_msgs=-1), real()) == ()


def test_fields_that_the_file_does_not_name_stay_as_they_are() -> None:
    adopted = real(
        max_msgs=10, description="by hand", compression="s2", metadata={"_nats.ver": "2.15", "a": "b"}
    )
    declared = stream(subjects=["orders.>"], metadata={"team": "sales"})
    assert only(difference(declared, adopted)) == Change("metadata", {}, {"team": "sales"}, "safe")
    assert merged(declared, adopted) == {
        **adopted,
        "metadata": {"_nats.ver": "2.15", "a": "b", "team": "sales"},
    }


def test_an_adopted_stream_gets_what_jetrunner_needs_and_keeps_a_longer_window() -> None:
    adopted = real(allow_atomic=False, allow_direct=False, duplicate_window=2 * MINUTE)
    changes = difference(stream(subjects=["orders.>"]), adopted)
    assert {change.field: change.declared for change in changes} == {
        "allow_atomic": True,
        "allow_direct": True,
        "duplicate_window": 15 * MINUTE,
    }
    assert difference(stream(subjects=["orders.>"]), real(duplicate_window=HOUR)) == ()


@pytest.mark.parametrize(
    ("declared", "adopted", "holdings"),
    [
        ({"max_msgs": 10}, {}, StreamHoldings(messages=10)),
        ({"max_bytes": 100}, {"max_bytes": 1000}, StreamHoldings(messages=3, bytes=100)),
        ({"max_age": HOUR}, {}, StreamHoldings(messages=3, oldest=3599.0)),
        ({"max_age": HOUR}, {}, StreamHoldings(messages=0, oldest=1e9)),
        ({"max_age": 0}, {"max_age": HOUR}, StreamHoldings(messages=3, oldest=1e9)),
        ({"max_msgs": -1}, {"max_msgs": 10}, StreamHoldings(messages=10)),
        ({"max_msgs_per_subject": 2}, {}, StreamHoldings(messages=3, most_per_subject=2)),
        ({"max_msg_size": 100}, {}, StreamHoldings()),
        ({"max_msg_size": 100}, {"max_msg_size": 10}, StreamHoldings(messages=9)),
        ({"num_replicas": 3}, {}, StreamHoldings(messages=9)),
        ({"num_replicas": 3}, {"num_replicas": 5}, StreamHoldings(messages=9)),
        ({"discard": "new"}, {}, StreamHoldings(messages=9)),
        ({"allow_msg_ttl": True}, {}, StreamHoldings(messages=9)),
        ({"compression": "s2"}, {}, StreamHoldings(messages=9)),
        ({"duplicate_window": MINUTE}, {}, StreamHoldings(messages=9)),
        ({"subjects": ["orders.>", "refunds.>"]}, {}, StreamHoldings(messages=9)),
        ({"subjects": [">"]}, {}, StreamHoldings(readers=(StandingConsumer("shop-charge", ("orders.a",)),))),
        (
            {"subjects": ["orders.a"]},
            {},
            StreamHoldings(readers=(StandingConsumer("shop-charge", ("orders.a",)),)),
        ),
        ({"subject_transform": {"src": "a", "dest": "b"}}, {}, StreamHoldings()),
    ],
)
def test_a_change_that_hurts_nothing_is_safe(
    declared: dict[str, Any], adopted: dict[str, Any], holdings: StreamHoldings
) -> None:
    change = only(difference(stream(**declared), real(**adopted), holdings))
    assert (change.safety, change.why) == ("safe", "")


@pytest.mark.parametrize(
    ("declared", "adopted", "holdings", "why"),
    [
        ({"storage": "memory"}, {}, StreamHoldings(), "cannot change the storage"),
        ({"retention": "workqueue"}, {}, StreamHoldings(), "retention decides which messages are deleted"),
        ({"retention": "limits"}, {"retention": "interest"}, StreamHoldings(), "retention"),
        ({"allow_msg_counter": True}, {}, StreamHoldings(), "cannot change it on an existing stream"),
        ({"first_seq": 100}, {}, StreamHoldings(), "only when the stream is created"),
        ({"allow_msg_ttl": False}, {"allow_msg_ttl": True}, StreamHoldings(), "cannot be switched off"),
        (
            {"allow_msg_schedules": False},
            {"allow_msg_schedules": True},
            StreamHoldings(),
            "cannot be switched off",
        ),
        ({"deny_purge": False}, {"deny_purge": True}, StreamHoldings(), "cannot be switched off"),
        ({"sealed": False}, {"sealed": True}, StreamHoldings(), "cannot be switched off"),
        ({"sealed": True}, {}, StreamHoldings(), "ends the stream for good"),
        ({"no_ack": True}, {}, StreamHoldings(), "no confirmation"),
        (
            {"max_msgs": 9},
            {},
            StreamHoldings(messages=12),
            "3 of 12 messages are over it and would be deleted at once",
        ),
        (
            {"max_msgs": 9, "discard": "new"},
            {"discard": "new"},
            StreamHoldings(messages=12),
            "fill the stream",
        ),
        ({"max_bytes": 1024}, {}, StreamHoldings(messages=12, bytes=3072), "2KiB of 3KiB are over it"),
        ({"max_age": HOUR}, {}, StreamHoldings(messages=1, oldest=3700.5), "1h1m40.5s old"),
        (
            {"max_msgs_per_subject": 2},
            {},
            StreamHoldings(messages=3, most_per_subject=3),
            "one subject holds 3",
        ),
        ({"max_msg_size": 9}, {}, StreamHoldings(messages=3), "came in under the larger limit"),
        (
            {"max_consumers": 1},
            {},
            StreamHoldings(readers=(StandingConsumer("a"), StandingConsumer("b"))),
            "it has 2 consumers already",
        ),
        ({"num_replicas": 1}, {"num_replicas": 3}, StreamHoldings(), "fewer than 3 replicas"),
        (
            {"subjects": ["orders.a"]},
            {},
            StreamHoldings(uncaptured={"orders.b": 7}),
            "7 messages on orders.b would",
        ),
        (
            {"subjects": ["orders.a"]},
            {},
            StreamHoldings(readers=(StandingConsumer("shop-charge", ("orders.*",)),)),
            "consumer shop-charge reads orders.>",
        ),
        (
            {"subject_transform": {"src": "a", "dest": "b"}},
            {},
            StreamHoldings(messages=1),
            "keeps its old subjects",
        ),
        ({"duplicate_window": HOUR}, {"max_age": MINUTE}, StreamHoldings(), "cannot be longer than max_age"),
        ({"allow_msg_schedules": True}, {"deny_purge": True}, StreamHoldings(), "deny_purge forbids"),
    ],
)
def test_a_change_that_could_hurt_is_refused_with_its_reason(
    declared: dict[str, Any], adopted: dict[str, Any], holdings: StreamHoldings, why: str
) -> None:
    change = only(difference(stream(**declared), real(**adopted), holdings))
    assert change.safety == "unsafe"
    assert why in change.why


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("max_age", 36 * HOUR, "1d12h"),
        ("max_age", 0, "0s"),
        ("max_bytes", 2**30, "1GiB"),
        ("max_bytes", -1, "-1"),
        ("subjects", ["a", "b"], '["a", "b"]'),
        ("allow_direct", True, "true"),
        ("storage", "file", '"file"'),
        ("metadata", {"a": "b"}, '{a = "b"}'),
        ("description", None, "nothing"),
    ],
)
def test_values_are_shown_as_a_file_would_say_them(field: str, value: object, text: str) -> None:
    assert shown(field, value) == text


def sharded(count: int = 4, *subjects: str, by: str = "account") -> DeclaredStream:
    table = {"name": "LEDGER", "subjects": list(subjects or ("ledger.{account}.*",))}
    return declare({**table, "shards": {"count": count, "by": [by]}}, "streams/ledger.toml")


def standing(declared: DeclaredStream, generation: int = 1, **fields: Any) -> dict[str, Any]:
    """The stream as `apply` left it, after so many changes of its shards."""
    config = real(**merged(declared, None), **fields)
    transform = dict(config["subject_transform"])
    transform["dest"] = transform["dest"].replace("shard.1.", f"shard.{generation}.")
    return {**config, "subject_transform": transform}


def test_shards_become_the_streams_subject_transform_in_generation_1() -> None:
    config = merged(sharded(), None)
    assert config["subjects"] == ["ledger.*.*", "_jetrunner.LEDGER.>"]
    assert config["subject_transform"] == {
        "src": "ledger.*.*",
        "dest": "shard.1.{{partition(4,1)}}.ledger.{{wildcard(1)}}.{{wildcard(2)}}",
    }
    shown_fields = {change.field: change.declared for change in difference(sharded(), None)}
    assert shown_fields["shards"] == {"count": 4, "by": ["account"]}
    assert "subject_transform" not in shown_fields


def test_the_order_in_which_tokens_are_named_makes_no_other_shards() -> None:
    def by(*names: str) -> DeclaredStream:
        table = {"name": "A", "subjects": ["a.{x}.{y}"], "shards": {"count": 2, "by": list(names)}}
        return declare(table, "streams/a.toml")

    assert by("x", "y") == by("y", "x")


def test_a_stream_in_a_later_generation_is_as_declared() -> None:
    assert difference(sharded(), standing(sharded(), generation=3), StreamHoldings(messages=9)) == ()


def test_a_sharded_stream_may_take_more_subjects_and_keeps_its_generation() -> None:
    wider = sharded(4, "ledger.{account}.*", "bank.{account}.*")
    found = standing(sharded(), generation=3)
    changes = {change.field: change.safety for change in difference(wider, found, StreamHoldings(messages=9))}
    assert changes == {"subjects": "safe", "subject_transform": "safe"}
    assert merged(wider, found)["subject_transform"]["dest"].startswith("shard.3.{{partition(4,")


@pytest.mark.parametrize(
    ("holdings", "safety", "why"),
    [
        (StreamHoldings(), "safe", ""),
        (StreamHoldings(messages=7), "safe", "what is stored already (7 messages) is generation 0"),
        (
            StreamHoldings(messages=7, readers=(StandingConsumer("shop-charge", ours=True),)),
            "safe",
            "generation 0",
        ),
        (
            StreamHoldings(messages=7, readers=(StandingConsumer("theirs"),)),
            "unsafe",
            "consumer theirs is not this project's",
        ),
        (
            StreamHoldings(readers=(StandingConsumer("theirs"),)),
            "unsafe",
            "consumer theirs is not this project's",
        ),
        (
            StreamHoldings(readers=(StandingConsumer("shop-charge", ours=True, waiting=1),)),
            "unsafe",
            "stop all that read LEDGER, apply this, and start them again",
        ),
    ],
)
def test_shards_are_added_when_nobody_would_miss_a_message(
    holdings: StreamHoldings, safety: str, why: str
) -> None:
    plain = {key: value for key, value in standing(sharded()).items() if key != "subject_transform"}
    change = only(difference(sharded(), plain, holdings))
    assert (change.field, change.real, change.safety) == ("shards", None, safety)
    assert why in change.why


@pytest.mark.parametrize("holdings", [StreamHoldings(), StreamHoldings(messages=7)])
def test_other_shards_are_never_applied_but_resized(holdings: StreamHoldings) -> None:
    change = only(difference(sharded(8), standing(sharded(4)), holdings))
    assert (change.real, change.declared) == (
        {"count": 4, "by": ["account"]},
        {"count": 8, "by": ["account"]},
    )
    assert change.safety == "unsafe"
    assert "`runner shard resize LEDGER 8`, or go back to count = 4" in change.why


def test_another_key_is_refused_in_the_same_words() -> None:
    subject = "ledger.{account}.{kind}"
    change = only(difference(sharded(4, subject, by="kind"), standing(sharded(4, subject)), StreamHoldings()))
    assert change.real == {"count": 4, "by": ["token 2"]}
    assert "`runner shard resize LEDGER 4`, which takes `by` from the file, or go back" in change.why


def test_a_transform_that_is_not_ours_is_not_replaced_under_messages() -> None:
    found = {**standing(sharded()), "subject_transform": {"src": "ledger.>", "dest": "books.>"}}
    change = only(difference(sharded(), found, StreamHoldings(messages=1)))
    assert (change.safety, "transforms its subjects already" in change.why) == ("unsafe", True)
    assert only(difference(sharded(), found, StreamHoldings())).safety == "safe"


def test_a_file_without_shards_leaves_those_of_the_stream() -> None:
    plain = DeclaredStream("LEDGER", "streams/ledger.toml", {"name": "LEDGER", "subjects": ["ledger.*.*"]})
    assert difference(plain, standing(sharded()), StreamHoldings(messages=9)) == ()


@pytest.mark.parametrize(
    ("subjects", "source"),
    [
        (["ledger.{account}.*"], {"filter_subject": "ledger.*.*"}),
        (
            ["ledger.{account}.*", "bank.{account}.*.*"],
            {
                "subject_transforms": [
                    {"src": "ledger.*.*", "dest": ""},
                    {"src": "bank.*.*.*", "dest": ""},
                ]
            },
        ),
    ],
)
def test_a_stream_with_a_source_copies_its_subjects_and_drops_nothing(
    subjects: list[str], source: dict[str, Any]
) -> None:
    table = {"name": "COPY", "source": "LEDGER", "subjects": subjects}
    declared = declare({**table, "shards": {"count": 4, "by": ["account"]}}, "streams/copy.toml")
    config = merged(declared, None)
    assert "subjects" not in config
    assert config["sources"] == [{"name": "LEDGER", **source}]
    assert config["duplicate_window"] == 0
    assert config["subject_transform"]["dest"].startswith("shard.1.{{partition(4,")


def test_a_source_that_takes_more_would_be_copied_again_from_its_beginning() -> None:
    found = real(sources=[{"name": "EU", "filter_subject": "eu.a"}])
    change = only(
        difference(
            stream(sources=[{"name": "EU", "filter_subject": "eu.*"}]), found, StreamHoldings(messages=3)
        )
    )
    assert (change.safety, "copy EU again from its beginning" in change.why) == ("unsafe", True)
    more = [{"name": "EU", "filter_subject": "eu.a"}, {"name": "US"}]
    assert only(difference(stream(sources=more), found, StreamHoldings(messages=3))).safety == "safe"
