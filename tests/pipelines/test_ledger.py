"""The ledger lets a run go on, and nothing else into its folder."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.errors import LedgerError
from pipelines.ledger import Ledger
from pipelines.manifest import read_entries, read_manifest
from pipelines.records import Records
from pipelines.storage import open_storage
from tests.pipelines.toys import commit_inline, finish_inline, square_ledger, write_input, write_manifest


@pytest.fixture
def source(tmp_path: Path) -> str:
    return write_input(tmp_path / "in", negative=(3, 33))


def test_the_same_run_goes_on(root_uri: str, source: str) -> None:
    first = square_ledger(root_uri, source)
    again = square_ledger(root_uri, source)
    assert again.planned() == first.planned()
    assert Ledger.load(root_uri).spec == first.spec


def test_another_config_is_refused_with_the_difference(root_uri: str, source: str) -> None:
    square_ledger(root_uri, source, scale=1)
    with pytest.raises(
        LedgerError, match=r"another configuration:\n  config\.scale: 1 -> 2\n.*another output folder"
    ):
        square_ledger(root_uri, source, scale=2)


def test_another_input_is_refused_with_the_difference(root_uri: str, source: str, tmp_path: Path) -> None:
    square_ledger(root_uri, source)
    write_input(tmp_path / "in", rows=50, negative=(3, 33))
    with pytest.raises(LedgerError, match=r"another input:\n  part-0.*20 rows, .* -> 25 rows"):
        square_ledger(root_uri, source)


def test_a_moved_input_is_the_same_input(root_uri: str, source: str, tmp_path: Path) -> None:
    before = square_ledger(root_uri, source).planned()
    moved = (tmp_path / "in").rename(tmp_path / "elsewhere")
    assert square_ledger(root_uri, str(moved)).planned() == before


def test_a_folder_with_other_files_is_refused(root_uri: str, source: str) -> None:
    open_storage(root_uri).write("holiday.jpg", b"")
    with pytest.raises(LedgerError, match=r"such as 'holiday.jpg'; choose an empty folder"):
        square_ledger(root_uri, source)
    assert not open_storage(root_uri).exists("run.json")


def test_a_folder_without_a_run_is_no_ledger(root_uri: str) -> None:
    with pytest.raises(LedgerError, match=r"no run.json"):
        Ledger.load(root_uri)


def test_runs_that_start_at_once_agree_on_one_config(root_uri: str, source: str) -> None:
    def start(scale: int) -> bool:
        try:
            square_ledger(root_uri, source, scale=scale)
        except LedgerError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(start, [1, 2, 3] * 2))
    assert [n % 3 for n, one in enumerate(won) if one] in ([0, 0], [1, 1], [2, 2])


def test_committed_units_are_done_and_named(root_uri: str, source: str) -> None:
    ledger = square_ledger(root_uri, source)
    units = ledger.planned()
    made = commit_inline(ledger, units[:3], source)
    assert ledger.committed(units) == made
    record = made[units[0].id]
    assert (record.rows_in, record.rows_done, record.rows_failed) == (5, 4, 1)
    assert record.failures == {"square: ValueError": 1}
    for entry in (*record.outputs, record.failed):
        assert entry is not None
        assert ledger.storage.size(entry.path) == entry.size
        assert ledger.storage.sha256(entry.path) == entry.sha256


def test_the_manifest_names_all_objects_in_order(root_uri: str, source: str) -> None:
    ledger = finish_inline(root_uri, source)
    manifest = read_manifest(ledger.storage)
    assert {name: manifest[name] for name in ("job", "units", "rows_in", "rows_done")} == {
        "job": "square",
        "units": 8,
        "rows_in": 40,
        "rows_done": 38,
    }
    assert [e.path for e in read_entries(ledger.storage, "data")] == [
        f"data/{unit.id}.parquet" for unit in ledger.planned()
    ]
    assert manifest["rows_failed"] == 2


def test_equal_runs_have_equal_manifests_and_shards(tmp_path: Path, source: str) -> None:
    stores = [finish_inline(str(tmp_path / name), source).storage for name in ("one", "two")]
    manifests = [storage.read("manifest.json") for storage in stores]
    assert manifests[0] == manifests[1]
    for entry in json.loads(manifests[0])["objects"]:
        assert stores[0].read(entry["path"]) == stores[1].read(entry["path"])


def test_retries_run_dead_letters_alone_and_supersede_them(root_uri: str, source: str) -> None:
    ledger = finish_inline(root_uri, source)
    retries = ledger.plan_retries()
    assert [list(unit.row_numbers) for unit in retries] == [[3], [13]]
    assert ledger.plan_retries() == retries  # an unfinished round goes on
    commit_inline(ledger, retries, source)
    write_manifest(ledger)
    manifest = read_manifest(ledger.storage)
    assert manifest["rows_in"] == 40
    assert [e.path for e in read_entries(ledger.storage, "failed")] == [
        f"failed/{u.id}.parquet" for u in retries
    ]
    assert [unit.id[-3:] for unit in ledger.plan_retries()] == ["-r2", "-r2"]


def test_retries_wait_for_the_run_itself(root_uri: str, source: str) -> None:
    ledger = square_ledger(root_uri, source)
    commit_inline(ledger, ledger.planned()[:3], source)
    with pytest.raises(LedgerError, match="5 of 8 units are not done"):
        ledger.plan_retries()


def test_without_dead_letters_there_is_nothing_to_retry(tmp_path: Path) -> None:
    ledger = finish_inline(str(tmp_path / "out"), write_input(tmp_path / "in"))
    assert ledger.plan_retries() == []


def test_a_slow_driver_does_not_hide_what_a_retry_healed(root_uri: str, source: str) -> None:
    ledger = finish_inline(root_uri, source)
    slow = Records(ledger.storage, ledger.planned())  # about to write the manifest of the first round
    commit_inline(ledger, ledger.plan_retries(), source)
    write_manifest(ledger)
    retried = ledger.storage.read("manifest.json")
    ledger.write_manifest(slow)
    assert ledger.storage.read("manifest.json") == retried
