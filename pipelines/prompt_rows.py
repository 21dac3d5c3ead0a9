"""A row as one of a prompt table, to make its image again or another like it."""

from __future__ import annotations

import json
from typing import Any

from schemas.prompts import PROMPTS

_LEFT_OUT = ("image", "mask", "strength", "num_images")
"""The start image is not in the output; a row is one image."""


def prompt_row(row: dict[str, Any], *, is_generated: bool) -> str:
    """A JSON line with columns of a prompt table; of a scored image it has the caption alone."""
    if not is_generated:
        return json.dumps({"prompt": row.get("caption") or ""}, ensure_ascii=False)
    names = [name for name in PROMPTS.names if name not in _LEFT_OUT]
    values = {name: row[name] for name in names if row.get(name) is not None}
    return json.dumps(values | {"num_images": 1}, ensure_ascii=False)
