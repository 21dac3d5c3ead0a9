"""What a bulk job does with its units."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from pipelines.budget import Node, on_cluster
from pipelines.config import Resources
from pipelines.plan import Unit
from pipelines.shards import Shard, parquet_shard
from pipelines.worker import Worker


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Work that a pool of actors does on each unit.

    Attributes:
        worker: Built once an actor: a class, or "module:Class" for one that only its actors import.
        worker_args: Its arguments; small, for they travel to every actor.
        resources: What the workers may use.
        name: Of a stage before the last, such as "decode".
    """

    worker: type[Worker] | str
    worker_args: dict[str, Any] = field(default_factory=dict)
    resources: Resources
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class UnitJob:
    """What to run over the units.

    Attributes:
        stages: In order. The last one's rows are the results; each before it has a name, and gives one row
            for each that does not fail. So CPUs may prepare what GPUs go on with.
        read: Gives the rows of a unit, exactly `unit.num_rows` in order, its `row_id` column filled.
        pack: Encodes a unit's results, never called without any.
        unit_timeout_s: Seconds that a worker may take for a unit in one stage before it is ended, and the row
            that hangs found.
        max_failure_rate: Stop when more than this part of the rows fails; retries are not counted.
        failure_rate_rows: Rows to see before that.
        max_poison_rows: Stop when more rows than this of one unit raise, kill their worker or hang.
    """

    stages: tuple[Stage, ...]
    read: Callable[[Unit], pa.Table]
    pack: Callable[[Unit, pa.Table], list[Shard]] = parquet_shard
    unit_timeout_s: float = math.inf
    max_failure_rate: float = 1.0
    failure_rate_rows: int = 1000
    max_poison_rows: int = 16

    def on_cluster(self, nodes: list[Node]) -> "UnitJob":
        """With a number for every stage's `num_gpus: auto`."""
        stages = tuple(replace(stage, resources=on_cluster(stage.resources, nodes)) for stage in self.stages)
        return replace(self, stages=stages)
