"""What a training's progress looks like."""

import io

from pipelines.training.monitor import Rates, TrainingProgress
from pipelines.training.progress import show_training, training_line


def progress(step: int, skipped: int = 0) -> TrainingProgress:
    rates = Rates(samples_per_s=1234.56, tokens_per_s=79012.0, utilisation=0.452, data_wait=0.013)
    return TrainingProgress(
        stage="px512", step=step, num_steps=1000, loss=6.5432, steps_per_s=2.0, rates=rates, skipped=skipped
    )


def test_the_line_tells_step_loss_rates_and_time_left() -> None:
    assert training_line(progress(400), 0) == (
        "px512: step 400 of 1,000 (40.0%), loss 6.543, 1,234.6 samples/s, 79,012 tokens/s, utilisation 45%, "
        "waiting for data 1%, 5 min 0 s left"
    )


def test_the_line_tells_what_went_wrong() -> None:
    text = training_line(progress(1000, skipped=2), restarts=3)
    assert "3 restarts of workers, 2 batches left out" in text
    assert "left" not in text.rpartition("left out")[2]


def test_without_a_terminal_a_step_is_told_once() -> None:
    stream = io.StringIO()
    with show_training(stream) as on_progress:
        for step in (10, 10, 20, 1000, 1000):
            on_progress(progress(step), 0)
    assert [line.split(" of ")[0] for line in stream.getvalue().splitlines()] == [
        "px512: step 10",
        "px512: step 1,000",
    ]
