"""The tokenizer's rules."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from meissonic import Meissonic
from meissonic.config import TextConfig
from meissonic.text import TextEncoder, Tokenizer


def test_long_prompts_are_cut_and_keep_their_end_token(model: Meissonic) -> None:
    ids = model.tokenizer(["word " * 500])
    end = json.loads((model.tokenizer.folder / "vocab.json").read_text("utf-8"))["<|endoftext|>"]
    assert ids.shape == (1, model.tokenizer.max_length)
    assert ids[0, -1] == end


def test_case_and_white_space_do_not_matter(model: Meissonic) -> None:
    assert torch.equal(model.tokenizer(["A  Red\n CAT "]), model.tokenizer(["a red cat"]))


def test_the_padding_token_comes_from_the_files(folder: Path, tmp_path: Path) -> None:
    files = Path(shutil.copytree(folder / "tokenizer", tmp_path / "tokenizer"))
    special = json.loads((files / "special_tokens_map.json").read_text("utf-8"))
    special["pad_token"] = "<|endoftext|>"
    (files / "special_tokens_map.json").write_text(json.dumps(special))
    vocab = json.loads((files / "vocab.json").read_text("utf-8"))
    assert Tokenizer.from_folder(files)(["cat"])[0, -1] == vocab["<|endoftext|>"]


def test_a_tokenizer_survives_pickling(model: Meissonic) -> None:
    again = pickle.loads(pickle.dumps(model.tokenizer))
    assert torch.equal(again(["a red cat"]), model.tokenizer(["a red cat"]))


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden_act is 'swish'"):
        TextEncoder(TextConfig(hidden_act="swish"))


def test_pooling_takes_the_first_end_token_where_its_id_is_given() -> None:
    config = TextConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=8,
        max_position_embeddings=6,
        eos_token_id=7,
    )
    encoder = TextEncoder(config)
    ids = torch.tensor([[1, 19, 7, 7, 7, 7]])
    changed_after_end = torch.tensor([[1, 19, 7, 7, 3, 3]])
    assert torch.equal(encoder(ids)[1], encoder(changed_after_end)[1])
    assert not torch.equal(encoder(ids)[1], encoder(torch.tensor([[1, 2, 7, 7, 7, 7]]))[1])
