"""A run's numbers add up, also over earlier runs and retries."""

from pathlib import Path

from pipelines.tally import Tally
from tests.pipelines.toys import commit_inline, finish_inline, square_ledger, write_input


def test_earlier_runs_count_but_not_for_the_rate(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in", negative=(3, 33))
    ledger = square_ledger(str(tmp_path / "out"), source)
    units = ledger.planned()
    earlier = commit_inline(ledger, units[:3], source)
    tally = Tally(units)
    tally.add_earlier(earlier.values())
    start = tally.progress(0)
    assert (start.rows_total, start.rows_done, start.rows_failed, start.rows_earlier) == (40, 14, 1, 15)
    assert (start.rows_left, start.rows_per_s, start.eta_s) == (25, 0.0, None)
    for commit in commit_inline(ledger, units[3:], source).values():
        tally.add(commit)
    end = tally.progress(0)
    assert (end.rows_done, end.rows_failed, end.rows_left, end.units_done) == (38, 2, 0, 8)
    assert end.rows_per_s > 0
    assert tally.failure_rate() == (1, 25)
    summary = tally.summary("out", "out/manifest.json")
    assert (summary.units_run, summary.rows_run, summary.rows_out) == (5, 25, 38)
    assert summary.failures == {"square: ValueError": 2}


def test_a_retry_replaces_the_dead_letters_it_ran(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in", negative=(3, 33))
    ledger = finish_inline(str(tmp_path / "out"), source)
    first = ledger.committed(ledger.planned())
    retries = ledger.plan_retries()
    tally = Tally(ledger.planned())
    tally.add_earlier(first.values())
    assert (tally.progress(0).rows_failed, tally.progress(0).rows_left) == (2, 2)
    for commit in commit_inline(ledger, retries, source).values():
        tally.add(commit)
    assert (tally.progress(0).rows_done, tally.progress(0).rows_failed) == (38, 2)
    assert tally.failure_rate() == (0, 0)
    assert tally.summary("out", "m").failures == {"square: ValueError": 2}
