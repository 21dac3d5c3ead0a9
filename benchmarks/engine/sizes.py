"""How much to measure: the full sizes, and toy sizes that only show that everything runs."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of the series, each from small to large.

    Attributes:
        plan_rows: Rows of the planned tables.
        object_rows: Rows of each of their objects.
        units: Units of the runs in a folder.
        s3_units: Units of the runs on the mock server.
        prompt_rows: Rows of the prompt tables.
        prompt_file_rows: Rows of each of their files.
        repeated: Part of the rows that are repeated in the last kind of table.
        actors: Actors that sleep.
        cpus: Logical CPUs beside them.
        unit_s: Seconds that a unit takes, and how many units an actor has.
        driver_units: Units without any sleep, for the driver's costs.
        repetitions: Of what takes seconds: scheduling, the mock server and lost rollups are measured once.
    """

    plan_rows: tuple[int, ...]
    object_rows: int
    units: tuple[int, ...]
    s3_units: tuple[int, ...]
    prompt_rows: tuple[int, ...]
    prompt_file_rows: int
    repeated: float
    actors: int
    cpus: int
    unit_s: tuple[tuple[float, int], ...]
    driver_units: tuple[int, int]
    repetitions: int


FULL = Sizes(
    plan_rows=(1_000_000, 10_000_000, 100_000_000),
    object_rows=100_000,
    units=(10_000, 100_000, 1_000_000),
    s3_units=(2_000, 20_000),
    prompt_rows=(1_000_000, 10_000_000),
    prompt_file_rows=1_000_000,
    repeated=0.01,
    actors=16,
    cpus=4,
    unit_s=((1.0, 40), (3.0, 20), (10.0, 12)),
    driver_units=(300, 3_000),
    repetitions=3,
)
SMALL = Sizes(
    plan_rows=(1_000, 10_000),
    object_rows=1_000,
    units=(20, 200),
    s3_units=(5, 50),
    prompt_rows=(100, 1_000),
    prompt_file_rows=300,
    repeated=0.1,
    actors=2,
    cpus=2,
    unit_s=((0.2, 4),),
    driver_units=(5, 20),
    repetitions=1,
)
