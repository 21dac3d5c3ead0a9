"""Results come one behind the work, and none is lost when the work fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pipelines.in_flight import InFlight, one_behind


def test_an_item_comes_once_the_next_one_is_begun() -> None:
    events: list[str] = []

    def work() -> Iterator[int]:
        for number in range(3):
            events.append(f"begun {number}")
            yield number

    for number in one_behind(work()):
        events.append(f"done {number}")
    assert events == ["begun 0", "begun 1", "done 0", "begun 2", "done 1", "done 2"]


def test_what_was_made_before_a_failure_still_comes() -> None:
    def work() -> Iterator[int]:
        yield 1
        raise torch.OutOfMemoryError("no memory")

    found = one_behind(work())
    assert next(found) == 1
    with pytest.raises(torch.OutOfMemoryError):
        next(found)


def test_tensors_of_the_cpu_are_there_at_once() -> None:
    tensor = torch.arange(3)
    assert InFlight(tensor).wait()[0] is tensor


@pytest.mark.gpu
def test_copies_hold_what_the_gpu_computed() -> None:
    values = torch.arange(1 << 20, device="cuda")
    (copy,) = InFlight(values * 2).wait()
    assert torch.equal(copy, torch.arange(1 << 20) * 2)
