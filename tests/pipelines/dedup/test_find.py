"""Duplicates of a dataset of scores, found on Ray."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.dedup import DedupSettings, SemanticSettings, find_duplicates
from pipelines.dedup.columns import DedupError
from schemas.duplicates import PAIRS
from tests.pipelines.made_scores import write_scores

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]
SEMANTIC = SemanticSettings(column="embedding", num_clusters=2, min_cosine=0.99)


def scores(folder: Path, files: int) -> str:
    """r1 has r0's bytes; r3 differs from r2 in 3 bits; r4, r5, r6 have one hash; r7 and r8 mean the same."""
    hashes = np.random.default_rng(0).integers(0, 2**64, 12, dtype=np.uint64)
    hashes[1] = hashes[0]
    hashes[3] = hashes[2] ^ np.uint64(0b10101)
    hashes[4:7] = hashes[4]
    embeddings = np.random.default_rng(1).normal(size=(12, 8))
    embeddings[8] = embeddings[7] * 2 + 0.01
    ids = [f"{n:064x}" for n in range(12)]
    ids[1] = ids[0]
    column = pa.array(embeddings.astype(np.float16).tolist(), pa.list_(pa.float16()))
    return write_scores(folder, {"phash": hashes, "embedding": column, "image_id": ids}, files=files)


def pairs_in(folder: Path) -> list[tuple[object, ...]]:
    tables = [pq.read_table(path) for path in sorted((folder / "pairs").iterdir())]
    rows = pa.concat_tables(tables).to_pylist()
    return [(row["kind"], row["a"], row["b"], row["against"], round(row["distance"], 3)) for row in rows]


def test_all_kinds_are_found_and_written_alike_however_the_scores_are_cut(tmp_path: Path) -> None:
    settings = DedupSettings(semantic=SEMANTIC)
    found = find_duplicates(scores(tmp_path / "s", 1), str(tmp_path / "one"), settings)
    assert found.pairs == {"exact": 1, "near": 4, "semantic": 1}
    assert pq.read_schema(next((tmp_path / "one" / "pairs").iterdir())) == PAIRS
    assert [pair[:4] for pair in pairs_in(tmp_path / "one")] == [
        ("exact", "r0", "r1", None),
        ("near", "r0", "r1", None),
        ("near", "r4", "r5", None),
        ("near", "r4", "r6", None),
        ("near", "r2", "r3", None),
        ("semantic", "r7", "r8", None),
    ]
    find_duplicates(scores(tmp_path / "cut", 5), str(tmp_path / "two"), settings)
    assert pairs_in(tmp_path / "two") == pairs_in(tmp_path / "one")


def test_a_finished_search_is_not_repeated(tmp_path: Path) -> None:
    source = scores(tmp_path / "s", 1)
    first = find_duplicates(source, str(tmp_path / "out"), DedupSettings())
    (tmp_path / "s" / "data" / "0.parquet").unlink()
    assert find_duplicates(source, str(tmp_path / "out"), DedupSettings()) == first


def test_copies_of_another_dataset_are_found(tmp_path: Path) -> None:
    own, other = scores(tmp_path / "own", 2), scores(tmp_path / "other", 1)
    find_duplicates(own, str(tmp_path / "out"), DedupSettings(against=(other,), semantic=SEMANTIC))
    outside = {pair[:3] for pair in pairs_in(tmp_path / "out") if pair[3] == other}
    assert {("exact", f"r{n}", f"r{n}") for n in (0, 2, 11)} <= outside
    assert {("near", "r2", "r3"), ("near", "r3", "r2"), ("near", "r4", "r4")} <= outside
    assert ("semantic", "r8", "r7") in outside


def test_scores_without_the_columns_are_refused_with_the_remedy(tmp_path: Path) -> None:
    source = write_scores(tmp_path / "s", {"score": [1]})
    with pytest.raises(DedupError, match=r"no column 'phash'.*run `python -m jobs score`"):
        find_duplicates(source, str(tmp_path / "out"), DedupSettings())
