"""What Prometheus would read from this test's own Ray."""

import time
import urllib.request
from collections.abc import Callable

import ray
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from pipelines import metrics

METRICS = [*(m for m in vars(metrics).values() if isinstance(m, metrics.Metric)), *metrics.TRAINING]
"""All that we report."""
REPORTED_WITHIN_S = 60.0
"""Ray's processes report every ten seconds; a busy machine is slower."""


class Samples:
    """All samples of one scrape."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples

    @property
    def names(self) -> set[str]:
        """Names with at least one sample; histograms by their `_bucket`, `_count` and `_sum`."""
        return {sample.name for sample in self.samples}

    def total(self, name: str, **labels: str) -> float:
        """The sum over all samples of that name with these labels."""
        return sum(sample.value for sample in self.find(name, **labels))

    def find(self, name: str, **labels: str) -> list[Sample]:
        """The samples of that name with these labels."""
        return [s for s in self.samples if s.name == name and labels.items() <= s.labels.items()]


def scrape() -> Samples:
    """The metrics of all nodes, over HTTP."""
    samples = []
    for node in ray.nodes():
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            for family in text_string_to_metric_families(answer.read().decode()):
                samples += family.samples
    return Samples(samples)


def scrape_until(enough: Callable[[Samples], bool]) -> Samples:
    """The first scrape with enough in it, or the last one in time."""
    ends = time.monotonic() + REPORTED_WITHIN_S
    while not enough(found := scrape()) and time.monotonic() < ends:
        time.sleep(1)
    return found
