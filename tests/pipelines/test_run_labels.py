"""A run keeps its labels, and no two share them."""

import pytest

from pipelines.run_labels import RunLabels


def test_the_label_of_a_run_is_the_same_each_time_and_says_where_it_is() -> None:
    labels = RunLabels.of("generate", "s3://bucket/runs/one")
    assert labels == RunLabels.of("generate", "s3://bucket/runs/one/")
    assert labels.run.startswith("one-")
    assert labels.run != RunLabels.of("generate", "s3://bucket/other/one").run


def test_options_of_the_uri_do_not_count_and_are_not_shown() -> None:
    labels = RunLabels.of("score", "s3://bucket/one?endpoint_url=https://minio.example:9000&profile=lab")
    assert labels == RunLabels.of("score", "s3://bucket/one")
    assert "lab" not in labels.run


@pytest.mark.parametrize("name", ["ein Lauf", 'a"b\\c', "ü", "x" * 300])
def test_any_folder_gives_a_short_plain_label(name: str) -> None:
    run = RunLabels.of("score", f"/data/{name}").run
    assert len(run) <= 49
    assert all(char.isascii() and (char.isalnum() or char in "-_.") for char in run)
