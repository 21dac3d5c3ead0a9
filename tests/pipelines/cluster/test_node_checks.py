"""What is wrong with the nodes of a cluster is told with its host and its remedy."""

from dataclasses import replace

import pytest

from pipelines.cluster.check import Check
from pipelines.cluster.node_checks import judge
from pipelines.cluster.node_facts import PACKAGES, SHM, NodeFacts

GIB = 1 << 30
TMP, SHARED = "/tmp", str(SHM)  # noqa: S108  # names, nothing is written there
FACTS = NodeFacts(
    host="one",
    versions={"python": "3.12.3"} | dict.fromkeys(PACKAGES, "1.0"),
    clock_s=0.0,
    free_bytes={TMP: 100 * GIB, SHARED: 20 * GIB},
    object_store_bytes=16 * GIB,
    storage_fault="",
)


def checks(second: NodeFacts | None, fault: str = "") -> list[Check]:
    """Of a cluster of a node that is well, and another; None if that does not answer."""
    nodes = [FACTS] if second is None else [FACTS, second]
    return list(judge(nodes, {"two": fault} if second is None else {}, "s3://bucket/run"))


def test_nodes_that_are_well_are_told_in_four_lines() -> None:
    found = checks(replace(FACTS, host="two"))
    assert [check.name for check in found] == ["versions", "clocks", "disks", "storage"]
    assert all(check.is_ok for check in found)


@pytest.mark.parametrize(
    ("second", "name", "words"),
    [
        (
            {"versions": FACTS.versions | {"torch": "0.9"}},
            "versions",
            "torch is 1.0 on one; 0.9 on two: install",
        ),
        (
            {"versions": FACTS.versions | {"boto3": ""}},
            "versions",
            "boto3 is 1.0 on one; none on two: install",
        ),
        ({"free_bytes": {TMP: GIB, SHARED: 20 * GIB}}, "disks", "two: 1.0 GiB are free in /tmp"),
        ({"free_bytes": {TMP: 9 * GIB, SHARED: GIB}}, "disks", "larger --shm-size"),
        ({"storage_fault": "no s3:PutObject"}, "storage", "on two: no s3:PutObject"),
    ],
)
def test_a_node_that_is_not(second: dict[str, object], name: str, words: str) -> None:
    wrong = [check for check in checks(replace(FACTS, host="two", **second)) if not check.is_ok]
    assert [check.name for check in wrong] == [name]
    assert words in wrong[0].found


def test_caches_may_be_elsewhere_on_each_node() -> None:
    found = checks(replace(FACTS, host="two", free_bytes={TMP: 50 * GIB, "/fast/cache": 9 * GIB}))
    assert all(check.is_ok for check in found)
    (disks,) = [check.found for check in found if check.name == "disks"]
    assert disks == "free at least: /tmp 50.0 GiB, /dev/shm 20.0 GiB, /fast/cache 9.0 GiB"


def test_a_clock_that_is_off() -> None:
    (wrong,) = [check for check in checks(replace(FACTS, host="two", clock_s=90.0)) if not check.is_ok]
    assert "two is 90 s off the driver's clock" in wrong.found


def test_a_node_that_does_not_answer_does_not_hide_the_others() -> None:
    found = checks(None, fault="its worker died")
    assert [check.found for check in found if not check.is_ok] == [
        "two does not answer: its worker died; look at it in Ray's dashboard, or replace it"
    ]
    assert len(found) == 5
