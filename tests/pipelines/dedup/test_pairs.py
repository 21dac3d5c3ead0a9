"""Pairs are written in files of bounded size."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.dedup.pairs import PairWriter, Target
from pipelines.storage import open_storage
from schemas.duplicates import PAIRS


def add(writer: PairWriter, names: list[tuple[str, str]], dataset: int = 0) -> None:
    a, b = zip(*names, strict=True)
    writer.add(pa.array(a), pa.array(b), np.full(len(a), dataset, np.int32), np.full(len(a), 3, np.uint8))


def test_files_are_full_but_the_last_and_hold_all_pairs_in_order(tmp_path: Path) -> None:
    writer = PairWriter(Target(storage=open_storage(str(tmp_path)), against=()), "near", 7, file_rows=4)
    for start in (0, 3, 6, 9):
        add(writer, [(f"a{n}", f"b{n}") for n in range(start, start + 3)])
    entries = writer.end()
    assert [(entry.path, entry.rows) for entry in entries] == [
        (f"pairs/near-00007-0000{n}.parquet", 4) for n in range(3)
    ]
    table = pa.concat_tables([pq.read_table(tmp_path / entry.path) for entry in entries])
    assert table.schema == PAIRS
    assert table["a"].to_pylist() == [f"a{n}" for n in range(12)]


def test_the_lesser_id_is_first_except_against_another_dataset(tmp_path: Path) -> None:
    writer = PairWriter(Target(storage=open_storage(str(tmp_path)), against=("s3://b/x",)), "near", 0)
    add(writer, [("r9", "r10")])
    add(writer, [("r9", "r10")], dataset=1)
    writer.end()
    rows = pq.read_table(tmp_path / "pairs").to_pylist()
    assert [(row["a"], row["b"], row["against"]) for row in rows] == [
        ("r10", "r9", None),
        ("r9", "r10", "s3://b/x"),
    ]
    assert rows[0]["kind"] == "near"
    assert rows[0]["distance"] == 3


def test_without_pairs_nothing_is_written(tmp_path: Path) -> None:
    assert PairWriter(Target(storage=open_storage(str(tmp_path)), against=()), "exact", 0).end() == []
    assert list(tmp_path.iterdir()) == []
