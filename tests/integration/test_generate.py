"""The whole `generate` job: shards that everyone reads, the same bytes however it ran, no row lost."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.config import load_config
from pipelines.errors import LedgerError
from pipelines.generate import open_job, open_retry, plan_job
from pipelines.generate_estimate import estimate_job, run_sample
from pipelines.generation_config import GenerateConfig
from pipelines.storage import open_storage
from pipelines.tally import Progress, RunSummary
from pipelines.verify import verify
from tests.pipelines.scorers.tiny_clip import save_folder
from tests.servers.web import answer, serving

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

MODEL = "tests/assets/golden/tiny"
SETTINGS = [
    f"model={MODEL}",
    "sampler.num_steps=2",
    "width=64",
    "height=64",
    "unit_rows=3",
    "batch_size=2",
    "resources.threads_per_actor=1",
    "resources.num_cpus=0.5",
    "resources.num_gpus=0",
    "resources.num_actors=1",
]
PROMPTS = [f"a picture of number {i}" for i in range(8)]


def run(prompts: str, output: str, *changes: str, **kwargs: Any) -> RunSummary:
    settings = [*SETTINGS, f"prompts={prompts}", f"output={output}", *changes]
    return open_job(load_config(GenerateConfig, None, settings)).run(**kwargs)


def table_of(output: str) -> pa.Table:
    storage = open_storage(output)
    manifest = json.loads(storage.read("manifest.json"))
    paths = [entry["path"] for entry in manifest["objects"] if entry["path"].endswith(".parquet")]
    return pa.concat_tables(pq.read_table(pa.BufferReader(storage.read(path))) for path in paths)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("prompts") / "prompts.parquet"
    images = [2 if i == 4 else 1 for i in range(len(PROMPTS))]
    pq.write_table(pa.table({"prompt": PROMPTS, "num_images": images, "number": range(len(PROMPTS))}), path)
    return str(path)


@pytest.fixture(scope="module")
def finished(prompts: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished") / "out"
    run(prompts, str(output))
    return output


def test_every_prompt_becomes_its_images(finished: Path) -> None:
    table = table_of(str(finished))
    assert table["prompt"].to_pylist() == [*PROMPTS[:5], PROMPTS[4], *PROMPTS[5:]]
    assert table["sample_index"].to_pylist() == [0, 0, 0, 0, 0, 1, 0, 0, 0]
    assert table["number"].to_pylist() == [0, 1, 2, 3, 4, 4, 5, 6, 7]
    assert len(set(table["sample_id"].to_pylist())) == 9
    assert set(table["score"].to_pylist()) == {6.0}
    assert verify(str(finished)).problems == []
    card = (finished / "README.md").read_text()
    assert "9 samples for 8 of 8 prompts" in card


def test_the_manifest_names_every_object_and_nothing_that_varies(finished: Path) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    named = {entry["path"] for entry in manifest["objects"]}
    assert named == {path.relative_to(finished).as_posix() for path in (finished / "data").iterdir()}
    assert all(set(entry) == {"path", "size", "sha256", "rows"} for entry in manifest["objects"])
    assert sum(entry["rows"] for entry in manifest["objects"]) == 9


@pytest.mark.reliability
def test_two_gpus_and_one_make_the_same_bytes(prompts: str, finished: Path, tmp_path: Path) -> None:
    run(prompts, str(tmp_path / "out"), "resources.num_gpus=1", "resources.num_actors=2")
    assert (tmp_path / "out" / "manifest.json").read_bytes() == (finished / "manifest.json").read_bytes()


@pytest.mark.reliability
def test_runs_on_object_storage_and_in_a_folder_make_the_same_bytes(
    prompts: str, finished: Path, root_uri: str
) -> None:
    run(prompts, root_uri)
    assert open_storage(root_uri).read("manifest.json") == (finished / "manifest.json").read_bytes()
    assert verify(root_uri).problems == []


@pytest.mark.slow
def test_a_prompt_table_on_object_storage(s3_server: str, prompts: str, tmp_path: Path) -> None:
    open_storage("s3://bucket/tables").write("prompts.parquet", Path(prompts).read_bytes())
    run("s3://bucket/tables/prompts.parquet", str(tmp_path / "out"))
    assert table_of(str(tmp_path / "out"))["prompt"].to_pylist()[:4] == PROMPTS[:4]


@pytest.mark.reliability
def test_tokens_do_not_depend_on_units_and_the_order_of_rows(
    prompts: str, finished: Path, tmp_path: Path
) -> None:
    shuffled = tmp_path / "shuffled.parquet"
    pq.write_table(pq.read_table(prompts).take([6, 1, 4, 0, 7, 5, 2, 3]), shuffled)
    run(str(shuffled), str(tmp_path / "out"), "unit_rows=5")
    before, after = (table_of(str(o)).to_pylist() for o in (finished, tmp_path / "out"))
    assert {row["sample_id"]: row for row in before} == {row["sample_id"]: row for row in after}


def test_a_finished_job_started_again_computes_nothing(prompts: str, finished: Path) -> None:
    seen: list[Progress] = []
    summary = run(prompts, str(finished), on_progress=seen.append)
    assert (summary.units_run, summary.rows_done, summary.rows_out) == (0, 8, 9)


@pytest.mark.reliability
def test_a_sample_tells_what_the_rest_will_take_and_is_kept(
    prompts: str, finished: Path, tmp_path: Path
) -> None:
    output = str(tmp_path / "out")
    planned = plan_job(
        load_config(GenerateConfig, None, [*SETTINGS, f"prompts={prompts}", f"output={output}"])
    )
    assert estimate_job(planned, None).rate is None
    run_sample(planned.open(), 1)
    told = estimate_job(planned, price=2.0)
    assert (told.units, told.units_left, told.rows_left) == (3, 2, 5)
    assert told.rate is not None
    assert told.cost == pytest.approx(2.0 * told.rate.worker_s_per_row * 5 / 3600)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert run(prompts, output).units_run == 2
    assert (tmp_path / "out" / "manifest.json").read_bytes() == (finished / "manifest.json").read_bytes()


def test_another_configuration_is_refused_with_the_difference(prompts: str, finished: Path) -> None:
    with pytest.raises(LedgerError, match=r"sampler\.num_steps: 2 -> 3"):
        run(prompts, str(finished), "sampler.num_steps=3")
    with pytest.raises(LedgerError, match=r"resources\.threads_per_actor: 1 -> 2"):
        run(prompts, str(finished), "resources.threads_per_actor=2")


@pytest.mark.reliability
def test_failed_rows_are_recorded_and_run_again_alone(tmp_path: Path) -> None:
    source, output = tmp_path / "in" / "p.parquet", str(tmp_path / "out")
    source.parent.mkdir()
    images = [None, "late.png", "never.png", None]
    columns = {"prompt": ["a", "b", "c", ""], "image": images, "prompt_id": ["w", "x", "y", "z"]}
    pq.write_table(pa.table(columns), source)
    summary = run(str(source), output)
    assert (summary.rows_done, summary.rows_failed) == (1, 3)
    assert summary.failures == {"image: ImageError": 2, "prompt: PromptRowError": 1}
    assert verify(output).problems == []

    Image.new("RGB", (64, 64), "red").save(source.parent / "late.png")
    again = open_retry(output).run()
    assert (again.rows_done, again.rows_failed, again.rows_run) == (2, 2, 3)
    assert sorted(table_of(output)["prompt_id"].to_pylist()) == ["w", "x"]
    assert verify(output).problems == []
    pq.write_table(pa.table(columns | {"prompt": ["a", "b", "c", "d"]}), source)
    with pytest.raises(LedgerError, match="prompt table changed"):
        open_retry(output)
    with pytest.raises(LedgerError, match="cannot change what determines"):
        open_retry(output, ["sampler.num_steps=9"])


@pytest.mark.reliability
def test_dead_letters_are_the_same_bytes_in_every_run(tmp_path: Path) -> None:
    columns = {"prompt": ["a", "b"], "image": [b"garbage", None], "prompt_id": ["x", "y"]}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    for name in ("one", "two"):
        run(str(tmp_path / "p.parquet"), str(tmp_path / name))
    one, two = ((tmp_path / name / "manifest.json").read_bytes() for name in ("one", "two"))
    assert one == two


def test_datasets_pandas_and_duckdb_read_the_shards(finished: Path) -> None:
    import datasets
    import duckdb
    import pandas as pd

    files = sorted(str(path) for path in (finished / "data").glob("*.parquet"))
    cache = str(finished / ".hf")
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
    assert isinstance(loaded.features["image"], datasets.Image)
    assert loaded[0]["image"].size == (64, 64)
    assert pd.read_parquet(finished / "data")["prompt"].nunique() == 8
    (count,) = duckdb.sql(f"select count(*) from '{finished}/data/*.parquet'").fetchall()[0]
    assert count == 9


@pytest.mark.reliability
def test_images_of_private_hosts_are_made_once_they_are_allowed(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "png")
    source, output = tmp_path / "p.parquet", str(tmp_path / "out")
    with serving({"/a.png": answer(buffer.getvalue())}) as server:
        pq.write_table(pa.table({"prompt": ["a", "b"], "image": [f"{server.url}/a.png", None]}), source)
        assert run(str(source), output).failures == {"image: ImageError": 1}
        with pytest.raises(LedgerError, match="cannot change what determines"):
            open_retry(output, ["row_images.max_bytes=1"])
        again = open_retry(output, ["row_images.allow_private=true"]).run()
    assert (again.rows_done, again.rows_failed) == (2, 0)
    assert verify(output).problems == []


@pytest.mark.reliability
def test_webdataset_reads_the_tars(prompts: str, finished: Path, tmp_path: Path) -> None:
    import datasets
    import webdataset

    output = tmp_path / "out"
    run(prompts, str(output), "images=webdataset", "image_format=webp")
    tars = sorted(str(path) for path in (output / "data").glob("*.tar"))
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode("pil"))
    assert [sample["txt"] for sample in samples] == table_of(str(finished))["prompt"].to_pylist()
    assert all(sample["webp"].size == (64, 64) for sample in samples)
    assert samples[0]["json"]["width"] == 64
    path = f"{Path(tars[0]).name}/{samples[0]['__key__']}.webp"
    assert table_of(str(output))["image"][0].as_py() == {"bytes": None, "path": path}
    assert verify(str(output)).problems == []
    files = sorted(str(path) for path in (output / "data").glob("*.parquet"))
    rows = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / ".hf"))
    assert rows[0]["image"] == {"bytes": None, "path": path}


@pytest.mark.reliability
def test_images_as_files(prompts: str, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(prompts, str(output), "images=files", "image_format=jpeg", "tokens=false")
    table = table_of(str(output))
    assert "tokens" not in table.column_names
    for value in table["image"].to_pylist():
        assert Image.open(output / "data" / value["path"]).size == (64, 64)
    assert verify(str(output)).problems == []


@pytest.mark.reliability
def test_the_best_of_several_images_are_chosen_by_their_score(prompts: str, tmp_path: Path) -> None:
    scorer = save_folder(tmp_path / "clip")
    settings = [
        f"scorers=[{{kind: clip, name: clip_tiny, model: '{scorer}'}}, {{kind: quality}}]",
        "num_images=3",
        "best_of.rank_by=clip_tiny",
    ]
    pq.write_table(pa.table({"prompt": PROMPTS[:4]}), tmp_path / "p.parquet")
    tables = {}
    for losers in ("keep", "drop"):
        output = str(tmp_path / losers)
        run(str(tmp_path / "p.parquet"), output, *settings, f"best_of.losers={losers}")
        assert verify(output).problems == []
        tables[losers] = table_of(output)
    everything = tables["keep"].to_pandas()
    assert len(everything) == 12
    for _, images in everything.groupby("prompt"):
        assert images.sort_values("rank")["clip_tiny"].is_monotonic_decreasing
        assert sorted(images["rank"]) == [0, 1, 2]
    best = tables["keep"].filter(tables["keep"]["kept"])
    assert best["prompt"].to_pylist() == PROMPTS[:4]
    assert tables["drop"].equals(best)


def test_embedded_images_are_those_of_the_tokens(finished: Path) -> None:
    row = table_of(str(finished)).to_pylist()[0]
    assert Image.open(io.BytesIO(row["image"]["bytes"])).format == "PNG"
    assert (len(row["tokens"]), len(row["tokens"][0])) == (4, 4)
