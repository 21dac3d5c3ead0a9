"""Train the shapes model, from drawing to checking.

    python -m examples.shapes.train --work out/shapes --model out/model

Seven steps, all on Ray through the jobs of this project; one that is finished is not run again, and one that
was killed goes on:

    parts      VQ model and CLIP, trained on one CPU core or taken from --parts   WORK/parts
    draw       scenes as images with captions                                     WORK/raw
    curate     exact duplicates out                                               WORK/curated
    tokenize   codes of the VQ model                                              WORK/tokens
    train      the transformer                                                    WORK/training
    export     the model folder                                                   MODEL
    verify     images of captions that training never saw, checked                WORK/held_out, two pictures

`--short` takes a few minutes on a CPU core: two shapes in each image, captions that leave nothing unsaid, and
the parts of the model in the repository. Places and colours come out right, outlines begin to.
"""

import argparse
import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.shapes.accuracy import accuracies, accuracy_text, verdicts_of
from examples.shapes.contact_sheet import contact_sheet
from examples.shapes.images import ImageSet, write_images
from examples.shapes.loss_curve import write_loss_curve
from pipelines.errors import RefusalError

STEPS = ("parts", "draw", "curate", "tokenize", "train", "export", "verify")
MODEL = Path("examples/shapes/model")
SETTINGS, LOG = "training_settings.json", "training_log.jsonl"
_SHOWN = 18
_LOGGED_STEPS = 10
"""Whose mean loss is one line of the model's log."""


@dataclass(frozen=True, kw_only=True)
class ChainSettings:
    """How much of everything.

    Attributes:
        images: To draw.
        train: Changes to `train.yaml`.
        num_prompts: Held-out captions to check, of one shape and of two.
    """

    images: ImageSet
    train: tuple[str, ...] = ()
    num_prompts: tuple[int, int] = (96, 96)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


_SHORT_PROMPTS = (
    "a yellow square on the left and a blue circle on the right, on a white background",
    "a green triangle at the top and a pink cross at the bottom, on a black background",
    "a red cross on the left and a green circle on the right, on a gray background",
)
FULL = ChainSettings(images=ImageSet(num_images=32_000, two_object_share=0.4))
SHORT = ChainSettings(
    images=ImageSet(num_images=4_000, two_object_share=1.0, num_copies=40),
    train=(
        "stages.0.num_steps=900",
        "stages.0.learning_rate=3e-3",
        "stages.0.decay_from=0.5",
        "captions.alternative_share=0",
        "optimizer.average_decay=0.98",
        "checkpoints.every_steps=300",
        "validation.every_steps=300",
        f"validation.prompts={json.dumps(_SHORT_PROMPTS)}",
        "logging.every_steps=10",
    ),
    num_prompts=(0, 96),
)
"""Two shapes have four places, one has ten combinations of place and size, which take twice the steps."""


class Chain:
    """The steps over one work folder.

    Attributes:
        work: Everything that is made on the way.
        model: The finished model's folder.
        parts: A shapes model to take the parts from; None to train them.
        settings: How much of everything.
    """

    def __init__(self, work: Path, model: Path, parts: Path | None, settings: ChainSettings) -> None:
        self.work, self.model, self.parts, self.settings = work, model, parts, settings

    def run(self, until: str = STEPS[-1]) -> None:
        """Run all steps up to one that are not finished.

        Raises:
            RefusalError: A folder holds another training, or a step cannot be done.
        """
        self._check_folders()
        steps: dict[str, Callable[[], None]] = {name: getattr(self, f"_{name}") for name in STEPS}
        for number, name in enumerate(STEPS, 1):
            print(f"[{number}/{len(STEPS)}] {name}", flush=True)
            steps[name]()
            if name == until:
                return

    def _check_folders(self) -> None:
        """That work and model folder are of this training, or new."""
        self.work.mkdir(parents=True, exist_ok=True)
        own, recorded = json.dumps(self._described(), indent=2) + "\n", self.work / SETTINGS
        if not recorded.exists():
            recorded.write_text(own)
        for place, found in ((self.work, recorded), (self.model, self.model / SETTINGS)):
            if place.is_dir() and any(place.iterdir()) and not (found.is_file() and found.read_text() == own):
                raise RefusalError(f"{place}: holds something else than this training; name another folder")

    def _described(self) -> dict[str, Any]:
        return self.settings.to_json() | {"parts": None if self.parts is None else str(self.parts)}

    def _parts(self) -> None:
        from examples.shapes.parts import make_parts, take_parts

        if self.parts is None:
            make_parts(self.work, self.work / "parts")
        else:
            take_parts(self.parts, self.work / "parts")

    def _draw(self) -> None:
        write_images(self.work / "raw", self.settings.images)

    def _curate(self) -> None:
        from examples.shapes.chain import curate

        curate(self.work / "raw", self.work / "curated")

    def _tokenize(self) -> None:
        from examples.shapes.chain import tokenize

        tokenize(self.work / "curated/datasets/default", self.work / "parts", self.work / "tokens")

    def _train(self) -> None:
        from examples.shapes.chain import train

        train(self.work / "tokens", self.work / "parts", self.work / "training", self.settings.train)

    def _export(self) -> None:
        if self.model.exists():
            return
        import torch

        from examples.shapes.parts import LOG as PARTS_LOG
        from examples.shapes.parts import SETTINGS as PARTS_SETTINGS
        from pipelines.training.export import export_checkpoint

        temporary = self.work / "model.new"
        shutil.rmtree(temporary, ignore_errors=True)
        export_checkpoint(str(self.work / "training"), str(temporary), dtype=torch.float16)
        shutil.copytree(self.work / "parts/clip", temporary / "clip")
        for name in (PARTS_LOG, PARTS_SETTINGS):
            if (self.work / "parts" / name).is_file():
                shutil.copyfile(self.work / "parts" / name, temporary / name)
        shutil.copyfile(self.work / SETTINGS, temporary / SETTINGS)
        (temporary / LOG).write_text("".join(self._log_lines()))
        self.model.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(temporary, self.model)

    def _verify(self) -> None:
        from examples.shapes.chain import generate
        from examples.shapes.prompts import choose_scenes, prompt_table

        one, two = self.settings.num_prompts
        scenes = choose_scenes("test", one + two, two_object_share=two / (one + two), seed=7)
        generated = generate(prompt_table(scenes), self.model, self.work / "held_out")
        found = accuracies(generated)
        print(accuracy_text(found))
        lines = self._log_lines()
        (self.model / LOG).write_text("".join([*lines, json.dumps({"kind": "accuracy"} | found) + "\n"]))
        losses = [line for line in map(json.loads, lines) if line["kind"] == "loss"]
        write_loss_curve([(line["step"], line["loss"]) for line in losses], self.work / "loss.png")
        shown = slice(_SHOWN)
        captions = generated.table["prompt"].to_pylist()[shown]
        sheet = contact_sheet(generated.images[shown], captions, verdicts_of(generated)[shown])
        sheet.save(self.work / "held_out.png")

    def _log_lines(self) -> list[str]:
        """What the training logged, its losses as means over some steps."""
        from pipelines.training.logs import read_log

        lines: list[str] = []
        losses: list[float] = []
        for line in read_log(str(self.work / "training/stages/main")):
            if line["kind"] != "step":
                lines.append(json.dumps(line) + "\n")
                continue
            losses.append(line["loss"])
            if line["step"] % _LOGGED_STEPS == 0:
                mean = {"kind": "loss", "step": line["step"], "loss": round(sum(losses) / len(losses), 4)}
                lines.append(json.dumps(mean) + "\n")
                losses = []
        return lines


def main() -> None:
    """Parse the command line and run the steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of everything on the way")
    parser.add_argument("--model", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--parts", type=Path, help="a shapes model whose VQ model and CLIP to take")
    parser.add_argument("--short", action="store_true", help="a few minutes on a CPU core")
    parser.add_argument("--until", choices=STEPS, default=STEPS[-1], help="last step to run")
    arguments = parser.parse_args()
    parts = arguments.parts or (MODEL if arguments.short else None)
    chain = Chain(arguments.work, arguments.model, parts, SHORT if arguments.short else FULL)
    try:
        chain.run(arguments.until)
    except RefusalError as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
