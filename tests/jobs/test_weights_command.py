"""The commands that bring weights into one's own storage, as their user meets them."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from jobs.weights_command import weights_group
from meissonic.model_folder import RELEASED_NAMES
from pipelines.config import load_config
from pipelines.models import fetch_model
from pipelines.scorers.fetching import FOLDER_FILES
from pipelines.scorers.settings import AestheticSettings
from pipelines.storage import open_storage
from pipelines.weights import fetch_weights_file
from pipelines.weights_catalog import CATALOG, Catalog
from tests.servers.web import Server, answer, serving

CONTENT = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
Call = Callable[..., Result]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEISSONIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(weights_group, list(arguments))


def write_catalog(folder: Path, *weights: dict[str, object]) -> str:
    path = folder / "catalog.yaml"
    path.write_text(yaml.safe_dump({"weights": list(weights)}))
    return f"--catalog={path}"


def head(server: Server, **changes: object) -> dict[str, object]:
    return {
        "name": "head",
        "path": "sac+head.pth",
        "source": f"{server.url}/head.pth",
        "size_bytes": len(CONTENT),
        "sha256": DIGEST,
        "kind": "aesthetic_laion_v2",
        "setting": "weights",
    } | changes


@pytest.fixture
def model_from_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the catalog says of a model folder, and a hub that has it."""
    folder = tmp_path / "snapshot"
    (folder / "part").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "part" / "model.safetensors").write_bytes(CONTENT)
    (folder / "README.md").write_text("not read by the loader")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))
    files = ["config.json", "part/model.safetensors", "model.bin"]
    return {"name": "big", "path": "big", "source": "hf://owner/big", "files": files, "setting": "model"}


class TestTheProjectsCatalog:
    def test_it_lists_what_is_known_and_what_is_not(self) -> None:
        lines = call("list").output.splitlines()
        (aesthetic,) = [line for line in lines if line.startswith("aesthetic-laion-v2 ")]
        assert aesthetic.split()[1:4] == ["3.71", "MB", "known"]
        assert "christophschuhmann/improved-aesthetic-predictor" in aesthetic
        (hps,) = [line for line in lines if line.startswith("hps-v2-1 ")]
        assert "size not known  not known  hf://xswu/HPSv2/" in hps
        assert any("must be converted" in line for line in lines)

    def test_folders_name_the_files_that_loaders_read(self) -> None:
        catalog = load_config(Catalog, CATALOG)
        assert catalog.named("meissonic").files == RELEASED_NAMES
        assert catalog.named("clip-vit-l-14").files == FOLDER_FILES


class TestFetch:
    def test_what_it_prints_is_a_scorers_configuration(self, tmp_path: Path) -> None:
        with serving({"/head.pth": answer(CONTENT)}) as server:
            result = call(
                "fetch", "head", "--to", str(tmp_path / "to"), write_catalog(tmp_path, head(server))
            )
        assert result.exit_code == 0, result.output
        (scorer,) = yaml.safe_load(result.stdout)
        settings = AestheticSettings.model_validate(scorer)
        assert fetch_weights_file(settings.weights, settings.sha256).path == tmp_path / "to" / "sac+head.pth"

    @pytest.mark.parametrize("known", [{}, {"sha256": None}, {"sha256": None, "size_bytes": None}])
    def test_a_second_run_fetches_nothing(
        self, known: dict[str, object], root_uri: str, tmp_path: Path
    ) -> None:
        with serving({"/head.pth": answer(CONTENT)}) as server:
            arguments = ["fetch", "head", "--to", root_uri, write_catalog(tmp_path, head(server, **known))]
            first, second = call(*arguments), call(*arguments)
            assert len(server.asked) == 1
        assert "written" in first.stderr
        assert "already there" in second.stderr
        assert first.stdout == second.stdout

    def test_a_wrong_digest_leaves_nothing_at_the_place(self, tmp_path: Path) -> None:
        with serving({"/head.pth": answer(CONTENT)}) as server:
            catalog = write_catalog(tmp_path, head(server, sha256="0" * 64))
            result = call("fetch", "head", "--to", str(tmp_path / "to"), catalog)
        assert result.exit_code == 1
        assert DIGEST in result.stderr
        assert "0" * 64 in result.stderr
        assert list((tmp_path / "to").rglob("*")) == []

    def test_another_file_of_that_name_stays(self, tmp_path: Path) -> None:
        (tmp_path / "to").mkdir()
        (tmp_path / "to" / "sac+head.pth").write_bytes(b"mine")
        with serving({"/head.pth": answer(CONTENT)}) as server:
            result = call(
                "fetch", "head", "--to", str(tmp_path / "to"), write_catalog(tmp_path, head(server))
            )
            assert server.asked == []
        assert result.exit_code == 1
        assert "delete it, or choose another folder" in result.stderr
        assert (tmp_path / "to" / "sac+head.pth").read_bytes() == b"mine"

    def test_it_says_what_was_compared_with_nothing(self, tmp_path: Path) -> None:
        with serving({"/head.pth": answer(CONTENT)}) as server:
            catalog = write_catalog(tmp_path, head(server, sha256=None))
            result = call("fetch", "head", "--to", str(tmp_path / "to"), catalog)
        assert "compared with nothing" in result.stderr
        assert DIGEST in result.stdout

    def test_unknown_names_are_answered_with_the_known_ones(self, tmp_path: Path) -> None:
        result = call("fetch", "aesthetic", "--to", str(tmp_path))
        assert result.exit_code == 1
        assert "no weights 'aesthetic'; there are clip-vit-l-14, " in result.stderr
        assert "Did you mean aesthetic-laion-v2?" in result.stderr

    @pytest.mark.s3
    def test_a_model_from_the_hub_goes_to_a_bucket_with_what_its_loader_reads(
        self, s3_server: str, tmp_path: Path, model_from_hub: dict[str, object]
    ) -> None:
        place = f"s3://bucket/{uuid.uuid4().hex}"
        result = call("fetch", "big", "--to", place, write_catalog(tmp_path, model_from_hub))
        assert result.exit_code == 0, result.output
        stored = [entry.path for entry in open_storage(place).list()]
        assert stored == ["big/config.json", "big/part/model.safetensors"]
        assert yaml.safe_load(result.stdout) == {"model": f"{place}/big"}
        digest = fetch_model(f"{place}/big", names=["config.json", "part/model.safetensors"]).digest
        assert digest in result.stdout


@pytest.mark.s3
class TestMirror:
    @pytest.fixture
    def place(self, s3_server: str) -> str:
        return f"s3://bucket/{uuid.uuid4().hex}?endpoint_url={s3_server}"

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "weights" / "more").mkdir(parents=True)
        (tmp_path / "weights" / "sac+head.pth").write_bytes(CONTENT)
        (tmp_path / "weights" / "more" / "unknown.safetensors").write_bytes(b"1")
        (tmp_path / "weights" / ".partial").write_bytes(b"2")
        return tmp_path / "weights"

    def test_nodes_fetch_from_the_bucket_what_was_mirrored(
        self, folder: Path, place: str, tmp_path: Path
    ) -> None:
        with serving({}) as server:
            catalog = write_catalog(tmp_path, head(server))
            result = call("mirror", str(folder), place, catalog)
            assert server.asked == []
        assert result.exit_code == 0, result.output
        (scorer,) = yaml.safe_load(result.stdout)
        fetched = fetch_weights_file(scorer["weights"], scorer["sha256"])
        assert fetched.path.read_bytes() == CONTENT
        stored = [entry.path for entry in open_storage(place).list()]
        assert stored == ["more/unknown.safetensors", "sac+head.pth"]

    def test_a_second_run_writes_nothing(self, folder: Path, place: str) -> None:
        call("mirror", str(folder), place)
        before = list(open_storage(place).list())
        result = call("mirror", str(folder), place)
        assert result.stderr.count("already there") == 2
        assert "written" not in result.stderr
        assert list(open_storage(place).list()) == before

    def test_a_damaged_file_is_refused_before_anything_is_written(
        self, folder: Path, place: str, tmp_path: Path
    ) -> None:
        (folder / "sac+head.pth").write_bytes(CONTENT[:-1])
        with serving({}) as server:
            result = call("mirror", str(folder), place, write_catalog(tmp_path, head(server)))
        assert result.exit_code == 1
        assert f"but that of head {DIGEST}" in result.stderr
        assert list(open_storage(place).list()) == []

    def test_another_file_of_that_name_in_the_bucket_stays(self, folder: Path, place: str) -> None:
        open_storage(place).write("sac+head.pth", b"another")
        result = call("mirror", str(folder), place)
        assert result.exit_code == 1
        assert "another file has this name" in result.stderr
        assert open_storage(place).read("sac+head.pth") == b"another"

    def test_model_folders_are_named_as_a_whole(
        self, place: str, tmp_path: Path, model_from_hub: dict[str, object]
    ) -> None:
        catalog = write_catalog(tmp_path, model_from_hub)
        fetched = call("fetch", "big", "--to", str(tmp_path / "disk"), catalog)
        mirrored = call("mirror", str(tmp_path / "disk"), place, catalog)
        location, _, options = place.partition("?")
        assert yaml.safe_load(mirrored.stdout) == {"model": f"{location}/big?{options}"}
        assert mirrored.stdout.split()[-1] == fetched.stdout.split()[-1]  # the digest

    def test_an_empty_folder_is_refused(self, place: str, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        result = call("mirror", str(tmp_path / "empty"), place)
        assert result.exit_code == 1
        assert "no files to copy" in result.stderr
