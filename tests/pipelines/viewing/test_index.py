"""A database whose queries reach nothing else, and end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.viewing.answers import Answers
from pipelines.viewing.columns import indexed_columns, indexed_rows, left_out
from pipelines.viewing.index import Index, QueryError
from pipelines.viewing.relations import Relation
from pipelines.viewing.view import View
from tests.pipelines.made_generations import MadeGenerations
from tests.pipelines.viewing.made_outputs import opened

ROWS = pa.table({"x": [1, 2, 3], "text": ["a", "b", None]})


@pytest.fixture
def index(tmp_path: Path) -> Index:
    made = Index(tmp_path, limit_s=0.5)
    made.append("images", ROWS)
    return made


def test_appended_rows_follow_the_others(index: Index) -> None:
    index.append("images", ROWS)
    assert index.query("SELECT count(*), sum(x) FROM images") == [(6, 12)]
    assert index.query("SELECT text FROM images WHERE x = ?", [2]) == [("b",), ("b",)]


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE images",
        "INSERT INTO images VALUES (1, 'x')",
        "CREATE TABLE other (x INT)",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "COPY images TO '/tmp/stolen.csv'",
        "ATTACH '/tmp/other.duckdb'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT * FROM ROWS",
    ],
)
def test_queries_change_and_reach_nothing(index: Index, sql: str) -> None:
    with pytest.raises(QueryError, match="cannot be answered"):
        index.query(sql)
    assert index.query("SELECT count(*) FROM images") == [(3,)]


def test_a_query_that_takes_long_is_stopped_and_others_go_on(index: Index) -> None:
    failures = []

    def slow() -> None:
        try:
            index.query(
                "SELECT count(*) FROM range(10000000000) a, range(1000) b WHERE hash(a.range, b.range) = 1"
            )
        except QueryError as error:
            failures.append(str(error))

    thread = threading.Thread(target=slow)
    thread.start()
    assert index.query("SELECT 1") == [(1,)]
    thread.join(30)
    assert failures == ["the query took longer than 0.5 seconds and was stopped; ask for less"]
    index.append("images", ROWS)  # no query is left that it would wait for
    assert index.query("SELECT count(*) FROM images") == [(6,)]


def test_a_query_without_a_limit_ends_when_it_ends(tmp_path: Path) -> None:
    index, sql = Index(tmp_path, limit_s=0.01), "SELECT count(hash(range)) FROM range(30000000)"
    with pytest.raises(QueryError, match=r"longer than 0\.01 seconds"):
        index.query(sql)
    assert index.query(sql, is_limited=False) == [(30_000_000,)]


def test_what_the_server_itself_must_know_may_take_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = opened(MadeGenerations(str(tmp_path / "out")).commit().uri, tmp_path / "index")
    really = rows.index.query

    def too_slow(sql: str, values: Sequence[Any] = (), *, is_limited: bool = True) -> list[tuple[Any, ...]]:
        if is_limited:
            raise QueryError("the query took too long")
        return really(sql, values, is_limited=False)

    monkeypatch.setattr(rows.index, "query", too_slow)
    relation = rows.relation("images")
    assert relation is not None
    facts = Answers(rows).facts(relation)
    assert (facts["seed"].low, facts["seed"].high, facts["seed"].middle) == (1000, 1011, (1000.055, 1010.945))
    assert facts["model_id"].choices == ("made",)


def test_names_and_values_of_every_kind(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "Prompt": ["Ä Fox", None],
            "prompt": ["other", "x"],
            "": [1, 2],
            "__row": [5, 6],
            'a"; DROP TABLE images; --': [True, None],
            "score": [float("nan"), 0.5],
            "half": pa.array([1.5, float("inf")], pa.float32()).cast(pa.float16()),
            "tag": pa.array(["u", "v"]).dictionary_encode(),
            "at": pa.array([0, 1], pa.timestamp("us", "UTC")),
            "nothing": pa.nulls(2),
            "wrong": pa.Array.from_buffers(
                pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"\xffb")]
            ),
            "blob": [b"x", b"y"],
            "list": [[1], [2]],
        }
    )
    columns = indexed_columns(rows.schema)
    assert [column.name for column in columns[:4]] == ["Prompt", "prompt_2", "column", "__row_2"]
    assert set(left_out(rows.schema)) == {"blob", "list"}
    index = Index(tmp_path)
    index.append("images", indexed_rows(rows, columns, ["Prompt"], 0, 0))
    relation = Relation(name="images", columns=tuple(columns), id="prompt_2", texts=("Prompt",))

    def found(*parameters: tuple[str, str]) -> list[int]:
        view = View.parse(parameters)
        condition, values = relation.condition(view)
        order = relation.order(view)
        return [
            n for (n,) in index.query(f"SELECT __row FROM images WHERE {condition} ORDER BY {order}", values)
        ]

    assert found(("q", "ä fox")) == [0]
    assert found(("has.score", "null")) == [0]
    assert found(("is.prompt_2", "x")) == [1]
    assert found(('is.a"; DROP TABLE images; --', "true")) == [0]
    assert found(("is.wrong", "\ufffd")) == [0]
    assert found(("is.tag", "v"), ("where", '"half" > 1000')) == [1]
    assert found(("sort", "score")) == [1, 0]
    assert found(("sort", "at"), ("order", "desc")) == [1, 0]
    with pytest.raises(QueryError, match="differs from run to run"):
        found(("where", "random() > 0.5"))


@pytest.mark.parametrize(
    "query",
    [
        "q=a+fox&min.x=0.5&has.text=null&sort=x&order=desc&columns=x&columns=text&page=3",
        "table=failed&where=x+%3E+1",
        "selection=strict&is.a.b%26c=%3D",
    ],
)
def test_a_view_stands_in_the_url_as_a_whole(query: str) -> None:
    from urllib.parse import parse_qsl

    assert View.parse(parse_qsl(query)).query() == f"?{query}"
