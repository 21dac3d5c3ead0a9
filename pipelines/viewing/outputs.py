"""What can be viewed: the output of `generate`, `score` or `curate`, whether it is finished or not."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.curation.layout import SELECTIONS, runs_in, scores_uri, selection_uri
from pipelines.errors import RefusalError
from pipelines.ledger import RUN_PATH, Ledger
from pipelines.manifest import MANIFEST_PATH
from pipelines.storage import open_storage, without_options

JOBS = ("generate", "score")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A selection.

    Attributes:
        uri: Its folder.
        manifest_sha256: Differs where its decisions do.
    """

    uri: str
    manifest_sha256: str


@dataclass(frozen=True, kw_only=True)
class Output:
    """An output folder.

    Attributes:
        uri: The folder.
        ledger: The run in it; of a curation that of its scores.
        is_curation: Whether there are selections beside the scores, or may be.
    """

    uri: str
    ledger: Ledger
    is_curation: bool

    @property
    def name(self) -> str:
        """The folder without the options of its server."""
        return without_options(self.uri)

    @property
    def keeps_images(self) -> bool:
        """Whether the rows' images are in the output itself, not in the input of scoring."""
        return self.ledger.spec.job == "generate" or self.ledger.spec.config["keep"] != "none"

    @property
    def is_finished(self) -> bool:
        """Whether there is a manifest."""
        return self.ledger.storage.exists(MANIFEST_PATH)

    def selections(self) -> dict[str, Selection]:
        """A curation's finished selections as they are now, by name.

        Raises:
            StorageError: The storage cannot be read.
        """
        if not self.is_curation:
            return {}
        uris = {name: selection_uri(self.uri, name) for name in runs_in(self.uri, SELECTIONS)}
        return {
            name: Selection(uri=uri, manifest_sha256=open_storage(uri).sha256(MANIFEST_PATH))
            for name, uri in uris.items()
        }


def open_output(uri: str) -> Output:
    """The output at a URI.

    Raises:
        RefusalError: It is none that can be viewed.
        StorageError: The storage cannot be read.
    """
    if open_storage(uri).exists(RUN_PATH):
        ledger, is_curation = Ledger.load(uri), False
    elif open_storage(scores_uri(uri)).exists(RUN_PATH):
        ledger, is_curation = Ledger.load(scores_uri(uri)), True
    else:
        raise RefusalError(
            f"{without_options(uri)}: neither run.json nor scores/run.json is in it; name the folder that "
            "generate, score or curate was given as `output`"
        )
    if ledger.spec.job not in JOBS:
        raise RefusalError(
            f"{without_options(uri)}: the output of '{ledger.spec.job}', whose rows cannot be viewed; name "
            "one of generate, score or curate"
        )
    return Output(uri=uri, ledger=ledger, is_curation=is_curation)
