"""S3 through a proxy that misbehaves: passing trouble is ridden out, the rest is explained."""

import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.storage import ConditionalWriteError, ObjectMissingError, Storage, StorageError, open_storage
from pipelines.storage import s3 as s3_module
from pipelines.storage.probe import probe
from tests.pipelines.toys import finish_inline, write_input
from tests.servers.fault_proxy import Fault, FaultProxy

pytestmark = pytest.mark.s3


@pytest.fixture
def proxy(s3_server: str) -> Iterator[FaultProxy]:
    with FaultProxy(s3_server) as proxy:
        yield proxy


@pytest.fixture
def open_at(proxy: FaultProxy, request: pytest.FixtureRequest) -> Callable[..., Storage]:
    """Opens a storage behind the proxy, in a prefix of the test's own."""
    name = re.sub(r"\W", "-", request.node.name)
    return lambda options="": open_storage(f"s3://bucket/{name}?endpoint_url={proxy.url}{options}")


PASSING = ["internal_error", "slow_down", "reset_before"]


@pytest.mark.parametrize("action", PASSING)
def test_passing_trouble_is_ridden_out_in_every_operation(
    action: str, proxy: FaultProxy, open_at: Callable[..., Storage]
) -> None:
    storage = open_at()
    uses: list[tuple[str, Callable[[], object]]] = [
        ("PUT", lambda: storage.write("a", b"1" * 1000)),
        ("PUT", lambda: storage.create("b", b"2")),
        ("GET", lambda: storage.read("a")),
        ("HEAD", lambda: storage.size("a")),
        ("GET", lambda: storage.open("a").read()),
        ("GET", lambda: list(storage.list())),
        ("DELETE", lambda: storage.delete("b")),
    ]
    for method, use in uses:
        before = proxy.hits
        proxy.inject(Fault(action=action, method=method, times=2))
        use()
        assert proxy.hits == before + 2, method
    assert [entry.path for entry in storage.list()] == ["a"]
    assert storage.read("a") == b"1" * 1000


def test_a_body_that_breaks_off_is_read_again(proxy: FaultProxy, open_at: Callable[..., Storage]) -> None:
    storage, data = open_at(), bytes(range(256)) * 4000
    storage.write("a", data)
    proxy.inject(Fault(action="truncate", method="GET", times=2))
    assert storage.read("a") == data
    assert proxy.hits == 2
    proxy.inject(Fault(action="truncate", method="GET", times=2))
    with storage.open("a") as stream:
        assert stream.read() == data


def test_a_write_whose_answer_was_lost_is_there_once(
    proxy: FaultProxy, open_at: Callable[..., Storage]
) -> None:
    storage = open_at()
    proxy.inject(Fault(action="lose_answer", method="PUT", times=2))
    storage.write("a", b"1")
    assert storage.read("a") == b"1"
    proxy.inject(Fault(action="lose_answer", method="PUT", times=1))
    assert not storage.create("b", b"2")  # its own, which the bytes tell
    assert storage.read("b") == b"2"


def test_a_server_that_stays_in_trouble_is_given_up_with_its_answer(
    proxy: FaultProxy, open_at: Callable[..., Storage], caplog: pytest.LogCaptureFixture
) -> None:
    proxy.inject(Fault(action="slow_down"))
    with pytest.raises(StorageError, match="answered SlowDown"):
        open_at("&retry_s=1").write("a", b"1")
    assert "SlowDown" in caplog.text
    assert "trying again" in caplog.text


@pytest.mark.parametrize(
    ("use", "permission"),
    [
        (lambda storage: storage.write("a", b"1"), "s3:PutObject"),
        (lambda storage: storage.read("a"), "s3:GetObject"),
        (lambda storage: list(storage.list()), "s3:ListBucket"),
        (lambda storage: storage.delete("a"), "s3:DeleteObject"),
        (lambda storage: list(storage.uploads()), "s3:ListBucketMultipartUploads"),
    ],
)
def test_the_missing_permission_is_named(
    use: Callable[[Storage], object], permission: str, proxy: FaultProxy, open_at: Callable[..., Storage]
) -> None:
    proxy.inject(Fault(action="denied"))
    with pytest.raises(StorageError, match=f"permission {permission} is missing"):
        use(open_at())
    assert proxy.hits == 1  # asking again is no use


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("expired", "credentials of .* have expired .*start the job again"),
        ("skewed", "the clock of .* is wrong.*synchronise"),
    ],
)
def test_expired_credentials_and_wrong_clocks_say_what_to_do(
    action: str, message: str, proxy: FaultProxy, open_at: Callable[..., Storage]
) -> None:
    proxy.inject(Fault(action=action, times=1))
    with pytest.raises(StorageError, match=message):
        open_at().write("a", b"1")


class TestLargeObjects:
    @pytest.fixture(autouse=True)
    def _small_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(s3_module, "PART_BYTES", 5 << 20)

    DATA = bytes(range(256)) * 50_000  # 12.8 MB: three parts

    def test_they_go_up_in_parts(self, proxy: FaultProxy, open_at: Callable[..., Storage]) -> None:
        storage = open_at()
        assert storage.create("a", self.DATA)
        assert storage.read("a") == self.DATA
        assert sum(method == "PUT" for method, _ in proxy.requests) == 3
        assert list(storage.uploads()) == []

    def test_so_do_files(self, proxy: FaultProxy, open_at: Callable[..., Storage], tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(self.DATA)
        storage = open_at()
        proxy.inject(Fault(action="lose_answer", method="POST", query="uploadId", times=1))
        storage.write_file("a", tmp_path / "file")
        assert storage.read("a") == self.DATA
        assert sum(method == "PUT" for method, _ in proxy.requests) == 3
        assert list(storage.uploads()) == []

    def test_a_part_that_fails_goes_up_again(
        self, proxy: FaultProxy, open_at: Callable[..., Storage]
    ) -> None:
        storage = open_at()
        proxy.inject(Fault(action="reset_before", method="PUT", skip=1, times=2))
        storage.write("a", self.DATA)
        assert storage.read("a") == self.DATA

    def test_an_upload_that_fails_is_aborted(
        self, proxy: FaultProxy, open_at: Callable[..., Storage]
    ) -> None:
        storage = open_at()
        proxy.inject(Fault(action="denied", method="PUT", skip=2))
        with pytest.raises(StorageError, match="s3:PutObject"):
            storage.write("a", self.DATA)
        assert list(storage.uploads()) == []
        assert not storage.exists("a")

    def test_a_completion_whose_answer_was_lost_counts(
        self, proxy: FaultProxy, open_at: Callable[..., Storage]
    ) -> None:
        storage = open_at()
        proxy.inject(Fault(action="lose_answer", method="POST", query="uploadId", times=1))
        storage.write("a", self.DATA)
        assert proxy.hits == 1
        assert storage.read("a") == self.DATA

    def test_abandoned_uploads_are_found_and_aborted(self, open_at: Callable[..., Storage]) -> None:
        storage = open_at()
        storage._call("create_multipart_upload", "data/a")  # type: ignore[attr-defined]
        (upload,) = storage.uploads()
        assert upload.path == "data/a"
        assert upload.started_at <= storage.now()
        storage.abort(upload)
        storage.abort(upload)
        assert list(storage.uploads()) == []


class TestProbe:
    def test_a_sound_server_passes_and_keeps_nothing(self, open_at: Callable[..., Storage]) -> None:
        probe(open_at())
        assert list(open_at().list()) == []

    @pytest.mark.parametrize(
        ("method", "query", "permission"),
        [("PUT", None, "s3:PutObject"), ("GET", "list-type", "s3:ListBucket"), ("GET", None, "s3:GetObject")],
    )
    def test_it_names_the_missing_permission(
        self,
        method: str,
        query: str | None,
        permission: str,
        proxy: FaultProxy,
        open_at: Callable[..., Storage],
    ) -> None:
        proxy.inject(Fault(action="denied", method=method, query=query))
        with pytest.raises(StorageError, match=f"permission {permission} is missing"):
            probe(open_at())

    def test_without_permission_to_delete_it_warns(
        self, proxy: FaultProxy, open_at: Callable[..., Storage], caplog: pytest.LogCaptureFixture
    ) -> None:
        proxy.inject(Fault(action="denied", method="DELETE"))
        probe(open_at())
        assert "s3:DeleteObject is missing" in caplog.text

    @pytest.mark.parametrize("action", ["ignore_conditions", "not_implemented"])
    def test_a_server_without_conditional_writes_needs_a_single_writer(
        self, action: str, proxy: FaultProxy, open_at: Callable[..., Storage]
    ) -> None:
        proxy.inject(Fault(action=action, method="PUT"))
        with pytest.raises(ConditionalWriteError, match=r"say so in the URI: s3://.*&single_writer=true"):
            probe(open_at())
        probe(open_at("&single_writer=true"))


def test_an_object_that_changes_while_it_is_read_is_noticed(open_at: Callable[..., Storage]) -> None:
    storage = open_at()
    storage.write("a", bytes(1 << 20))
    with storage.open("a") as stream:
        stream.read(10)
        storage.write("a", bytes([1]) * (1 << 20))
        stream.seek(900_000)
        with pytest.raises(StorageError, match="it changed while it was read"):
            stream.read(10)


@pytest.mark.usefixtures("s3_server")
def test_missing_bucket_says_what_to_set() -> None:
    with pytest.raises(StorageError, match=r"no bucket 'nowhere'; create it, or set AWS_ENDPOINT_URL"):
        open_storage("s3://nowhere/x").write("a", b"")


@pytest.mark.usefixtures("s3_server")
def test_missing_credentials_say_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    # a region that no other test uses: clients are kept, and they keep credentials
    with pytest.raises(StorageError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        open_storage("s3://bucket/x?region=eu-south-2").read("a")


def test_a_profile_gives_credentials_and_endpoint(
    s3_server: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("aws")
    (folder / "config").write_text(f"[profile lab]\nendpoint_url = {s3_server}\nregion = eu-west-1\n")
    (folder / "credentials").write_text("[lab]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    storage = open_storage("s3://bucket/profile?profile=lab")
    storage.write("a", b"1")
    assert storage.read("a") == b"1"
    with pytest.raises(StorageError, match=r"profile \(nobody\)"):
        open_storage("s3://bucket/profile?profile=nobody").read("a")


def test_unreachable_server_is_explained() -> None:
    with pytest.raises(StorageError, match=r"cannot talk to http://127.0.0.1:9 .*AWS_ENDPOINT_URL"):
        open_storage("s3://bucket/x?endpoint_url=http://127.0.0.1:9&retry_s=1").read("a")


def test_missing_objects_name_the_server(open_at: Callable[..., Storage], proxy: FaultProxy) -> None:
    with pytest.raises(ObjectMissingError, match=f"a: no such object on {proxy.url}"):
        open_at().read("a")


def test_credentials_are_in_no_object_message_or_log(
    open_at: Callable[..., Storage], proxy: FaultProxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    storage = open_at("&retry_s=1")
    ledger = finish_inline(storage.uri, write_input(tmp_path / "in", negative=(3,)))
    proxy.inject(Fault(action="slow_down", times=2))
    proxy.inject(Fault(action="denied"))
    with pytest.raises(StorageError) as caught:
        ledger.storage.write("a", b"1")
    proxy.clear()
    texts = [
        caplog.text,
        str(caught.value),
        repr(storage),
        *(str(storage.read(e.path)) for e in storage.list()),
    ]
    for secret in (os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["AWS_ACCESS_KEY_ID"]):
        assert [text for text in texts if secret in text] == []
