"""Timings are taken in turns, and results say what they were measured with."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from benchmarks import record
from benchmarks.matmul import SquareProduct
from benchmarks.timing import interleaved, ratios, spread


def test_arms_run_in_turns_and_warm_ups_do_not_count() -> None:
    order: list[str] = []
    timings = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, warmups=1)
    assert order == ["a", "b"] * 4
    assert {name: len(seconds) for name, seconds in timings.wall.items()} == {"a": 3, "b": 3}
    assert all(seconds >= 0 for seconds in [*timings.wall["a"], *timings.cpu["b"]])


def test_spread_keeps_every_repetition() -> None:
    assert spread([3.0, 1.0, 2.00004]) == {"median": 2.0, "min": 1.0, "max": 3.0, "all": [3.0, 1.0, 2.0]}
    assert ratios([4.0, 9.0], [2.0, 3.0]) == [2.0, 3.0]


def test_the_matrix_product_counts_a_multiplication_and_an_addition() -> None:
    product = SquareProduct(8, torch.float32, products=3)
    product()
    assert product.flops == 3 * 2 * 8**3
    torch.testing.assert_close(product.result, product.left @ product.right)


def test_a_result_names_commit_changes_and_hardware(tmp_path: Path) -> None:
    path = record.write_result("name", settings={"a": 1}, measures={"b": 2}, path=tmp_path / "new" / "x.json")
    written = json.loads(path.read_text())
    assert written["benchmark"] == "name"
    assert (written["settings"], written["measures"]) == ({"a": 1}, {"b": 2})
    assert {"commit", "uncommitted_changes", "date"} <= written.keys()
    assert written["hardware"]["num_cpus"] >= 1


def test_a_copy_without_git_has_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_git(*arguments: object, **options: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", no_git)
    assert record.commit() is None
    assert record.uncommitted_changes() is None
