"""`docs/packaging.md`: its programs run, its commands are valid, its table names every setting."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.config import load_config
from pipelines.packaging import PackageConfig
from tests.pipelines.made_generations import SIDE
from tests.pipelines.packaging.made_sets import package, write_set

TEXT = Path("docs/packaging.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("guide")
    source = write_set(root / "out" / "run")
    package(source, root / "out" / "packed")
    package(source, root / "out" / "tars", "format=webdataset")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("program", blocks("python"))
def test_programs_run(program: str, folder: Path) -> None:
    environment = os.environ | {"HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"({SIDE}, {SIDE}) prompt 0" in done.stdout


def test_commands_are_valid() -> None:
    lines = [line for block in blocks("") for line in block.splitlines() if "jobs package" in line]
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line)
        config = words[words.index("--config") + 1]
        changes = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
        assert load_config(PackageConfig, config, changes).input == "out/run"


def test_the_table_names_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| (.*?) \|", TEXT.partition("## Settings")[2], re.MULTILINE)
    named = {name: default for names, default in rows for name in re.findall(r"`(\w+)`", names)}
    assert named.keys() == PackageConfig.model_fields.keys()
    for name in ("format", "keep_tokens", "shard_rows", "shard_bytes"):
        assert named[name].strip("`") == str(PackageConfig.model_fields[name].default).replace("F", "f")
    shown = load_config(PackageConfig, "jobs/configs/package.yaml", ["input=i", "output=o"])
    assert shown == PackageConfig(input="i", output="o")
