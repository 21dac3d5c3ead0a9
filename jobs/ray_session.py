"""Connecting a job to Ray."""

from __future__ import annotations

import os
from typing import Any


def connect() -> None:
    """Join the cluster that RAY_ADDRESS names (Ray Jobs sets it), or start Ray on this machine."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if "RAY_ADDRESS" not in os.environ:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Ray warns on the terminal about the arguments of its own actors; unset this to debug Ray itself
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        options |= {"address": "local", "include_dashboard": False}
    import ray  # reads the environment; and 1 s that --help need not wait for
    from ray.job_config import JobConfig

    workers = JobConfig()
    # Workers log JSON lines. As an argument of init this would turn the driver's terminal to JSON too.
    workers.set_py_logging_config(ray.LoggingConfig(encoding="JSON"))
    ray.init(job_config=workers, **options)
