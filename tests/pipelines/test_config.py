"""A configuration's errors say what to do; its identity leaves out how the job is run."""

from pathlib import Path
from typing import Annotated, Literal

import pytest

from pipelines.config import (
    Config,
    ConfigError,
    Operational,
    Resources,
    build_config,
    config_digest,
    differences,
    identity,
    load_config,
    settings,
)
from pipelines.selection.recipe import Recipe, SampleRule


class Sampler(Config):
    """How tokens are sampled."""

    num_steps: int = 48
    guidance_scale: float = 9.0


class Png(Config):
    """Lossless images."""

    kind: Literal["png"] = "png"
    level: int = 6


class Jpeg(Config):
    """Small images."""

    kind: Literal["jpeg"] = "jpeg"
    quality: int = 95


class Job(Config):
    """A job's configuration."""

    output: Annotated[str, Operational()]
    sampler: Sampler = Sampler()
    image: Png | Jpeg = Png()
    resources: Annotated[Resources, Operational()] = Resources()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text("output: out\nsampler:\n  num_steps: 16\n")
    return path


def test_file_and_overrides_combine(file: Path) -> None:
    job = load_config(Job, file, ["sampler.guidance_scale=3.5", "resources.num_actors=[1, 4]"])
    assert job.sampler == Sampler(num_steps=16, guidance_scale=3.5)
    assert job.resources.num_actors == (1, 4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampler.num_stepz=4", r"job.yaml: sampler.num_stepz = 4: unknown key; did you mean 'num_steps'\?"),
        ("zzz=4", "zzz = 4: unknown key; known keys are image, output, resources, sampler"),
        (
            "sampler.num_steps=many",
            r"sampler.num_steps = 'many': .*valid integer.*--set sampler.num_steps=VALUE",
        ),
        ("resources.num_actors=0", r"resources.num_actors.* = 0"),
        ("resources.num_actors=[4, 1]", "must be .fewest, most."),
        ("sampler.num_steps", r"--set sampler.num_steps: write --set a.b=value"),
        ("output.x=1", "output is 'out', which has no keys"),
        ("output=[", "not YAML"),
    ],
)
def test_errors_name_path_value_and_remedy(file: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(Job, file, [override])


def test_missing_keys_and_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"output: required; set it in the file or with --set output=VALUE"):
        load_config(Job, None)
    with pytest.raises(ConfigError, match="name an existing YAML file"):
        load_config(Job, tmp_path / "absent.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="holds a list"):
        load_config(Job, tmp_path / "list.yaml")


def test_identity_leaves_out_what_does_not_change_the_output() -> None:
    here = load_config(Job, None, ["output=here"])
    there = load_config(Job, None, ["output=there", "resources.num_actors=7"])
    assert identity(here) == identity(there)
    assert config_digest(here) == config_digest(there)
    assert set(identity(here)) == {"sampler", "image"}
    assert set(settings(here)) == {"output", "resources"}
    assert config_digest(load_config(Job, None, ["output=here", "image.kind=jpeg"])) != config_digest(here)


def test_configs_are_frozen_and_strict() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Sampler().num_steps = 3  # type: ignore[misc]


def test_differences_name_each_setting() -> None:
    assert differences({"a": {"b": 1, "c": 2}, "d": None}, {"a": {"b": 3, "c": 2}, "e": []}) == [
        "a.b: 1 -> 3",
        "d: None -> unset",
        "e: unset -> []",
    ]


def test_an_override_reaches_into_lists() -> None:
    rules = {"rules": [{"rule": "range", "column": "a", "min": 1}, {"rule": "sample", "fraction": 0.5}]}
    changed = build_config(Recipe, rules, ["rules.1.fraction=0.25"], "test").rules[1]
    assert isinstance(changed, SampleRule)
    assert changed.fraction == 0.25
    for text, what in (("rules.2.min=1", "rules has items 0 to 1, and no '2'"), ("rules.x=1", "no 'x'")):
        with pytest.raises(ConfigError, match=what):
            build_config(Recipe, rules, [text], "test")


def test_a_section_given_in_part_keeps_the_rest_of_its_default() -> None:
    class Job(Config):
        workers: Resources = Resources(num_cpus=0.5, threads_per_actor=1)

    job = build_config(Job, {}, ["workers.num_actors=3"], "test")
    assert job.workers == Resources(num_actors=3, num_cpus=0.5, threads_per_actor=1)
