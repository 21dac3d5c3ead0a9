"""The worker that holds the VQ model: crops become codes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from meissonic.checkpoint import load_vq
from meissonic.model_folder import VQ_NAMES
from meissonic.vq import compile_encoder
from pipelines.broken_device import ends_with_its_device
from pipelines.clock import Clock
from pipelines.models import fetch_model
from pipelines.tokenization.settings import TokenizeConfig
from pipelines.tokenization.vq import VQFacts
from pipelines.worker import DeadLetter, WorkerResult
from schemas.tokens import tokens_schema

MADE = pa.schema(
    [pa.field("tokens", pa.list_(pa.uint16())) if f.name == "tokens" else f for f in tokens_schema((1, 1))]
)
"""What the worker gives: the columns of a token store, with grids of any size; a shard has them at one."""
_COPIED = ("row_id", "image_id", "caption", "captions", "original_width", "original_height", "score")


class EncodeWorker:
    """Encodes crops, on this worker's GPU or the CPU where Ray gave it none."""

    def __init__(self, config: TokenizeConfig, vq: VQFacts) -> None:
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32: codes must be those of the CPU
        on_gpu = config.encoders.num_gpus != 0 and torch.cuda.is_available()
        self.device = torch.device("cuda" if on_gpu else "cpu")
        if config.encoders.threads_per_actor is not None:
            torch.set_num_threads(config.encoders.threads_per_actor)
        self.config, self.vq = config, vq
        self.dtype = getattr(torch, config.dtype)
        self.model = load_vq(fetch_model(config.model, vq.digest, VQ_NAMES).folder).to(self.device)
        for part in (self.model.encoder, self.model.quant_conv):  # the codebook stays in float32
            part.to(self.dtype)
        # uncompiled group norms are slow on channels last, more than convolutions gain from it
        self.layout = torch.channels_last if config.compile else torch.contiguous_format
        if config.compile:
            self.model.encoder.to(memory_format=self.layout)
            compile_encoder(self.model)
        self.batch_sizes: dict[tuple[int, int], int] = {}  # what fits, where the config's did not

    def process(self, rows: pa.Table) -> WorkerResult:
        """Rows of CROPPED -> one row of MADE a crop."""
        with ends_with_its_device():
            return self._process(rows)

    def _process(self, rows: pa.Table) -> WorkerResult:
        clock, events = Clock(), Counter[str]()
        sizes = list(zip(rows["height"].to_pylist(), rows["width"].to_pylist(), strict=True))
        crops = rows["crops"].combine_chunks()
        starts = crops.offsets.to_pylist()
        flat = crops.flatten()
        codes: dict[int, NDArray[np.uint16] | None] = {}
        for height, width in dict.fromkeys(sizes):
            places = [
                place
                for row, size in enumerate(sizes)
                if size == (height, width)
                for place in range(starts[row] - starts[0], starts[row + 1] - starts[0])
            ]
            pixels = [
                np.frombuffer(flat.field("pixels")[place].as_buffer(), np.uint8).reshape(height, width, 3)
                for place in places
            ]
            with clock.measured("encode"):
                encoded = self._encode(pixels, (height, width), events)
            codes |= dict(zip(places, encoded, strict=True))
        counts = np.diff(starts)
        row_of_place = np.repeat(np.arange(rows.num_rows), counts)
        broken = sorted({int(row_of_place[place]) for place, grid in codes.items() if grid is None})
        is_good = ~np.isin(np.arange(rows.num_rows), broken)
        is_kept = is_good[row_of_place]
        with clock.measured("rows"):
            table = self._table(
                rows.filter(pa.array(is_good)),
                flat.filter(pa.array(is_kept)),
                counts[is_good],
                [codes[place] for place in np.flatnonzero(is_kept).tolist()],
            )
        fault = FloatingPointError(f"the encoder's output was not finite in {self.config.dtype}")
        letters = [DeadLetter.of(row, "encode", fault) for row in broken]
        return WorkerResult(table=table, failed=letters, seconds=clock.seconds, events=dict(events))

    def _encode(
        self, pixels: list[NDArray[np.uint8]], size: tuple[int, int], events: Counter[str]
    ) -> list[NDArray[np.uint16] | None]:
        """Codes of crops of one size; when memory runs out, in batches of half the size, also from then on.

        None for a crop whose latents are not finite.

        Raises:
            MemoryError: It does not suffice for a single crop.
        """
        made: list[NDArray[np.uint16] | None] = []
        while len(made) < len(pixels):
            batch_size = self.batch_sizes.get(size, self.config.batch_size)
            try:
                made += self._batch(pixels[len(made) : len(made) + batch_size], batch_size)
            except torch.OutOfMemoryError as error:
                events[f"out of memory at {size[1]}x{size[0]}, batch {batch_size}"] += 1
                if batch_size == 1:
                    raise MemoryError(f"no memory for one crop of {size[1]}x{size[0]}") from error
                self.batch_sizes[size] = batch_size // 2
                torch.cuda.empty_cache()
        return made

    @torch.inference_mode()
    def _batch(self, pixels: list[NDArray[np.uint8]], batch_size: int) -> list[NDArray[np.uint16] | None]:
        """Codes of some crops, filled up to the batch size: so a crop's do not depend on their number."""
        filled = np.stack(pixels + [pixels[-1]] * (batch_size - len(pixels)))
        bytes_BHW3 = torch.from_numpy(filled).to(self.device)
        pixels_B3HW = (bytes_BHW3.permute(0, 3, 1, 2).float() / 255).to(self.dtype)
        latents_BChw = self.model.latents(pixels_B3HW.contiguous(memory_format=self.layout)).float()
        finite = latents_BChw.isfinite().flatten(1).all(1).tolist()
        codes_BN = self.model.nearest_codes(latents_BChw).flatten(1).cpu().numpy().astype(np.uint16)
        return [codes_BN[i] if finite[i] else None for i in range(len(pixels))]

    def _table(
        self,
        rows: pa.Table,
        crops: pa.StructArray,
        counts: NDArray[np.int64],
        codes: list[NDArray[np.uint16] | None],
    ) -> pa.Table:
        repeated = rows.select(_COPIED).take(pa.array(np.repeat(np.arange(rows.num_rows), counts)))
        numbers = np.concatenate([np.arange(count) for count in counts]) if len(counts) else counts
        ids = [f"{row}#{n}" for row, n in zip(repeated["row_id"].to_pylist(), numbers, strict=True)]
        sides = {
            f"grid_{side}": np.repeat(rows[side].to_numpy() // self.vq.factor, counts)
            for side in ("height", "width")
        }
        columns: dict[str, object] = {
            "token_id": ids,
            "crop": numbers,
            "crop_top": crops.field("top"),
            "crop_left": crops.field("left"),
            "vq_digest": [self.vq.digest] * len(ids),
            "tokens": codes,
        }
        columns |= sides | {name: repeated[name] for name in _COPIED}
        return pa.table(
            {
                f.name: columns[f.name] if f.name in _COPIED else pa.array(columns[f.name], f.type)
                for f in MADE
            }
        )
