"""Write a small CLIP byte-pair tokenizer in which every word of the world is one token."""

import itertools
import json
from pathlib import Path

from examples.shapes.world import caption_words

MAX_LENGTH = 24
"""Tokens of a text, padding included; the longest caption has 22."""

PAD, START, END = "!", "<|startoftext|>", "<|endoftext|>"


def byte_alphabet() -> list[str]:
    """Return the 256 characters that stand for bytes in CLIP's order: printable bytes first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(256 - len(printable))]


def merges(words: list[str]) -> list[tuple[str, str]]:
    """Return merges, in order of rank, that build each word from left to right."""
    ranked: dict[tuple[str, str], None] = {}
    for word in words:
        symbols = [*word[:-1], f"{word[-1]}</w>"]
        while len(symbols) > 1:
            symbols = _apply(symbols, ranked)
            if len(symbols) > 1:
                ranked[symbols[0], symbols[1]] = None
    return list(ranked)


def _apply(symbols: list[str], ranked: dict[tuple[str, str], None]) -> list[str]:
    """Merge pairs by rank until none of them is known, as a byte-pair tokenizer does."""
    order = {pair: rank for rank, pair in enumerate(ranked)}
    while len(symbols) > 1:
        pairs = [pair for pair in itertools.pairwise(symbols) if pair in order]
        if not pairs:
            break
        first, second = min(pairs, key=lambda pair: order[pair])
        merged: list[str] = []
        for symbol in symbols:
            if symbol == second and merged and merged[-1] == first:
                merged[-1] = first + second
            else:
                merged.append(symbol)
        symbols = merged
    return symbols


def write_tokenizer(folder: Path) -> int:
    """Write the four files of a CLIP tokenizer and return its vocabulary's size."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = merges(caption_words())
    alphabet = byte_alphabet()
    tokens = [
        *alphabet,
        *(f"{char}</w>" for char in alphabet),
        *("".join(pair) for pair in pairs),
        START,
        END,
    ]
    assert len(set(tokens)) == len(tokens), "two merges give one token"
    lines = ["#version: 0.2", *(" ".join(pair) for pair in pairs)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    ids = {token: index for index, token in enumerate(tokens)}
    _write_json(folder / "vocab.json", ids)

    def special(content: str) -> dict[str, str | bool]:
        return {
            "content": content,
            "lstrip": False,
            "normalized": True,
            "rstrip": False,
            "single_word": False,
        }

    specials = {
        "bos_token": special(START),
        "eos_token": special(END),
        "pad_token": PAD,
        "unk_token": special(END),
    }
    _write_json(folder / "special_tokens_map.json", specials)
    added = {
        str(ids[PAD]): {**special(PAD), "normalized": False, "special": True},
        str(ids[START]): {**special(START), "special": True},
        str(ids[END]): {**special(END), "special": True},
    }
    config = {
        "added_tokens_decoder": added,
        "bos_token": START,
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "errors": "replace",
        "extra_special_tokens": {},
        "model_max_length": MAX_LENGTH,
        "pad_token": PAD,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": END,
    }
    _write_json(folder / "tokenizer_config.json", config)
    return len(tokens)


def _write_json(path: Path, content: object) -> None:
    path.write_text(
        json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8"
    )
