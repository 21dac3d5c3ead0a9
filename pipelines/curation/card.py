"""The dataset card of a training set: a README.md that Hugging Face datasets and people read."""

from __future__ import annotations

import json
from typing import Any

import yaml

from pipelines.curation.settings import CurateConfig
from pipelines.dataset_card import CARD_PATH, DATA_FILES, LOADING
from pipelines.storage import Storage, open_storage
from pipelines.tally import RunSummary


def write_card(storage: Storage, config: CurateConfig, selection_uri: str, summary: RunSummary) -> None:
    """Write `README.md` beside the training set's manifest."""
    selection = open_storage(selection_uri)
    funnel = json.loads(selection.read("funnel.json"))
    recipe = json.loads(selection.read("recipe.json"))
    storage.write(CARD_PATH, card_text(config, funnel, recipe, summary).encode())


def card_text(config: CurateConfig, funnel: dict[str, Any], recipe: Any, summary: RunSummary) -> str:
    """The card: what the images are, how they were chosen, how to read them."""
    assert config.export is not None
    facts = {
        "configs": [{"config_name": "default", "data_files": DATA_FILES[config.export.format]}],
        "task_categories": ["text-to-image"],
    }
    settings = config.model_dump(mode="json", include={"score", "dedup", "export"})
    failed = (
        f" {summary.rows_failed:,} could not be written: `failed/` says why." if summary.rows_failed else ""
    )
    return f"""---
{yaml.safe_dump(facts, sort_keys=False).strip()}
---

# {config.name}

{summary.rows_out:,} images.{failed} `manifest.json` names every object with its size, SHA-256 and row count.
Of each image there is its caption, its size before and after, its place in the input, and all its scores.

## Reading it

{LOADING[config.export.format]}

## How it was selected

{_funnel_table(funnel)}

```yaml
{yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)}```

## Settings

```yaml
{yaml.safe_dump(settings, sort_keys=True, allow_unicode=True)}```
"""


def _funnel_table(funnel: dict[str, Any]) -> str:
    """The funnel in Markdown."""
    lines = ["| rule | dropped | left |", "|---|---|---|"]
    left = funnel["rows"]
    failed = [{"name": kind, "dropped": count} for kind, count in funnel["failed"].items()]
    for step in [*failed, *funnel["steps"]]:
        left -= step["dropped"]
        name = step["name"].replace("|", r"\|").replace("\n", " ")
        lines.append(f"| {name} | {step['dropped']:,} | {left:,} |")
    return "\n".join(lines)
