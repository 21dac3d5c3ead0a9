"""The weights in a checkpoint, read by one process without a group: for export, and for the next stage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from meissonic.config import TransformerConfig
from meissonic.transformer import Transformer
from pipelines.json_files import parse_json
from pipelines.ledger import RUN_PATH
from pipelines.storage import ObjectMissingError, Storage, child, open_storage, without_options
from pipelines.training.checkpoints import CheckpointStore, CheckpointStoreError
from pipelines.training.checkpoints.loading import fetch_checkpoint, read_tensors
from pipelines.training.checkpoints.reading import TensorReader
from pipelines.training.checkpoints.store import CHECKPOINTS, record_path
from pipelines.training.job import STAGES

WeightsName = Literal["average", "raw"]
SECTIONS: dict[WeightsName, str] = {"average": "average", "raw": "model"}
"""Where in a checkpoint's state they are."""
_NEEDED = ("transformer", "init", "score_condition", "resolution")
_RECORD = re.compile(rf"(.*)/{CHECKPOINTS}step-(\d{{8,}})\.json")
_USE = "name the output of a `train` job, OUTPUT/stages/NAME, or the record of a checkpoint in it"


@dataclass(frozen=True, kw_only=True)
class TrainedWeights:
    """What was trained.

    Attributes:
        checkpoint: URI of the checkpoint's record.
        config: Of its stage, as run.json has it.
        transformer: The transformer's configuration.
        tensors: By name in the trained module, such as "transformer.embed.conv.weight".
    """

    checkpoint: str
    config: dict[str, Any]
    transformer: TransformerConfig
    tensors: dict[str, Tensor] = field(repr=False)

    def weights(self, part: Literal["transformer", "text_encoder"]) -> dict[str, Tensor]:
        """Those of one part, by their names in it; none where it was not trained."""
        return below(self.tensors, part)

    def new_transformer(self) -> Transformer:
        """The transformer with these weights, on the CPU.

        Raises:
            CheckpointStoreError: The weights are not those of its configuration.
        """
        with torch.device("meta"):
            transformer = Transformer(self.transformer)
        try:
            transformer.load_state_dict(self.weights("transformer"), assign=True)
        except RuntimeError as error:
            raise CheckpointStoreError(
                f"{self.checkpoint}: the tensors are not those of the configuration in run.json: {error}"
            ) from error
        return transformer


def below(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Those whose names begin with `part` and a dot, by the rest of their names."""
    prefix = f"{part}."
    return {name.removeprefix(prefix): w for name, w in tensors.items() if name.startswith(prefix)}


def read_weights(uri: str, weights: WeightsName) -> TrainedWeights:
    """Read the weights of a checkpoint; its files are brought to the node's cache.

    Args:
        uri: Output of a `train` job (its last stage's newest checkpoint), OUTPUT/stages/NAME (its newest), or
            OUTPUT/stages/NAME/checkpoints/step-00000100.json.
        weights: The averaged ones, or those of the last step.

    Raises:
        CheckpointStoreError: There is no such checkpoint or it is damaged.
    """
    store, step = find_checkpoint(uri)
    checkpoint = store.storage.uri_of(record_path(step))
    config = _config(store.storage)
    folder = fetch_checkpoint(store.storage, store.record(step))
    section = SECTIONS[weights]
    tensors = _empty_tensors(TensorReader(folder).read_metadata(), section)
    if not tensors:
        other = next(name for name in SECTIONS if name != weights)
        raise CheckpointStoreError(f"{checkpoint}: it has no {weights} weights; ask for {other}")
    read_tensors(folder, {section: tensors}, checkpoint)
    return TrainedWeights(
        checkpoint=checkpoint,
        config=config,
        transformer=TransformerConfig.from_json(config["transformer"]),
        tensors=tensors,
    )


def find_checkpoint(uri: str) -> tuple[CheckpointStore, int]:
    """The stage's checkpoints, and the step of the one that `uri` means; see `read_weights`."""
    location, options = without_options(uri), uri[len(without_options(uri)) :]
    if match := _RECORD.fullmatch(location):
        return CheckpointStore(open_storage(match[1] + options)), int(match[2])
    storage = open_storage(uri)
    for stage in reversed(_stages(storage) or [storage]):
        store = CheckpointStore(stage)
        if (step := store.newest()) is not None:
            return store, step
    what = "no complete checkpoint in it yet" if storage.exists(RUN_PATH) else "no training there"
    raise CheckpointStoreError(f"{uri}: {what}; {_USE}")


def _config(stage: Storage) -> dict[str, Any]:
    """The configuration in a stage's run.json.

    Raises:
        CheckpointStoreError: There is none, or it is not a training's.
    """
    uri = stage.uri_of(RUN_PATH)
    try:
        config = parse_json(stage.read(RUN_PATH), uri).get("config", {})
    except ObjectMissingError as error:
        raise CheckpointStoreError(f"{uri}: no such file; {_USE}") from error
    if missing := [name for name in _NEEDED if name not in config]:
        raise CheckpointStoreError(f"{uri}: no {', '.join(missing)} in its config; {_USE}")
    return config


def _stages(output: Storage) -> list[Storage]:
    """The folders of an output's stages: each after the one that it started from, else as they began."""
    pattern = re.compile(rf"{STAGES}/([^/]+)/{re.escape(RUN_PATH)}")
    found = {m[1]: e.modified_at for e in output.list(f"{STAGES}/") if (m := pattern.fullmatch(e.path))}
    stages = {name: open_storage(child(output.uri, f"{STAGES}/{name}")) for name in found}
    before = {name: (_config(stage).get("start") or {}).get("stage") for name, stage in stages.items()}

    def position(name: str) -> int:
        earlier = before.get(name)
        return 0 if earlier is None else 1 + position(earlier)

    return [stages[name] for name in sorted(stages, key=lambda name: (position(name), found[name]))]


def _empty_tensors(metadata: Metadata, section: str) -> dict[str, Tensor]:
    """Room for the tensors of a section, on the CPU."""
    paths = {
        key: path for key, path in metadata.planner_data.items() if path[0] == section and len(path) == 2
    }
    found = {path[1]: metadata.state_dict_metadata[key] for key, path in paths.items()}
    return {
        name: torch.empty(one.size, dtype=one.properties.dtype)
        for name, one in found.items()
        if isinstance(one, TensorStorageMetadata)
    }
