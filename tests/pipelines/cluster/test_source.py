"""What is submitted is the repository as git sees it."""

import subprocess
from pathlib import Path

import pytest

from pipelines.cluster.source import SourceError, source_copy


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository of a package, a test, and an ignored file."""
    root = tmp_path / "repository"
    for name in ("jobs/run.py", "tests/test_run.py", "out/large.bin", ".gitignore"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("/out/\n" if name == ".gitignore" else "1")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    return root


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_clean_checkout_is_shipped_as_its_commit_without_tests_and_ignored_files(root: Path) -> None:
    with source_copy(root) as source:
        assert files(source.folder) == {"jobs/run.py", ".gitignore", "CODE_VERSION"}
        assert source.version == f"git:{git(root, 'rev-parse', 'HEAD')}"
        assert (source.folder / "CODE_VERSION").read_text() == f"{source.version}\n"
        assert source.changed == ()
    assert not source.folder.exists()


def test_changes_are_shipped_and_told(root: Path) -> None:
    (root / "jobs/run.py").write_text("2")
    (root / "jobs/new file.py").write_text("3")
    (root / "tests/test_run.py").write_text("4")
    with source_copy(root) as source:
        assert (source.folder / "jobs/run.py").read_text() == "2"
        assert (source.folder / "jobs/new file.py").read_text() == "3"
        assert source.version.endswith("+changes")
        assert set(source.changed) == {"jobs/run.py", "jobs/new file.py"}


def test_what_was_deleted_is_not_shipped(root: Path) -> None:
    (root / "jobs/run.py").unlink()
    with source_copy(root) as source:
        assert "jobs/run.py" not in files(source.folder)
        assert source.changed == ("jobs/run.py",)


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not a git checkout"), source_copy(tmp_path):
        pass
