"""What people see of a run's progress."""

import io
from dataclasses import replace

import pytest

from pipelines.progress import duration, progress_line, show_progress, summary_text
from pipelines.tally import Progress, RunSummary

HALF = Progress(
    waiting_for="",
    rows_total=2000,
    rows_done=990,
    rows_failed=10,
    rows_earlier=400,
    rows_left=1000,
    units_total=20,
    units_done=10,
    busy_workers=2,
    worker_deaths=0,
    elapsed_s=10.0,
    rows_per_s=8.0,
    results_per_s=16.0,
)


def test_the_line_tells_count_speed_and_end() -> None:
    assert progress_line(HALF, "prompts", "images") == (
        "prompts 1,000 of 2,000 (50.0%), 10 failed, 400 from earlier runs, 16.0 images/s, 2 workers busy, "
        "2 min 5 s left"
    )


def test_deaths_of_workers_are_seen() -> None:
    assert "2 workers busy, 3 deaths of workers" in progress_line(
        replace(HALF, worker_deaths=3), "prompts", "images"
    )


def test_without_a_terminal_lines_come_now_and_then_and_at_the_end() -> None:
    stream = io.StringIO()
    with show_progress("prompts", "images", stream) as show:
        for _ in range(50):
            show(HALF)
        for _ in range(3):
            show(replace(HALF, rows_done=1990, rows_left=0))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("prompts 2,000 of 2,000 (100.0%)")


def test_a_terminal_gets_a_live_line() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with show_progress("prompts", "images", stream) as show:
        show(HALF)
    assert "prompts 1,000" in stream.getvalue()


def test_the_summary_tells_what_failed_where_the_time_went_and_what_to_do() -> None:
    summary = RunSummary(
        output="out",
        manifest="out/manifest.json",
        units=4,
        units_run=4,
        rows=40,
        rows_done=38,
        rows_failed=2,
        rows_out=38,
        bytes_out=1000,
        rows_run=40,
        results_run=38,
        elapsed_s=20.0,
        seconds={"read": 1.0, "forward": 3.0},
        events={"out of memory": 3},
        failures={"decode: ValueError": 2},
    )
    text = summary_text(summary, "prompts", "images")
    assert "38 of 40 prompts done, 2 failed" in text
    assert "1.9 images/s" in text
    assert "forward 75%, read 25%" in text
    assert "2 decode: ValueError" in text
    assert "retry-failed" in text
    assert "noted: out of memory, 3 times" in text
    assert "retry-failed" not in summary_text(replace(summary, failures={}), "prompts", "images")
    final = summary_text(summary, "images", "written", can_retry=False)
    assert "retry-failed" not in final
    assert "correct the cause, and start again under another name" in final


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (18_720, "5 h 12 min"), (183_600, "2 d 3 h")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text
