"""The rows of an output in the index: what a refresh takes in, and what it leaves for the next one."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines import private_database
from pipelines.inputs import ParquetInput, read_batches
from pipelines.selection import Recipe, select
from pipelines.storage import StorageError, open_storage
from pipelines.viewing import rows as rows_module
from pipelines.viewing.index import QueryError
from pipelines.viewing.rows import OutputRows
from tests.pipelines.made_generations import MadeGenerations
from tests.pipelines.viewing.made_outputs import opened, random_jpegs, write_scored, write_tar


def failing_once(function: Callable[..., Any], number: int) -> Callable[..., Any]:
    """The function, whose call of that number raises an error."""
    calls = []

    def called(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            raise StorageError("the storage is away")
        return function(*arguments)

    return called


def texts(rows: OutputRows) -> list[str]:
    return [text for (text,) in rows.index.query("SELECT prompt FROM images ORDER BY __row")]


@pytest.fixture
def curation(tmp_path: Path) -> Path:
    """Scores of six images."""
    write_scored(write_tar(tmp_path / "in" / "a.tar", random_jpegs(6)), str(tmp_path / "out" / "scores"))
    return tmp_path / "out"


def decide(output: Path, name: str, where: str) -> None:
    recipe = Recipe.model_validate({"rules": [{"rule": "expression", "where": where}]})
    select(str(output / "scores"), None, recipe, str(output / "selections" / name))


def num_kept(rows: OutputRows, selection: str) -> int:
    relation = rows.relation("images", selection)
    assert relation is not None
    return int(rows.index.query(f"SELECT count(*) FROM {relation.name} WHERE kept")[0][0])


@pytest.mark.parametrize("appended_rows", [1, 100_000])
@pytest.mark.parametrize("failing", ["_read_shard", "_replace_letters"])
def test_what_a_failed_refresh_left_out_the_next_takes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, appended_rows: int
) -> None:
    run = MadeGenerations(str(tmp_path / "out"), failed=[9])
    run.commit(run.units[:1])
    rows = opened(run.uri, tmp_path / "index")
    version = rows.version
    run.commit()
    monkeypatch.setattr(rows_module, "_APPENDED_ROWS", appended_rows)
    number = 2 if failing == "_read_shard" else 1
    monkeypatch.setattr(rows, failing, failing_once(getattr(rows, failing), number))
    with pytest.raises(StorageError):
        rows.refresh()
    assert rows.version > version  # answers that were kept are of other rows
    rows.refresh()
    whole = opened(run.uri, tmp_path / "again")
    assert texts(rows) == texts(whole)
    assert len(texts(rows)) == 11
    assert [rows.place(n) for n in range(11)] == [whole.place(n) for n in range(11)]
    assert rows.index.query("SELECT row_id FROM failed") == [("p9",)]
    rows.refresh()
    assert len(texts(rows)) == 11


def test_selections_that_are_new_changed_or_gone_are_seen_after_a_refresh(
    curation: Path, tmp_path: Path
) -> None:
    rows = opened(str(curation), tmp_path / "index")
    assert list(rows.selections) == []
    decide(curation, "b", "key <> '00000'")
    rows.refresh()
    assert (list(rows.selections), num_kept(rows, "b")) == (["b"], 5)
    version = rows.version
    rows.refresh()
    assert rows.version == version
    decide(curation, "a", "key = '00000'")
    decide(curation, "b", "key >= '00002'")
    rows.refresh()
    assert (list(rows.selections), num_kept(rows, "a"), num_kept(rows, "b")) == (["a", "b"], 1, 4)
    assert rows.version > version
    open_storage(str(curation / "selections" / "b")).delete("manifest.json")
    rows.refresh()
    with pytest.raises(QueryError, match="no selection 'b'; there are a"):
        rows.relation("images", "b")
    assert num_kept(rows, "a") == 1


def test_decisions_are_not_all_in_memory_at_once(
    curation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(curation, "a", "key >= '00002'")
    alive: list[int] = []

    def watched(found: ParquetInput, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        made: list[Any] = []
        for batch in read_batches(found, columns, batch_rows=1):
            made.append(weakref.ref(batch))
            alive.append(sum(one() is not None for one in made))
            yield batch

    monkeypatch.setattr(private_database, "read_batches", watched)
    rows = opened(str(curation), tmp_path / "index")
    assert num_kept(rows, "a") == 4
    assert len(alive) == 6
    assert max(alive) <= 2


def test_decisions_that_cannot_be_read_are_an_error_that_says_so(
    curation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(curation, "a", "key >= '00002'")

    def broken(found: ParquetInput, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from read_batches(found, columns)
        raise StorageError("the storage is away")

    rows = opened(str(curation), tmp_path / "index")
    decide(curation, "a", "key >= '00003'")
    with monkeypatch.context() as patched:
        patched.setattr(private_database, "read_batches", broken)
        with pytest.raises(StorageError, match=r"its decisions cannot be read: .*the storage is away$"):
            rows.refresh()
    assert num_kept(rows, "a") == 4
    rows.refresh()
    assert num_kept(rows, "a") == 3
