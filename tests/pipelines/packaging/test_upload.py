"""Upload to a hub on this machine, by the client library that talks to the real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.config import ConfigError, load_config
from pipelines.packaging import PackageConfig
from pipelines.packaging.upload import HubTarget, UploadError, UploadStoppedError, check_credentials
from pipelines.storage import Storage, child, open_storage
from tests.pipelines.packaging.fake_hub import NAME, FakeHub, fake_hub
from tests.pipelines.packaging.made_sets import package, write_set

SHARDS = [f"data/train-0000{n}-of-00003.parquet" for n in range(3)]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr("pipelines.packaging.upload.BATCH_FILES", 2)
    with fake_hub(monkeypatch) as started:
        yield started


def packaged(tmp_path: Path, output: str, *changes: str) -> Storage:
    storage = package(write_set(tmp_path / "run"), output, "shard_rows=3", *changes).storage
    storage.write("README.md", b"---\npretty_name: made\n---\n")
    return storage


def target(*changes: str) -> HubTarget:
    places = ["input=i", "output=o", f"upload=hf://datasets/{NAME}"]
    found = HubTarget.prepare(load_config(PackageConfig, None, [*places, *changes]))
    assert found is not None
    return found


def test_a_set_arrives_whole_in_a_private_repository_wherever_it_was(
    hub: FakeHub, root_uri: str, tmp_path: Path
) -> None:
    storage = packaged(tmp_path, child(root_uri, "packed"))
    sent: list[str] = []
    url = target("revision=trial").upload(storage, sent.append)
    assert url == f"{hub.url}/datasets/{NAME}/tree/trial"
    assert (hub.private, hub.branches, sent) == (True, {"main", "trial"}, SHARDS)
    assert hub.files == {path: storage.read(path) for path in [*SHARDS, "README.md", "manifest.json"]}
    assert hub.commits == [SHARDS[:2], SHARDS[2:], ["README.md", "manifest.json"]]
    assert hub.tokens == {"Bearer hf_test"}
    assert len(hub.puts) == len(SHARDS)
    target().upload(storage)
    assert len(hub.puts) == len(SHARDS)


def test_an_upload_that_broke_off_goes_on(hub: FakeHub, tmp_path: Path) -> None:
    storage = packaged(tmp_path, str(tmp_path / "packed"))
    hub.max_puts = 2
    with pytest.raises(UploadStoppedError, match="start again to go on"):
        target().upload(storage)
    assert list(hub.files) == SHARDS[:2]
    hub.max_puts = 1000
    target().upload(storage)
    assert len(hub.puts) == len(SHARDS)
    assert "manifest.json" in hub.files


def test_a_changed_file_is_not_uploaded(hub: FakeHub, tmp_path: Path) -> None:
    storage = packaged(tmp_path, str(tmp_path / "packed"))
    storage.write(SHARDS[1], b"other")
    with pytest.raises(UploadError, match="not what the manifest records; run `python -m jobs verify"):
        target().upload(storage)
    assert hub.files == {}


def test_data_of_another_set_is_not_mixed_with_this_one(hub: FakeHub, tmp_path: Path) -> None:
    storage = packaged(tmp_path, str(tmp_path / "packed"))
    hub.files["data/train-00000-of-00004.parquet"] = b"x"
    with pytest.raises(UploadError, match="1 files in data/ that are not this set's, such as"):
        target().upload(storage)


def test_a_public_repository_is_refused_unless_it_is_meant(hub: FakeHub) -> None:
    hub.private = False
    with pytest.raises(UploadError, match="is public; set private=false"):
        target()
    assert target("private=false").name == NAME


def test_without_credentials_nothing_begins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    config = load_config(PackageConfig, None, ["input=i", "output=o", f"upload=hf://datasets/{NAME}"])
    with pytest.raises(UploadError, match="no credentials for the hub; set HF_TOKEN"):
        check_credentials(config)
    check_credentials(config.model_copy(update={"upload": None}))


@pytest.mark.parametrize("upload", ["owner/name", "hf://owner/name", "hf://datasets/name"])
def test_other_addresses_are_refused(upload: str) -> None:
    with pytest.raises(ConfigError, match="upload"):
        load_config(PackageConfig, None, ["input=i", "output=o", f"upload={upload}"])


def test_open_storage_of_a_set_is_all_that_an_upload_needs(hub: FakeHub, tmp_path: Path) -> None:
    packaged(tmp_path, str(tmp_path / "packed"), "format=webdataset")
    target().upload(open_storage(str(tmp_path / "packed")))
    assert sum(path.endswith(".tar") for path in hub.files) == len(SHARDS)
