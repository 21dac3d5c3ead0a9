"""What ends a training whose workers keep failing."""

from pipelines.training.monitor import Monitor


def test_workers_may_start_again_while_checkpoints_come() -> None:
    monitor = Monitor(max_restarts=1)
    assert [monitor.start(step) for step in (0, 0, 10, 10, 20, 20)] == [None] * 6
    assert monitor.newest() == (None, 5)


def test_starts_without_progress_end_with_the_last_error() -> None:
    monitor = Monitor(max_restarts=1)
    monitor.start(10)
    monitor.failed("ValueError: bad shape")
    assert monitor.start(10) is None
    refusal = monitor.start(10)
    assert refusal is not None
    assert "2 times in a row after step 10: ValueError: bad shape" in refusal
    assert monitor.refusal() == refusal


def test_what_another_start_cannot_mend_ends_all_starts() -> None:
    monitor = Monitor(max_restarts=9)
    monitor.refuse("the disk is full")
    monitor.refuse("the other worker was gone")
    assert monitor.start(0) == "the disk is full"
