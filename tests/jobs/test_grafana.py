"""The Grafana dashboard: importable, and every metric that it asks for is one that Ray exports."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray.dashboard.modules.metrics.dashboards.default_dashboard_panels as ray_panels

from pipelines import metrics
from pipelines.metrics import show_training
from pipelines.run_labels import RunLabels
from pipelines.units import run_units
from tests.pipelines.scraping import METRICS, scrape_until
from tests.pipelines.test_metrics import TRAINING_MEASURES, Noting
from tests.pipelines.toys import square_job, square_ledger, write_input

DASHBOARD: dict[str, Any] = json.loads(Path("jobs/grafana/meissonic.json").read_text())
ONLY_WITH_GPUS = {"ray_node_gpus_utilization", "ray_node_gram_used", "ray_node_gram_available"}
GRID_WIDTH = 24


def data_panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    for panel in data_panels():
        yield from (target["expr"] for target in panel["targets"])
    yield from (v["query"]["query"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query")


def asked_for() -> set[str]:
    return {name for text in expressions() for name in re.findall(r"\bray_[a-z0-9_]*[a-z0-9]\b", text)}


def test_the_dashboard_has_what_grafana_requires() -> None:
    assert DASHBOARD["id"] is None  # of another Grafana it would overwrite a dashboard
    assert 8 <= len(DASHBOARD["uid"]) <= 40
    assert DASHBOARD["schemaVersion"] >= 36  # datasources as objects
    assert {"title", "time", "templating", "annotations", "panels"} <= DASHBOARD.keys()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in data_panels():
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))
        assert letters
        assert all(target["expr"] for target in panel["targets"])


def test_no_panel_lies_on_another() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= GRID_WIDTH
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


def test_variables_choose_data_source_job_and_run() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "job_name", "run", "stage"]
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    for text in expressions():
        used = set(re.findall(r"\$\{?([a-z_]+)\}?", text)) - {"__rate_interval"}
        assert used <= variables.keys()
        names = re.findall(r"ray_meissonic_[a-z_]+", text)
        selected = text.count('{job_name=~"$job_name", run=~"$run"')
        assert text.startswith("label_values") or len(names) == selected


@pytest.mark.reliability
@pytest.mark.ray
def test_every_metric_of_the_dashboard_is_exported(local_ray: None, tmp_path: Path) -> None:
    source = write_input(tmp_path / "in", negative=(7,))
    ledger = square_ledger(str(tmp_path / "out"), source)
    run_units(square_job(source, Noting, deadly=[13], once=str(tmp_path / "died")), ledger)
    show_training(RunLabels.of("train", "out"), "one", dict.fromkeys(TRAINING_MEASURES, 1.0))
    wanted = {name for name in asked_for() if name not in ONLY_WITH_GPUS} - {"ray_meissonic"}
    found = scrape_until(lambda samples: wanted <= samples.names)
    assert wanted - found.names == set()
    labels = {"job_name": "square", "run": RunLabels.of("square", str(tmp_path / "out")).run}
    assert found.total(metrics.ROWS_FAILED.exported, **labels) == 1


def test_what_only_a_gpu_node_exports_is_what_rays_own_dashboard_asks_for() -> None:
    text = Path(ray_panels.__file__).read_text()
    assert {name for name in ONLY_WITH_GPUS if name not in text} == set()


def test_the_dashboard_shows_every_metric_of_a_run() -> None:
    shown = {re.sub(r"_bucket$", "", name) for name in asked_for()}
    left_out = {
        "ray_meissonic_units_total",
        "ray_meissonic_training_step",
        "ray_meissonic_training_tokens_per_s",
    }
    assert {metric.exported for metric in METRICS} - shown == left_out
