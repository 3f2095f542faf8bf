"""What instances tell of themselves, as ADR-32 has it."""

import pytest

from runner.core import service
from runner.core.checked import Unfit


@pytest.mark.parametrize(
    ("release", "semantic"),
    [
        ("1.2.3", "1.2.3"),
        ("1.0rc1", "1.0.0-rc1"),
        ("2026.11", "2026.11.0"),
        ("v1!2.3.4.post1", "2.3.4-post1"),
        ("1.2.3+local", "1.2.3+local"),
        ("01.02.03", "1.2.3"),
        ("", "0.0.0"),
        ("main", "0.0.0"),
    ],
)
def test_a_version_of_a_package_becomes_one_that_the_cli_reads(release: str, semantic: str) -> None:
    assert service.semantic(release) == semantic


def test_a_service_of_others_is_read_and_is_none_of_ours() -> None:
    info = service.read_info(
        b'{"type":"io.nats.micro.v1.info_response","name":"other","id":"x1","version":"1.0.0","metadata":null,'
        b'"endpoints":[{"name":"e","subject":"a.*","queue_group":"q","metadata":null}]}'
    )
    assert not info.ours
    assert info.weight == 1.0
    assert not info.endpoints[0].idempotent


@pytest.mark.parametrize("name", ["a.b", "a b", ">", "", "$JS.API.STREAM.DELETE.ORDERS"])
def test_an_instance_whose_name_would_reach_other_subjects_is_refused(name: str) -> None:
    body = (
        b'{"type":"io.nats.micro.v1.info_response","name":"shop","id":"%b","version":"1.0.0"}' % name.encode()
    )
    with pytest.raises(Unfit):
        service.read_info(body)


@pytest.mark.parametrize("told", ["-1", "0", "nan", "inf", "1e9", "much"])
def test_a_weight_that_is_none_counts_as_one(told: str) -> None:
    info = service.Info(name="shop", id="a", version="1.0.0", metadata={"weight": told})
    assert info.weight == 1.0
