"""Results are compared by what their fields mean, and only where that can be said of the hardware."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import record
from benchmarks.compare import main
from benchmarks.timing import spread

HARDWARE = {"cpu": "Some CPU", "num_cpus": 2, "num_threads": 1, "gpus": [], "torch": "2.14.1"}


def write(path: Path, measures: dict[str, Any], **other: Any) -> str:
    """A result in the form of `write_result`, of one machine unless another is given."""
    record.write_result("name", settings=other.get("settings", {}), measures=measures, path=path)
    result = json.loads(path.read_text()) | {"hardware": HARDWARE | other.get("hardware", {})}
    path.write_text(json.dumps(result))
    return str(path)


def lines_of(printed: str) -> dict[str, str]:
    """The printed lines by their first words."""
    return {line.split()[0]: line.rstrip() for line in printed.splitlines() if line}


@pytest.mark.parametrize(
    ("field", "before", "after", "verdict"),
    [
        ("seconds", 1.0, 1.2, "slower"),
        ("seconds", 1.2, 1.0, "faster"),
        ("job_s", 1.0, 1.2, "slower"),
        ("images_per_s", 100, 80, "slower"),
        ("images_per_s", 80, 100, "faster"),
        ("speedup_in_cpu_seconds", 1.4, 1.1, "slower"),
        ("fraction_of_matmul_rate_in_cpu_seconds", 0.4, 0.5, "faster"),
        ("share_of_tokens_equal", 1.0, 0.8, "worse"),
        ("tokens_equal", True, False, "worse"),
        ("busy_share", 0.8, 0.9, "better"),
        ("plan_bytes", 1000, 2000, "larger"),
        ("peak_gib", 40.0, 30.0, "smaller"),
        ("seconds", 1.0, 1.04, "same"),
    ],
)
def test_a_field_s_name_says_which_direction_is_better(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    field: str,
    before: float,
    after: float,
    verdict: str,
) -> None:
    a, b = write(tmp_path / "a.json", {field: before}), write(tmp_path / "b.json", {field: after})
    code = main([a, b])
    words = lines_of(capsys.readouterr().out)[field].split()
    assert words[-2:] == [f"{after / before:.3f}", verdict]
    assert code == (verdict in ("slower", "worse", "larger"))


def test_a_field_takes_its_meaning_from_what_it_is_part_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write(tmp_path / "a.json", {"seconds": {"plan": 1.0}, "images_per_s": {"pipeline": 1.0}})
    b = write(tmp_path / "b.json", {"seconds": {"plan": 2.0}, "images_per_s": {"pipeline": 2.0}})
    assert main([a, b]) == 1
    found = lines_of(capsys.readouterr().out)
    assert found["seconds.plan"].endswith("slower")
    assert found["images_per_s.pipeline"].endswith("faster")


def test_the_worst_regression_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("fine", "bad", "worst", "good")
    a = write(tmp_path / "a.json", {"seconds": dict.fromkeys(names, 1.0)})
    b = write(tmp_path / "b.json", {"seconds": dict(zip(names, (1.0, 1.5, 3.0, 0.5), strict=True))})
    assert main([a, b]) == 1
    printed = capsys.readouterr().out
    order = [line.split()[0] for line in printed.splitlines() if line.startswith("seconds.")]
    assert order == ["seconds.worst", "seconds.bad", "seconds.fine", "seconds.good"]
    assert "4 numbers compared, 2 regressed" in printed


def test_a_difference_within_the_spread_of_the_repetitions_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write(tmp_path / "a.json", {"noisy": {"seconds": spread([1.0, 1.1, 1.6])}})
    b = write(tmp_path / "b.json", {"noisy": {"seconds": spread([1.2, 1.5, 1.7])}})
    assert main([a, b]) == 0
    assert lines_of(capsys.readouterr().out)["noisy.seconds"].endswith("same, within the spread")


def test_a_difference_beyond_the_spread_of_the_repetitions_counts(tmp_path: Path) -> None:
    a = write(tmp_path / "a.json", {"seconds": spread([1.0, 1.1, 1.2])})
    b = write(tmp_path / "b.json", {"seconds": spread([1.3, 1.4, 1.5])})
    assert main([a, b]) == 1
    assert main([a, b, "--threshold", "0.5"]) == 0
    assert main([b, a]) == 0


def test_times_that_are_mostly_rounding_are_not_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = write(tmp_path / "a.json", {"seconds": 0.001}), write(tmp_path / "b.json", {"seconds": 0.002})
    assert main([a, b]) == 0
    assert "too short to tell" in capsys.readouterr().out


@pytest.mark.parametrize(
    "measures",
    [{"matmul_gflop_per_s": 100.0}, {"arms": {"plain": {"seconds": 1.0}}}, {"cpu_share": 0.5}, {"rows": 5}],
)
def test_what_the_machine_does_and_mere_counts_are_listed_only_when_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], measures: dict[str, Any]
) -> None:
    a = write(tmp_path / "a.json", {"extra": {"right": 1.0}} | measures)
    b = write(tmp_path / "b.json", {"extra": {"right": 0.5}})
    assert main([a, b]) == 0
    assert "0 numbers compared" in capsys.readouterr().out
    assert main([a, b, "--all"]) == 0
    assert lines_of(capsys.readouterr().out)["extra.right"].endswith("changed")


def test_of_other_hardware_only_ratios_are_compared_after_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write(tmp_path / "a.json", {"seconds": 1.0, "speedup": 2.0})
    b = write(tmp_path / "b.json", {"seconds": 9.0, "speedup": 2.0}, hardware={"cpu": "Another"})
    assert main([a, b]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "WARNING OTHER HARDWARE, absolute numbers are not comparable: cpu Some CPU → Another"
    )
    assert "speedup" in printed
    assert "seconds" not in printed
    assert main([a, b, "--all"]) == 1
    assert lines_of(capsys.readouterr().out)["seconds"].endswith("slower")


def test_a_ratio_that_falls_on_other_hardware_is_a_regression(tmp_path: Path) -> None:
    a = write(tmp_path / "a.json", {"speedup": 2.0})
    b = write(tmp_path / "b.json", {"speedup": 1.0}, hardware={"gpus": ["Some GPU"]})
    assert main([a, b]) == 1


def test_other_settings_and_other_software_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"model": {"layers": 6, "heads": 8}, "load_average": {"before": 1}}
    a = write(tmp_path / "a.json", {"seconds": 1.0}, settings=settings)
    settings = {"model": {"layers": 9, "heads": 8}, "load_average": {"before": 7}}
    b = write(tmp_path / "b.json", {"seconds": 1.0}, settings=settings, hardware={"torch": "2.15.0"})
    assert main([a, b]) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed[0] == "WARNING OTHER SOFTWARE: torch 2.14.1 → 2.15.0"
    assert printed[1] == "WARNING OTHER SETTINGS, perhaps of other work: model.layers 6 → 9"
    assert printed[3].endswith("same")


def test_items_of_lists_are_told_apart_by_what_they_are_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [{"dtype": "float32", "seconds": 4.0}, {"dtype": "bfloat16", "seconds": 1.0}]
    a, b = write(tmp_path / "a.json", {"cells": items}), write(tmp_path / "b.json", {"cells": items[1:]})
    assert main([a, b]) == 0
    printed = capsys.readouterr().out
    assert "WARNING 1 numbers are in A alone, such as cells[dtype=float32].seconds" in printed
    assert lines_of(printed)["cells[dtype=bfloat16].seconds"].split()[-2:] == ["1.000", "same"]


def test_folders_are_matched_by_relative_paths_and_lone_files_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    write(a / "one.json", {"seconds": 1.0})
    write(a / "gpu" / "two.json", {"seconds": 1.0})
    write(a / "old.json", {"seconds": 1.0})
    write(b / "one.json", {"seconds": 1.0})
    write(b / "gpu" / "two.json", {"seconds": 2.0})
    write(b / "new.json", {"seconds": 1.0})
    assert main([str(a), str(b)]) == 1
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == [f"WARNING new.json: in {b} alone", f"WARNING old.json: in {a} alone"]
    assert lines[3].startswith("gpu/two.json: seconds")
    assert lines[3].endswith("slower")
    assert lines[4].startswith("one.json: seconds")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "no such file or folder"),
        ("{", "no JSON"),
        ("[1]", "no object 'hardware'"),
        ('{"hardware": {}, "settings": {}}', "no object 'measures'"),
    ],
)
def test_what_is_no_result_is_named_in_one_line_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, fault: str
) -> None:
    good, bad = write(tmp_path / "good.json", {"seconds": 1.0}), tmp_path / "bad.json"
    if content is not None:
        bad.write_text(content)
    assert main([good, str(bad)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line
        == f"benchmarks.compare: {bad}: {fault}; give a JSON file that a benchmark wrote, or a folder of them"
    )


def test_folders_without_a_common_result_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a" / "one.json", {})
    write(tmp_path / "b" / "two.json", {})
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "no result is in both" in capsys.readouterr().err


def test_the_published_results_are_what_they_are() -> None:
    assert main([str(record.RESULTS), str(record.RESULTS)]) == 0
