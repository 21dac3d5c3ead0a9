"""Storage in memory, for programs that stop before each operation: there another may run, or they die."""

import enum
import hashlib
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, ClassVar, TypeVar

from typing_extensions import override

from pipelines.storage import ObjectMissingError, Storage, StoredObject

URI = "memory://run"
_PAGE_OBJECTS = 3
T = TypeVar("T")


class Crash(BaseException):
    """The process ends here, without cleaning up."""


class Fate(enum.Enum):
    """What becomes of an operation."""

    DONE = "carried out"
    CRASH_BEFORE = "the process dies before it takes effect"
    CRASH_AFTER = "the process dies after it took effect"
    ANSWER_LOST = "carried out, but the client does not hear of it, tries again and finds its own object"


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """An object, when it was written and by whom."""

    data: bytes
    sha256: str
    modified_at: float
    writer: "Process | None"


class Server:
    """What all processes see. Its clock moves by a second with each operation."""

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self.clock = 0.0

    def changed(self) -> None:
        """Called after each change, so that a check misses no state."""

    def put(self, path: str, data: bytes, writer: "Process | None" = None) -> None:
        digest = hashlib.sha256(data).hexdigest()
        self.objects[path] = Stored(data=data, sha256=digest, modified_at=self.clock, writer=writer)
        self.changed()

    def remove(self, path: str) -> None:
        if self.objects.pop(path, None):
            self.changed()

    def paths(self, *prefixes: str) -> list[str]:
        return sorted(path for path in self.objects if path.startswith(prefixes))


class Process:
    """A program in a thread, with a connection and a clock of its own.

    Args:
        server: Where it reads and writes.
        program: What it does, given this process; it may start no threads.
        skew_s: What its clock is ahead of the server's.

    Attributes:
        hidden: What lagging listings kept from it.
        phase: What it is about, as the program says.
    """

    running: ClassVar["Process"]

    def __init__(self, server: Server, program: Callable[["Process"], object], skew_s: float = 0.0) -> None:
        self.server, self.skew_s = server, skew_s
        self.storage = MemoryStorage(self)
        self.lag_s = 0.0
        self.hidden: set[str] = set()
        self.phase = ""
        self.alive = True
        self._fate = Fate.DONE
        self._error: BaseException | None = None
        self._go, self._stopped = threading.Lock(), threading.Lock()  # released by the other side
        self._go.acquire()
        self._stopped.acquire()
        threading.Thread(target=self._run, args=[program], daemon=True).start()
        self._stopped.acquire()

    def advance(self, steps: int = 1, fate: Fate = Fate.DONE, lag_s: float = 0.0) -> None:
        """Carry out so many operations, the last with this fate; raises what the program raises.

        Listings lack what others wrote within the last `lag_s` seconds.
        """
        for step in range(1, steps + 1):
            if self.alive:
                Process.running, self.lag_s = self, lag_s
                self._fate = fate if step == steps else Fate.DONE
                self._go.release()
                self._stopped.acquire()
        if self._error:
            raise self._error

    def finish(self) -> None:
        while self.alive:
            self.advance()

    def kill(self) -> None:
        self.advance(fate=Fate.CRASH_BEFORE)

    def time(self) -> float:
        return self.server.clock + self.skew_s

    def operate(self, effect: Callable[[], T]) -> T:
        """Stop, and then do this."""
        if not self.alive:
            raise Crash
        self._stopped.release()
        self._go.acquire()
        self.server.clock += 1
        self.alive = self._fate in (Fate.DONE, Fate.ANSWER_LOST)
        if self._fate is not Fate.CRASH_BEFORE:
            result = effect()
        if not self.alive:
            raise Crash
        return effect() if self._fate is Fate.ANSWER_LOST else result

    def pause(self) -> None:
        """A place to stop between operations."""
        self.operate(lambda: None)

    def _run(self, program: Callable[["Process"], object]) -> None:
        try:
            self.pause()
            program(self)
        except Crash:
            pass
        except BaseException as error:
            self._error = error
        self.alive = False
        self._stopped.release()


class MemoryStorage(Storage):
    """A process's view of the server. It lists page by page, its own writes always."""

    def __init__(self, process: Process) -> None:
        self.uri, self.single_writer = URI, False
        self._process, self._server = process, process.server

    @override
    def uri_of(self, path: str) -> str:
        return f"{self.uri}/{path}"

    @override
    def read(self, path: str) -> bytes:
        return self._process.operate(lambda: self._get(path).data)

    @override
    def open(self, path: str) -> BinaryIO:
        return io.BytesIO(self.read(path))

    @override
    def size(self, path: str) -> int:
        return self._process.operate(lambda: len(self._get(path).data))

    @override
    def fingerprint(self, path: str) -> str:
        return self._process.operate(lambda: self._get(path).sha256)

    @override
    def now(self) -> float:
        return self._process.operate(lambda: self._server.clock)

    @override
    def list(self, prefix: str = "", after: str = "") -> Iterator[StoredObject]:
        while page := self._process.operate(lambda after=after: self._page(prefix, after)):
            yield from page
            after = page[-1].path

    @override
    def _put(self, path: str, data: bytes, *, only_new: bool) -> bool:
        def put() -> bool:
            free = path not in self._server.objects
            if free or not only_new:
                self._server.put(path, data, self._process)
            return free

        return self._process.operate(put)

    @override
    def _delete(self, path: str) -> None:
        self._process.operate(lambda: self._server.remove(path))

    def _get(self, path: str) -> Stored:
        if path not in self._server.objects:
            raise ObjectMissingError(f"{self.uri_of(path)}: no such object")
        return self._server.objects[path]

    def _page(self, prefix: str, after: str) -> Sequence[StoredObject]:
        page, since = [], self._server.clock - self._process.lag_s
        for path in self._server.paths(prefix):
            found = self._server.objects[path]
            if found.modified_at > since and found.writer is not self._process:
                self._process.hidden.add(path)
            elif path > after:
                size = len(found.data)
                page.append(StoredObject(path=path, size_bytes=size, modified_at=found.modified_at))
        return page[:_PAGE_OBJECTS]
