"""The engine's benchmark at toy size: the runs it makes up are like any, its figures what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.engine import __main__ as suite
from benchmarks.engine import planning, prompt_tables, resuming, scheduling
from benchmarks.engine.sizes import FULL
from pipelines import records
from pipelines.ledger import Ledger
from pipelines.records import ROLLUPS, Records


def test_planning_covers_every_row() -> None:
    result = planning.measure(rows=2_500, object_rows=1_000, unit_rows=64)
    assert (result["rows"], result["units"]) == (2_500, 16 + 16 + 8)
    assert set(result["seconds"]) == {"plan_units", "plan_digest", "encode", "read_plan"}
    assert result["plan_parquet_bytes"] > 0


def test_made_up_runs_are_resumed_with_and_without_rollups(
    root_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "ROLLUP_UNITS", 10)
    assert resuming.set_up(root_uri, units=21)["units"] == 21
    assert resuming.resume(root_uri, missing_rollups=1)["rollups_found"] == 0
    assert resuming.resume(root_uri, missing_rollups=0)["rollups_found"] == 3
    result = resuming.resume(root_uri, missing_rollups=0.4)
    assert (result["units"], result["rollups_found"]) == (21, 2)
    ledger = Ledger.load(root_uri)
    assert len(list(ledger.storage.list(ROLLUPS))) == 3
    assert len(list(Records(ledger.storage, ledger.planned()).in_order())) == 21


def test_manifests_of_made_up_runs_name_all_objects(tmp_path: Path) -> None:
    output = str(tmp_path / "run")
    resuming.set_up(output, units=20)
    result = resuming.write_manifest(output)
    assert (result["units"], result["objects"], result["parts"]) == (20, 40, 0)
    assert result["bytes"] == (tmp_path / "run" / "manifest.json").stat().st_size


@pytest.mark.parametrize(("with_ids", "repeated"), [(True, 0.0), (False, 0.0), (False, 0.2)])
def test_prompt_tables_have_the_rows_and_repeats_asked_for(
    tmp_path: Path, with_ids: bool, repeated: float
) -> None:
    folder = str(tmp_path / "table")
    prompt_tables.set_up(folder, rows=1_000, file_rows=300, with_ids=with_ids, repeated=repeated)
    result = prompt_tables.measure(folder)
    assert result["rows"] == 1_000
    assert result["repeats"] == pytest.approx(1_000 * repeated, abs=50)


def test_busy_time_counts_from_the_last_start_to_the_first_end() -> None:
    one = np.array([[0.0, 10.0], [10.0, 20.0]])
    other = np.array([[5.0, 9.0], [11.0, 15.0], [15.0, 19.0], [20.0, 24.0]])
    share = scheduling.busy_share([one, other], began=-1.0)
    # from 5 to 20: the first all of 15 s, the other 12 of them
    assert share["busy_share"] == 27 / 30
    assert (share["window_s"], share["all_started_after_s"], share["last_end_after_window_s"]) == (15, 6, 4)
    assert share["gap_s"]["max"] == 2.0


def test_figures_at_the_size_of_interest_follow_the_largest_size() -> None:
    def result(units: int, seconds: float, mib: float) -> dict[str, Any]:
        memory = {"imports": 90.0, "peak": 90.0 + mib, "added": mib}
        times = {"seconds": {"list": {"median": seconds}}, "cpu_seconds": {"list": {"median": seconds / 2}}}
        return {"units": units, "memory_mib": memory} | times

    found = suite.series("units", [result(10, 2.0, 1.0), result(100, 10.0, 10.0)], at=1_000)
    assert found["relative_cost"] == [0.5]
    assert found["at_1000_units"] == {
        "extrapolated": True,
        "seconds": 100.0,
        "cpu_seconds": 50.0,
        "peak_mib": 190.0,
    }


def test_a_part_is_written_with_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "engine.json"
    suite.main(["--part", "planning", "--small", "--out", str(out)])
    written = json.loads(out.read_text())
    assert list(written["measures"]) == ["planning"]
    assert written["settings"]["plan_rows"] == [1_000, 10_000]
    smallest = written["measures"]["planning"]["sizes"][0]
    assert smallest["memory_mib"]["peak"] >= smallest["memory_mib"]["imports"] > 0
    assert "planning" in capsys.readouterr().out


@pytest.mark.ray
@pytest.mark.reliability
def test_all_parts_run(tmp_path: Path) -> None:
    out = tmp_path / "engine.json"
    suite.main(["--small", "--out", str(out)])
    measures = json.loads(out.read_text())["measures"]
    assert list(measures) == list(suite.PARTS)
    assert [busy["actors"] for busy in measures["scheduling"]["busy"]] == [2]


def test_the_published_figures_are_those_of_full_sizes_and_within_the_limits() -> None:
    published = json.loads((suite.RESULTS / "engine.json").read_text())
    assert published["settings"] == json.loads(json.dumps(suite.dataclasses.asdict(FULL)))
    measures = published["measures"]
    assert measures["planning"]["at_100000000_rows"]["peak_mib"] < 2048
    assert measures["manifest"]["at_1000000_units"]["peak_mib"] < 2048
    assert all(run["at_1000000_units"]["peak_mib"] < 2048 for run in measures["resume"]["folder"].values())
    assert all(table["at_100000000_rows"]["peak_mib"] < 2048 for table in _tables(measures["prompts"]))


def _tables(prompts: dict[str, Any]) -> list[dict[str, Any]]:
    return [table for name, table in prompts.items() if name != "load_average"]
