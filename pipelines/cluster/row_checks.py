"""Whether a bulk job fits the cluster, and what becomes of its first rows there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipelines.budget import Node, cluster_nodes, places_on
from pipelines.cluster.check import Check
from pipelines.cluster.known_jobs import planner
from pipelines.cluster.node_checks import check_nodes
from pipelines.cluster.trial import NO_DEVICE, Trial, try_rows
from pipelines.config import Config, Resources
from pipelines.growing import wait_for_nodes
from pipelines.progress import duration

UNITS_IN_STORE = 4
"""For each worker: the unit that it has, those before and after it, and room."""
_MIB = 1 << 20


def check_rows(job: str, config: Config) -> Iterator[Check]:
    """Input, weights, room for the workers, the first rows through every stage, and Ray's object store.

    Raises:
        RefusalError: What the job itself would be refused with.
    """
    planned = planner(job)(config)
    plan = planned.run.units
    rows, units = plan.rows_total(), len(plan)
    yield Check(name="input", is_ok=True, found=f"{rows:,} rows in {units:,} units")
    for name, digest in planned.weights.items():
        yield Check(name="weights", is_ok=True, found=f"{name} {digest}")
    before = cluster_nodes()
    unit_job = planned.unit_job().on_cluster(before)
    resources = [stage.resources for stage in unit_job.stages]
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
    for trial in try_rows(unit_job, plan[0]):
        yield from checks_of_trial(trial)
        row_bytes = max(row_bytes, trial.rows.nbytes // max(trial.rows.num_rows, 1))
    yield _object_store(row_bytes * plan[0].num_rows, nodes, resources, [most for _, most in ranges])


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
