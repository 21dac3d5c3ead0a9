"""Where curation puts what it makes, in its output folder."""

from pipelines.errors import RefusalError
from pipelines.manifest import MANIFEST_PATH
from pipelines.storage import child, open_storage

DUPLICATES, SELECTIONS, DATASETS = "duplicates", "selections", "datasets"


def scores_uri(output: str) -> str:
    """The scores."""
    return child(output, "scores")


def duplicates_uri(output: str, digest: str) -> str:
    """The pairs of duplicates of the search with that digest."""
    return child(output, f"{DUPLICATES}/{digest}")


def selection_uri(output: str, name: str) -> str:
    """The selection of that name."""
    return child(output, f"{SELECTIONS}/{name}")


def dataset_uri(output: str, name: str) -> str:
    """The training set that the selection of that name became."""
    return child(output, f"{DATASETS}/{name}")


def runs_in(output: str, folder: str, marker: str = MANIFEST_PATH) -> dict[str, float]:
    """The runs in DUPLICATES, SELECTIONS or DATASETS: their names, sorted, with the marker's Unix time.

    Args:
        output: The output folder.
        folder: In it.
        marker: A file that all of them have: by default the manifest, so that they are finished.
    """
    entries = open_storage(child(output, folder)).list()
    found = [(*entry.path.partition("/"), entry.modified_at) for entry in entries]
    return {name: modified_at for name, _, path, modified_at in sorted(found) if path == marker}


def selection_inputs(output: str, duplicates: str | None) -> tuple[str, str | None]:
    """The scores in an output folder and the pairs of duplicates, None where there are none.

    Raises:
        RefusalError: The scores are not finished, or there are pairs of several settings.
    """
    scores = scores_uri(output)
    if not open_storage(scores).exists(MANIFEST_PATH):
        raise RefusalError(f"{scores}: no finished scores; run `python -m jobs curate` to its end first")
    if duplicates is not None:
        return scores, duplicates
    folder = child(output, DUPLICATES)
    digests = list(runs_in(output, DUPLICATES))
    if len(digests) > 1:
        raise RefusalError(
            f"{folder}: pairs of several settings ({', '.join(digests)}); say with --duplicates which folder "
            "to use"
        )
    return scores, duplicates_uri(output, digests[0]) if digests else None
