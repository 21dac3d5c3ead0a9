"""Write a prompt table: `python -m examples.shapes.prompts --out prompts.parquet --count 64 --split test`.

Beside `prompt_id` and `prompt`, each row carries the scene behind its caption: `scene` is what `verify.check`
compares an image with, and the other columns are there to group results by.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from examples.shapes.world import SPLITS, Scene, caption, scenes, split_of, spoken


def choose_scenes(split: str, count: int, *, two_object_share: float, seed: int) -> list[Scene]:
    """Choose scenes of a split in random order, none twice until all of them are used."""
    rng = np.random.default_rng(seed)
    num_two = round(count * two_object_share)
    chosen: list[Scene] = []
    for num_objects, wanted in ((1, count - num_two), (2, num_two)):
        pool = scenes(split, num_objects=num_objects)
        order = rng.permutation(len(pool))
        chosen += [pool[order[index % len(pool)]] for index in range(wanted)]
    return [chosen[index] for index in rng.permutation(count)]


def prompt_table(chosen: list[Scene]) -> pa.Table:
    """Return the table of full captions, with a row a scene."""
    said = [spoken(scene) for scene in chosen]

    def joined(name: str) -> list[str | None]:
        values = ([getattr(thing, name) for thing in scene.things] for scene in said)
        return [None if None in names else ", ".join(names) for names in values]

    return pa.table(
        {
            "prompt_id": [f"shapes-{index:06d}" for index in range(len(said))],
            "prompt": [caption(scene) for scene in said],
            "scene": [scene.to_json() for scene in said],
            "split": [split_of(scene) for scene in chosen],
            "num_objects": pa.array([len(scene.things) for scene in said], pa.int32()),
            "shapes": pa.array(joined("shape"), pa.string()),
            "colors": pa.array(joined("color"), pa.string()),
            "sizes": pa.array(joined("size"), pa.string()),
            "places": pa.array(joined("place"), pa.string()),
            "background": [scene.background for scene in said],
        }
    )


def main() -> None:
    """Parse the command line and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="Parquet file to write")
    parser.add_argument("--count", type=int, default=64, help="number of prompts")
    parser.add_argument("--split", choices=SPLITS, default="test", help="which scenes")
    parser.add_argument(
        "--two-object-share", type=float, default=0.5, help="share of prompts with two shapes"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of scenes")
    arguments = parser.parse_args()
    share, seed = arguments.two_object_share, arguments.seed
    chosen = choose_scenes(arguments.split, arguments.count, two_object_share=share, seed=seed)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(prompt_table(chosen), arguments.out)
    print(f"{arguments.out}: {arguments.count} prompts of the {arguments.split} split")


if __name__ == "__main__":
    main()
