"""The parts that the transformer is trained with, as a model folder that has no transformer yet.

FOLDER/   vqvae, text_encoder, tokenizer and scheduler in the released layout, generation_config.json,
          and clip/, both towers as an open_clip folder
"""

import dataclasses
import json
import shutil
from pathlib import Path

import torch

from examples.shapes.drawing import SIDE
from examples.shapes.generate import SAMPLER
from meissonic.checkpoint import Meissonic
from meissonic.config import GenerationConfig, SchedulerConfig, TransformerConfig
from meissonic.text import TextEncoder, Tokenizer
from meissonic.transformer import Transformer
from meissonic.vq import VQModel

MASK_TOKEN = 263
"""As in the released model a few tokens after the last code, which is 255 here."""
LOG = "parts_log.csv"
SETTINGS = "parts_settings.json"
_COPIED = (
    "vqvae",
    "text_encoder",
    "tokenizer",
    "scheduler",
    "clip",
    "model_index.json",
    "generation_config.json",
)


def make_parts(work: Path, folder: Path) -> None:
    """Train the VQ model and the CLIP on one CPU core, and write them; goes on after what is finished.

    Args:
        work: Where their weights go, and the log.
        folder: Of the parts; it appears when it is whole.
    """
    from examples.shapes.tokenizer import write_tokenizer
    from examples.shapes.train_clip import CLIPTraining, text_tower, train_clip, write_open_clip
    from examples.shapes.train_vq import VQTraining, train_vq

    if folder.exists():
        return
    vq_options, clip_options = VQTraining(), CLIPTraining()
    vocab_size = write_tokenizer(work / "tokenizer")
    tokenizer = Tokenizer.from_folder(work / "tokenizer")
    vq = train_vq(work, vq_options)
    clip = train_clip(work, tokenizer, vocab_size, clip_options)
    text_encoder = text_tower(clip, vocab_size)
    temporary = _emptied(folder)
    write_parts(temporary, vq, text_encoder, tokenizer)
    write_open_clip(clip, work / "tokenizer", temporary / "clip", vocab_size)
    shutil.copyfile(work / "log.csv", temporary / LOG)
    settings = {"vq": dataclasses.asdict(vq_options), "clip": dataclasses.asdict(clip_options)}
    (temporary / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
    temporary.rename(folder)


def write_parts(folder: Path, vq: VQModel, text_encoder: TextEncoder, tokenizer: Tokenizer) -> None:
    """Write a model folder, in half precision, that has no transformer yet."""
    width = text_encoder.config.projection_dim
    left_out = TransformerConfig(
        num_layers=1,
        num_single_layers=1,
        num_attention_heads=1,
        attention_head_dim=width,
        axes_dims_rope=(width - 4, 2, 2),
        joint_attention_dim=text_encoder.config.hidden_size,
        pooled_projection_dim=width,
        codebook_size=vq.config.num_vq_embeddings,
        vocab_size=MASK_TOKEN + 1,
    )
    model = Meissonic(
        transformer=Transformer(left_out),  # models are written whole
        vq=vq,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=SchedulerConfig(mask_token_id=MASK_TOKEN, masking_schedule="cosine"),
    )
    generation = GenerationConfig(width=SIDE, height=SIDE, sampler=SAMPLER)
    model.save_pretrained(folder, dtype=torch.float16, generation=generation)
    shutil.rmtree(folder / "transformer")


def take_parts(model: Path, folder: Path) -> None:
    """Copy the parts of a shapes model; the folder appears when it is whole."""
    if folder.exists():
        return
    temporary = _emptied(folder)
    for name in (*_COPIED, LOG, SETTINGS):
        if (model / name).is_dir():
            shutil.copytree(model / name, temporary / name)
        elif name in _COPIED or (model / name).is_file():
            shutil.copyfile(model / name, temporary / name)
    temporary.rename(folder)


def _emptied(folder: Path) -> Path:
    temporary = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    return temporary
