"""The released folder layout, read and written."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from meissonic import CheckpointError, Meissonic, SamplerConfig, TextConfig, TransformerConfig, VQConfig
from meissonic.config import GenerationConfig
from meissonic.model_folder import read_generation_config
from meissonic.text import TextEncoder
from meissonic.transformer import Transformer
from meissonic.vq import VQModel

OFFICIAL_KEYS = Path(__file__).parents[1] / "assets" / "golden" / "official_keys.json"
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A folder that a test may damage."""
    return Path(shutil.copytree(folder, tmp_path / "model"))


@pytest.mark.golden
@pytest.mark.parametrize("part", ["transformer", "vqvae", "text_encoder"])
def test_the_released_configuration_has_exactly_the_released_keys_and_shapes(part: str) -> None:
    with torch.device("meta"):
        text_encoder = TextEncoder(TextConfig())
        built = {
            "transformer": Transformer(TransformerConfig()).state_dict(),
            "vqvae": VQModel(VQConfig()).state_dict(),
            "text_encoder": text_encoder.to_huggingface(),
        }[part]
    official = json.loads(OFFICIAL_KEYS.read_text("utf-8"))[part]
    # old text-encoder files carry a buffer of positions
    official.pop("text_model.embeddings.position_ids", None)
    assert {k: list(v.shape) for k, v in built.items()} == official


def test_the_released_sizes_have_the_released_parameter_counts() -> None:
    with torch.device("meta"):
        transformer = Transformer(TransformerConfig())
        sibling = Transformer(TransformerConfig(downsample=False, upsample=False))
    assert sum(p.numel() for p in transformer.parameters()) == 1_006_946_304
    assert sum(p.numel() for p in sibling.parameters()) == 998_555_648


def test_saved_folders_hold_the_same_tensors_and_configs(
    model: Meissonic, folder: Path, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    for part, name in (
        ("transformer", TRANSFORMER),
        ("vqvae", None),
        ("text_encoder", "text_encoder/model.safetensors"),
    ):
        file = name or TRANSFORMER.replace("transformer", part)
        original, saved = load_file(folder / file), load_file(tmp_path / file)
        assert original.keys() == saved.keys()
        assert all(torch.equal(original[k], saved[k]) for k in original)
        before, after = (
            json.loads((f / part / "config.json").read_text("utf-8")) for f in (folder, tmp_path)
        )
        assert {k: v for k, v in before.items() if not k.endswith("_version")}.items() <= after.items()
    for file in (
        "model_index.json",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "scheduler/scheduler_config.json",
    ):
        assert (tmp_path / file).is_file()
    assert Meissonic.from_pretrained(tmp_path).scheduler == model.scheduler


def test_half_precision_round_trip(model: Meissonic, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path, dtype=torch.float16)
    assert {w.dtype for w in load_file(tmp_path / TRANSFORMER).values()} == {torch.float16}
    half = Meissonic.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    # the released VQ decoder overflows in float16
    assert (
        Meissonic.from_pretrained(tmp_path, dtype=torch.float16).vq.quant_conv.weight.dtype == torch.float32
    )


def test_faulty_tensors_are_all_listed(copy: Path) -> None:
    weights = load_file(copy / TRANSFORMER)
    missing = weights.pop("embed.conv.weight")
    weights["stray"] = missing
    weights["context_embedder.bias"] = torch.zeros(3)
    save_file(weights, copy / TRANSFORMER)
    with pytest.raises(CheckpointError) as error:
        Meissonic.from_pretrained(copy)
    for part in (
        "missing embed.conv.weight",
        "extra stray",
        "context_embedder.bias is (3,)",
        "3 tensors",
        str(copy),
    ):
        assert part in str(error.value)


def test_old_position_ids_and_stray_files_are_ignored(copy: Path) -> None:
    path = copy / "text_encoder" / "model.safetensors"
    weights = load_file(path)
    save_file(weights | {"text_model.embeddings.position_ids": torch.arange(77)}, path)
    (copy / "transformer" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"not read")
    Meissonic.from_pretrained(copy)


def test_pickled_weights_are_not_read(copy: Path) -> None:
    (copy / TRANSFORMER).unlink()
    (copy / "transformer" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(CheckpointError, match="only safetensors"):
        Meissonic.from_pretrained(copy)


def test_a_truncated_file_is_refused(copy: Path) -> None:
    path = copy / TRANSFORMER
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="no readable safetensors"):
        Meissonic.from_pretrained(copy)


def test_parts_that_do_not_fit_each_other_are_refused(copy: Path) -> None:
    path = copy / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({"mask_token_id": 3, "masking_schedule": "cosine"}))
    with pytest.raises(CheckpointError, match="mask_token_id 3"):
        Meissonic.from_pretrained(copy)


@pytest.mark.parametrize("part", ["transformer", "vqvae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    with pytest.raises(CheckpointError, match=part):
        Meissonic.from_pretrained(copy)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        Meissonic.from_pretrained(tmp_path / "nowhere")


def test_settings_that_suit_a_model_travel_with_it(model: Meissonic, tmp_path: Path) -> None:
    suiting = GenerationConfig(
        width=96,
        height=64,
        sampler=SamplerConfig(num_steps=7, temperature=(0.5, 0.1), masking_schedule="linear"),
    )
    model.save_pretrained(tmp_path, generation=suiting)
    assert read_generation_config(tmp_path) == suiting


def test_without_settings_the_released_pipelines_are_used(folder: Path) -> None:
    settings = read_generation_config(folder)
    compressed = json.loads((folder / "transformer" / "config.json").read_text("utf-8"))["downsample"]
    assert settings.width == settings.height == (1024 if compressed else 512)
    assert settings.sampler == SamplerConfig(num_steps=48, guidance_scale=9.0, temperature=(2.0, 0.0))


def test_settings_out_of_range_are_refused(model: Meissonic, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"width": 64, "height": 64, "num_steps": 0}')
    with pytest.raises(CheckpointError, match="num_steps is 0"):
        read_generation_config(tmp_path)
