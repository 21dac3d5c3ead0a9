"""The report of a training: what the page says of an output, and that it opens anywhere."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image

from pipelines.errors import RefusalError
from pipelines.pages.rendering import MAX_PAGE_BYTES
from pipelines.reports.training import training_report
from pipelines.storage import Storage, open_storage
from pipelines.training.job import FORMAT, stage_uri
from pipelines.training.logs import TrainingLog
from pipelines.training.skips import NotFiniteError, write_skip
from pipelines.training.starts import write_start
from schemas.manifest import json_bytes
from tests.browser import DESKTOP, PHONE, visit

HOSTILE = "<script>document.title='hit'</script> \"a fox\""
BATCH_SIZE = 32


def write_run(output: Path, name: str, *, num_steps: int, before: str | None = None) -> Storage:
    """The folder of a stage that has not begun to train."""
    stage = {"name": name, "num_steps": num_steps, "batch_size": BATCH_SIZE, "learning_rate": 2e-3}
    config = {
        "init": {"uri": "models/meissonic", "digest": "ab" * 32},
        "precision": "bfloat16",
        "resolution": [512, 256],
        "stage": stage,
        "start": None if before is None else {"stage": before, "request": "cd" * 32},
    }
    storage = open_storage(stage_uri(str(output), name))
    storage.create(
        "run.json", json_bytes({"format": FORMAT, "config": config, "code_version": "git:0123456789abcdef"})
    )
    return storage


def write_steps(log: TrainingLog, first: int, last: int, every: int = 5) -> None:
    """Lines as the loop writes them: 64 samples a second, a loss of 100 / (10 + step)."""
    for step in range(first, last + 1):
        measures = {"grad_norm": 0.5, "learning_rate": 1e-3, "epoch": step // 50, "batch": step - 1}
        log.write("step", step, {"loss": 100 / (10 + step), **measures, "height": 4, "width": 4})
        if step % every == 0:
            log.write("masking_rate", step, {"loss": {"0-0.2": 1.0, "0.8-1": 3.0}})
            rates = {"samples_per_s": 64.0, "tokens_per_s": 1024.0, "utilisation": 0.457, "data_wait": 0.03}
            log.write("rate", step, rates)
        if step % (2 * every) == 0:
            log.write("validation", step, {"loss": {"0.5": 2.5, "1": 3.5}})


def write_picture(log: TrainingLog, step: int, prompt: str = HOSTILE) -> None:
    """A sheet whose brightness is the step's."""
    log.picture(step, np.full((300, 400, 3), step % 256, np.uint8))
    log.write("samples", step, {"prompts": [prompt]})


def write_checkpoint(storage: Storage, step: int) -> None:
    storage.write(f"checkpoints/step-{step:08d}/one/__0_0.distcp", bytes(2_000_000))
    storage.write(f"checkpoints/step-{step:08d}.json", b"{}")


def two_stages(output: Path) -> None:
    """A stage of 100 steps that is done, and one of 60 that was started again at 20 and stopped at 40."""
    first = write_run(output, "main", num_steps=100)
    log = TrainingLog(first, 0, [])
    write_steps(log, 1, 100)
    for step in range(5, 105, 5):
        write_picture(log, step)
    log.close()
    write_checkpoint(first, 100)
    write_start(first, step=0, num_workers=8, parallel="ddp", device="NVIDIA H200", code_version="git:a")
    second = write_run(output, "a-later-one", num_steps=60, before="main")
    for start in (0, 20):
        write_start(
            second, step=start, num_workers=4, parallel="fsdp", device="NVIDIA H200", code_version="git:b"
        )
        log = TrainingLog(second, start, [])
        write_steps(log, start + 1, start + 20)
        log.close()
        write_checkpoint(second, start + 20)
    write_skip(second, NotFiniteError(step=24, index=24, loss=float("nan"), grad_norm=float("inf")))


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    two_stages(folder)
    return folder


@pytest.fixture(scope="module")
def page(output: Path) -> str:
    return training_report(str(output)).decode()


def facts(page: str) -> dict[str, str]:
    found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)
    return {html.unescape(name): html.unescape(value) for name, value in found}


def charts(page: str) -> dict[str, list[list[str]]]:
    """The numbers of each chart, by its title."""
    figures = re.findall(r"<figcaption>(.*?)</figcaption>.*?<tbody>(.*?)</tbody>", page, re.DOTALL)
    return {
        title: [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in body.split("</tr>")[:-1]]
        for title, body in figures
    }


def table(page: str, caption: str) -> list[list[str]]:
    (body,) = re.findall(rf"<caption>{caption}</caption>.*?<tbody>(.*?)</tbody>", page, re.DOTALL)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in body.split("</tr>")[:-1]]


def test_facts_are_those_of_all_stages(page: str) -> None:
    found = facts(page)
    assert found["steps"] == "140 of 160 (87.5%)"
    assert found["samples"] == f"{140 * BATCH_SIZE:,}"
    assert found["epoch of a-later-one"] == "1"
    expected = np.mean([100 / (10 + step) for step in range(1, 41)])
    assert found["training loss, mean of 40 steps"] == f"{expected:.4f}"
    assert found["held-out loss, mean of 2 rates"] == "3.0000"
    assert found["time in steps"] == "1 min 10 s"  # 140 steps of half a second
    assert found["samples/s"] == "64.0"
    assert found["model-FLOP utilisation"] == "45.7%"
    assert found["batches left out"] == "1"
    assert found["starts of workers"] == "3, 1 from a checkpoint"
    assert found["workers"] == "4 x NVIDIA H200"
    assert found["parallelism"] == "fsdp"
    assert found["precision"] == "bfloat16"


def test_stages_are_told_in_the_order_in_which_they_were_trained(page: str) -> None:
    rows = table(page, "Stages")
    assert [row[:3] for row in rows] == [["main", "100 of 100", "32"], ["a-later-one", "40 of 60", "32"]]
    assert rows[0][4] == "512 x 256"
    assert "Step 140 of 160, in stage a-later-one: it runs or was stopped" in page


def test_charts_count_steps_over_all_stages(page: str) -> None:
    found = charts(page)
    loss = [(float(step), float(value)) for _, step, value in found["Training loss"]]
    assert [step for step, _ in loss] == list(range(1, 141))
    assert loss[100][1] == pytest.approx(100 / 11, rel=1e-3)  # the second stage's first step
    held_out = {line: float(value) for line, _, value in found["Held-out loss by masking rate"]}
    assert held_out == {"0.5 masked": 2.5, "1 masked": 3.5}
    by_rate = {line: float(value) for line, _, value in found["Training loss by masking rate"]}
    assert by_rate == {"0-0.2 masked": 1.0, "0.8-1 masked": 3.0}
    assert found["Model-FLOP utilisation"][0][2] == "45.7"
    assert {"Throughput", "Time spent waiting for data", "Learning rate"} < found.keys()
    assert "a-later-one begins at 100" in page


def test_what_was_left_out_has_step_and_reason(page: str) -> None:
    assert table(page, "Batches left out") == [
        ["a-later-one", "25", "24", "its loss was not finite", "nan", "inf"]
    ]


def test_checkpoints_and_the_command_that_exports_them(page: str, output: Path) -> None:
    rows = table(page, "Complete checkpoints")
    assert [row[:3] for row in rows] == [
        ["main", "100", "2.0 MB"],
        ["a-later-one", "20", "2.0 MB"],
        ["a-later-one", "40", "2.0 MB"],
    ]
    assert f"python -m jobs export {output} models/NAME" in page


def test_samples_are_the_first_the_last_and_some_between(page: str) -> None:
    strip = page.partition('id="sheets"')[2].partition("</ol>")[0]
    labels = re.findall(r'<div class="label">(.*?)</div>', strip)
    assert (len(labels), labels[0], labels[-1]) == (10, "main, step 5", "main, step 100")
    pictures = [decoded(uri) for uri in re.findall(r'src="data:image/webp;base64,([^"]+)"', strip)]
    assert all(picture.size == (400, 300) for picture in pictures)
    brightness = [int(np.asarray(picture).mean()) for picture in pictures]
    assert brightness == sorted(brightness)
    assert abs(brightness[-1] - 100) <= 2


def decoded(text: str) -> Image.Image:
    picture = Image.open(io.BytesIO(base64.b64decode(text)))
    picture.load()
    return picture


def test_what_people_wrote_is_text(page: str) -> None:
    assert HOSTILE not in page
    assert str(escape(HOSTILE)) in page


def test_a_training_that_has_no_step_yet_has_a_page(tmp_path: Path) -> None:
    write_run(tmp_path, "main", num_steps=100)
    page = training_report(str(tmp_path)).decode()
    assert "Step 0 of 100: it runs or was stopped" in page
    assert "No step is on record yet." in page
    assert "None is complete yet." in page
    assert 'class="chart"' not in page


def test_a_picture_that_is_damaged_is_shown_as_gone(tmp_path: Path) -> None:
    storage = write_run(tmp_path, "main", num_steps=100)
    storage.write("samples/00000005.png", b"not a picture")
    assert "the image cannot be read any more" in training_report(str(tmp_path)).decode()


def test_a_loss_that_is_not_finite_leaves_the_chart_valid(tmp_path: Path) -> None:
    log = TrainingLog(write_run(tmp_path, "main", num_steps=100), 0, [])
    write_steps(log, 1, 10)
    log.write("validation", 10, {"loss": {"0.5": float("nan")}})
    log.close()
    page = training_report(str(tmp_path)).decode()
    for text in re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL):
        json.loads(text, parse_constant=pytest.fail)


def test_a_long_log_becomes_a_small_page(tmp_path: Path) -> None:
    log = TrainingLog(write_run(tmp_path, "main", num_steps=20_000), 0, [])
    for first in range(0, 20_000, 5_000):
        write_steps(log, first + 1, first + 5_000)
        log.cut(first + 5_000)
    log.close()
    page = training_report(str(tmp_path))
    assert len(page) < MAX_PAGE_BYTES / 2
    loss = charts(page.decode())["Training loss"]
    assert 250 <= len(loss) <= 300
    means = [np.mean([100 / (10 + step) for step in range(1, 68)]), 100 / (10 + 20_000)]
    assert [float(loss[number][2]) for number in (0, -1)] == pytest.approx(means, rel=2e-3)


def test_a_folder_without_a_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusalError, match="no training there; name the output of a `train` job"):
        training_report(str(tmp_path))


def test_neither_ray_nor_torch_is_needed() -> None:
    code = "import sys, pipelines.reports.training; print({'ray', 'torch'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_page_opens_without_errors_or_requests(
    browser: Any, page: str, tmp_path: Path, theme: Any, size: tuple[int, int]
) -> None:
    file = tmp_path / "report.html"
    file.write_text(page)
    with visit(browser, file.as_uri(), size, theme) as opened:
        opened.page.wait_for_selector(".chart:last-child .plot svg")
        assert opened.page.locator(".plot svg").count() == len(charts(page))
        assert opened.page.title() == f"Training: {page.partition('<title>Training: ')[2].partition('<')[0]}"
        assert opened.wider_than_window() == 0
    assert opened.errors == []
    assert opened.requests == [file.as_uri()]


@pytest.mark.browser
@pytest.mark.slow
def test_samples_of_every_step_are_reached_by_keyboard(browser: Any, page: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page)
    with visit(browser, file.as_uri()) as opened:
        slider, label = opened.page.locator("#sheet-number"), opened.page.locator("#sheet-label")
        shown = opened.page.locator("#sheet img")
        assert label.inner_text() == "main, step 100"
        newest = shown.get_attribute("src")
        slider.focus()
        slider.press("Home")
        assert label.inner_text() == "main, step 5"
        assert slider.get_attribute("aria-valuetext") == "main, step 5"
        assert shown.get_attribute("src") != newest
        assert "main, step 5. Prompts: <script>" in (shown.get_attribute("alt") or "")
        opened.page.locator("#sheets button").last.press("Enter")
        assert shown.get_attribute("src") == newest
    assert opened.errors == []
