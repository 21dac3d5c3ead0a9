"""The worker of `generate`: holds a model on its device and turns prompt rows into rows of GENERATIONS."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from meissonic import Meissonic, Sampler, SampleRequest, to_uint8
from meissonic.model_folder import read_generation_config
from meissonic.requests import MAX_SEED, BatchShape, batch_shape, check_request
from pipelines.asked_score import AskedScore
from pipelines.broken_device import ends_with_its_device
from pipelines.clock import Clock
from pipelines.decoding import ImageError
from pipelines.generation_config import MAX_IMAGES, GenerateConfig, sampler_config
from pipelines.generation_models import GenerationModels
from pipelines.generation_results import Made, Results, Wanted, generation_table
from pipelines.images import encode_image, image_bytes, image_id
from pipelines.in_flight import InFlight, one_behind
from pipelines.models import ModelError, fetch_model
from pipelines.scorers.interface import ImageBatch
from pipelines.scorers.loading import load_scorers, score_images
from pipelines.scorers.settings import scorer_fields
from pipelines.start_images import start_image, token_mask
from pipelines.worker import DeadLetter, WorkerResult
from schemas.generations import IMAGE_SUFFIXES, generations_schema
from schemas.prompts import PROMPTS

SAMPLE_ID_HEX = 32
MAX_CODES = 2**16


class PromptRowError(ValueError):
    """A row that cannot be generated."""


class GenerationWorker:
    """Generates, scores and encodes; encoding runs beside the next batch's compute."""

    def __init__(self, config: GenerateConfig, models: GenerationModels, prompts_uri: str) -> None:
        """Load the models onto this worker's GPU, or the CPU where Ray gave it none."""
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32: codes must be those of the CPU
        # Ray hides the other workers' GPUs, but none from a worker that asked for none
        on_gpu = config.resources.num_gpus != 0 and torch.cuda.is_available()
        device = torch.device("cuda" if on_gpu else "cpu")
        if config.resources.threads_per_actor is not None:
            torch.set_num_threads(config.resources.threads_per_actor)
        self.config, self.digest, self.prompts_uri = config, models.model_digest, prompts_uri
        folder = fetch_model(config.model, models.model_digest).folder
        self.model = Meissonic.from_pretrained(folder, getattr(torch, config.dtype), device)
        self.sampler = Sampler(self.model, compiled=config.compile)
        self.score = AskedScore(default=config.score, mapping=read_generation_config(folder).score)
        codes = self.model.transformer.config.codebook_size
        if codes > MAX_CODES:
            raise ModelError(
                f"{config.model}: {codes} codes; tokens are stored as uint16, {MAX_CODES} at most"
            )
        self.batch_sizes: dict[BatchShape, int] = {}  # what fits, where the config's did not
        self.events: Counter[str] = Counter()  # of the unit at hand
        self.scorers = load_scorers(
            config.scorers,
            models.scorer_digests,
            device,
            config.batch_size,
            getattr(torch, config.scorer_dtype),
        )
        self.encoders = ThreadPoolExecutor()  # on all CPUs: a device waits for the last images of its unit

    def process(self, rows: pa.Table) -> WorkerResult:
        """Prompt rows (see `PromptTable.read`) -> one row of GENERATIONS an image."""
        with ends_with_its_device():
            return self._process(rows)

    def _process(self, rows: pa.Table) -> WorkerResult:
        clock = Clock()
        self.events = Counter()
        failed: dict[int, DeadLetter] = {}
        wanted: list[Wanted] = []
        with clock.measured("prepare"):
            for index, row in enumerate(rows.select(PROMPTS.names).to_pylist()):
                try:
                    wanted += self._wanted(index, row)
                except ImageError as error:
                    failed[index] = DeadLetter.of(index, "image", error)
                except ValueError as error:
                    failed[index] = DeadLetter.of(index, "prompt", error)
        results = Results(wanted, self.config.best_of, self._encode)
        self._make_all([w.request for w in wanted], results, clock)
        for index, image in enumerate(wanted):
            if results.made[index] is None and image.row not in failed:
                fault = FloatingPointError(f"the model's logits were not finite in {self.config.dtype}")
                failed[image.row] = DeadLetter.of(image.row, "sample", fault)
        with clock.measured("encode"):
            table = self._table(rows, results.finished(failed))
        letters = [failed[index] for index in sorted(failed)]
        return WorkerResult(table=table, failed=letters, seconds=clock.seconds, events=dict(self.events))

    def _wanted(self, index: int, row: dict[str, Any]) -> list[Wanted]:
        """The images of one prompt row.

        Raises:
            ImageError: Its start image or mask cannot be read.
            ValueError: A value is out of range.
        """
        if not (row["prompt"] or "").strip():
            raise PromptRowError("the prompt is empty")
        count = self.config.num_images if row["num_images"] is None else row["num_images"]
        if not 1 <= count <= MAX_IMAGES:
            raise PromptRowError(f"num_images is {count}; it must be 1 to {MAX_IMAGES}")
        seed = self._seed(row["prompt_id"]) if row["seed"] is None else row["seed"]
        sizes = {
            name: getattr(self.config, name) if row[name] is None else row[name]
            for name in ("width", "height")
        }
        if max(sizes.values()) > self.config.max_side:
            raise PromptRowError(
                f"the image is {sizes['width']}x{sizes['height']}; max_side is {self.config.max_side}"
            )
        config = sampler_config(self.config.sampler, row)
        score = self.score.of(row)
        if row["image"] is None and (row["mask"] is not None or row["strength"] is not None):
            raise PromptRowError("mask or strength without an image")
        sources: dict[str, Any] = {"source_image_id": None, "source_mask_id": None}
        inputs: dict[str, Any] = {}
        limits = self.config.row_images
        # a size that the model cannot make is refused before an image is resized to it
        plain = SampleRequest(
            prompt=row["prompt"],
            negative_prompt=row["negative_prompt"] or "",
            seed=seed,
            config=config,
            score=self.score.condition(score),
            **sizes,
        )
        check_request(self.model, plain)
        if row["image"] is not None:
            data = image_bytes(row["image"], self.prompts_uri, limits)
            inputs["image"] = start_image(data, **sizes, limits=limits)
            inputs["strength"] = 1.0 if row["strength"] is None else row["strength"]
            sources["source_image_id"] = image_id(data)
            if row["mask"] is not None:
                data = image_bytes(row["mask"], self.prompts_uri, limits)
                factor = self.model.vq.config.factor
                inputs["mask"] = token_mask(data, sizes["width"] // factor, sizes["height"] // factor, limits)
                sources["source_mask_id"] = image_id(data)
        images = []
        for number in range(count):
            request = replace(plain, seed=seed + number, **inputs)
            check_request(self.model, request)
            facts = self._facts(row, number, request, score) | sources
            images.append(Wanted(row=index, request=request, facts=facts))
        return images

    def _seed(self, prompt_id: str) -> int:
        text = f"{self.config.seed}\0{prompt_id}"
        # room above, so that image i may have seed + i
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % (MAX_SEED - MAX_IMAGES)

    def _facts(
        self, row: dict[str, Any], number: int, request: SampleRequest, score: float
    ) -> dict[str, Any]:
        config = request.config
        facts = {
            "prompt_id": row["prompt_id"],
            "sample_index": number,
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "seed": request.seed,
            "width": request.width,
            "height": request.height,
            "num_steps": config.num_steps,
            "guidance_scale": config.guidance_scale,
            "temperature": config.temperature[0],
            "temperature_end": config.temperature[1],
            "softmax_temperature": config.softmax_temperature,
            "masking_schedule": config.masking_schedule or self.model.scheduler.masking_schedule,
            "approximations": _told(config.approximations),
            "score": score,
            "strength": request.strength if request.image is not None and request.mask is None else None,
            "model_id": self.config.model_id,
            "model_digest": self.digest,
        }
        left_out = {"model_id"} if self.score.is_told(score) else {"model_id", "score"}
        if facts["approximations"] is None:
            left_out.add("approximations")
        text = json.dumps(
            {k: v for k, v in facts.items() if k not in left_out}, sort_keys=True, ensure_ascii=False
        )
        return facts | {"sample_id": hashlib.sha256(text.encode()).hexdigest()[:SAMPLE_ID_HEX]}

    def _make_all(self, requests: list[SampleRequest], results: Results, clock: Clock) -> None:
        """Make all images, batch by batch, those of one shape after each other."""
        groups: dict[BatchShape, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(batch_shape(self.model, request), []).append(index)
        for shape, indices in groups.items():
            self._make_group(shape, {index: requests[index] for index in indices}, results, clock)

    def _make_group(
        self, shape: BatchShape, requests: dict[int, SampleRequest], results: Results, clock: Clock
    ) -> None:
        """Make images of one shape; when memory runs out, in batches of half the size, also from then on.

        Raises:
            MemoryError: It does not suffice for a single image.
        """
        while left := [index for index in requests if index not in results.made]:
            batch_size = self.batch_sizes.get(shape, self.config.batch_size)
            try:
                for indices, batch in self._make([requests[index] for index in left], batch_size, clock):
                    results.add(dict(zip((left[i] for i in indices), batch, strict=True)))
            except torch.OutOfMemoryError as error:
                self.events[f"out of memory at {shape.width}x{shape.height}, batch {batch_size}"] += 1
                if batch_size == 1:
                    # the original tells bytes that vary between runs, and ends in a dead letter
                    raise MemoryError(f"no memory for one image of {shape.width}x{shape.height}") from error
                self.batch_sizes[shape] = batch_size // 2
                torch.cuda.empty_cache()

    def _make(
        self, requests: list[SampleRequest], batch_size: int, clock: Clock
    ) -> Iterator[tuple[list[int], list[Made | None]]]:
        for indices, copies in one_behind(self._launched(requests, batch_size, clock)):
            with clock.measured("wait"):
                tokens, pixels = (copy.numpy() for copy in copies.wait())
            with clock.measured("score"):
                prompts = [requests[i].prompt for i in indices]
                images = ImageBatch(pixels=list(pixels), captions=prompts, events=self.events)
                scores = score_images(self.scorers, images)
            codes = self.model.transformer.config.codebook_size
            # copies, so that an image that is done with takes no memory for its batch's sake
            yield (
                indices,
                [
                    Made(
                        tokens=tokens[i].astype(np.uint16),
                        scores=scores.slice(i, 1),
                        pixels=pixels[i].copy(),
                    )
                    if (tokens[i] < codes).all()
                    else None
                    for i in range(len(indices))
                ],
            )

    def _launched(
        self, requests: list[SampleRequest], batch_size: int, clock: Clock
    ) -> Iterator[tuple[list[int], InFlight]]:
        """Tokens and pixels of each batch; a GPU may still be at work on them."""
        batches = self.sampler.sample(requests, batch_size=batch_size)
        while True:
            with clock.measured("sample"):
                item = next(batches, None)
            if item is None:
                return
            indices, tokens = item
            with clock.measured("decode"):
                codes = tokens.clamp_max(self.model.transformer.config.codebook_size - 1)
                pixels = to_uint8(self.sampler.decode(codes, batch_size=batch_size))
                copies = InFlight(tokens, pixels)
            yield indices, copies

    def _encode(self, pixels: NDArray[np.uint8]) -> Future[bytes]:
        return self.encoders.submit(encode_image, pixels, self.config.image_format, self.config.image_quality)

    def _table(self, rows: pa.Table, images: list[tuple[Wanted, Made]]) -> pa.Table:
        """The result rows, in the order of the prompts."""
        others = rows.select([name for name in rows.column_names if name not in PROMPTS.names])
        scores = scorer_fields(self.config.scorers)
        schema = generations_schema(
            tokens=self.config.tokens,
            scores=scores,
            ranks=self.config.best_of is not None,
            passed_through=others.schema,
        )
        return generation_table(
            schema,
            images,
            scores=pa.schema(scores),
            suffix=IMAGE_SUFFIXES[self.config.image_format],
            passed_through=others,
        )


def _told(approximations: dict[str, Any]) -> str | None:
    return json.dumps(approximations, sort_keys=True) if approximations else None
