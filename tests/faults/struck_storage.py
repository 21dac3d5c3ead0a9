"""A storage under which a process dies, or a disk fills up, at one write that is known beforehand."""

import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO, Literal

from pipelines import unit_result, units
from pipelines.storage import Storage, StoredObject


@dataclass(frozen=True, kw_only=True)
class Strike:
    """One fault, once.

    Attributes:
        path: Regular expression for the path of the object whose write is struck.
        moment: Whether the write has taken effect; "during" leaves a half-written temporary file.
        victim: Who dies: the process that writes, or the driver and with it its tasks.
        marker: A file that is made when it happens; while it exists nothing more does.
        driver_pid: Of the driver.
    """

    path: str
    moment: Literal["before", "during", "after"]
    victim: Literal["writer", "driver"]
    marker: str
    driver_pid: int = 0

    def at(self, path: str, moment: str, storage: Storage) -> None:
        """Strike, if this is the write and the moment."""
        if moment != self.moment or not re.search(self.path, path):
            return
        try:
            Path(self.marker).touch(exist_ok=False)
        except FileExistsError:
            return
        if self.moment == "during":
            storage._put(".tmp/half-written", b"half", only_new=False)
        if self.victim == "driver":
            os.kill(self.driver_pid, signal.SIGKILL)
        os._exit(1)


class StruckStorage(Storage):
    """Does as another storage does, but for the strike."""

    def __init__(self, inner: Storage, strike: Strike) -> None:
        self.inner, self.strike = inner, strike
        self.uri, self.single_writer = inner.uri, inner.single_writer

    def uri_of(self, path: str) -> str:
        return self.inner.uri_of(path)

    def read(self, path: str) -> bytes:
        return self.inner.read(path)

    def open(self, path: str) -> BinaryIO:
        return self.inner.open(path)

    def size(self, path: str) -> int:
        return self.inner.size(path)

    def fingerprint(self, path: str) -> str:
        return self.inner.fingerprint(path)

    def list(self, prefix: str = "", after: str = "") -> Iterator[StoredObject]:
        return self.inner.list(prefix, after)

    def _put(self, path: str, data: bytes, *, only_new: bool) -> bool:
        self.strike.at(path, "before", self.inner)
        self.strike.at(path, "during", self.inner)
        made = self.inner._put(path, data, only_new=only_new)
        self.strike.at(path, "after", self.inner)
        return made

    def _delete(self, path: str) -> None:
        self.inner._delete(path)


class SkewedStorage(StruckStorage):
    """Tells the processes that it travels to a wrong time."""

    def __init__(self, inner: Storage, days: float) -> None:
        super().__init__(inner, Strike(path="^$", moment="before", victim="writer", marker=""))
        self.days = days

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        skew_s = self.days * 86_400
        wrong = SimpleNamespace(time=lambda: time.time() + skew_s, monotonic=time.monotonic)
        unit_result.time = units.time = wrong  # type: ignore[assignment]
