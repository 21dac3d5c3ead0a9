"""Storage behaves alike on a folder and on an S3 server."""

import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.storage import ObjectMissingError, StorageError, open_storage, split_uri


def test_written_objects_are_read_back(root_uri: str) -> None:
    storage = open_storage(root_uri)
    storage.write("a/b.bin", b"first")
    storage.write("a/b.bin", b"second")
    assert storage.read("a/b.bin") == b"second"
    assert storage.size("a/b.bin") == 6
    assert storage.exists("a/b.bin")
    assert storage.sha256("a/b.bin") == "16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4"


def test_missing_objects_are_named(root_uri: str) -> None:
    storage = open_storage(root_uri)
    storage.write("there", b"")
    assert not storage.exists("absent")
    for use in (storage.read, storage.size, storage.fingerprint, storage.open):
        with pytest.raises(ObjectMissingError, match="absent"):
            use("absent")
    storage.delete("absent")


def test_listing_is_sorted_and_holds_only_the_prefix(root_uri: str) -> None:
    storage = open_storage(root_uri)
    for path in ("data/b", "data/a/x", "data2/c", "other"):
        storage.write(path, b"12")
    assert [entry.path for entry in storage.list("data/")] == ["data/a/x", "data/b"]
    assert [entry.path for entry in storage.list()] == ["data/a/x", "data/b", "data2/c", "other"]
    assert {entry.size_bytes for entry in storage.list()} == {2}
    storage.delete("data/b")
    assert [entry.path for entry in storage.list("data/")] == ["data/a/x"]


def test_listing_of_an_empty_root_is_empty(root_uri: str) -> None:
    assert list(open_storage(root_uri).list()) == []


def test_create_lets_one_of_many_writers_win(root_uri: str) -> None:
    storage = open_storage(root_uri)
    contents = [f"writer {n}".encode() for n in range(16)]
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda data: storage.create("run.json", data), contents))
    assert sum(won) == 1
    assert storage.read("run.json") == contents[won.index(True)]
    assert [entry.path for entry in storage.list()] == ["run.json"]


def test_open_reads_ranges(root_uri: str) -> None:
    storage = open_storage(root_uri)
    content = bytes(range(256)) * 5000
    storage.write("big", content)
    with storage.open("big") as stream:
        stream.seek(-10, io.SEEK_END)
        assert stream.read() == content[-10:]
        stream.seek(700_000)
        assert stream.read(300_000) == content[700_000:1_000_000]
        assert stream.tell() == 1_000_000


def test_fingerprint_follows_the_bytes(root_uri: str) -> None:
    storage = open_storage(root_uri)
    storage.write("a", b"one")
    before = storage.fingerprint("a")
    storage.write("a", b"two")
    assert storage.fingerprint("a") != before
    storage.write("a", b"one")
    assert storage.fingerprint("a") == before


def test_storage_travels_to_other_processes(root_uri: str) -> None:
    storage = open_storage(root_uri)
    storage.write("a", b"one")
    copy = pickle.loads(pickle.dumps(storage))
    assert copy == storage
    assert copy.read("a") == b"one"


def test_split_uri_names_folder_and_object(root_uri: str) -> None:
    storage, name = split_uri(f"{root_uri}/sub/file.parquet")
    assert (storage, name) == (open_storage(f"{root_uri}/sub"), "file.parquet")


def test_file_uris_are_folders(tmp_path: Path) -> None:
    open_storage(f"file://{tmp_path}/with%20space").write("a", b"1")
    assert (tmp_path / "with space" / "a").read_bytes() == b"1"


def test_relative_folders_stay_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = open_storage("runs/one")
    monkeypatch.chdir("/")
    storage.write("a", b"1")
    assert (tmp_path / "runs" / "one" / "a").exists()


def test_unknown_schemes_are_refused() -> None:
    with pytest.raises(StorageError, match=r"gs://bucket/x.*use a folder"):
        open_storage("gs://bucket/x")


def test_unwritable_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="choose one you may write to"):
        open_storage(str(tmp_path / "file")).write("a", b"")


@pytest.mark.s3
@pytest.mark.usefixtures("s3_server")
def test_missing_bucket_says_what_to_set() -> None:
    with pytest.raises(StorageError, match=r"no bucket 'nowhere'; create it, or set AWS_ENDPOINT_URL"):
        open_storage("s3://nowhere/x").write("a", b"")


@pytest.mark.s3
@pytest.mark.usefixtures("s3_server")
def test_missing_credentials_say_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines import storage_s3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    storage_s3._client.cache_clear()
    try:
        with pytest.raises(StorageError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
            open_storage("s3://bucket/x").read("a")
    finally:
        storage_s3._client.cache_clear()


@pytest.mark.s3
def test_unreachable_server_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    import botocore.config

    from pipelines import storage_s3

    quick = botocore.config.Config(retries={"max_attempts": 1}, connect_timeout=1)
    monkeypatch.setattr(storage_s3, "Config", lambda **_: quick)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with pytest.raises(StorageError, match=r"cannot talk to http://127.0.0.1:9.*check AWS_ENDPOINT_URL"):
        open_storage("s3://bucket/x").read("a")
