"""Dead letters say which input row failed, where and why."""

import pyarrow as pa

from pipelines.plan import InputObject, plan_units, retry_unit
from pipelines.worker import DeadLetter, failed_table
from schemas.failed import FAILED


def test_dead_letters_name_the_row_within_its_object() -> None:
    unit = plan_units([InputObject(path="a.parquet", fingerprint="f", rows=20)], 10, "c")[1]
    letters = [(2, DeadLetter.of(0, "decode", ValueError("truncated")))]
    table = failed_table(unit, pa.array([f"row-{n}" for n in range(10, 20)]), letters)
    assert table.schema == FAILED
    assert table.to_pylist() == [
        {
            "row_id": "row-12",
            "stage": "decode",
            "error_type": "ValueError",
            "message": "truncated",
            "path": "a.parquet",
            "row": 12,
        }
    ]
    retry = retry_unit(unit, 1, [12, 17])
    again = failed_table(retry, pa.array(["row-12", "row-17"]), [(1, letters[0][1])])
    assert again["row"].to_pylist() == [17]


def test_without_failures_the_table_is_empty() -> None:
    unit = plan_units([InputObject(path="a.parquet", fingerprint="f", rows=2)], 2, "c")[0]
    assert failed_table(unit, pa.array(["a", "b"]), []).num_rows == 0
