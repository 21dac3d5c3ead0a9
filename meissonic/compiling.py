"""Compile a model part by part: parts of a kind share what was compiled, and each start compiles little."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

MAX_COMPILED = 256
"""Versions of a kind of part: by its sizes, those of its inputs, with gradients and without."""


def compile_parts(parts: Iterable[nn.Module]) -> None:
    """Compile each part in place, for the shapes that it meets.

    Raises the process's limit of versions to `MAX_COMPILED`: past it torch warns, and runs uncompiled.
    """
    import torch._dynamo

    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, MAX_COMPILED)
    for part in parts:
        part.compile(dynamic=False)
