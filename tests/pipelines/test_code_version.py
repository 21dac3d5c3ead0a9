"""The code's version is its commit, or a digest of its files."""

import re
import subprocess

import pytest

from pipelines.code_version import code_version


def test_a_checkout_names_its_commit() -> None:
    assert re.fullmatch(r"git:[0-9a-f]{40}(\+changes)?", code_version())


def test_without_git_the_files_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_git(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", no_git)
    assert re.fullmatch(r"source:[0-9a-f]{16}", code_version())
    assert code_version() == code_version()
