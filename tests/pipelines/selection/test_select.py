"""Rules in order decide which images stay, and say why of each."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config import ConfigError, load_config
from pipelines.selection import Funnel, Recipe, RecipeError, funnel_text, read_funnel, select
from pipelines.selection.uids import UIDS, uids_array
from pipelines.storage import open_storage
from schemas.decisions import DECISIONS
from tests.pipelines.made_scores import write_pairs, write_scores


def recipe(*rules: dict[str, Any]) -> Recipe:
    return Recipe.model_validate({"rules": list(rules)})


def decided(folder: Path) -> list[dict[str, Any]]:
    tables = [pq.read_table(path) for path in sorted((folder / "decisions").iterdir())]
    return pa.concat_tables(tables).to_pylist()


def kept(folder: Path) -> list[str]:
    return [row["row_id"] for row in decided(folder) if row["kept"]]


def run(tmp_path: Path, scores: str, *rules: dict[str, Any], pairs: str | None = None) -> Funnel:
    return select(scores, pairs, recipe(*rules), str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("rule", "expected", "value", "threshold"),
    [
        ({"rule": "range", "column": "score", "min": 2, "max": 3}, [2, 3], "1.0", ">= 2 and <= 3"),
        ({"rule": "range", "column": "score", "min": 2, "missing": "keep"}, [2, 3, 4, 5, 6], "1.0", ">= 2"),
        ({"rule": "percentile", "column": "score", "top_percent": 40}, [3, 4], "1.0", ">= 3.0 (top 40 %)"),
        ({"rule": "percentile", "column": "score", "bottom_percent": 20}, [0], "1.0", "<= 0.0 (bottom 20 %)"),
        (
            {"rule": "percentile", "column": "score", "min_percentile": 20, "max_percentile": 80},
            [1, 2, 3],
            "",
            None,
        ),
        ({"rule": "expression", "where": "score > 1 AND label = 'b'"}, [3], "score = 1.0, label = b", None),
        ({"rule": "quota", "group_by": "label", "max": 1, "rank_by": "score"}, [3, 4], "2. of b", "<= 1"),
        ({"rule": "sample", "count": 0}, [], "2. by hash", "<= 0"),
        ({"rule": "quota", "group_by": "label", "max": 1}, [0, 1], "1. of b", "<= 1"),
    ],
)
def test_each_rule_keeps_what_it_says(
    tmp_path: Path, rule: dict[str, Any], expected: list[int], value: str, threshold: str | None
) -> None:
    columns = {
        "score": pa.array([0.0, 1.0, 2.0, 3.0, 4.0, None, float("nan")]),
        "label": ["a", "b", "a", "b", "a", "a", "b"],
    }
    run(tmp_path, write_scores(tmp_path / "scores", columns), rule)
    assert kept(tmp_path / "out") == [f"r{n}" for n in expected]
    first = decided(tmp_path / "out")[1]
    if value and not first["kept"]:
        assert first["value"] == value
        assert first["threshold"] == (threshold or rule.get("where"))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"min_words": 2}, [1, 2, 3, 4, 5]),
        ({"max_words": 2}, [0, 1, 3, 4, 6]),
        ({"min_characters": 6, "max_characters": 12}, [1, 3, 4]),
        ({"pattern": "^red"}, [1, 3, 4]),
        ({"forbid": ["STOCK photo", r"https?://"]}, [0, 1, 3, 4, 6]),
        ({"max_repeats": 1}, [0, 2, 4, 5, 6]),
    ],
)
def test_captions(tmp_path: Path, rule: dict[str, Any], expected: list[int]) -> None:
    captions = [
        "cat",
        "red fox",
        "a stock photo of a fox",
        "red fox",
        "red  hen ",
        "see http://x.example now",
        " ",
        None,
    ]
    scores = write_scores(tmp_path / "scores", {"caption": captions})
    funnel = run(tmp_path, scores, {"rule": "caption"} | rule)
    assert kept(tmp_path / "out") == [f"r{n}" for n in expected]
    assert funnel.steps[0].missing == 1


def test_a_rule_sees_what_the_ones_before_it_have_left(tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "scores", {"score": [1, 2, 3, 4], "size": [9, 9, 1, 1]})
    top = {"rule": "percentile", "column": "score", "top_percent": 50}
    large = {"rule": "range", "column": "size", "min": 5}
    select(scores, None, recipe(large, top), str(tmp_path / "one"))
    select(scores, None, recipe(top, large), str(tmp_path / "two"))
    assert (kept(tmp_path / "one"), kept(tmp_path / "two")) == (["r1"], [])
    assert decided(tmp_path / "two")[2]["rule"] == "size"


def test_percentiles_within_groups(tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "scores", {"score": [1, 2, 11, 12], "label": ["a", "a", "b", "b"]})
    run(tmp_path, scores, {"rule": "percentile", "column": "score", "top_percent": 50, "within": "label"})
    assert kept(tmp_path / "out") == ["r1", "r3"]


def test_every_row_of_the_input_is_decided_dead_letters_too(tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "scores", {"score": range(10)}, failed=3, files=3)
    funnel = run(tmp_path, scores, {"rule": "range", "column": "score", "min": 4})
    rows = decided(tmp_path / "out")
    assert pq.read_schema(next((tmp_path / "out" / "decisions").iterdir())) == DECISIONS
    assert [row["row_id"] for row in rows] == [*(f"r{n}" for n in range(10)), "bad0", "bad1", "bad2"]
    assert rows[-1]["rule"] == "decode: CorruptImageError"
    assert (funnel.rows, funnel.failed, funnel.kept) == (13, {"decode: CorruptImageError": 3}, 6)
    assert funnel.rows - sum(funnel.failed.values()) - sum(s.dropped for s in funnel.steps) == funnel.kept
    assert json.loads((tmp_path / "out" / "funnel.json").read_text())["kept"] == 6
    shown = funnel_text(funnel, width=80)
    assert "6 of 13 kept" in shown
    assert max(map(len, shown.splitlines()[1:])) <= 80


DUPLICATES = {"rule": "duplicates", "kinds": ["exact", "near", "semantic"], "keep": "score"}


def dedup(tmp_path: Path, scores: Sequence[float], pairs: Sequence[Any], **rule: Any) -> list[str]:
    run(
        tmp_path,
        write_scores(tmp_path / "scores", {"score": list(scores)}),
        DUPLICATES | rule,
        pairs=write_pairs(tmp_path / "pairs", pairs),
    )
    return kept(tmp_path / "out")


def test_the_best_of_duplicates_stays_and_the_others_name_it(tmp_path: Path) -> None:
    assert dedup(tmp_path, [1, 3, 2, 0], [("exact", "r0", "r1", 0), ("near", "r1", "r2", 4)]) == ["r1", "r3"]
    row = decided(tmp_path / "out")[2]
    assert (row["duplicate_of"], row["duplicate_kind"], row["distance"]) == ("r1", "near", 4.0)
    assert decided(tmp_path / "out")[0]["duplicate_kind"] == "exact"


def test_of_a_chain_both_ends_stay(tmp_path: Path) -> None:
    assert dedup(tmp_path, [3, 1, 2], [("near", "r0", "r1", 5), ("near", "r1", "r2", 5)]) == ["r0", "r2"]


def test_pairs_beyond_the_recipes_limits_are_none(tmp_path: Path) -> None:
    pairs = [("near", "r0", "r1", 5), ("semantic", "r2", "r3", 0.04)]
    assert dedup(tmp_path, [1, 2, 3, 4], pairs, max_hamming=4, min_cosine=0.97) == ["r0", "r1", "r2", "r3"]
    assert dedup(tmp_path, [1, 2, 3, 4], pairs, max_hamming=5, min_cosine=0.95) == ["r1", "r3"]
    assert dedup(tmp_path, [1, 2, 3, 4], pairs, kinds=["semantic"], keep_order="lowest") == ["r0", "r1", "r2"]


def test_equal_images_stand_for_each_other(tmp_path: Path) -> None:
    """Pairs name the first of a group of equals, even where a rule has dropped that one."""
    pairs = [("near", "r0", "r1", 0), ("near", "r0", "r2", 0), ("near", "r0", "r3", 3)]
    scores = write_scores(tmp_path / "scores", {"score": [9, 1, 2, 3]})
    rules = ({"rule": "range", "column": "score", "max": 5}, DUPLICATES)
    run(tmp_path, scores, *rules, pairs=write_pairs(tmp_path / "pairs", pairs))
    assert kept(tmp_path / "out") == ["r3"]
    assert [row["duplicate_of"] for row in decided(tmp_path / "out")] == [None, "r3", "r3", None]


def test_copies_of_another_dataset_go(tmp_path: Path) -> None:
    pairs = [
        ("near", "r0", "r2", 0),
        ("near", "r0", "x7", 2, "s3://other"),
        ("exact", "r1", "x8", 0, "s3://other"),
    ]
    assert dedup(tmp_path, [1, 2, 3, 4], pairs) == ["r3"]
    row = decided(tmp_path / "out")[0]
    assert (row["duplicate_of"], row["distance"], row["value"]) == ("x7", 2.0, "near 2.0 in s3://other")
    assert dedup(tmp_path, [1, 2, 3, 4], pairs, against=False) == ["r1", "r2", "r3"]


@pytest.mark.parametrize(
    "where",
    [
        "(SELECT count(*) FROM read_csv('/etc/passwd')) > 0",
        "(SELECT count(*) FROM '/etc/passwd') > 0",
        "true) FROM images; DROP TABLE images; SELECT (true",
        "true; COPY images TO '/tmp/stolen.csv'",
        "score >",
        "no_such_column > 1",
        "ATTACH '/tmp/stolen.db'",
        "read_text('/etc/passwd') IS NOT NULL",
        "score > 'a' || 'b'",
        "getenv('HOME') = '/root'",
    ],
)
def test_an_expression_reaches_nothing_but_the_scores(tmp_path: Path, where: str) -> None:
    scores = write_scores(tmp_path / "scores", {"score": [1, 2]})
    with pytest.raises(RecipeError, match="rule 'x'"):
        run(tmp_path, scores, {"rule": "expression", "name": "x", "where": where})
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_mistakes_in_recipes_are_named(tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "scores", {"score": [1, 2]})
    with pytest.raises(
        RecipeError, match=r"rule 'scor': no column 'scor' in the scores; did you mean 'score'\?"
    ):
        run(tmp_path, scores, {"rule": "range", "column": "scor", "min": 1})
    (tmp_path / "r.yaml").write_text("rules: [{rule: range, column: score, mim: 3}]")
    with pytest.raises(ConfigError, match="did you mean 'min'"):
        load_config(Recipe, tmp_path / "r.yaml")
    with pytest.raises(ValueError, match="two rules are named 'a'"):
        recipe(*[{"rule": "sample", "fraction": 0.5, "name": "a"}] * 2)


def test_a_sample_is_the_same_every_time_and_another_with_another_seed(tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "scores", {"score": range(400)})
    found = []
    for number, seed in enumerate((0, 0, 1)):
        select(
            scores,
            None,
            recipe({"rule": "sample", "fraction": 0.25, "seed": seed}),
            str(tmp_path / str(number)),
        )
        found.append(kept(tmp_path / str(number)))
    assert found[0] == found[1] != found[2]
    assert 60 < len(found[0]) < 140


def test_a_selection_that_is_done_is_not_made_again_and_another_replaces_it(tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "scores", {"score": range(10)})
    rule = {"rule": "range", "column": "score", "min": 5}
    first = run(tmp_path, scores, rule)
    written = (tmp_path / "out" / "uids.npy").stat().st_mtime_ns
    assert run(tmp_path, scores, rule) == first == read_funnel(str(tmp_path / "out"))
    assert (tmp_path / "out" / "uids.npy").stat().st_mtime_ns == written
    assert run(tmp_path, scores, rule | {"min": 8}).kept == 2
    assert kept(tmp_path / "out") == ["r8", "r9"]


def test_uids_are_exchanged_as_datacomp_does(tmp_path: Path) -> None:
    uids = ["ffffffffffffffff0000000000000001", "00000000000000020000000000000003", "0" * 31 + "9"]
    scores = write_scores(tmp_path / "scores", {"score": [1, 2, 3], "uid": uids})
    run(tmp_path, scores, {"rule": "range", "column": "score", "min": 1})
    array = np.load(tmp_path / "out" / "uids.npy", mmap_mode="r")
    made_by_datacomp = np.array([(int(uid[:16], 16), int(uid[16:32], 16)) for uid in uids], np.dtype("u8,u8"))
    assert array.tolist() == np.sort(made_by_datacomp).tolist()
    assert array.dtype == UIDS
    assert [(int(high), int(low)) for high, low in array.tolist()] == [(0, 9), (2, 3), (2**64 - 1, 1)]
    assert len(uids_array([])) == 0


def test_a_limit_is_met_by_the_value_that_is_shown_for_it(tmp_path: Path) -> None:
    """0.7 in 32 bits is less than 0.7 in 64."""
    scores = write_scores(tmp_path / "scores", {"score": pa.array([0.7, 0.1], pa.float32())})
    run(tmp_path, scores, {"rule": "range", "column": "score", "min": 0.7, "max": 1234567.5})
    assert kept(tmp_path / "out") == ["r0"]
    assert decided(tmp_path / "out")[1]["threshold"] == ">= 0.7 and <= 1234567.5"


def test_no_value_is_told_as_null_and_counted(tmp_path: Path) -> None:
    columns = {"caption": [None, "a b"], "score": pa.array([None, 1.0]), "label": pa.array([None, "x"])}
    scores = write_scores(tmp_path / "scores", columns)
    for number, rule in enumerate(
        (
            {"rule": "range", "column": "score", "min": 0},
            {"rule": "percentile", "column": "size_bytes", "top_percent": 100, "within": "label"},
            {"rule": "caption", "min_words": 1},
            {"rule": "caption", "max_repeats": 5},
            {"rule": "quota", "group_by": "label", "max": 3},
        )
    ):
        funnel = select(scores, None, recipe(rule), str(tmp_path / str(number)))
        assert [row["kept"] for row in decided(tmp_path / str(number))] == [False, True]
        assert funnel.steps[0].missing == 1
        if rule["rule"] != "percentile":
            assert decided(tmp_path / str(number))[0]["value"] == "null"


def test_a_sample_of_a_count_has_that_many_and_is_a_part_of_a_larger_one(tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "scores", {"score": range(100)})
    chosen = []
    for count in (10, 30):
        select(scores, None, recipe({"rule": "sample", "count": count}), str(tmp_path / str(count)))
        chosen.append(set(kept(tmp_path / str(count))))
    assert [len(rows) for rows in chosen] == [10, 30]
    assert chosen[0] < chosen[1]


def test_the_manifest_names_every_object_and_nothing_else_is_left(tmp_path: Path) -> None:
    scores = write_scores(tmp_path / "scores", {"score": range(10)}, failed=1)
    run(tmp_path, scores, {"rule": "range", "column": "score", "min": 5})
    (tmp_path / "out" / "decisions" / "00007.parquet").write_bytes(b"of a larger selection before")
    run(tmp_path, scores, {"rule": "range", "column": "score", "min": 6})
    out = tmp_path / "out"
    manifest = json.loads((out / "manifest.json").read_text())
    named = {entry["path"]: entry for entry in manifest["objects"] + manifest["files"]}
    found = {
        str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and ".tmp" not in path.parts
    }
    assert found == {*named, "manifest.json"}
    for path, entry in named.items():
        assert hashlib.sha256((out / path).read_bytes()).hexdigest() == entry["sha256"]


def test_embeddings_are_not_read(tmp_path: Path) -> None:
    embedding = pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2))
    scores = write_scores(tmp_path / "scores", {"score": [1, 2, 3], "embedding": embedding})
    for rule in (
        {"rule": "range", "column": "embedding", "min": 1},
        {"rule": "expression", "where": "embedding[1] > 0"},
    ):
        with pytest.raises(RecipeError, match="no column 'embedding'"):
            run(tmp_path, scores, rule)


@pytest.mark.s3
def test_scores_and_selections_may_be_on_s3(tmp_path: Path, s3_server: str) -> None:
    local = write_scores(tmp_path / "scores", {"score": range(10)}, files=2)
    remote = open_storage("s3://bucket/selected/scores")
    for entry in open_storage(local).list():
        remote.write(entry.path, open_storage(local).read(entry.path))
    rules = recipe({"rule": "range", "column": "score", "min": 4})
    output = "s3://bucket/selected/chosen"
    assert select("s3://bucket/selected/scores", None, rules, output).kept == 6
    select(local, None, rules, str(tmp_path / "out"))
    for name in ("decisions/00000.parquet", "uids.npy"):
        assert open_storage(output).read(name) == (tmp_path / "out" / name).read_bytes()


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"rule": "range", "column": "a", "min": 3, "max": 2}, "no image would stay"),
        ({"rule": "range", "column": "a", "min": float("nan")}, "finite"),
        ({"rule": "percentile", "column": "a", "top_percent": 5, "min_percentile": 5}, "set one of"),
        ({"rule": "sample"}, "either fraction or count"),
    ],
)
def test_rules_that_say_nothing_or_two_things_are_refused(rule: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        recipe(rule)
