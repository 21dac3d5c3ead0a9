"""Whether a bulk job fits the cluster, and what becomes of its first rows there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from pipelines.budget import Node, cluster_nodes, on_cluster, places_on
from pipelines.cluster.check import Check
from pipelines.cluster.node_checks import check_nodes
from pipelines.cluster.trial import NO_DEVICE, Trial, try_rows
from pipelines.config import Config, Resources
from pipelines.growing import wait_for_nodes
from pipelines.plan import Plan
from pipelines.progress import duration
from pipelines.unit_job import UnitJob

UNITS_IN_STORE = 4
"""For each worker: the unit that it has, those before and after it, and room."""
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class PlannedUnits:
    """A bulk job that has written nothing.

    Attributes:
        weights: Digests of what its workers load, by name.
        plan: Its units.
        units: Gives what to run over them, on the cluster of this driver.
    """

    weights: dict[str, str]
    plan: Plan
    units: Callable[[], UnitJob]


def check_rows(job: str, config: Config) -> Iterator[Check]:
    """Input, weights, room for the workers, the first rows through every stage, and Ray's object store.

    Raises:
        RefusalError: What the job itself would be refused with.
    """
    planned = plan_units_of(job, config)
    rows, units = planned.plan.rows_total(), len(planned.plan)
    yield Check(name="input", is_ok=True, found=f"{rows:,} rows in {units:,} units")
    for name, digest in planned.weights.items():
        yield Check(name="weights", is_ok=True, found=f"{name} {digest}")
    unit_job, before = planned.units(), cluster_nodes()
    resources = [on_cluster(stage.resources, before) for stage in unit_job.stages]
    stages = tuple(replace(s, resources=r) for s, r in zip(unit_job.stages, resources, strict=True))
    unit_job = replace(unit_job, stages=stages)
    ranges = wait_for_nodes(resources, units, lambda _: None)
    nodes = cluster_nodes()
    if len(nodes) > len(before):  # those that have come are asked as well
        yield from check_nodes(str(config.model_dump()["output"]))
    cpus, gpus = sum(node.num_cpus for node in nodes), sum(node.num_gpus for node in nodes)
    for stage, asked, (fewest, most) in zip(unit_job.stages, resources, ranges, strict=True):
        workers = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        each = f"{asked.num_cpus:g} CPUs and {float(asked.num_gpus):g} GPUs"
        found = f"{stage.name or 'worker'}: {workers} workers of {each}, of {cpus:g} CPUs and {gpus:g} GPUs"
        yield Check(name="resources", is_ok=True, found=found)
    row_bytes = 0
    for trial in try_rows(unit_job, planned.plan[0]):
        yield from checks_of_trial(trial)
        row_bytes = max(row_bytes, trial.rows.nbytes // max(trial.rows.num_rows, 1))
    yield _object_store(row_bytes * planned.plan[0].num_rows, nodes, resources, [most for _, most in ranges])


def checks_of_trial(trial: Trial) -> Iterator[Check]:
    """What there is to say of a stage's trial on a node."""
    name, where = f"stage {trial.stage}", f"{trial.host}: " if trial.host else ""
    if trial.fault:
        yield Check(name=name, is_ok=False, found=f"{where}{trial.fault}")
        return
    if trial.device == NO_DEVICE:
        found = (
            f"{where}Ray says that there is a GPU, torch finds none: install torch with CUDA and the driver"
        )
        yield Check(name=name, is_ok=False, found=found)
        return
    if not trial.rows.num_rows:
        found = f"{where}none of the first rows came through: {'; '.join(trial.letters)}"
        yield Check(name=name, is_ok=False, found=found)
        return
    letters = (
        f"; {len(trial.letters)} became dead letters: {'; '.join(trial.letters)}" if trial.letters else ""
    )
    device = f" on {trial.device}" if trial.device else ""
    loaded = f"loaded in {duration(trial.load_s)}, " if trial.load_s else ""
    took = f"{loaded}{trial.rows.num_rows} rows in {duration(trial.run_s)}{device}"
    yield Check(name=name, is_ok=True, found=f"{where}{took}{letters}")


def _object_store(
    unit_bytes: int, nodes: Sequence[Node], stages: Sequence[Resources], most: Sequence[int]
) -> Check:
    """Of the node where the units of its workers leave the least of Ray's object store."""

    def workers_on(node: Node) -> int:
        placed = [(r, m) for r, m in zip(stages, most, strict=True) if r.num_cpus or r.num_gpus]
        return sum(min(count, places_on(resources, node)) for resources, count in placed)

    num_workers, store_bytes = max(
        ((max(workers_on(node), 1), node.object_store_bytes) for node in nodes if workers_on(node)),
        key=lambda one: one[0] / max(one[1], 1),
        default=(sum(most), min(node.object_store_bytes for node in nodes)),
    )
    wanted = UNITS_IN_STORE * num_workers * unit_bytes
    found = (
        f"a unit is about {unit_bytes / _MIB:,.1f} MiB on its way; {UNITS_IN_STORE} for each of "
        f"{num_workers} workers of a node are {wanted / _MIB:,.0f} MiB, its store is "
        f"{store_bytes / _MIB:,.0f} MiB"
    )
    if wanted > store_bytes:
        return Check(
            name="object store", is_ok=False, found=f"{found}: lower unit_rows, or Ray spills to disk"
        )
    return Check(name="object store", is_ok=True, found=found)


def plan_units_of(job: str, config: Config) -> PlannedUnits:
    """The plan of a job that a configuration describes; nothing is written but listings of the input."""
    from pipelines.curation.passes import Curation
    from pipelines.curation.scoring import plan_scoring, scoring_units
    from pipelines.curation.settings import CurateConfig, ScoreConfig
    from pipelines.generate import generation_units, plan_job
    from pipelines.generation_config import GenerateConfig
    from pipelines.tokenization import TokenizeConfig, plan_tokenization
    from pipelines.tokenization.job import tokenization_units

    match config:
        case GenerateConfig():
            generation = plan_job(config)
            weights = {config.model: generation.models.model_digest} | generation.models.scorer_digests
            return PlannedUnits(
                weights=weights,
                plan=generation.run.units,
                units=lambda: generation_units(generation.config, generation.models, generation.prompts),
            )
        case TokenizeConfig():
            tokens = plan_tokenization(config)
            return PlannedUnits(
                weights={config.model: tokens.vq.digest},
                plan=tokens.run.units,
                units=lambda: tokenization_units(tokens.config, tokens.vq, tokens.source),
            )
        case CurateConfig() | ScoreConfig():
            scores = Curation(config).scoring if isinstance(config, CurateConfig) else plan_scoring(config)
            return PlannedUnits(
                weights=scores.digests,
                plan=scores.run.units,
                units=lambda: scoring_units(scores.config, scores.digests, scores.source),
            )
    raise AssertionError(f"{job} is not a job of units")
