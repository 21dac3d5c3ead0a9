"""Where curation puts what it makes, in its output folder."""

from pathlib import PurePath

from pipelines.errors import RefusalError
from pipelines.manifest import MANIFEST_PATH
from pipelines.storage import child, open_storage

SCORES, DUPLICATES, SELECTIONS, DATASETS = "scores", "duplicates", "selections", "datasets"


def scores_uri(output: str) -> str:
    """The scores."""
    return child(output, SCORES)


def selection_uri(output: str, name: str | None, recipe: str) -> str:
    """The selection of that name, or of the recipe's file."""
    return child(output, f"{SELECTIONS}/{name or PurePath(recipe).stem}")


def selection_inputs(output: str, duplicates: str | None) -> tuple[str, str | None]:
    """The scores in an output folder and the pairs of duplicates, None where there are none.

    Raises:
        RefusalError: The scores are not finished, or there are pairs of several settings.
    """
    if not open_storage(scores_uri(output)).exists(MANIFEST_PATH):
        raise RefusalError(
            f"{scores_uri(output)}: no finished scores; run `python -m jobs curate` to its end first"
        )
    if duplicates is not None:
        return scores_uri(output), duplicates
    names = [e.path for e in open_storage(child(output, DUPLICATES)).list() if e.path.endswith(MANIFEST_PATH)]
    if len(names) > 1:
        raise RefusalError(
            f"{child(output, DUPLICATES)}: pairs of several settings ({', '.join(names)}); "
            "say with --duplicates which folder to use"
        )
    folder = child(output, f"{DUPLICATES}/{names[0].removesuffix('/' + MANIFEST_PATH)}") if names else None
    return scores_uri(output), folder
