"""Scores are summed up over all shards, without what is missing, and the same way each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.cards.score_summary import score_summaries
from pipelines.inputs import find_parquet
from tests.pipelines.made_scores import write_dataset, write_scores


def test_quantiles_are_those_of_all_rows(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).gamma(2.0, 3.0, 20_000).astype(np.float32)
    found = find_parquet(write_scores(tmp_path, {"one": scores, "two": -scores}, files=7))
    one, two = summaries = score_summaries(found, ["one", "two"])
    assert (one.name, one.count, one.missing) == ("one", len(scores), 0)
    assert (one.min, one.max) == (scores.min(), scores.max())
    assert one.mean == pytest.approx(scores.mean(dtype=np.float64))
    expected = np.quantile(scores, [0.05, 0.5, 0.95])
    assert [one.low, one.median, one.high] == pytest.approx(expected, rel=0.02)
    assert two.median == pytest.approx(-expected[1], rel=0.02)
    assert score_summaries(found, ["one", "two"]) == summaries


def test_what_is_missing_is_counted_apart(tmp_path: Path) -> None:
    values = {
        "some": pa.array([1.0, None, float("nan"), float("inf"), 3.0], pa.float32()),
        "none": pa.array([None] * 5, pa.float32()),
    }
    some, none = score_summaries(find_parquet(write_scores(tmp_path, values)), ["some", "none"])
    assert (some.count, some.missing, some.mean, some.max) == (2, 3, 2.0, 3.0)
    assert (none.count, none.missing, none.mean, none.median) == (0, 5, None, None)


def test_images_are_not_read(tmp_path: Path) -> None:
    image = pa.array([np.random.default_rng(n).bytes(100_000) for n in range(3)], pa.binary())
    uri = write_dataset(tmp_path, [pa.table({"image": image, "one": pa.array([1.0, 2.0, 3.0])})])
    path = tmp_path / "data" / "0.parquet"
    data = bytearray(path.read_bytes())
    data[4:1000] = bytes(996)  # the first page of images
    path.write_bytes(data)
    (one,) = score_summaries(find_parquet(uri), ["one"])
    assert one.mean == 2.0
