"""A driver that a test kills: `python -m tests.pipelines.training.driver TOKENS OUTPUT [KEY=VALUE …]`."""

import sys

import ray

from pipelines.training.trainer import plan_training
from tests.pipelines.training.tiny_training import train_config

if __name__ == "__main__":
    tokens, output, *overrides = sys.argv[1:]
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    plan_training(train_config(tokens, output, *overrides)).run()
