"""What the driver knows of its workers: an actor on the driver's node that they report to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Over some steps.

    Attributes:
        samples_per_s: Of all workers.
        tokens_per_s: Image tokens of all workers.
        utilisation: FLOPs that the steps need, forward and backward without recomputation, over those that
            the devices' matrix products can do in that time.
        data_wait: Fraction of the time that this worker waited for data.
    """

    samples_per_s: float
    tokens_per_s: float
    utilisation: float
    data_wait: float


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """How far a stage is.

    Attributes:
        stage: Its name.
        step: Steps that are done.
        num_steps: Steps in all.
        loss: Mean over the steps since the progress before.
        steps_per_s: Since then.
        rates: Since then.
        skipped: Batches that are left out.
    """

    stage: str
    step: int
    num_steps: int
    loss: float
    steps_per_s: float
    rates: Rates
    skipped: int


class Monitor:
    """Keeps the newest progress, counts the starts of the workers, and remembers why they gave up.

    Attributes:
        max_restarts: Starts from the same step after the first, until a start is refused.
    """

    def __init__(self, max_restarts: int) -> None:
        self.max_restarts = max_restarts
        self._progress: TrainingProgress | None = None
        self._refusal: str | None = None
        self._starts = self._starts_here = 0
        self._first_step: int | None = None
        self._failure = "they died without a word: out of memory, or killed"

    def start(self, first_step: int) -> str | None:
        """Note that the workers begin at this step, once a start; tells why they must not, if so."""
        if self._refusal is not None:
            return self._refusal
        self._starts += 1
        self._starts_here = self._starts_here + 1 if first_step == self._first_step else 1
        self._first_step = first_step
        if self._starts_here > self.max_restarts + 1:
            self._refusal = (
                f"workers failed {self._starts_here - 1} times in a row after step {first_step}: "
                f"{self._failure}"
            )
        return self._refusal

    def failed(self, message: str) -> None:
        """Note an error that ended a worker; another start may do better."""
        self._failure = message

    def refuse(self, message: str) -> None:
        """Note why there is no use in another start."""
        self._refusal = self._refusal or message

    def refusal(self) -> str | None:
        """Why there is no use in another start; None where there is."""
        return self._refusal

    def report(self, progress: TrainingProgress) -> None:
        """Take the newest progress."""
        self._progress = progress

    def newest(self) -> tuple[TrainingProgress | None, int]:
        """The newest progress, and how often the workers were started again."""
        return self._progress, max(self._starts - 1, 0)
