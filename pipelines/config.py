"""Configuration of jobs: frozen models, read from YAML and `--set a.b=c`, with errors that say what to do.

A field that says how to run and not what comes out is marked, and left out of a run's identity:

    class GenerateConfig(Config):
        unit_rows: int = 256
        resources: Annotated[Resources, Operational()] = Resources()
"""

import copy
import difflib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveInt, ValidationError, model_validator

from pipelines.errors import RefusalError
from schemas.manifest import json_bytes


class ConfigError(RefusalError):
    """A configuration that cannot be used; the message names path, value and remedy."""


class Config(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Operational:
    """Marks a field that does not determine the output, such as the number of workers."""


ConfigT = TypeVar("ConfigT", bound=Config)


class Resources(Config):
    """What the workers of a job may use.

    Attributes:
        num_actors: Workers: "auto" for as many as the cluster holds, a number, or [fewest, most]: without the
            fewest the job does not start. More than the cluster holds, which makes it grow, are only asked
            for where `num_cpus` is 0.
        num_gpus: GPUs a worker; fractions share one. "auto" is 1 where the cluster has any, else 0.
        num_cpus: CPUs a worker; 0 leaves them all to reading and writing.
        node_labels: Labels of the nodes that its workers may run on, such as {market: on-demand}.
        node_timeout_s: Seconds to wait for the nodes of an autoscaling cluster, where not even the fewest
            workers fit; 0 refuses at once.
        threads_per_actor: Threads of a worker's CPU arithmetic, which can change its last bits; None leaves
            it to Ray.
    """

    num_actors: Annotated[Literal["auto"] | PositiveInt | tuple[PositiveInt, PositiveInt], Operational()] = (
        "auto"
    )
    num_gpus: Annotated[Literal["auto"] | NonNegativeFloat, Operational()] = 0.0
    num_cpus: Annotated[NonNegativeFloat, Operational()] = 1.0
    node_labels: Annotated[dict[str, str], Operational()] = {}
    node_timeout_s: Annotated[NonNegativeFloat, Operational()] = 0.0
    threads_per_actor: PositiveInt | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "Resources":
        if isinstance(self.num_actors, tuple) and self.num_actors[0] > self.num_actors[1]:
            raise ValueError(f"num_actors {list(self.num_actors)} must be [fewest, most]")
        return self


def load_config(model: type[ConfigT], path: str | Path | None, overrides: Sequence[str] = ()) -> ConfigT:
    """The configuration in a YAML file, changed by overrides.

    Args:
        model: The job's model.
        path: The YAML file; None to start from the defaults.
        overrides: Texts `a.b=value`; a value is read as YAML.

    Raises:
        ConfigError: The file, an override or a value cannot be used.
    """
    values = {} if path is None else _read_yaml(Path(path))
    return build_config(model, values, overrides, "configuration" if path is None else str(path))


def build_config(
    model: type[ConfigT], values: dict[str, Any], overrides: Sequence[str], source: str
) -> ConfigT:
    """The configuration in JSON values, changed by overrides; `source` says in errors where they are from.

    Raises:
        ConfigError: An override or a value cannot be used.
    """
    values = copy.deepcopy(values)
    for text in overrides:
        _override(values, text)
    try:
        return model.model_validate(_with_defaults(model, values))
    except ValidationError as error:
        lines = [_explain(model, dict(item)) for item in error.errors()]
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from error


def _with_defaults(model: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """The values, their sections filled from the fields' own defaults, which may differ from the class's."""
    filled = dict(values)
    for name, field in model.model_fields.items():
        given = values.get(name)
        if isinstance(field.default, BaseModel) and isinstance(given, dict):
            section = type(field.default)
            if field.annotation is section:  # of several alternatives another may be meant
                filled[name] = field.default.model_dump() | _with_defaults(section, given)
    return filled


def identity(config: BaseModel) -> dict[str, Any]:
    """The settings that determine the output, as JSON values."""
    return _select(config, operational=False)


def settings(config: BaseModel) -> dict[str, Any]:
    """The settings marked Operational, as JSON values."""
    return _select(config, operational=True)


def merged(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Two JSON objects as one, the second's values first: `identity` and `settings` make a config."""
    both = before | after
    for name in before.keys() & after.keys():
        if isinstance(before[name], dict) and isinstance(after[name], dict):
            both[name] = merged(before[name], after[name])
    return both


def config_digest(config: BaseModel) -> str:
    """SHA-256 of `identity`, in hexadecimal."""
    return hashlib.sha256(json_bytes(identity(config))).hexdigest()


def differences(before: Any, after: Any) -> list[str]:
    """Lines `path: before -> after` for all that differs between two JSON values."""
    old, new = dict(_flatten(before, "")), dict(_flatten(after, ""))
    keys = [key for key in sorted({*old, *new}) if old.get(key, _UNSET) != new.get(key, _UNSET)]
    return [f"{key}: {old.get(key, 'unset')} -> {new.get(key, 'unset')}" for key in keys]


_UNSET = object()


def _flatten(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _select(config: BaseModel, operational: bool) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    dumped = config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        marked = any(isinstance(mark, Operational) or mark is Operational for mark in field.metadata)
        value = getattr(config, name)
        if marked == operational:
            chosen[name] = dumped[name]
        if not marked and isinstance(value, BaseModel):
            chosen[name] = _select(value, operational)
            if operational and not chosen[name]:
                del chosen[name]
    return chosen


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot read it ({error.strerror}); name an existing YAML file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}; write `key: value` lines")
    return values


def _override(values: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {text}: write --set a.b=value")
    place: Any = values
    for depth, key in enumerate(keys):
        at = ".".join(keys[:depth])
        if isinstance(place, list):
            if not key.isdigit() or int(key) >= len(place):
                raise ConfigError(f"--set {text}: {at} has items 0 to {len(place) - 1}, and no '{key}'")
        elif not isinstance(place, dict):
            raise ConfigError(f"--set {text}: {at} is {place!r}, which has no keys")
        index: Any = int(key) if isinstance(place, list) else key
        if depth < len(keys) - 1:
            place = place[index] if isinstance(place, list) else place.setdefault(index, {})
    try:
        place[index] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text}: the value is not YAML: {error}") from error


def _explain(model: type[BaseModel], error: dict[str, Any]) -> str:
    location = [part for part in error["loc"] if isinstance(part, str | int)]
    path = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        known = _keys_at(model, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        remedy = f"did you mean '{close[0]}'?" if close else f"known keys are {', '.join(sorted(known))}"
        return f"{path} = {error['input']!r}: unknown key; {remedy}"
    if error["type"] == "missing":
        return f"{path}: required; set it in the file or with --set {path}=VALUE"
    return f"{path} = {error['input']!r}: {error['msg']}; correct it in the file or with --set {path}=VALUE"


def _keys_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys that may stand at a place of the model; those of all alternatives of a union."""
    models = [model]
    for part in location:
        deeper = [
            found
            for m in models
            if part in m.model_fields
            for found in _models_in(m.model_fields[str(part)].annotation)
        ]
        models = deeper or models  # a union's tag stands in the location without being a key
    return [name for m in models for name in m.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, Annotated, list, tuple, dict):
        return [model for part in get_args(annotation) for model in _models_in(part)]
    return []
