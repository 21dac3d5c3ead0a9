"""The steps from a table of images to checked samples, each a job of this project.

One that is finished is not run again. What a step needs is imported when it runs.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.manifest import MANIFEST_PATH

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.curation.passes import Curation

_HERE = "examples/shapes"


def curate(raw: Path, output: Path) -> Path:
    """Curate images by `curate_training.yaml`; gives the folder of the training set."""
    from pipelines.config import load_config
    from pipelines.curation.passes import Curation
    from pipelines.curation.settings import CurateConfig

    config = load_config(CurateConfig, f"{_HERE}/curate_training.yaml", [f"input={raw}", f"output={output}"])
    curation = Curation(config)
    dataset = Path(curation.dataset_uri)
    if not _is_finished(dataset):
        run_passes(curation)
    return dataset


def run_passes(curation: Curation) -> None:
    """All passes of curation, with their progress shown."""
    from pipelines.progress import show_progress
    from pipelines.selection import funnel_text

    _connect()
    with show_progress("images", "scored") as on_progress:
        curation.score(on_progress)
    curation.find_duplicates()
    print(funnel_text(curation.select()))
    with show_progress("images", "written") as on_progress:
        curation.export(on_progress)


def tokenize(dataset: Path, model: Path, output: Path, overrides: Sequence[str] = ()) -> None:
    """Encode a training set by `tokenize.yaml`."""
    from pipelines.config import load_config
    from pipelines.progress import show_progress
    from pipelines.tokenization import TokenizeConfig, plan_tokenization

    if _is_finished(output):
        return
    places = [f"input={dataset}", f"model={model}", f"output={output}"]
    plan = plan_tokenization(load_config(TokenizeConfig, f"{_HERE}/tokenize.yaml", [*places, *overrides]))
    _connect()
    with show_progress("images", "tokenized") as on_progress:
        plan.open().run(on_progress)


def train(tokens: Path, parts: Path, output: Path, overrides: Sequence[str] = ()) -> None:
    """Train the transformer by `train.yaml`; where it is done, that is found out in a second."""
    from pipelines.config import load_config
    from pipelines.training.progress import show_training
    from pipelines.training.settings import TrainConfig
    from pipelines.training.trainer import plan_training

    places = [f"init={parts}", f"output={output}", f"stages.0.datasets=[{tokens}]"]
    training = plan_training(load_config(TrainConfig, f"{_HERE}/train.yaml", [*places, *overrides]))
    _connect()
    with show_training() as on_progress:
        training.run(on_progress)


@dataclass(frozen=True, kw_only=True)
class Generated:
    """Rows of a `generate` job, and their images.

    Attributes:
        table: The rows, with all columns of the prompt table.
        images: RGB, uint8 [height, width, 3], in the rows' order.
    """

    table: pa.Table
    images: list[NDArray[np.uint8]]


def generate(prompts: pa.Table, model: Path, output: Path, overrides: Sequence[str] = ()) -> Generated:
    """Generate images for a table of prompts; it is written beside the output."""
    import pyarrow.parquet as pq

    from pipelines.config import load_config
    from pipelines.generate import open_job
    from pipelines.generation_config import GenerateConfig
    from pipelines.progress import show_progress

    if not _is_finished(output):
        table = output.with_suffix(".prompts.parquet")
        table.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(prompts, table)
        places = [f"prompts={table}", f"model={model}", f"output={output}"]
        job = open_job(load_config(GenerateConfig, f"{_HERE}/generate.yaml", [*places, *overrides]))
        _connect()
        with show_progress("prompts", "images") as on_progress:
            job.run(on_progress)
    return read_generated(output)


def read_generated(output: Path) -> Generated:
    """The rows of a finished `generate` job, and their images."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipelines.inputs import find_parquet

    found = find_parquet(str(output))
    table = pa.concat_tables(pq.read_table(output / item.path) for item in found.objects)
    encoded: list[dict[str, Any]] = table["image"].to_pylist()
    return Generated(table=table, images=[np.array(Image.open(io.BytesIO(one["bytes"]))) for one in encoded])


def _is_finished(output: Path) -> bool:
    return (output / MANIFEST_PATH).is_file()


def _connect() -> None:
    import ray

    from jobs.ray_session import connect

    if not ray.is_initialized():
        connect()
