"""Train the shapes model: `python -m examples.shapes.train --work out/shapes --model examples/shapes/model`.

About 35 minutes on one CPU core: tokenizer, text and image towers, transformer, one after the other. A stage
that has finished is not run again, and the transformer goes on where it was cut off. The learning curve is
`WORK/log.csv`.
"""

import argparse
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import torch

from examples.shapes.drawing import SIDE
from examples.shapes.generate import SAMPLER, share_right, verdicts
from examples.shapes.tokenizer import write_tokenizer
from examples.shapes.train_clip import CLIPTraining, text_tower, train_clip, write_open_clip
from examples.shapes.train_transformer import (
    MASK_TOKEN,
    CaptionEncoder,
    TransformerTraining,
    train_transformer,
)
from examples.shapes.train_vq import VQTraining, train_vq
from examples.shapes.world import Scene, scenes
from meissonic.checkpoint import Meissonic
from meissonic.config import GenerationConfig, SchedulerConfig
from meissonic.text import Tokenizer
from meissonic.transformer import Transformer


def validation_scenes(num_objects: int, count: int) -> list[Scene]:
    """Return a fixed choice of validation scenes."""
    everything = scenes("validation", num_objects=num_objects)
    order = np.random.default_rng(0).permutation(len(everything))
    return [everything[index] for index in order[:count]]


def train(work: Path, model_folder: Path) -> None:
    """Run the three stages with their standard settings and write the model's folder."""
    work.mkdir(parents=True, exist_ok=True)
    vq_options, clip_options, transformer_options = VQTraining(), CLIPTraining(), TransformerTraining()
    vocab_size = write_tokenizer(work / "tokenizer")
    tokenizer = Tokenizer.from_folder(work / "tokenizer")
    vq = train_vq(work, vq_options)
    clip = train_clip(work, tokenizer, vocab_size, clip_options)
    text_encoder = text_tower(clip, vocab_size)
    scheduler = SchedulerConfig(mask_token_id=MASK_TOKEN, masking_schedule="cosine")

    def whole(transformer: Transformer) -> Meissonic:
        return Meissonic(
            transformer=transformer,
            vq=vq,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
        )

    def evaluate(transformer: Transformer) -> dict[str, float]:
        model = whole(transformer)
        return {
            f"right_{num_objects}": share_right(verdicts(model, validation_scenes(num_objects, 48), seed=0))
            for num_objects in (1, 2)
        }

    captions = CaptionEncoder(text_encoder, tokenizer)
    transformer = train_transformer(work, vq, captions, transformer_options, evaluate)
    suiting = GenerationConfig(width=SIDE, height=SIDE, sampler=SAMPLER)
    whole(transformer).save_pretrained(model_folder, dtype=torch.float16, generation=suiting)
    write_open_clip(clip, work / "tokenizer", model_folder / "clip", vocab_size)
    shutil.copyfile(work / "log.csv", model_folder / "training_log.csv")
    settings = {
        "vq": dataclasses.asdict(vq_options),
        "clip": dataclasses.asdict(clip_options),
        "transformer": dataclasses.asdict(transformer_options),
    }
    (model_folder / "training_settings.json").write_text(json.dumps(settings, indent=2) + "\n")


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for weights and the log")
    parser.add_argument("--model", type=Path, required=True, help="folder for the finished model")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train(arguments.work, arguments.model)


if __name__ == "__main__":
    main()
