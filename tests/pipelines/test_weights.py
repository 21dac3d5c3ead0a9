"""Files of weights by URI, known by their SHA-256."""

from __future__ import annotations

import hashlib
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import tenacity

from pipelines import downloads, models
from pipelines.models import ModelError
from pipelines.storage import open_storage
from pipelines.weights import fetch_weights_file
from tests.servers.web import Answer, answer, redirect, serving

CONTENT = bytes(range(256)) * 10_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEISSONIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "PAUSE", tenacity.wait_none())
    return tmp_path / "cache" / "weights"


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def broken_off(content: bytes, after: int) -> Answer:
    """Announces all of the content, or of the range asked for, and closes the connection before its end."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        answer(content[:after], Content_Length=str(len(content)))(handler)
        handler.close_connection = True

    return send


def ranges(content: bytes) -> Answer:
    """As an honest server answers a request that may name a range."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            answer(status=416)(handler)
        elif start:
            answer(content[start:], status=206)(handler)
        else:
            answer(content)(handler)

    return send


def one_after_the_other(*answers: Answer) -> Answer:
    """Another answer to each request; the last one for ever."""
    left = list(answers)
    return lambda handler: (left.pop(0) if len(left) > 1 else left[0])(handler)


class TestLocalFiles:
    @pytest.mark.parametrize("form", ["{}", "file://{}"])
    def test_they_are_read_where_they_are(self, form: str, tmp_path: Path) -> None:
        (tmp_path / "head.pth").write_bytes(CONTENT)
        file = fetch_weights_file(form.format(tmp_path / "head.pth"), DIGEST)
        assert (file.path, file.digest) == (tmp_path / "head.pth", DIGEST)

    def test_relative_ones_may_be_the_projects(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        found = fetch_weights_file("jobs/configs/weights.yaml")
        assert found.path == models.PROJECT / "jobs" / "configs" / "weights.yaml"

    def test_missing_ones_are_named_with_a_remedy(self) -> None:
        with pytest.raises(ModelError, match=r"nowhere\.pth: no such file on this node; give .* s3://"):
            fetch_weights_file("nowhere.pth")

    def test_another_digest_is_refused_and_both_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "head.pth").write_bytes(CONTENT)
        with pytest.raises(ModelError, match=f"SHA-256 is {DIGEST}, not {'0' * 64}"):
            fetch_weights_file(str(tmp_path / "head.pth"), "0" * 64)


@pytest.mark.s3
class TestObjectStorage:
    def test_a_file_comes_once_and_is_kept_under_its_digest(self, s3_server: str, cache: Path) -> None:
        storage = open_storage("s3://bucket/heads")
        storage.write("head.pth", CONTENT)
        file = fetch_weights_file("s3://bucket/heads/head.pth")
        assert (file.path, file.digest) == (cache / DIGEST, DIGEST)
        assert file.path.read_bytes() == CONTENT
        storage.delete("head.pth")
        assert fetch_weights_file("s3://bucket/heads/head.pth", DIGEST) == file
        assert kept(cache) == [DIGEST]

    def test_a_copy_that_was_damaged_on_the_node_is_fetched_again(self, s3_server: str, cache: Path) -> None:
        open_storage("s3://bucket/heads").write("whole.pth", CONTENT)
        file = fetch_weights_file("s3://bucket/heads/whole.pth")
        file.path.write_bytes(CONTENT[:-1])
        assert fetch_weights_file("s3://bucket/heads/whole.pth", DIGEST).path.read_bytes() == CONTENT

    def test_another_digest_is_refused_and_both_are_named(self, s3_server: str) -> None:
        open_storage("s3://bucket/heads").write("other.pth", b"other")
        other = hashlib.sha256(b"other").hexdigest()
        with pytest.raises(ModelError, match=f"{other}, not {DIGEST}"):
            fetch_weights_file("s3://bucket/heads/other.pth", DIGEST)

    def test_a_missing_object_leaves_nothing(self, s3_server: str, cache: Path) -> None:
        with pytest.raises(ModelError, match=r"heads/none\.pth"):
            fetch_weights_file("s3://bucket/heads/none.pth")
        assert kept(cache) == []


class TestWeb:
    def test_a_file_comes_through_redirects_once(self, cache: Path) -> None:
        with serving({"/a.pt": redirect("/b.pt"), "/b.pt": answer(CONTENT)}) as server:
            file = fetch_weights_file(f"{server.url}/a.pt", DIGEST, len(CONTENT))
            assert file.path.read_bytes() == CONTENT
            assert fetch_weights_file(f"{server.url}/a.pt", DIGEST, len(CONTENT)) == file
            assert len(server.asked) == 2
        assert kept(cache) == [DIGEST]

    def test_a_download_that_breaks_off_goes_on_where_it_was(self) -> None:
        answers = one_after_the_other(broken_off(CONTENT, 1_100_000), ranges(CONTENT))
        with serving({"/a.pt": answers}) as server:
            assert fetch_weights_file(f"{server.url}/a.pt", DIGEST).path.read_bytes() == CONTENT
            asked = [headers.get("Range") for _, headers in server.asked]
        assert asked[0] is None
        assert 0 < int(str(asked[1]).removeprefix("bytes=").rstrip("-")) <= 1_100_000

    def test_so_does_one_that_was_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(downloads, "NUM_TRIES", 1)
        answers = one_after_the_other(broken_off(CONTENT, 1_100_000), ranges(CONTENT))
        with serving({"/a.pt": answers}) as server:
            with pytest.raises(ModelError, match="run the same again to go on where it stopped"):
                fetch_weights_file(f"{server.url}/a.pt", DIGEST)
            assert fetch_weights_file(f"{server.url}/a.pt", DIGEST).path.read_bytes() == CONTENT
            assert "Range" in server.asked[1][1]

    def test_a_server_without_ranges_sends_all_of_it_again(self) -> None:
        answers = one_after_the_other(broken_off(CONTENT, 1_100_000), answer(CONTENT))
        with serving({"/a.pt": answers}) as server:
            assert fetch_weights_file(f"{server.url}/a.pt", DIGEST).path.read_bytes() == CONTENT

    def test_without_a_digest_two_versions_are_never_joined(self) -> None:
        changed = b"\1" + CONTENT[1:]
        answers = one_after_the_other(broken_off(CONTENT, 1_100_000), ranges(changed))
        with serving({"/a.pt": answers}) as server:
            assert fetch_weights_file(f"{server.url}/a.pt").path.read_bytes() == changed
            assert all("Range" not in headers for _, headers in server.asked)

    def test_another_digest_is_refused_named_and_not_kept(self, cache: Path) -> None:
        other = hashlib.sha256(b"a login page").hexdigest()
        wanted = f"SHA-256 {other}, not {DIGEST}.*Nothing was kept"
        page = serving({"/a.pt": answer(b"a login page")})
        with page as server, pytest.raises(ModelError, match=wanted):
            fetch_weights_file(f"{server.url}/a.pt", DIGEST)
        assert kept(cache) == []

    @pytest.mark.parametrize(
        ("size", "message"), [(10, "more than 10 bytes"), (1 << 30, f"{len(CONTENT)} bytes")]
    )
    def test_another_size_is_refused(self, size: int, message: str, cache: Path) -> None:
        with serving({"/a.pt": answer(CONTENT)}) as server, pytest.raises(ModelError, match=message):
            fetch_weights_file(f"{server.url}/a.pt", DIGEST, size)
        assert kept(cache) == []

    def test_passing_trouble_is_ridden_out(self) -> None:
        answers = one_after_the_other(answer(status=503), answer(status=429), answer(CONTENT))
        with serving({"/a.pt": answers}) as server:
            assert fetch_weights_file(f"{server.url}/a.pt", DIGEST).digest == DIGEST

    def test_a_file_that_is_not_there_is_asked_for_once(self) -> None:
        with serving({"/a.pt": answer(status=404)}) as server:
            with pytest.raises(ModelError, match="status 404; check the URL"):
                fetch_weights_file(f"{server.url}/a.pt", DIGEST)
            assert len(server.asked) == 1

    def test_a_full_disk_is_explained(self, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MEISSONIC_CACHE", str(small_disk))
        served = serving({"/a.pt": answer(CONTENT)})
        with served as server, pytest.raises(ModelError, match="free space, or set MEISSONIC_CACHE"):
            fetch_weights_file(f"{server.url}/a.pt", DIGEST)

    def test_a_server_out_of_reach_is_given_up(self) -> None:
        with pytest.raises(ModelError, match="cannot download it"):
            fetch_weights_file("http://127.0.0.1:1/a.pt", DIGEST)


class TestHub:
    def test_a_file_is_pinned_by_revision(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def fetched(repository: str, name: str, *, revision: str | None) -> str:
            asked.append((repository, name, revision))
            (tmp_path / "file").write_bytes(CONTENT)
            return str(tmp_path / "file")

        monkeypatch.setattr("huggingface_hub.hf_hub_download", fetched)
        assert fetch_weights_file("hf://owner/name@abc/some/head.pt", DIGEST).digest == DIGEST
        fetch_weights_file("hf://owner/name/head.pt")
        assert asked == [("owner/name", "some/head.pt", "abc"), ("owner/name", "head.pt", None)]

    def test_a_name_without_a_file_is_refused_without_asking(self) -> None:
        with pytest.raises(ModelError, match="write hf://owner/name/file"):
            fetch_weights_file("hf://owner/name")
