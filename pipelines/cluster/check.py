"""What a doctor says of one thing that it looked at."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What it is.
        is_ok: Nothing has to be done.
        found: How it is, and what to do where that is wrong.
    """

    name: str
    is_ok: bool
    found: str
