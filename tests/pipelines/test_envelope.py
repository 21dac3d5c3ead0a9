"""A unit travels as one row, with all that belongs to it."""

import pyarrow as pa
import pytest

from pipelines.envelope import unwrap, wrap


def test_facts_and_tables_arrive_as_they_were_sent() -> None:
    table = pa.table({"image": pa.array([b"x" * 1000, None], pa.large_binary()), "n": [1, 2]})
    block = wrap({"unit": "u", "seconds": {"read": 0.5}}, {"rows": table, "none": table.slice(0, 0)})
    assert block.num_rows == 1
    facts, tables = unwrap(block)
    assert facts == {"unit": "u", "seconds": {"read": 0.5}}
    assert tables["rows"].equals(table)
    assert tables["none"].num_rows == 0
    assert tables["none"].schema == table.schema


def test_a_slice_carries_only_its_own_rows() -> None:
    table = pa.table({"image": [b"x" * 1000] * 1000})
    assert wrap({}, {"rows": table.slice(10, 1)}).nbytes < 5000


def test_merged_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="2 units; each must travel alone"):
        unwrap(pa.concat_tables([wrap({}, {}), wrap({}, {})]))
