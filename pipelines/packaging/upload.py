"""Upload a packaged set to the Hugging Face hub, from wherever it is.

    check_credentials(config), before all else
    hub = HubTarget.prepare(config), before anything is computed
    hub.upload(storage)

Files go in batches, a commit each, and the card and the manifest with the last; what the hub has already is
left alone. So an upload that was cut off goes on. Credentials are those of `HF_TOKEN` or `hf auth login`.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.hf_api import RepoFile

from pipelines.cards.card import CARD_PATH
from pipelines.errors import RefusalError, TransientError
from pipelines.manifest import MANIFEST_PATH, read_entries, read_manifest
from pipelines.packaging.settings import PackageConfig
from pipelines.storage import Storage
from schemas.manifest import ObjectEntry

BATCH_FILES, BATCH_BYTES = 100, 2 << 30
"""Of a commit; its files are on the driver's disk meanwhile."""
DATA = "data/"
_PREFIX = "hf://datasets/"
_CHUNK_BYTES = 1 << 20
_SHOWN = 3
_BUSY, _SERVER_ERROR = 429, 500
_HttpError = cast(type[Exception], HfHubHTTPError.__mro__[1])
"""Of the client's HTTP library, which differs between its versions."""


class UploadError(RefusalError):
    """The set cannot be uploaded; the message says why."""


class UploadStoppedError(UploadError, TransientError):
    """The hub cannot be reached, or broke off."""


def check_credentials(config: PackageConfig) -> None:
    """That there are credentials, where something is to be uploaded.

    Raises:
        UploadError: There are none.
    """
    if config.upload is not None and not huggingface_hub.get_token():
        raise UploadError(
            f"upload = {config.upload}: no credentials for the hub; set HF_TOKEN to a token that may write, "
            "or log in with `hf auth login`"
        )


@dataclass(frozen=True, kw_only=True)
class HubTarget:
    """A repository of datasets that may be written to.

    Attributes:
        api: The hub.
        name: `OWNER/NAME`.
        revision: The branch.
    """

    api: HfApi
    name: str
    revision: str

    @classmethod
    def prepare(cls, config: PackageConfig) -> HubTarget | None:
        """The repository that `upload` names, made where there is none; None where it names none.

        Raises:
            UploadError: The credentials may not write there, or it is public and must not be.
        """
        if config.upload is None:
            return None
        target = cls(api=HfApi(), name=config.upload.removeprefix(_PREFIX), revision=config.revision)
        with target._told():
            target.api.create_repo(target.name, repo_type="dataset", private=config.private, exist_ok=True)
            info = target.api.repo_info(target.name, repo_type="dataset")
            if config.private and not info.private:
                raise UploadError(
                    f"{config.upload}: the repository is public; set private=false to upload there, or name "
                    "another one"
                )
            if config.revision != "main":
                target.api.create_branch(
                    target.name, branch=config.revision, repo_type="dataset", exist_ok=True
                )
        return target

    def upload(self, storage: Storage, on_sent: Callable[[str], None] = lambda path: None) -> str:
        """Upload the data objects of a finished set, then its card and manifest.

        Args:
            storage: The set.
            on_sent: Called with the path of each file that is there now.

        Returns:
            The repository's URL.

        Raises:
            UploadError: The repository has other data, or the hub refuses.
            UploadStoppedError: The hub cannot be reached; started again, the upload goes on.
        """
        entries = read_entries(storage)
        parts = [ObjectEntry(**part) for part in read_manifest(storage).get("parts", ())]
        with self._told():
            self._refuse_other_data({entry.path for entry in entries})
            for batch in _batches([*entries, *parts]):
                missing = self._missing(batch)
                if missing:
                    with tempfile.TemporaryDirectory(prefix="upload-") as folder:
                        self._commit(
                            [_fetched(storage, entry, Path(folder)) for entry in missing], batch[0].path
                        )
                for entry in batch:
                    on_sent(entry.path)
            last = [CommitOperationAdd(path, storage.read(path)) for path in (CARD_PATH, MANIFEST_PATH)]
            self._commit(last, MANIFEST_PATH)
        return f"{self.api.endpoint}/datasets/{self.name}/tree/{self.revision}"

    def _commit(self, files: Sequence[CommitOperationAdd], first: str) -> None:
        self.api.create_commit(
            self.name,
            files,
            commit_message=f"Add {first}" + (f" and {len(files) - 1} more" if len(files) > 1 else ""),
            repo_type="dataset",
            revision=self.revision,
        )

    def _missing(self, batch: Sequence[ObjectEntry]) -> list[ObjectEntry]:
        """Those that the hub does not have, or has with other bytes."""
        infos = self.api.get_paths_info(
            self.name, [entry.path for entry in batch], repo_type="dataset", revision=self.revision
        )
        there = {info.path: info.lfs.sha256 for info in infos if isinstance(info, RepoFile) and info.lfs}
        return [entry for entry in batch if there.get(entry.path) != entry.sha256]

    def _refuse_other_data(self, ours: set[str]) -> None:
        """Loaders would read it too: shards of the same set that was cut in another way, say."""
        paths = self.api.list_repo_files(self.name, repo_type="dataset", revision=self.revision)
        others = sorted(path for path in paths if path.startswith(DATA) and path not in ours)
        if others:
            raise UploadError(
                f"{_PREFIX}{self.name}: has {len(others)} files in {DATA} that are not this set's, such as "
                f"{', '.join(others[:_SHOWN])}; delete them there, or set another revision"
            )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The hub's errors as ours."""
        where = f"{_PREFIX}{self.name}"
        try:
            yield
        except HFValidationError as error:
            raise UploadError(f"{where}: {error}; correct upload or revision") from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status == _BUSY or status >= _SERVER_ERROR:
                raise UploadStoppedError(f"{where}: {error}; start again to go on") from error
            raise UploadError(
                f"{where}: {error}; check the name, the revision, and that the token may write there"
            ) from error
        except _HttpError as error:
            raise UploadStoppedError(
                f"{where}: the hub cannot be reached ({error}); start again to go on"
            ) from error
        except RuntimeError as error:  # what the hub's client makes of a broken upload
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            raise UploadStoppedError(f"{where}: {error}{cause}; start again to go on") from error


def _batches(entries: Sequence[ObjectEntry]) -> Iterator[list[ObjectEntry]]:
    """The files of each commit."""
    batch: list[ObjectEntry] = []
    num_bytes = 0
    for entry in entries:
        if batch and (len(batch) == BATCH_FILES or num_bytes + entry.size > BATCH_BYTES):
            yield batch
            batch, num_bytes = [], 0
        batch.append(entry)
        num_bytes += entry.size
    if batch:
        yield batch


def _fetched(storage: Storage, entry: ObjectEntry, folder: Path) -> CommitOperationAdd:
    """A file of the set on the local disk, once it is what the manifest records.

    Raises:
        UploadError: It is not.
    """
    path, digest = folder / entry.path, hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with storage.open(entry.path) as stream, path.open("wb") as file:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != entry.sha256:
        raise UploadError(
            f"{storage.uri_of(entry.path)}: not what the manifest records; run `python -m jobs verify "
            f"{storage.uri}`, and package the set again"
        )
    return CommitOperationAdd(entry.path, str(path))
