"""Workers together get each global batch once, with the same content however many they are."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meissonic.training import TrainingBatch
from pipelines.training.batches import BatchLoader, choose_captions
from pipelines.training.order import SampleOrder
from pipelines.training.settings import CaptionSettings
from pipelines.training.token_store import Columns, TokenStore, TokenStoreError, open_token_stores
from tests.pipelines.training.made_tokens import CODEBOOK_SIZE, Shard, WordTokenizer, write_tokens

SHARDS = [
    Shard(num_rows=9, num_alternatives=2),
    Shard(grid=(2, 4), num_rows=5, num_alternatives=3),
    Shard(num_rows=4),
    Shard(num_rows=6, num_alternatives=1),
    Shard(grid=(2, 4), num_rows=7),
]
BOTH = CaptionSettings(alternative_share=0.5, separate_pooled=True)
OWN, OTHER = 1000, 2000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return open_token_stores([write_tokens(tmp_path_factory.mktemp("tokens"), SHARDS)])


def order_of(store: TokenStore, batch_size: int = 8) -> SampleOrder:
    num_rows = {grid: [block.num_rows for block in blocks] for grid, blocks in store.blocks.items()}
    return SampleOrder(num_rows, seed=3, batch_size=batch_size, window_blocks=2)


def loader_of(store: TokenStore, **given: Any) -> BatchLoader:
    options: dict[str, Any] = {
        "seed": 3,
        "captions": BOTH,
        "rank": 0,
        "world_size": 1,
        "micro_batch_size": 4,
        "pin_memory": False,
    }
    order = given.pop("order", None) or order_of(store)
    return BatchLoader(store, order, WordTokenizer(), **options | given)


def batches_of(store: TokenStore, indices: Iterator[int], **given: Any) -> list[list[TrainingBatch]]:
    with closing(loader_of(store, **given)) as loader:
        return list(loader.iterate(indices))


def rows_of(batches: list[TrainingBatch]) -> list[tuple[Any, ...]]:
    """All there is of each sample of one global batch, by slot."""
    rows = [
        (slot, batch.index, tuple(batch.tokens_BHW.shape[1:]), tokens, conds, ids, pooled)
        for batch in batches
        for slot, tokens, conds, ids, pooled in zip(
            batch.slots_B.tolist(),
            batch.tokens_BHW.tolist(),
            batch.micro_conds_B5.tolist(),
            batch.input_ids_BL.tolist(),
            batch.pooled_ids_BL.tolist(),
            strict=True,
        )
    ]
    return sorted(rows)


def test_a_batch_has_the_samples_that_the_order_names_in_its_slots(store: TokenStore) -> None:
    order = order_of(store)
    for index, parts in enumerate(batches_of(store, iter(range(6)))):
        plan = order.batch(index)
        starts = {(2, 2): [0, 14, 18], (2, 4): [9, 24]}[plan.grid]  # number of each shard's first sample
        numbers = (np.array(starts)[plan.blocks_B] + plan.rows_B).tolist()
        assert [row[0] for row in rows_of(parts)] == list(range(8))
        assert all(
            (part.tokens_BHW.shape[1:], part.tokens_BHW.dtype) == (plan.grid, torch.int64) for part in parts
        )
        assert torch.cat([part.tokens_BHW[:, 0, 0] for part in parts]).tolist() == [
            n % CODEBOOK_SIZE for n in numbers
        ]
        conds = torch.cat([part.micro_conds_B5 for part in parts])
        assert conds.dtype == torch.float32
        assert conds.tolist() == [[n + 1000, n + 2000, n, n + 1, n / 8] for n in numbers]
        assert torch.cat([part.input_ids_BL[:, 0] for part in parts]).tolist() == numbers
        assert torch.cat([part.pooled_ids_BL[:, 0] for part in parts]).tolist() == numbers


@pytest.mark.parametrize("micro_batch_size", [1, 2, 8])
@pytest.mark.parametrize("world_size", [2, 4])
def test_workers_together_have_each_slot_once_with_the_same_content(
    store: TokenStore, world_size: int, micro_batch_size: int
) -> None:
    alone = [rows_of(parts) for parts in batches_of(store, iter(range(12)))]
    workers = [
        batches_of(
            store, iter(range(12)), rank=rank, world_size=world_size, micro_batch_size=micro_batch_size
        )
        for rank in range(world_size)
    ]
    together = [rows_of([part for parts in step for part in parts]) for step in zip(*workers, strict=True)]
    assert together == alone


def test_a_workers_slots_are_neighbours_cut_into_micro_batches(store: TokenStore) -> None:
    (parts,) = batches_of(store, iter([0]), rank=1, world_size=2, micro_batch_size=2)
    assert [part.slots_B.tolist() for part in parts] == [[4, 5], [6, 7]]


def test_a_run_that_begins_in_the_middle_has_the_same_batches(store: TokenStore) -> None:
    whole = batches_of(store, iter(range(20)))
    middle = batches_of(store, iter([13, 14, 17]))
    assert list(map(rows_of, middle)) == [rows_of(whole[index]) for index in (13, 14, 17)]


def test_alternatives_come_as_often_as_asked_for(store: TokenStore) -> None:
    batches = batches_of(store, iter(range(200)), captions=CaptionSettings(alternative_share=0.25))
    ids = torch.cat([part.input_ids_BL for parts in batches for part in parts])
    with_others = (ids[:, 0] < 14) | ((ids[:, 0] >= 18) & (ids[:, 0] < 24))
    share = (ids[with_others, 1] == OTHER).float().mean().item()
    assert abs(share - 0.25) < 0.05
    assert (ids[~with_others, 1] == OWN).all()


def test_pooled_captions_are_drawn_apart_if_asked_for(store: TokenStore) -> None:
    parts = [part for parts in batches_of(store, iter(range(100))) for part in parts]
    differ = torch.cat([(part.input_ids_BL != part.pooled_ids_BL).any(1) for part in parts])
    assert 0.3 < differ.float().mean().item() < 0.6


@pytest.mark.parametrize(
    "captions", [CaptionSettings(alternative_share=0.5), CaptionSettings(separate_pooled=True)]
)
def test_pooled_ids_are_the_same_object_where_captions_cannot_differ(
    store: TokenStore, captions: CaptionSettings
) -> None:
    parts = [part for parts in batches_of(store, iter(range(4)), captions=captions) for part in parts]
    assert all(part.pooled_ids_BL is part.input_ids_BL for part in parts)


@given(
    st.integers(1, 7), st.floats(2**-20, 1), st.lists(st.floats(0, 1, exclude_max=True, width=32), min_size=1)
)
@settings(max_examples=50, deadline=None)
def test_any_draw_chooses_a_caption_of_the_image(num_others: int, share: float, draws: list[float]) -> None:
    others = [f"other {k}" for k in range(num_others)]
    chosen = choose_captions(columns(["own"] * len(draws), [others] * len(draws)), draws, share)
    for drawn, text in zip(draws, chosen, strict=True):
        assert (text in others) == (drawn < share)


def test_all_alternatives_are_chosen_alike() -> None:
    draws = ((np.arange(6000) + 0.5) / 6000).tolist()
    chosen = choose_captions(columns(["own"] * 6000, [["a", "b", "c"]] * 6000), draws, 0.5)
    assert Counter(chosen) == {"own": 3000, "a": 1000, "b": 1000, "c": 1000}


def columns(captions: list[str], alternatives: list[list[str]]) -> Columns:
    return Columns(
        tokens=np.zeros((len(captions), 4), np.uint16),
        micro_conds=np.zeros((len(captions), 5), np.float32),
        captions=captions,
        alternatives=alternatives,
    )


def test_no_more_batches_than_asked_for_are_made_ahead(store: TokenStore) -> None:
    asked: list[int] = []
    indices = (asked.append(index) or index for index in count())
    with closing(loader_of(store, prefetch=3)) as loader:
        batches = loader.iterate(indices)
        assert next(batches)[0].index == 0
        assert asked == [0, 1, 2, 3]
        assert next(batches)[0].index == 1
        assert asked == [0, 1, 2, 3, 4]


def test_the_time_that_the_trainer_waits_is_counted_and_no_other(store: TokenStore) -> None:
    class SlowTokenizer(WordTokenizer):
        def __call__(self, texts: Any) -> torch.Tensor:
            time.sleep(0.05)
            return super().__call__(texts)

    loader = BatchLoader(
        store,
        order_of(store),
        SlowTokenizer(),
        seed=3,
        captions=CaptionSettings(),
        rank=0,
        world_size=1,
        micro_batch_size=8,
        pin_memory=False,
    )
    with closing(loader):
        batches = loader.iterate(count())
        next(batches)
        first = loader.wait_s
        assert first >= 0.05
        time.sleep(0.4)
        next(batches)
        assert loader.wait_s - first < 0.04


def test_errors_of_reading_reach_the_trainer(tmp_path: Path) -> None:
    uri = write_tokens(tmp_path, [Shard(num_rows=8), Shard(num_rows=8)])
    store = open_token_stores([uri])
    (tmp_path / "data/00001-ab.2x2.parquet").write_bytes(b"damaged")
    order = SampleOrder({(2, 2): [8, 8]}, seed=0, batch_size=8, window_blocks=1)
    damaged = [index for index in (0, 1) if 1 in order.batch(index).blocks_B]
    good = 1 - damaged[0]
    with closing(loader_of(store, order=order)) as loader:
        batches = loader.iterate(iter([good, damaged[0]]))
        assert next(batches)[0].index == good
        with pytest.raises(TokenStoreError, match="00001"):
            next(batches)


def test_codes_that_the_vq_model_lacks_reach_the_trainer(store: TokenStore) -> None:
    with (
        closing(loader_of(replace(store, codebook_size=3))) as loader,
        pytest.raises(TokenStoreError, match="the VQ model has 3 codes"),
    ):
        next(loader.iterate(count()))


def test_close_ends_all_threads(store: TokenStore) -> None:
    before = set(threading.enumerate())
    loader = loader_of(store)
    next(loader.iterate(count()))
    assert set(threading.enumerate()) > before
    loader.close()
    assert set(threading.enumerate()) == before


def test_shards_of_a_window_are_read_once_an_epoch(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[str] = []
    storage = type(store.blocks[2, 2][0].storage)
    read = storage.read

    def recorded(self: Any, path: str) -> bytes:
        paths.append(path)
        return read(self, path)

    monkeypatch.setattr(storage, "read", recorded)
    one_grid = replace(store, blocks={(2, 2): store.blocks[2, 2]})
    # an epoch of 19 samples in windows of 2 blocks, whatever memory there is beyond them
    batches_of(one_grid, iter(range(19)), order=order_of(one_grid, batch_size=1), cache_bytes=0)
    assert sorted(paths) == sorted(block.path for block in store.blocks[2, 2])
