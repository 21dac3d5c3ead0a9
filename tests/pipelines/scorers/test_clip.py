"""The CLIP score: the cosine that open_clip's own pipeline gives, no dependence on the batch."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from pipelines.models import ModelError
from pipelines.scorers.clip import ClipScorer
from pipelines.scorers.open_clip_models import load_file, load_folder
from pipelines.scorers.settings import ClipSettings
from tests.pipelines.scorers.tiny_clip import (
    ARCHITECTURE,
    WIDTH,
    batch_of,
    natural,
    random_model,
    save_architecture,
    save_folder,
)

CPU = torch.device("cpu")
IMAGES = [natural(*size, seed=seed) for seed, size in enumerate([(64, 64), (48, 90), (64, 64), (200, 33)])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tmp_path_factory.mktemp("clip"))


def scorer_of(folder: Path, batch_size: int = 2, dtype: torch.dtype = torch.float32) -> ClipScorer:
    settings = ClipSettings(kind="clip", name="clip_tiny", model=str(folder), embedding=True)
    model = load_folder(folder, str(folder), CPU, dtype)
    return ClipScorer(settings.name, settings.fields(), model, batch_size)


def embeddings(column: pa.Array) -> NDArray[np.float32]:
    return np.array(column.to_pylist(), np.float32)


def test_scores_are_those_of_open_clips_own_pipeline(folder: Path) -> None:
    reference, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    scorer = scorer_of(folder)
    captions: list[str | None] = [f"a red cat, number {i}" for i in range(len(IMAGES))]
    columns = scorer.score(batch_of(*IMAGES, captions=captions))
    with torch.no_grad():
        pixels = torch.stack([preprocess(Image.fromarray(image)) for image in IMAGES])
        of_images = reference.encode_image(pixels, normalize=True)
        of_texts = reference.encode_text(scorer.model.tokenizer([str(c) for c in captions]), normalize=True)
    ours = torch.from_numpy(embeddings(columns["clip_tiny_embedding"]))
    assert torch.cosine_similarity(ours, of_images).min() > 0.9999
    assert columns["clip_tiny"].to_pylist() == pytest.approx((of_images * of_texts).sum(1).tolist(), abs=2e-3)


def test_embeddings_have_length_one_and_are_shared_in_full_precision(folder: Path) -> None:
    scorer, batch = scorer_of(folder), batch_of(*IMAGES)
    column = scorer.score(batch)["clip_tiny_embedding"]
    assert column.type == pa.list_(pa.float16())
    shared = batch.shared["clip_tiny"]
    assert shared.shape == (len(IMAGES), WIDTH)
    assert np.linalg.norm(shared, axis=1) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(embeddings(column), shared.astype(np.float16).astype(np.float32))


def test_images_without_a_caption_have_no_score(folder: Path) -> None:
    scores = scorer_of(folder).score(batch_of(*IMAGES, captions=["a", None, " ", "b"]))["clip_tiny"]
    assert [score is None for score in scores.to_pylist()] == [False, True, True, False]
    alone = scorer_of(folder).score(batch_of(IMAGES[0]))["clip_tiny"]
    assert alone.type == pa.float32()
    assert alone.to_pylist() == [None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_are_the_same_alone_and_together(folder: Path, dtype: torch.dtype) -> None:
    scorer = scorer_of(folder, batch_size=3, dtype=dtype)
    captions: list[str | None] = ["one", "two", "one", None]
    together = scorer.score(batch_of(*IMAGES, captions=captions))
    apart = [scorer.score(batch_of(i, captions=[c])) for i, c in zip(IMAGES, captions, strict=True)]
    for name, column in together.items():
        assert column.to_pylist() == [value for one in apart for value in one[name].to_pylist()]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.03), (torch.float16, 0.005)])
def test_half_precision_is_near(folder: Path, dtype: torch.dtype, tolerance: float) -> None:
    batch = batch_of(*IMAGES, captions=["a", "b", "c", "d"])
    full = scorer_of(folder).score(batch)["clip_tiny"].to_pylist()
    assert scorer_of(folder, dtype=dtype).score(batch)["clip_tiny"].to_pylist() == pytest.approx(
        full, abs=tolerance
    )


def test_memory_that_runs_out_halves_the_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = scorer_of(folder, batch_size=4)
    expected = scorer.score(batch_of(*IMAGES))["clip_tiny_embedding"]
    encode, sizes = scorer.model.model.encode_image, []

    def scarce(pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("no memory")
        return encode(pixels)

    monkeypatch.setattr(scorer.model.model, "encode_image", scarce)
    batch = batch_of(*IMAGES)
    found = scorer.score(batch)["clip_tiny_embedding"]
    assert sizes == [4, 2, 1, 1, 1, 1]
    assert embeddings(found) == pytest.approx(embeddings(expected), abs=1e-3)
    assert batch.events == Counter(
        {"out of memory at clip_tiny's images, batch 4": 1, "out of memory at clip_tiny's images, batch 2": 1}
    )

    def none_at_all(pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("tried to allocate 3.14 GiB")

    monkeypatch.setattr(scorer.model.model, "encode_image", none_at_all)
    with pytest.raises(MemoryError, match=r"^no memory for clip_tiny's images, one at a time$"):
        scorer.score(batch_of(IMAGES[0]))


def test_folders_without_the_files_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^the model: no open_clip_config\.json"):
        load_folder(tmp_path, "the model", CPU, torch.float32)
    (tmp_path / "open_clip_config.json").write_bytes((folder / "open_clip_config.json").read_bytes())
    with pytest.raises(ModelError, match=r"no open_clip_model\.safetensors"):
        load_folder(tmp_path, "the model", CPU, torch.float32)


@pytest.mark.parametrize("form", ["safetensors", "torch", "wrapped", "parallel", "openai"])
def test_files_of_weights_in_their_usual_forms(
    tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    save_architecture(tmp_path)
    weights = random_model(own_tokenizer=False).state_dict()
    path = tmp_path / "weights"  # what is in a file counts, not how it is called
    if form == "safetensors":
        save_file(weights, path)
    else:
        numbers = {"input_resolution": torch.tensor(32), "vocab_size": torch.tensor(49408)}
        torch.save(
            {
                "torch": weights,
                "wrapped": {"epoch": 3, "state_dict": weights},
                "parallel": {f"module.{name}": value for name, value in weights.items()},
                "openai": weights | numbers,
            }[form],
            path,
        )
    model = load_file(path, "it", ARCHITECTURE, CPU, torch.float32)
    assert model.width == WIDTH
    assert caplog.messages == []  # open_clip calls weights random that are not in a place of its own
    for name, value in model.model.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert model.ids(["a cat"])[0, :4].tolist() == [49406, 320, 2368, 49407]  # OpenAI's tokenizer


def test_programs_and_other_files_are_refused(tmp_path: Path) -> None:
    save_architecture(tmp_path)
    with zipfile.ZipFile(tmp_path / "ViT-L-14.pt", "w") as archive:
        for name in ("data.pkl", "code/__torch__/clip.py", "constants.pkl"):
            archive.writestr(f"ViT-L-14/{name}", b"")
    with pytest.raises(ModelError, match="it: a TorchScript archive, which is a program; name the weights"):
        load_file(tmp_path / "ViT-L-14.pt", "it", ARCHITECTURE, CPU, torch.float32)
    torch.save(random_model(own_tokenizer=False), tmp_path / "pickle.pt")
    with pytest.raises(ModelError, match="it: neither safetensors nor a state dict"):
        load_file(tmp_path / "pickle.pt", "it", ARCHITECTURE, CPU, torch.float32)
    (tmp_path / "page.pt").write_text("<html>")
    with pytest.raises(ModelError, match="it: neither safetensors nor a state dict"):
        load_file(tmp_path / "page.pt", "it", ARCHITECTURE, CPU, torch.float32)
    torch.save({"visual.proj": torch.zeros(3, 3)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match=f"it: these are not the weights of open_clip's {ARCHITECTURE}"):
        load_file(tmp_path / "other.pt", "it", ARCHITECTURE, CPU, torch.float32)
    with pytest.raises(ModelError, match="no architecture 'ViT-L14'; close ones are ViT-L-14"):
        load_file(tmp_path / "other.pt", "it", "ViT-L14", CPU, torch.float32)
