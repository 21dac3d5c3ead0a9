"""Ending processes as a machine that fails would."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from typing import Any

import psutil


def kill(process: subprocess.Popen[Any]) -> None:
    """End a process and all that it started, at once, also what has a group of its own."""
    if process.poll() is not None:
        return
    for each in [*psutil.Process(process.pid).children(recursive=True), process]:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()
