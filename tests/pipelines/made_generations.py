"""Outputs of `generate` that no model has made: real ledgers, shards and images, in no time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.best_of import BestOf
from pipelines.config import Resources
from pipelines.generation_config import GenerateConfig, Images, SamplerSettings
from pipelines.images import encode_image
from pipelines.packing import PackImages
from pipelines.plan import InputObject, Unit
from pipelines.planned_run import planned_run
from pipelines.scorers.settings import ClipSettings, scorer_fields
from pipelines.worker import DeadLetter
from schemas.generations import generations_schema
from tests.pipelines.toys import commit_rows, write_manifest

SCORE = "clip"
SIDE = 48
WORDS = ("fox", "boat", "house", "snow")


class MadeGenerations:
    """A run of `generate`.

    Image i of prompt p has the score (p + i) / 10. Numbered n over all prompts, it has the id sN, the seed
    1000 + n and the pixels of `png(n)`.

    Args:
        uri: The output.
        prompts: One a row, with ids p0, p1, …; some with WORDS by default.
        images: How images are kept.
        num_images: Of a prompt.
        losers: Of `best_of`, which keeps one; None for no ranking.
        failed: Rows that become dead letters.
        unit_rows: Rows a unit.
        embedding: Whether the scorer keeps its embeddings.
        columns: For each row of prompts, values of further columns or in the place of those made.
        job: Which says that it has made the output.
    """

    def __init__(
        self,
        uri: str,
        prompts: Sequence[str] | None = None,
        *,
        images: Images = "parquet",
        num_images: int = 1,
        losers: str | None = None,
        failed: Sequence[int] = (),
        unit_rows: int = 4,
        embedding: bool = False,
        columns: Mapping[str, Sequence[Any]] | None = None,
        job: str = "generate",
    ) -> None:
        self.uri, self._prompts = uri, prompts_with_words(12) if prompts is None else prompts
        self._failed, self._columns = set(failed), columns or {}
        best_of = None if losers is None else BestOf(keep=1, rank_by=SCORE, losers=losers)  # type: ignore[arg-type]
        self._config = GenerateConfig(
            prompts="prompts.parquet",
            model="models/made",
            output=uri,
            model_id="made",
            width=SIDE,
            height=SIDE,
            sampler=SamplerSettings(num_steps=8, guidance_scale=9.0, temperature=(2.0, 0.0)),
            unit_rows=unit_rows,
            num_images=num_images,
            images=images,
            scorers=(ClipSettings(kind="clip", name=SCORE, model="models/clip", embedding=embedding),),
            best_of=best_of,
            resources=Resources(num_gpus=2),
        )
        schema = partial(
            generations_schema,
            tokens=True,
            scores=scorer_fields(self._config.scorers),
            ranks=best_of is not None,
        )
        made = schema(passed_through=()).names
        others = [pa.field(n, pa.array(v).type) for n, v in self._columns.items() if n not in made]
        self._schema = schema(passed_through=others)
        digests = {"models": {"model_digest": "d" * 64, "scorer_digests": {SCORE: "c" * 64}}}
        source = InputObject(path="prompts.parquet", fingerprint="made", rows=len(self._prompts))
        run = planned_run(
            job, self._config, digests, [source], unit_rows, row_id="prompt_id", unique_id="sample_id"
        )
        self.ledger = run.open(uri)
        self.units = list(self.ledger.planned())

    def commit(self, units: Iterable[Unit] | None = None) -> MadeGenerations:
        """Commit these units, or all and the manifest."""
        for unit in self.units if units is None else units:
            done = [number for number in unit.row_numbers if number not in self._failed]
            letters = [
                DeadLetter.of(place, "sample", ValueError(f"logits of p{number} are not finite"))
                for place, number in enumerate(unit.row_numbers)
                if number in self._failed
            ]
            commit_rows(
                self.ledger,
                unit,
                [f"p{number}" for number in unit.row_numbers],
                pa.Table.from_pylist([row for n in done for row in self._rows(n)], schema=self._schema),
                letters,
                pack=PackImages(images=self._config.images),
                started_at=time.time() - 20,
                seconds={"read": 0.1, "sample": 3.0, "decode": 1.0, "pack": 0.1},
            )
        if units is None:
            write_manifest(self.ledger)
        return self

    def _rows(self, prompt: int) -> Iterable[dict[str, Any]]:
        """What a prompt gives; later images have higher scores."""
        count, best_of = self._config.num_images, self._config.best_of
        for index in range(count):
            number, rank = prompt * count + index, count - 1 - index
            losers = best_of.losers if best_of is not None and rank else "keep"
            if losers == "drop":
                continue
            row = {
                "sample_id": f"s{number}",
                "prompt_id": f"p{prompt}",
                "sample_index": index,
                "prompt": self._prompts[prompt],
                "negative_prompt": "",
                "seed": 1000 + number,
                "width": SIDE,
                "height": SIDE,
                "num_steps": 8,
                "guidance_scale": 9.0,
                "temperature": 2.0,
                "temperature_end": 0.0,
                "softmax_temperature": 1.0,
                "masking_schedule": "cosine",
                "score": 6.0,
                "model_id": "made",
                "model_digest": "d" * 64,
                "image": None if losers == "tokens" else image(number),
                "tokens": [[number, number]],
                SCORE: (prompt + index) / 10,
                f"{SCORE}_embedding": [0.5],
                "rank": rank,
                "kept": not rank,
            }
            yield row | {name: values[prompt] for name, values in self._columns.items()}


def prompts_with_words(count: int) -> list[str]:
    """A fox 0, a boat 1 and so on."""
    return [f"a {WORDS[number % len(WORDS)]} {number}" for number in range(count)]


def image(number: int) -> dict[str, Any]:
    """A value of the column `image`."""
    return {"bytes": png(number), "path": f"s{number}.png"}


def png(number: int) -> bytes:
    """SIDE by SIDE pixels of one colour for each number, with a bar that tells it."""
    pixels = np.full((SIDE, SIDE, 3), [(number * 37) % 200, (number * 91) % 200, 120], np.uint8)
    pixels[-8:, : 1 + number % SIDE] = 255
    return encode_image(pixels, "png", 95)
