"""The main job on an embedded default: `python -m examples.shapes.demo`, or `make demo`.

Generates captions that the model never saw in training, on a local Ray, reads the images back from shards,
and checks each of them against its caption.
"""

import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from examples.shapes.contact_sheet import contact_sheet
from examples.shapes.prompts import choose_scenes, prompt_table
from examples.shapes.verify import Verdict, check
from examples.shapes.world import Scene
from jobs.ray_session import connect
from pipelines.config import load_config
from pipelines.generate import open_job
from pipelines.generation_config import GenerateConfig
from pipelines.inputs import find_parquet
from pipelines.progress import show_progress, summary_text
from pipelines.reports.writing import write_report

FOLDER = Path("out/demo")
NUM_PROMPTS, NUM_SHOWN = 96, 24


def main() -> None:
    """Generate, check, and lay out a contact sheet."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    prompts, output = FOLDER / "prompts.parquet", FOLDER / "images"
    pq.write_table(prompt_table(choose_scenes("test", NUM_PROMPTS, two_object_share=0.5, seed=0)), prompts)
    config = load_config(GenerateConfig, "jobs/configs/demo.yaml", [f"prompts={prompts}", f"output={output}"])
    job = open_job(config)
    connect()
    with show_progress("prompts", "images") as on_progress:
        summary = job.run(on_progress)
    print(summary_text(summary, "prompts", "images"))

    found = find_parquet(str(output))
    table = pa.concat_tables(pq.read_table(output / item.path) for item in found.objects)
    images = [np.array(Image.open(io.BytesIO(image["bytes"]))) for image in table["image"].to_pylist()]
    scenes = [Scene.from_json(text) for text in table["scene"].to_pylist()]
    verdicts = [check(image, scene) for image, scene in zip(images, scenes, strict=True)]
    print(accuracy_text(table, verdicts))
    sheet = FOLDER / "contact_sheet.png"
    shown = slice(NUM_SHOWN)
    contact_sheet(images[shown], table["prompt"].to_pylist()[shown], verdicts[shown]).save(sheet)
    print(f"contact sheet: {sheet}\nreport: {write_report(str(output))}")


def accuracy_text(table: pa.Table, verdicts: list[Verdict]) -> str:
    """How many images show all that their caption says, and what CLIP makes of them."""
    right = np.array([verdict.right for verdict in verdicts])
    objects, scores = table["num_objects"].to_numpy(), table["clip_shapes_v1"].to_numpy()
    lines = ["captions never seen in training, every attribute right:"]
    for count, name in ((1, "one object"), (2, "two objects")):
        chosen = right[objects == count]
        lines.append(f"  {name:<12} {chosen.sum():>3} of {len(chosen)} ({chosen.mean():.0%})")
    means = [f"{scores[which].mean():.3f}" if which.any() else "none" for which in (right, ~right)]
    lines.append(f"  mean CLIP score of the right images {means[0]}, of the wrong ones {means[1]}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
