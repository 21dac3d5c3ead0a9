"""Storage behaves alike on a folder and on an S3 server."""

import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.storage import ObjectMissingError, StorageError, child, open_storage, split_uri


def test_written_objects_are_read_back(root_uri: str) -> None:
    storage = open_storage(root_uri)
    storage.write("a/b.bin", b"first")
    storage.write("a/b.bin", b"second")
    assert storage.read("a/b.bin") == b"second"
    assert storage.size("a/b.bin") == 6
    assert storage.exists("a/b.bin")
    assert storage.sha256("a/b.bin") == "16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4"


def test_files_are_written_whole(root_uri: str, tmp_path: Path) -> None:
    storage = open_storage(root_uri)
    (tmp_path / "file").write_bytes(b"from disk")
    storage.write("a/b.bin", b"before")
    storage.write_file("a/b.bin", tmp_path / "file")
    assert storage.read("a/b.bin") == b"from disk"
    assert [entry.path for entry in storage.list()] == ["a/b.bin"]
    with pytest.raises(StorageError, match="not the name of an object"):
        storage.write_file("../b.bin", tmp_path / "file")


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
    storage, name = split_uri(child(root_uri, "sub/file.parquet"))
    assert (storage, name) == (open_storage(child(root_uri, "sub")), "file.parquet")


def test_file_uris_are_folders(tmp_path: Path) -> None:
    open_storage(f"file://{tmp_path}/with%20space").write("a", b"1")
    assert (tmp_path / "with space" / "a").read_bytes() == b"1"


def test_relative_folders_stay_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = open_storage("runs/one")
    monkeypatch.chdir("/")
    storage.write("a", b"1")
    assert (tmp_path / "runs" / "one" / "a").exists()


def test_names_that_lead_out_of_the_root_are_refused(root_uri: str, tmp_path: Path) -> None:
    storage = open_storage(root_uri)
    for path in ("../out", "a/../../out", "/etc/out", "a//b", "", ".", "a\\b", "a\nb", "a/"):
        for use in (storage.write, storage.create):
            with pytest.raises(StorageError, match="not the name of an object"):
                use(path, b"1")
        with pytest.raises(StorageError, match="not the name of an object"):
            storage.delete(path)
    assert list(storage.list()) == []
    assert list(tmp_path.rglob("out")) == []


def test_listing_goes_on_after_a_path(root_uri: str) -> None:
    storage = open_storage(root_uri)
    for number in range(5):
        storage.write(f"a/{number}", b"")
    assert [entry.path for entry in storage.list("a/", after="a/2")] == ["a/3", "a/4"]


def test_a_single_writer_looks_before_it_writes(root_uri: str) -> None:
    storage = open_storage(open_storage(root_uri).single_writer_uri)
    assert storage.create("a", b"first")
    assert not storage.create("a", b"second")
    assert storage.read("a") == b"first"
    assert open_storage(storage.uri) == storage


def test_the_clock_is_the_storages(root_uri: str) -> None:
    storage = open_storage(root_uri)
    storage.write("a", b"")
    (entry,) = storage.list()
    assert abs(storage.now() - entry.modified_at) < 30


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("ftp://host/x", r"no storage for 'ftp://'; use a folder"),
        ("gs://bucket/x", r"gs://bucket/x: .*gcsfs"),
        ("s3:///x", r"no bucket; write s3://bucket/prefix"),
        ("s3://bucket/x?endpoint=1", r"unknown option 'endpoint'; options are endpoint_url, region"),
        ("s3://bucket/x?single_writer=yes", r"write single_writer=true or single_writer=false"),
        ("s3://bucket/x?retry_s=soon", r"retry_s=soon; it is a number of seconds"),
        ("s3://bucket/x?addressing_style=host", r"addressing_style is auto, path or virtual"),
        ("memory://x?region=eu", r"unknown option 'region'; the only one here is single_writer"),
    ],
)
def test_uris_that_cannot_be_served_are_refused(uri: str, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        open_storage(uri)


@pytest.mark.parametrize("uri", ["s3://me:hush@bucket/x", "s3://bucket/x?endpoint_url=http://me:hush@host"])
def test_credentials_in_uris_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(StorageError, match="credentials") as caught:
        open_storage(uri)
    assert "hush" not in str(caught.value)


def test_unwritable_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="choose one you may write to"):
        open_storage(str(tmp_path / "file")).write("a", b"")


def test_a_full_disk_is_explained_and_leaves_nothing_behind(small_disk: Path) -> None:
    storage = open_storage(str(small_disk / "out"))
    with pytest.raises(StorageError, match=r"No space left on device\); free space, or use another folder"):
        storage.create("data/a", bytes(2 << 20))
    assert list(storage.list()) == []
    assert storage.create("data/a", b"small")
