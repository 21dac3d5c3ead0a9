"""Rows are split so that equals stay together, and pairs of hashes become pairs of rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.dedup.columns import KEY, ROW, ROW_ID, DedupError, is_hash, open_scores, pieces_of, read_rows
from pipelines.dedup.tasks import expand, part_numbers, split_rows
from tests.pipelines.made_scores import write_scores


def hashes(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**64, count, dtype=np.uint64)


def test_pieces_are_whole_objects_and_read_to_the_same_rows(tmp_path: Path) -> None:
    found = open_scores(write_scores(tmp_path, {"phash": hashes(20)}, files=5), {"phash": is_hash})
    pieces = pieces_of(found, 0, 100, 7)
    assert [(piece.first, piece.num_rows) for piece in pieces] == [(100, 8), (108, 8), (116, 4)]
    rows = pa.concat_tables([read_rows(piece, "phash") for piece in pieces])
    assert rows[ROW].to_pylist() == list(range(100, 120))
    assert rows[ROW_ID].to_pylist() == [f"r{n}" for n in range(20)]
    only = read_rows(pieces[1], "phash", only=np.array([109, 115]))
    assert only[KEY].to_pylist() == [int(hashes(20)[9]), int(hashes(20)[15])]


def test_images_without_a_hash_are_left_out(tmp_path: Path) -> None:
    column = pa.array([5, None, 5], pa.uint64())
    found = open_scores(write_scores(tmp_path, {"phash": column}), {"phash": is_hash})
    (piece,) = pieces_of(found, 0, 0, 10)
    assert read_rows(piece, "phash")[ROW_ID].to_pylist() == ["r0", "r2"]


@pytest.mark.parametrize("column", ["phash", "image_id"])
def test_equal_keys_are_in_one_part_and_no_part_is_crowded(tmp_path: Path, column: str) -> None:
    values = np.repeat(hashes(1000), 2)
    ids = [f"{value:064x}" for value in values.tolist()]
    source = write_scores(tmp_path, {"phash": values, "image_id": ids}, files=2)
    (piece,) = pieces_of(open_scores(source, {}), 0, 0, 10_000)
    parts = [set(part[KEY].to_pylist()) for part in split_rows(piece, column, 4)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 1000
    assert all(200 < len(part) < 300 for part in parts)
    assert sum(part.num_rows for part in split_rows(piece, column, 4)) == 2000


def test_the_part_of_a_key_does_not_depend_on_the_rows_around_it() -> None:
    keys = pa.chunked_array([[f"{n:064x}" for n in range(50)], [f"{n:064x}" for n in range(50, 80)]])
    whole = part_numbers(keys, 7)
    assert np.array_equal(part_numbers(keys.slice(30, 40), 7), whole[30:70])


def test_a_changed_object_is_refused(tmp_path: Path) -> None:
    found = open_scores(write_scores(tmp_path, {"phash": hashes(20)}), {"phash": is_hash})
    (piece,) = pieces_of(found, 0, 0, 100)
    write_scores(tmp_path, {"phash": hashes(19)})
    with pytest.raises(DedupError, match=r"19 rows, but the manifest says 20"):
        read_rows(piece, "phash")


def test_hashes_become_rows_of_the_dataset_and_of_others() -> None:
    rows = [(5, 0), (5, 1), (6, 0), (7, 1), (7, 2), (9, 1)]
    values, datasets = np.array([r[0] for r in rows], np.uint64), np.array([r[1] for r in rows], np.int32)
    first, second = np.array([5, 5, 7], np.uint64), np.array([6, 7, 9], np.uint64)
    i, j, pair = expand(first, second, values, datasets)
    assert sorted(zip(i.tolist(), j.tolist(), pair.tolist(), strict=True)) == [
        (0, 2, 0),
        (0, 3, 1),
        (0, 4, 1),
        (2, 1, 0),
    ]
