"""How long a worker has something to do, and how long nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_EVERY_S = 5.0


class WorkerTime:
    """Busy and idle seconds since the last report; a thread reports them, also in the midst of a long unit.

    Args:
        report: Takes the busy and the idle seconds since it was called last.
        clock: Gives seconds.
    """

    def __init__(
        self, report: Callable[[float, float], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._report, self._clock = report, clock
        self._lock = threading.Lock()
        self._is_busy, self._since = False, clock()
        self._busy_s = self._idle_s = 0.0

    def start(self) -> None:
        """Report every few seconds until the process ends."""
        threading.Thread(target=self._repeat, name="worker-time", daemon=True).start()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """The worker has something to do during the block."""
        self._turn(True)
        try:
            yield
        finally:
            self._turn(False)

    def tell(self) -> None:
        """Report what has gathered."""
        with self._lock:
            self._gather()
            busy_s, idle_s = self._busy_s, self._idle_s
            self._busy_s = self._idle_s = 0.0
        self._report(busy_s, idle_s)

    def _turn(self, is_busy: bool) -> None:
        with self._lock:
            self._gather()
            self._is_busy = is_busy

    def _gather(self) -> None:
        now = self._clock()
        if self._is_busy:
            self._busy_s += now - self._since
        else:
            self._idle_s += now - self._since
        self._since = now

    def _repeat(self) -> None:
        while True:
            time.sleep(_EVERY_S)
            self.tell()
