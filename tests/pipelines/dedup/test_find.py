"""Duplicates of a dataset of scores, found on Ray."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.dedup import DedupError, DedupSettings, SemanticSettings, find_duplicates, search
from pipelines.manifest import read_entries
from pipelines.storage import open_storage
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
    entries = read_entries(open_storage(str(folder)))
    rows = [row for entry in entries for row in pq.read_table(folder / entry.path).to_pylist()]
    return sorted(
        (row["kind"], row["a"], row["b"], row["against"] or "", round(row["distance"], 3)) for row in rows
    )


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_all_kinds_are_found_alike_however_the_work_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DedupSettings(semantic=SEMANTIC)
    steps: list[tuple[str, int, int]] = []
    found = find_duplicates(
        scores(tmp_path / "s", 1), str(tmp_path / "one"), settings, lambda *step: steps.append(step)
    )
    assert found.images == 12
    assert found.pairs == {"exact": 1, "near": 4, "semantic": 1}
    assert [pair[:4] for pair in pairs_in(tmp_path / "one")] == [
        ("exact", "r0", "r1", ""),
        ("near", "r0", "r1", ""),
        ("near", "r2", "r3", ""),
        ("near", "r4", "r5", ""),
        ("near", "r4", "r6", ""),
        ("semantic", "r7", "r8", ""),
    ]
    assert [pair[4] for pair in pairs_in(tmp_path / "one")][:5] == [0, 0, 3, 0, 0]
    assert pq.read_schema(next((tmp_path / "one" / "pairs").iterdir())) == PAIRS
    assert [step[0] for step in steps if step[1] == step[2]] == ["exact", "near", "semantic"]
    for name, rows in (("PIECE_ROWS", 3), ("PART_ROWS", 5), ("CLUSTERED_ROWS", 9)):
        monkeypatch.setattr(search, name, rows)
    find_duplicates(scores(tmp_path / "cut", 5), str(tmp_path / "two"), settings)
    assert pairs_in(tmp_path / "two") == pairs_in(tmp_path / "one")


def test_a_killed_search_begins_again_and_writes_the_same_bytes(tmp_path: Path) -> None:
    source, settings = scores(tmp_path / "s", 3), DedupSettings(semantic=SEMANTIC)
    find_duplicates(source, str(tmp_path / "whole"), settings)
    whole = files_in(tmp_path / "whole")
    torn = tmp_path / "torn" / "pairs" / "exact-00000-00000.parquet"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"what a killed search has left")
    find_duplicates(source, str(tmp_path / "torn"), settings)
    assert files_in(tmp_path / "torn") == whole


def test_a_finished_search_is_not_repeated_and_not_mixed_with_another(tmp_path: Path) -> None:
    source = scores(tmp_path / "s", 1)
    first = find_duplicates(source, str(tmp_path / "out"), DedupSettings())
    (tmp_path / "s" / "data" / "0.parquet").unlink()
    assert find_duplicates(source, str(tmp_path / "out"), DedupSettings()) == first
    with pytest.raises(DedupError, match=r"another search:\n  settings\.exact: True -> False\nuse the same"):
        find_duplicates(source, str(tmp_path / "out"), DedupSettings(exact=False))


def test_copies_of_another_dataset_are_found(tmp_path: Path) -> None:
    own, other = scores(tmp_path / "own", 2), scores(tmp_path / "other", 1)
    find_duplicates(own, str(tmp_path / "out"), DedupSettings(against=(other,), semantic=SEMANTIC))
    outside = [pair[:3] for pair in pairs_in(tmp_path / "out") if pair[3] == other]
    assert outside == [
        *[("exact", f"r{n}", f"r{n}") for n in (0, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9)],
        *[("near", a, b) for a, b in [("r0", "r0"), ("r10", "r10"), ("r11", "r11"), ("r2", "r2")]],
        *[("near", a, b) for a, b in [("r2", "r3"), ("r3", "r2"), ("r3", "r3"), ("r4", "r4")]],
        *[("near", f"r{n}", f"r{n}") for n in (7, 8, 9)],
        *[("semantic", f"r{n}", f"r{n}") for n in (0, 1, 10, 11, 2, 3, 4, 5, 6, 7)],
        *[("semantic", a, b) for a, b in [("r7", "r8"), ("r8", "r7"), ("r8", "r8"), ("r9", "r9")]],
    ]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["job"] == "dedup"
    assert set(manifest["against"]) == {other}


def test_scores_without_the_columns_are_refused_with_the_remedy(tmp_path: Path) -> None:
    source = write_scores(tmp_path / "s", {"score": [1]})
    with pytest.raises(DedupError, match=r"no column 'phash'.*run `python -m jobs score`"):
        find_duplicates(source, str(tmp_path / "out"), DedupSettings())
    source = write_scores(tmp_path / "t", {"phash": [1.5]})
    with pytest.raises(DedupError, match=r"column 'phash' is double"):
        find_duplicates(source, str(tmp_path / "out"), DedupSettings())
    with pytest.raises(DedupError, match=r"no manifest\.json"):
        find_duplicates(str(tmp_path / "none"), str(tmp_path / "out"), DedupSettings())
    assert not (tmp_path / "out").exists()


def test_embeddings_of_another_model_are_refused(tmp_path: Path) -> None:
    own = scores(tmp_path / "own", 1)
    wide = pa.array([[1.0] * 9], pa.list_(pa.float16()))
    other = write_scores(tmp_path / "other", {"phash": np.array([1], np.uint64), "embedding": wide})
    with pytest.raises(DedupError, match=r"other: embeddings of 9 values, but .*own has 8"):
        find_duplicates(own, str(tmp_path / "out"), DedupSettings(against=(other,), semantic=SEMANTIC))
