"""The plan depends on the input and the config alone."""

import pytest

from pipelines.plan import (
    InputObject,
    PlanError,
    Unit,
    plan_digest,
    plan_of,
    plan_units,
    read_plan,
    retry_unit,
)
from pipelines.shards import parquet_bytes

OBJECTS = [
    InputObject(path="a.parquet", fingerprint="f1", rows=25),
    InputObject(path="b.parquet", fingerprint="f2", rows=0),
    InputObject(path="c.parquet", fingerprint="f3", rows=10),
]


def test_every_row_is_in_exactly_one_unit() -> None:
    units = plan_units(OBJECTS, 10, "config")
    rows = [(unit.path, row) for unit in units for row in unit.row_numbers]
    assert rows == [("a.parquet", n) for n in range(25)] + [("c.parquet", n) for n in range(10)]
    assert [unit.num_rows for unit in units] == [10, 10, 5, 10]
    assert [unit.position for unit in units] == [0, 1, 2, 3]


def test_ids_sort_by_position_and_are_distinct() -> None:
    ids = [unit.id for unit in plan_units(OBJECTS, 1, "config")]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize(
    "changed",
    [
        plan_units(OBJECTS, 10, "other config"),
        plan_units([InputObject(path="a.parquet", fingerprint="new", rows=25)], 10, "config"),
        plan_units([InputObject(path="moved.parquet", fingerprint="f1", rows=25)], 10, "config"),
        plan_units([InputObject(path="a.parquet", fingerprint="f1", rows=9)], 10, "config"),
    ],
    ids=["config", "bytes", "name", "rows"],
)
def test_ids_follow_all_that_determines_the_output(changed: list[Unit]) -> None:
    before = {unit.id for unit in plan_units(OBJECTS, 10, "config")}
    assert before.isdisjoint(unit.id for unit in changed)


def test_equal_inputs_give_equal_plans() -> None:
    assert plan_units(OBJECTS, 10, "config") == plan_units(OBJECTS, 10, "config")
    assert plan_digest(plan_units(OBJECTS, 10, "c")) == plan_digest(plan_units(OBJECTS, 10, "c"))


def test_an_empty_input_is_refused() -> None:
    with pytest.raises(PlanError, match="no rows"):
        plan_units(OBJECTS[1:2], 10, "config")


def test_plans_survive_their_file() -> None:
    units = plan_units(OBJECTS, 10, "config")
    retries = plan_of([retry_unit(units[1], 1, [17, 11]), retry_unit(units[3], 1, [2])])
    plan = read_plan(parquet_bytes(units.table), parquet_bytes(retries.table))
    assert list(plan) == [*units, *retries]
    assert plan[:] == list(plan)
    assert [plan[index] for index in (0, 5, -1)] == [units[0], retries[1], retries[1]]


def test_units_are_found_by_their_ids() -> None:
    units = plan_units(OBJECTS, 10, "config")
    plan = read_plan(
        parquet_bytes(units.table), parquet_bytes(plan_of([retry_unit(units[2], 1, [20])]).table)
    )
    assert [plan.index_of(unit.id) for unit in plan] == [0, 1, 2, 3, 4]
    for other in ("00000001-000000000000", f"{units[1].id}-r1", f"{units[2].id}-r2", "99999999-0", "x"):
        assert plan.index_of(other) is None


def test_outputs_are_known_by_their_units_id_or_position() -> None:
    units = plan_units(OBJECTS, 10, "config")
    retry = retry_unit(units[2], 1, [20])
    plan = read_plan(parquet_bytes(units.table), parquet_bytes(plan_of([retry]).table))
    assert (units[2].shard_name, retry.shard_name) == ("00002", "00002-r1")
    for name, index in ((units[2].id, 2), (retry.id, 4), ("00002", 2), ("00002_stats", 2), ("00002-r1", 4)):
        assert plan.index_of_output(f"data/{name}.json") == index
    assert plan.index_of_output("data/00003/x.png") == 3
    for other in ("00000002-dead", "00009", "00001-r1", "00002-r2", "readme"):
        assert plan.index_of_output(f"data/{other}.json") is None


def test_rows_are_counted_with_and_without_retries() -> None:
    units = plan_units(OBJECTS, 10, "config")
    plan = read_plan(
        parquet_bytes(units.table), parquet_bytes(plan_of([retry_unit(units[2], 1, [20, 21])]).table)
    )
    assert (plan.rows_total(), plan.rows_with_retries()) == (35, 37)


def test_a_retry_holds_only_its_rows_and_knows_its_origin() -> None:
    first = plan_units(OBJECTS, 10, "config")[1]
    retry = retry_unit(retry_unit(first, 1, [11, 17, 19]), 2, [17, 11])
    assert retry.id == f"{first.id}-r2"
    assert retry.base_id == first.id
    assert list(retry.row_numbers) == [11, 17]


def test_some_rows_of_an_object_are_a_unit_for_readers() -> None:
    unit = Unit.of_rows("a.parquet", "sha256:1", [3, 7])
    assert (list(unit.row_numbers), unit.row_start, unit.row_stop) == ([3, 7], 3, 8)
