"""The tokenizer's files are CLIP's, and each word of the world is one token."""

import json
from pathlib import Path

from examples.shapes.tokenizer import MAX_LENGTH, write_tokenizer
from examples.shapes.world import caption, caption_words, one_object_scenes, spoken, two_object_scenes
from meissonic.text import Tokenizer


def test_each_word_is_one_token(tmp_path: Path) -> None:
    size = write_tokenizer(tmp_path)
    start, end = size - 2, size - 1
    for word, ids in zip(
        caption_words(), Tokenizer.from_folder(tmp_path)(caption_words()).tolist(), strict=True
    ):
        assert ids[0] == start, word
        assert ids[2] == end, word
        assert not any(ids[3:]), word


def test_no_caption_is_cut(tmp_path: Path) -> None:
    size = write_tokenizer(tmp_path)
    everything = [caption(spoken(scene)) for scene in (*one_object_scenes(), *two_object_scenes())]
    ids = Tokenizer.from_folder(tmp_path)(everything)
    assert ids.shape == (len(everything), MAX_LENGTH)
    assert int((ids != 0).sum(1).max()) < MAX_LENGTH
    assert len(ids.unique(dim=0)) == len(everything)
    assert bool((ids == size - 1).any(1).all())


def test_unknown_words_are_spelled_in_bytes(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    ids = Tokenizer.from_folder(tmp_path)(["über"])[0]
    assert int((ids != 0).sum()) > 4


def test_files_have_the_released_form(tmp_path: Path) -> None:
    size = write_tokenizer(tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    assert vocab["!"] == 0
    assert vocab["<|startoftext|>"] == size - 2
    assert vocab["<|endoftext|>"] == size - 1
    assert sorted(vocab.values()) == list(range(size))
    assert (tmp_path / "merges.txt").read_text().startswith("#version: 0.2\n")
    assert json.loads((tmp_path / "special_tokens_map.json").read_text())["pad_token"] == "!"
