"""Model folders by URI, known by their digest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipelines.models import ModelError, fetch_model, folder_digest, model_id
from pipelines.storage import open_storage

TINY = Path(__file__).parents[1] / "assets" / "golden" / "tiny"


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEISSONIC_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def test_the_digest_covers_what_is_loaded_and_nothing_else(copy: Path) -> None:
    before = fetch_model(str(copy)).digest
    (copy / "notes.txt").write_text("stray")
    (copy / "transformer" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"stray")
    assert fetch_model(str(copy)).digest == before == folder_digest(TINY)
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("cosine", "linear"))
    assert fetch_model(str(copy)).digest != before


def test_another_model_than_the_expected_one_is_refused(copy: Path) -> None:
    with pytest.raises(ModelError, match="started with 0000"):
        fetch_model(str(copy), "0000")


@pytest.mark.s3
def test_models_on_s3_are_downloaded_once_and_only_what_is_loaded(copy: Path, s3_server: str) -> None:
    storage = open_storage("s3://bucket/models/tiny")
    for file in copy.rglob("*"):
        if file.is_file():
            storage.write(file.relative_to(copy).as_posix(), file.read_bytes())
    storage.write("transformer/diffusion_pytorch_model.fp16.safetensors", b"stray")
    fetched = fetch_model("s3://bucket/models/tiny")
    assert fetched.digest == folder_digest(TINY)
    assert not (fetched.folder / "transformer" / "diffusion_pytorch_model.fp16.safetensors").exists()
    storage.delete("model_index.json")
    assert fetch_model("s3://bucket/models/tiny", fetched.digest) == fetched
    (fetched.folder / "model_index.json").write_text("damaged")
    with pytest.raises(ModelError, match="digest"):
        fetch_model("s3://bucket/models/tiny", fetched.digest)


@pytest.mark.s3
def test_an_empty_place_is_no_model(copy: Path, s3_server: str) -> None:
    with pytest.raises(ModelError, match="no model files"):
        fetch_model("s3://bucket/models/nothing")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        fetch_model(str(tmp_path / "nowhere"))


def test_a_malformed_hub_name_is_refused_without_asking() -> None:
    with pytest.raises(ModelError, match="hf://"):
        fetch_model("hf://a/b/c/d")


@pytest.mark.parametrize(
    ("uri", "name"),
    [("hf://owner/name@rev", "owner/name"), ("s3://bucket/m", "bucket/m"), ("models/tiny", "models/tiny")],
)
def test_models_are_named_by_their_uri(uri: str, name: str) -> None:
    assert model_id(uri) == name


def test_hub_models_are_pinned_by_revision_and_only_what_is_loaded_is_fetched(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(repository: str, *, revision: str | None, allow_patterns: list[str] | None) -> str:
        asked.append((repository, revision))
        assert allow_patterns is not None
        assert "vqvae/diffusion_pytorch_model.safetensors" in allow_patterns
        return str(copy)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert fetch_model("hf://owner/name@abc123").digest == folder_digest(TINY)
    fetch_model("hf://owner/name")
    assert asked == [("owner/name", "abc123"), ("owner/name", None)]
