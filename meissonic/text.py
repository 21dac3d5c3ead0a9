"""The CLIP text tower and its tokenizer, read from the released Hugging Face-format files.

The tower is open_clip's; only names and layouts of the weights are translated. Shapes: B batch, L text
positions, C hidden width, P projected width.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import tokenizers
import torch
from torch import Tensor, nn

from meissonic.config import TextConfig
from meissonic.model_folder import TOKENIZER_FILES

ARGMAX_POOLING_EOS = 2
WORD_PATTERN = (
    r"<\|startoftext\|>|<\|endoftext\|>|(?i:'s|'t|'re|'ve|'m|'ll|'d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
"""CLIP's split into words (Radford et al., 2021), before byte-pair merges."""


class TextEncoder(nn.Module):
    """CLIP text tower with projection."""

    def __init__(self, config: TextConfig) -> None:
        import open_clip.transformer  # takes seconds, which what has no text tower need not wait for

        super().__init__()
        activations = {"gelu": nn.GELU, "quick_gelu": open_clip.transformer.QuickGELU}
        if config.hidden_act not in activations:
            raise ValueError(f"hidden_act is {config.hidden_act!r}; known are {', '.join(activations)}")
        if config.num_hidden_layers < 2:
            raise ValueError(
                "the text tower needs at least 2 layers: the penultimate one conditions the transformer"
            )
        self.config = config
        self.tower = open_clip.transformer.TextTransformer(
            context_length=config.max_position_embeddings,
            vocab_size=config.vocab_size,
            width=config.hidden_size,
            heads=config.num_attention_heads,
            layers=config.num_hidden_layers,
            mlp_ratio=(config.intermediate_size + 0.5) / config.hidden_size,  # it is multiplied and cut
            output_dim=config.projection_dim,
            pool_type="argmax" if config.eos_token_id == ARGMAX_POOLING_EOS else "eos",
            eos_id=config.eos_token_id,
            act_layer=activations[config.hidden_act],
            norm_layer=functools.partial(open_clip.transformer.LayerNorm, eps=config.layer_norm_eps),
        )

    def forward(self, input_ids_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Ids [B, L] -> penultimate hidden states [B, L, C] (no final norm) and pooled output [B, P]."""
        out = self.tower.forward_intermediates(
            input_ids_BL, indices=[self.config.num_hidden_layers - 2], output_fmt="NLC"
        )
        return out["text_intermediates"][0], out["text_features"]

    def to_huggingface(self) -> dict[str, Tensor]:
        """The weights under the released names."""
        own = self.tower.state_dict()
        weights = {theirs: own[ours] for theirs, ours in self._renamed().items()}
        for ours, theirs in self._joined().items():
            weights |= zip(theirs, own[ours].chunk(3), strict=True)
        return weights | {"text_projection.weight": own["text_projection"].T}

    def from_huggingface(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Released names -> this module's state dict; every tensor of `to_huggingface` must be there."""
        own = {ours: weights[theirs] for theirs, ours in self._renamed().items()}
        own |= {
            ours: torch.cat([weights[name] for name in theirs]) for ours, theirs in self._joined().items()
        }
        # contiguous, as FSDP wants parameters
        own["text_projection"] = weights["text_projection.weight"].T.contiguous()
        return {f"tower.{name}": weight for name, weight in own.items()}

    def _renamed(self) -> dict[str, str]:
        """Released name -> open_clip's, of the tensors that are the same in both."""
        names = dict(TOWER_NAMES)
        for i in range(self.config.num_hidden_layers):
            for theirs, ours in LAYER_NAMES.items():
                for kind in ("weight", "bias"):
                    names[f"text_model.encoder.layers.{i}.{theirs}.{kind}"] = (
                        f"transformer.resblocks.{i}.{ours}.{kind}"
                    )
        return names

    def _joined(self) -> dict[str, list[str]]:
        """open_clip's joint projections -> the released ones of query, key and value."""
        return {
            f"transformer.resblocks.{i}.attn.in_proj_{kind}": [
                f"text_model.encoder.layers.{i}.self_attn.{name}_proj.{kind}" for name in "qkv"
            ]
            for i in range(self.config.num_hidden_layers)
            for kind in ("weight", "bias")
        }


TOWER_NAMES = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
}
LAYER_NAMES = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


class Tokenizer:
    """CLIP's byte-pair tokenizer, with the rules that stand in the folder's files."""

    def __init__(self, folder: Path, max_length: int | None = None) -> None:
        """Read the four files of `folder`.

        Args:
            folder: holds `TOKENIZER_FILES`.
            max_length: length of every encoding; None for the files' `model_max_length`, which some leave
                without a sensible value.

        Raises:
            FileNotFoundError: one of them is not there.
            ValueError: a special token is not in the vocabulary.
        """
        if missing := [name for name in TOKENIZER_FILES if not (folder / name).is_file()]:
            raise FileNotFoundError(f"{folder}: no {', '.join(missing)}")
        self.folder = folder
        vocab: dict[str, int] = json.loads((folder / "vocab.json").read_text("utf-8"))
        lines = (folder / "merges.txt").read_text("utf-8").splitlines()
        pairs = (line.split() for line in lines if line and not line.startswith("#version"))
        merges = [(first, second) for first, second in pairs]
        special = json.loads((folder / "special_tokens_map.json").read_text("utf-8"))
        settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        self.max_length = int(settings["model_max_length"]) if max_length is None else max_length
        """Length L of every encoding."""
        added = {token["content"]: int(i) for i, token in settings.get("added_tokens_decoder", {}).items()}
        ids = added | vocab

        def token(role: str, default: str) -> str:
            value = special.get(role) or settings.get(role) or default
            content = str(value["content"] if isinstance(value, dict) else value)
            if content not in ids:
                raise ValueError(f"{folder}: {role} {content!r} is not in the vocabulary")
            return content

        bos, eos = token("bos_token", "<|startoftext|>"), token("eos_token", "<|endoftext|>")
        pad, unk = token("pad_token", eos), token("unk_token", eos)

        model = tokenizers.models.BPE(
            vocab=vocab, merges=merges, unk_token=unk, continuing_subword_prefix="", end_of_word_suffix="</w>"
        )
        bpe = tokenizers.Tokenizer(model)
        normalizers, pre = tokenizers.normalizers, tokenizers.pre_tokenizers
        # the released weights' tokenizer: control characters out, spaces around CJK, NFC, lower case
        bpe.normalizer = normalizers.Sequence(
            [
                normalizers.BertNormalizer(
                    clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False
                ),
                normalizers.NFC(),
                normalizers.Lowercase(),
            ]
        )
        bpe.pre_tokenizer = pre.Sequence(
            [
                pre.Split(tokenizers.Regex(WORD_PATTERN), behavior="removed", invert=True),
                pre.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        # matched in the raw text, so that a "!" in a prompt is the padding token of the released files
        for content in sorted({bos, eos, pad, unk, *added}, key=ids.__getitem__):
            bpe.add_special_tokens([tokenizers.AddedToken(content, normalized=False)])
            if bpe.token_to_id(content) != ids[content]:
                raise ValueError(f"{folder}: token {content!r} cannot have the id {ids[content]}")
        bpe.post_processor = tokenizers.processors.TemplateProcessing(
            single=f"{bos} $A {eos}", special_tokens=[(bos, ids[bos]), (eos, ids[eos])]
        )
        bpe.enable_truncation(self.max_length)
        bpe.enable_padding(length=self.max_length, pad_token=pad, pad_id=ids[pad])
        self._bpe = bpe

    @classmethod
    def from_folder(cls, folder: str | Path, max_length: int | None = None) -> Self:
        """The tokenizer of a folder with the four files."""
        return cls(Path(folder), max_length)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Texts -> int64 ids [B, L]: start, text cut to fit, end, padding."""
        return torch.tensor(
            [encoding.ids for encoding in self._bpe.encode_batch(list(texts))], dtype=torch.int64
        )

    def __reduce__(self) -> tuple[type[Self], tuple[Path, int]]:
        return type(self), (self.folder, self.max_length)

    def save(self, folder: Path) -> None:
        """Copy the four files."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in TOKENIZER_FILES:
            shutil.copyfile(self.folder / name, folder / name)
