"""The card of scores describes every column that scoring adds, and sums the scores up."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cards.scores import write_card
from pipelines.curation.decode_worker import DecodeWorker
from pipelines.curation.scores import scores_schema
from pipelines.curation.scoring import PackScores
from pipelines.curation.settings import ScoreConfig
from pipelines.plan import InputObject, plan_units
from schemas.images import SOURCE_ROWS, passed_through
from tests.pipelines.cards.made_datasets import summary_of, write_run
from tests.pipelines.cards.reading_cards import cells_of, printed_by_programs
from tests.pipelines.curation.pictures import encoded, picture, source_rows


def test_the_card_describes_every_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ScoreConfig(input="in", output="out")
    rows = source_rows([encoded(picture(n)) for n in range(4)], license=["cc0"] * 4)
    others = [field for field in rows.schema if field.name not in SOURCE_ROWS.names]
    schema = scores_schema(config, list(passed_through(others, SOURCE_ROWS.names).values()))
    (unit,) = plan_units([InputObject(path="a", fingerprint="f", rows=4)], 4, "")
    shards = PackScores(schema=schema)(unit, DecodeWorker(config).process(rows).table)
    ledger = write_run(tmp_path / "out", "score", shards, "row_id")
    write_card(ledger, config, {}, summary_of(5, 4, 4, **{"decode: TruncatedImageError": 1}))
    text = (tmp_path / "out" / "README.md").read_text()
    columns, scores = text.split("## Columns")[1].split("## Scores")
    assert cells_of(columns, "`license`")[2] == "of the source, as it was there"
    assert cells_of(columns, "`min_side`") == ["`int32`", "", "pixels of the shorter side"]
    assert cells_of(scores, "`contrast_rms`")[:2] == ["4", "0"]
    assert "`phash`" not in scores
    assert cells_of(text, "decode: TruncatedImageError") == ["1"]
    assert printed_by_programs(tmp_path / "out", monkeypatch) == ["4"] * 2
