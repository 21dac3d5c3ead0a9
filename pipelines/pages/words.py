"""How pages write times, code versions and long texts."""

from __future__ import annotations

from datetime import UTC, datetime

TEXT_CHARS = 240
"""Characters of a text that a page shows: some captions are books."""


def utc_time(unix_s: float) -> str:
    """A time in seconds as people read it."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def short_code_version(version: str) -> str:
    """The beginning of a commit's or digest's name, and whether there were changes.

    Args:
        version: As in `run.json`; "" where it is not known.
    """
    kind, colon, rest = version.rpartition(":")
    commit, plus, _ = rest.partition("+")
    return f"{kind}{colon}{commit[:10]}{' +changes' if plus else ''}" if version else "version unknown"


def shortened(text: str | None) -> str:
    """A text as far as a page shows it."""
    if text is None:
        return ""
    return text if len(text) <= TEXT_CHARS else f"{text[:TEXT_CHARS]}…"
