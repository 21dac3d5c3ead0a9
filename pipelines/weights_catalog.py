"""Where the weights come from that the scorers and the model read, and how they are known.

catalog = load_config(Catalog, CATALOG)
catalog.named("aesthetic-laion-v2").source
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Annotated, Literal

import yaml
from pydantic import Field, PositiveInt, model_validator

from pipelines.config import Config, ConfigError
from pipelines.models import PROJECT

CATALOG = PROJECT / "jobs" / "configs" / "weights.yaml"
"""The weights that this project knows."""


class Weights(Config):
    """One file of weights, or a model's folder.

    Attributes:
        name: By which commands call it.
        path: Its own name, where it is put; of a folder it is `name`.
        source: Its publisher's URL, `https://…` or `hf://…`. What has `files` is a folder.
        files: The files that count of a folder, those that its loader looks at; some may be missing.
        size_bytes: Of the file; null where nobody checked it.
        sha256: Of the file, or the digest of the folder; null where nobody checked it.
        kind: The scorer that reads it; null for none.
        setting: The setting that names it in a job's configuration; null where no job can read it as it is.
        note: What else to know before using it.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    path: str
    source: Annotated[str, Field(pattern=r"^(https?|hf)://")]
    files: tuple[str, ...] = ()
    size_bytes: PositiveInt | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    kind: str | None = None
    setting: Literal["weights", "model"] | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _folder_from_the_hub(self) -> Weights:
        if self.files and (self.path != self.name or not self.source.startswith("hf://")):
            raise ValueError(
                "what has `files` is a folder: its path is its name and its source hf://owner/name"
            )
        return self

    def configuration(self, uri: str, digest: str) -> str:
        """The YAML for a job's configuration that names this copy."""
        if self.setting is None:
            return f"# {uri} has the SHA-256 {digest}"
        named: dict[str, str] = (
            {self.setting: uri} if self.kind is None else {"kind": self.kind, self.setting: uri}
        )
        if self.kind is None:
            return f"{_yaml(named)[1:-1]}   # digest {digest}"
        return f"- {_yaml(named | {'sha256': digest})}"


class Catalog(Config):
    """The weights that are known.

    Attributes:
        weights: Each of them.
    """

    weights: tuple[Weights, ...]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Catalog:
        names = [one.name for one in self.weights]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"'{repeated[0]}' is there twice; give one of them another name")
        return self

    def named(self, name: str) -> Weights:
        """The weights of that name; ConfigError where there are none."""
        for one in self.weights:
            if one.name == name:
                return one
        names: Sequence[str] = [one.name for one in self.weights]
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.4) or names
        raise ConfigError(f"no weights '{name}'; there are {', '.join(names)}. Did you mean {close[0]}?")


def _yaml(values: dict[str, str]) -> str:
    return yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=10_000).strip()
