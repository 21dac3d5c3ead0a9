"""Do something about once a second while something else runs."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

_TICK_S = 1.0


@contextmanager
def ticking(report: Callable[[], None]) -> Iterator[None]:
    """Call `report` about once a second during the block, from a thread of its own, and once at its end.

    Its error is raised when the block has ended.
    """
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(_TICK_S):
            report()

    with ThreadPoolExecutor(1) as pool:
        reports = pool.submit(repeat)
        try:
            yield
        finally:
            ended.set()
        reports.result()
    report()
