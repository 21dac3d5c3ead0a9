"""The real `generate` job on an actor with a GPU against the bare loop: steady rate, and its tokens."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch

from benchmarks.gpu.scale import DTYPE, PROMPTS, Scale, main_model
from benchmarks.random_models import random_model
from benchmarks.timing import significant
from meissonic import Meissonic, Sampler, SamplerConfig, SampleRequest, to_uint8
from pipelines.config import Resources
from pipelines.generate import open_job
from pipelines.generation_config import GenerateConfig, SamplerSettings
from pipelines.inputs import find_parquet


def measure(scale: Scale, device: str) -> dict[str, Any]:
    """Make, save and run a random model of middle size over a prompt table, in a temporary folder."""
    # the actor needs the memory
    main_model.cache_clear()
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
    started = not ray.is_initialized()
    if started:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init("local", include_dashboard=False, log_to_driver=False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _run(scale, device, Path(folder), num_gpus=1.0 if on_gpu else 0.0)
    finally:
        if started:
            ray.shutdown()


def _run(scale: Scale, device: str, folder: Path, num_gpus: float) -> dict[str, Any]:
    model = random_model(scale.job_transformer, scale.job_vq, scale.job_text, dtype=DTYPE)
    model.save_pretrained(folder / "model")
    prompts = [f"{PROMPTS[i % len(PROMPTS)]}, number {i}" for i in range(scale.job_prompts)]
    table = pa.table({"prompt": prompts, "seed": pa.array(range(len(prompts)), pa.int64())})
    pq.write_table(table, folder / "prompts.parquet")
    config = GenerateConfig(
        prompts=str(folder / "prompts.parquet"),
        model=str(folder / "model"),
        output=str(folder / "images"),
        unit_rows=scale.job_unit_rows,
        batch_size=scale.job_batch_size,
        dtype="bfloat16",
        compile=scale.compiles,
        resources=Resources(num_actors=1, num_gpus=num_gpus, num_cpus=0.5, threads_per_actor=1),
        width=scale.job_side,
        height=scale.job_side,
        sampler=SamplerSettings(num_steps=scale.job_steps),
        image_format="jpeg",
    )
    began = time.monotonic()
    summary = open_job(config).run()
    elapsed = time.monotonic() - began
    found = find_parquet(config.output)
    rows = pa.concat_tables(pq.read_table(folder / "images" / item.path) for item in found.objects)
    sampler = Sampler(Meissonic.from_pretrained(folder / "model", DTYPE, device), compiled=scale.compiles)
    _bare_loop(sampler, scale, prompts[: scale.job_batch_size])  # compiles
    began = time.monotonic()
    expected = _bare_loop(sampler, scale, prompts)
    bare = len(prompts) / (time.monotonic() - began)
    steady = _steady_rate(folder / "images")
    return {
        "num_gpus": num_gpus,
        "rows_done": summary.rows_done,
        "rows_failed": summary.rows_failed,
        "images": rows.num_rows,
        "elapsed_s_with_start_of_actors": significant(elapsed),
        "images_per_s_with_start_of_actors": significant(rows.num_rows / elapsed),
        "worker_seconds": {name: significant(value) for name, value in summary.seconds.items()},
        "images_per_s_steady": None if steady is None else significant(steady),
        "images_per_s_bare_loop": significant(bare),
        "fraction_of_bare_loop": None if steady is None else significant(steady / bare),
        "tokens_equal_to_sampler_alone": sum(
            row["tokens"] == expected[row["seed"]] for row in rows.select(["seed", "tokens"]).to_pylist()
        )
        / len(prompts),
    }


def _steady_rate(output: Path) -> float | None:
    """Rows a second between the first commit and the last; None of a single unit."""
    records = [json.loads(path.read_text()) for path in (output / "commits").glob("[!.]*.json")]
    records.sort(key=lambda record: record["committed_at"])
    if len(records) < 2:
        return None
    seconds = records[-1]["committed_at"] - records[0]["committed_at"]
    return sum(record["rows_done"] for record in records[1:]) / seconds


def _bare_loop(sampler: Sampler, scale: Scale, prompts: list[str]) -> list[list[list[int]]]:
    """Tokens of each prompt; its pixels are decoded and brought to the CPU, without Ray or files."""
    wanted = [
        SampleRequest(
            prompt=prompt,
            seed=seed,
            width=scale.job_side,
            height=scale.job_side,
            config=SamplerConfig(num_steps=scale.job_steps),
        )
        for seed, prompt in enumerate(prompts)
    ]
    made = dict[int, list[list[int]]]()
    for indices, tokens in sampler.sample(wanted, batch_size=scale.job_batch_size):
        to_uint8(sampler.decode(tokens, batch_size=scale.job_batch_size)).cpu()
        made.update(zip(indices, tokens.tolist(), strict=True))
    return [made[i] for i in range(len(wanted))]
