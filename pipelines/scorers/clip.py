"""How well an image fits its prompt: the cosine of their CLIP embeddings, through open_clip."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from meissonic.text import TOKENIZER_FILES, Tokenizer

CONFIG = "open_clip_config.json"


class ClipScorer:
    """CLIP similarity of images and prompts.

    The folder is in open_clip's own form: `open_clip_config.json`, `open_clip_model.safetensors`, and, where
    the model does not use OpenAI's vocabulary, the four files of its tokenizer.
    """

    def __init__(self, folder: Path, device: torch.device, batch_size: int) -> None:
        """Load the model, in float32.

        Raises:
            FileNotFoundError: The folder is none of open_clip's.
        """
        if not (folder / CONFIG).is_file():
            raise FileNotFoundError(
                f"{folder}: no {CONFIG}; save the model there in open_clip's folder format"
            )
        name = f"local-dir:{folder}"
        self.device, self.batch_size = device, batch_size
        model, self.preprocess = open_clip.create_model_from_pretrained(name, device=device)
        self.model = model.eval().requires_grad_(False)
        context = json.loads((folder / CONFIG).read_text("utf-8"))["model_cfg"]["text_cfg"].get(
            "context_length", 77
        )
        own = all((folder / file).is_file() for file in TOKENIZER_FILES)
        self.tokenizer = (
            Tokenizer(folder, context) if own else open_clip.SimpleTokenizer(context_length=context)
        )

    @torch.inference_mode()
    def score(self, images: Sequence[NDArray[np.uint8]], prompts: Sequence[str]) -> list[float]:
        """Cosines in [-1, 1] of uint8 images [H, W, 3] and their prompts.

        Batches are filled up to one size: a score depends on its own row only.
        """
        scores: list[float] = []
        for start in range(0, len(images), self.batch_size):
            pixels = torch.stack(
                [self.preprocess(Image.fromarray(image)) for image in images[start : start + self.batch_size]]
            )
            ids = self.tokenizer(list(prompts[start : start + self.batch_size]))
            count = len(pixels)
            missing = self.batch_size - count
            pixels = torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)]).to(self.device)
            ids = torch.cat([ids, ids[-1:].expand(missing, -1)]).to(self.device)
            image_embeddings = F.normalize(self.model.encode_image(pixels).float(), dim=-1)
            text_embeddings = F.normalize(self.model.encode_text(ids).float(), dim=-1)
            scores += (image_embeddings * text_embeddings).sum(-1)[:count].tolist()
        return scores
