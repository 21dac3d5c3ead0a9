"""The largest batch of each GPU."""

from benchmarks.gpu.memory import GPU_SIZES_GIB, largest_batches


def test_the_largest_batch_of_each_gpu_lies_on_the_line_of_the_peaks() -> None:
    found = largest_batches({1: 6.0, 8: 13.0, 32: 37.0})  # 5 GiB and 1 an image
    assert found["24"] == 17  # 24 GiB less 8 % and 5 are 17.08
    assert [found[str(size)] for size in GPU_SIZES_GIB] == sorted(found.values())


def test_a_model_that_does_not_fit_has_no_batch() -> None:
    assert largest_batches({1: 30.0, 2: 31.0})["16"] == 0


def test_one_peak_tells_nothing() -> None:
    assert largest_batches({8: 13.0}) == {}
