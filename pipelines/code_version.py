"""Which code is running: recorded with every run and commit."""

import hashlib
import subprocess
from pathlib import Path

VERSION_FILE = "CODE_VERSION"
"""Lies in the root of a copy that was shipped to a cluster, without its .git."""
_ROOT = Path(__file__).parent.parent
_PACKAGES = ("jobs", "meissonic", "pipelines", "schemas")


def code_version() -> str:
    """`git:COMMIT`, with `+changes` where files differ from it; `source:DIGEST` where there is no git."""
    shipped = _ROOT / VERSION_FILE
    if shipped.is_file():
        return shipped.read_text().strip()
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", *_PACKAGES)
    except (OSError, subprocess.CalledProcessError):
        return f"source:{_source_digest()}"
    return f"git:{commit}+changes" if changed else f"git:{commit}"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(_ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _source_digest() -> str:
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for file in sorted((_ROOT / package).rglob("*.py")):
            digest.update(f"{file.relative_to(_ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
