"""The code that a submitted job runs: the repository as git sees it, in a folder of its own."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.code_version import VERSION_FILE
from pipelines.errors import RefusalError

ROOT = Path(__file__).parents[2]
_LEFT_OUT = "tests"
"""Half of the bytes, and no job reads them."""


class SourceError(RefusalError):
    """The code cannot be shipped; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A copy of the repository.

    Attributes:
        folder: Where it lies; what else the job needs may be written into it.
        version: What run.json will say of the code.
        changed: Files that differ from the commit or are not in it; they are shipped as they are.
    """

    folder: Path
    version: str
    changed: tuple[str, ...]


@contextmanager
def source_copy(root: Path = ROOT) -> Iterator[Source]:
    """A copy of all files that git does not ignore, without the tests; it is deleted after the block.

    Raises:
        SourceError: The folder is not a git checkout.
    """
    try:
        commit = _git(root, "rev-parse", "HEAD")[0]
    except (OSError, subprocess.CalledProcessError) as error:
        raise SourceError(f"{root}: not a git checkout with a commit; jobs are submitted from one") from error
    shipped = {
        name: root / name
        for name in _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        if not name.startswith(f"{_LEFT_OUT}/") and (root / name).is_file()  # deleted ones are listed too
    }
    differing = _git(root, "diff", "-z", "--name-only", "HEAD")
    unknown = _git(root, "ls-files", "-z", "--others", "--exclude-standard")
    changed = tuple(name for name in [*differing, *unknown] if not name.startswith(f"{_LEFT_OUT}/"))
    version = f"git:{commit}+changes" if changed else f"git:{commit}"
    with tempfile.TemporaryDirectory(prefix="meissonic-source-") as temporary:
        folder = Path(temporary)
        for name, file in shipped.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / name)
        (folder / VERSION_FILE).write_text(version + "\n")
        yield Source(folder=folder, version=version, changed=changed)


def _git(root: Path, *arguments: str) -> list[str]:
    """The lines of what git says, or with -z its names."""
    command = ["git", "-C", str(root), *arguments]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return said.split("\0")[:-1] if "-z" in arguments else said.splitlines()
