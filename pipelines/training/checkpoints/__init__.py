"""Checkpoints of a training: written while it goes on, complete or absent, read by any number of workers."""

from pipelines.training.checkpoints.saving import Checkpointer
from pipelines.training.checkpoints.store import CheckpointRecord, CheckpointStore, CheckpointStoreError

__all__ = ["CheckpointRecord", "CheckpointStore", "CheckpointStoreError", "Checkpointer"]
