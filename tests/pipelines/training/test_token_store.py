"""Token stores are checked before anything is trained on, and their shards when they are read."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from meissonic.config import ScoreCondition
from pipelines.shards import parquet_bytes
from pipelines.storage import open_storage
from pipelines.training.token_store import TokenStoreError, open_token_stores, read_block
from schemas.manifest import ObjectEntry, json_bytes
from tests.pipelines.training.made_tokens import CODEBOOK_SIZE, VQ, Shard, write_tokens

SCORE = ScoreCondition(
    column="hps", low=0.15, high=0.35, condition_low=1.0, condition_high=10.0, default=0.25
)


def test_a_store_tells_what_its_tokens_are(tmp_path: Path) -> None:
    store = open_token_stores([write_tokens(tmp_path, [Shard()], score=SCORE)])
    assert (store.vq_digest, store.factor, store.codebook_size) == ("a" * 64, 8, CODEBOOK_SIZE)
    assert store.score == SCORE


def test_shards_are_grouped_by_grid_in_the_manifests_order_and_held_out_ones_kept_apart(
    tmp_path: Path,
) -> None:
    one = write_tokens(
        tmp_path / "one",
        [Shard(num_rows=3), Shard(grid=(2, 4), num_rows=2), Shard(num_rows=1, validation=True)],
    )
    other = write_tokens(tmp_path / "other", [Shard(num_rows=5)])
    store = open_token_stores([one, other])
    paths = {
        grid: [(block.storage.uri_of(block.path), block.num_rows) for block in blocks]
        for grid, blocks in store.blocks.items()
    }
    assert paths == {
        (2, 2): [(f"{one}/data/00000-ab.2x2.parquet", 3), (f"{other}/data/00000-ab.2x2.parquet", 5)],
        (2, 4): [(f"{one}/data/00001-ab.2x4.parquet", 2)],
    }
    assert [block.path for block in store.validation[2, 2]] == ["data/00002-ab.2x2.validation.parquet"]


def test_columns_of_a_shard(tmp_path: Path) -> None:
    shards = [Shard(num_rows=4), Shard(grid=(2, 3), num_rows=2, num_alternatives=2)]
    store = open_token_stores([write_tokens(tmp_path, shards)])
    columns = read_block(store, store.blocks[2, 3][0], (2, 3))
    assert columns.tokens.dtype == np.uint16
    assert columns.tokens.tolist() == [[4, 5, 6, 7, 8, 9], [5, 6, 7, 8, 9, 10]]
    assert columns.micro_conds.dtype == np.float32
    assert columns.micro_conds.tolist() == [[1004, 2004, 4, 5, 0.5], [1005, 2005, 5, 6, 0.625]]
    assert columns.captions == ["4 own", "5 own"]
    assert columns.alternatives == [["4 other 0", "4 other 1"], ["5 other 0", "5 other 1"]]


def test_the_digest_names_the_shards_wherever_they_are(tmp_path: Path) -> None:
    uris = [write_tokens(tmp_path / name, [Shard()]) for name in ("one", "moved")]
    more = write_tokens(tmp_path / "more", [Shard(num_rows=4)])
    one, moved = (open_token_stores([uri]).digest for uri in uris)
    assert one == moved
    assert len({one, open_token_stores([more]).digest, open_token_stores([uris[0], more]).digest}) == 3


def test_a_store_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    uri = write_tokens(tmp_path, [Shard()], finished=False)
    with pytest.raises(TokenStoreError, match="has not finished it; start it again"):
        open_token_stores([uri])


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenStoreError, match=r"no run\.json"):
        open_token_stores([str(tmp_path)])
    uri = write_tokens(tmp_path, [Shard()], job="generate")
    with pytest.raises(TokenStoreError, match="the output of `generate`; name that of `tokenize`"):
        open_token_stores([uri])


def test_a_store_of_held_out_images_alone_is_refused(tmp_path: Path) -> None:
    full = write_tokens(tmp_path / "full", [Shard()])
    for shards in ([], [Shard(validation=True)]):
        uri = write_tokens(tmp_path / str(len(shards)), shards)
        with pytest.raises(TokenStoreError, match=f"{uri}: no images to train on"):
            open_token_stores([full, uri])


def test_stores_of_several_vq_models_are_refused(tmp_path: Path) -> None:
    one = write_tokens(tmp_path / "one", [Shard()])
    other = write_tokens(tmp_path / "other", [Shard()], vq=VQ | {"digest": "b" * 64})
    with pytest.raises(TokenStoreError, match=f"{other}: its tokens are of another VQ model"):
        open_token_stores([one, other])


def test_stores_with_scores_of_several_kinds_are_refused(tmp_path: Path) -> None:
    one = write_tokens(tmp_path / "one", [Shard()])
    other = write_tokens(tmp_path / "other", [Shard()], score=SCORE)
    with pytest.raises(TokenStoreError, match=f"{other}: its scores became micro-conditions in another way"):
        open_token_stores([one, other])


def test_a_shard_that_is_not_named_as_one_is_refused(tmp_path: Path) -> None:
    uri = write_tokens(tmp_path, [Shard()])
    text = (tmp_path / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(text.replace(".2x2.", "."))
    with pytest.raises(TokenStoreError, match="not the name of a shard of tokens"):
        open_token_stores([uri])


def test_codes_that_the_vq_model_lacks_are_refused_with_file_and_row(tmp_path: Path) -> None:
    shards = [Shard(num_rows=CODEBOOK_SIZE - 2)]
    uri = write_tokens(tmp_path, shards, vq=VQ | {"codebook_size": CODEBOOK_SIZE - 2})
    store = open_token_stores([uri])
    # row n has the codes n to n + 3
    message = rf"data/00000-ab\.2x2\.parquet: row {CODEBOOK_SIZE - 5}: token {CODEBOOK_SIZE - 2}, but"
    with pytest.raises(TokenStoreError, match=message):
        read_block(store, store.blocks[2, 2][0], (2, 2))


def test_a_shard_with_other_bytes_than_the_manifest_names_is_refused(tmp_path: Path) -> None:
    store = open_token_stores([write_tokens(tmp_path, [Shard()])])
    block = store.blocks[2, 2][0]
    path = tmp_path / block.path
    path.write_bytes(parquet_bytes(pq.read_table(path).slice(0, 2)))
    with pytest.raises(TokenStoreError, match="not the bytes that its manifest names"):
        read_block(store, block, (2, 2))


def test_a_manifest_in_parts_is_read(tmp_path: Path) -> None:
    whole = open_token_stores([write_tokens(tmp_path, [Shard(), Shard(grid=(2, 4))])])
    storage = open_storage(str(tmp_path))
    blocks = [block for found in whole.blocks.values() for block in found]
    parts = []
    for number, block in enumerate(blocks):
        entry = ObjectEntry.of(block.path, storage.read(block.path), block.num_rows)
        data = json_bytes({"objects": [entry.to_json()]})
        part = ObjectEntry.of(f"manifest/objects-{number}.json", data, 1)
        storage.write(part.path, data)
        parts.append(part.to_json())
    manifest = {"format": "meissonic-manifest-1", "parts": parts, "failed": {"objects": []}}
    storage.write("manifest.json", json_bytes(manifest))
    assert open_token_stores([str(tmp_path)]) == whole
