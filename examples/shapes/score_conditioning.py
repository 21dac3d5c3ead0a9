"""Train on images of which half are blurred, and ask for sharp ones.

    python -m examples.shapes.score_conditioning --work out/score

The column `score` of the drawn images falls with their blur. `tokenize` makes it the fifth micro-condition,
the exported model knows how, and the column `score` of a prompt table asks for one in the same units. The
same captions and seeds are generated with a high score and with a low one, and the sharpness compared.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from examples.shapes.chain import Generated, curate, generate, tokenize, train
from examples.shapes.dataset import one_object_scenes_in
from examples.shapes.images import BEST_SCORE, LOST_PER_PX, ImageSet, write_images
from examples.shapes.parts import take_parts
from examples.shapes.prompts import prompt_table
from examples.shapes.train import MODEL
from pipelines.scorers.quality import quality
from pipelines.training.export import export_checkpoint

BLUR_PX = (4.0, 6.0)
"""The VQ model draws the edges of slightly blurred images sharp again; these it keeps blurred."""
PLACE = "middle"
"""One place is learned soonest."""
IMAGES = ImageSet(
    num_images=3_000, two_object_share=0.0, places=(PLACE,), num_copies=30, blurred_share=0.5, blur_px=BLUR_PX
)
LOW, HIGH = BEST_SCORE - LOST_PER_PX * BLUR_PX[1], BEST_SCORE
ASKED = {"high": HIGH, "low": BEST_SCORE - LOST_PER_PX * sum(BLUR_PX) / 2}
NUM_STEPS, NUM_PROMPTS = 400, 48
RESULT = "sharpness.json"
TOKENIZE = (
    f"score={{column: score, low: {LOW}, high: {HIGH}, condition_low: 1, condition_high: 10, "
    f"default: {HIGH}}}",
)
TRAIN = (
    "stages.0.learning_rate=3e-3",
    "stages.0.warmup_steps=30",
    "captions.alternative_share=0",
    "optimizer.average_decay=0.98",
    "validation.every_steps=null",
)


@dataclass(frozen=True, kw_only=True)
class Sharpness:
    """Of generated images, by the variance of the Laplacian.

    Attributes:
        high: Mean of those with a high score asked for.
        low: Mean of those with a low one.
        share_sharper: Of the captions, how many have the sharper image with the high one.
    """

    high: float
    low: float
    share_sharper: float


def run(work: Path, num_steps: int = NUM_STEPS) -> Sharpness:
    """The whole chain in a folder; what is finished is not run again."""
    take_parts(MODEL, work / "parts")
    write_images(work / "raw", IMAGES)
    dataset = curate(work / "raw", work / "curated")
    tokenize(dataset, work / "parts", work / "tokens", TOKENIZE)
    steps = (f"stages.0.num_steps={num_steps}",)
    train(work / "tokens", work / "parts", work / "training", (*TRAIN, *steps))
    if not (work / "model").exists():
        export_checkpoint(str(work / "training"), str(work / "model"))
    scenes = one_object_scenes_in("train", (PLACE,))[:NUM_PROMPTS]
    found = {name: _asked(work, prompt_table(scenes), name) for name in ASKED}
    high, low = (_sharpness(found[name]) for name in ("high", "low"))
    return Sharpness(high=float(high.mean()), low=float(low.mean()), share_sharper=float((high > low).mean()))


def _asked(work: Path, prompts: pa.Table, name: str) -> Generated:
    """Images with the same seeds, whatever the score."""
    count = prompts.num_rows
    prompts = prompts.append_column("seed", pa.array(range(count), pa.int64()))
    prompts = prompts.append_column("score", pa.array([ASKED[name]] * count, pa.float64()))
    return generate(prompts, work / "model", work / f"images-{name}")


def _sharpness(generated: Generated) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """In the order of the seeds, float64 [n]."""
    order = np.argsort(generated.table["seed"].to_numpy())
    return np.array([quality(generated.images[index])["sharpness_laplacian"] for index in order])


def main() -> None:
    """Run the chain and tell what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of everything that is made")
    work = parser.parse_args().work
    found = run(work)
    (work / RESULT).write_text(json.dumps(asdict(found)) + "\n")
    print(
        f"sharpness where a score of {ASKED['high']:g} was asked for: {found.high:.1f}, of {ASKED['low']:g}: "
        f"{found.low:.1f}; the first is the sharper one for {found.share_sharper:.0%} of the captions"
    )


if __name__ == "__main__":
    main()
