"""Read the images of a table's rows, wherever these say that they are."""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow.parquet as pq

from pipelines.decoding import ImageError
from pipelines.images import image_bytes
from pipelines.plan import Unit
from pipelines.sources.byte_ranges import Place, read_places
from pipelines.sources.fetching import Fetcher, Wanted, is_url
from pipelines.sources.interface import SampleError
from pipelines.sources.rows import Row, check_unit_bytes
from pipelines.sources.settings import SourceSettings
from pipelines.sources.tar_index import ensure_index, index_path
from pipelines.sources.tars import fill_image
from pipelines.storage import Storage, child, open_storage
from pipelines.web import WebError

_THREADS = 16


@dataclass(frozen=True, kw_only=True)
class NamedImage:
    """The image of a row.

    Attributes:
        row: The row, which is filled.
        data: Its bytes, where the table has them.
        path: Where else it is: a path, URI or URL.
        digests: Hashes in hexadecimal that it must have if it is fetched, by algorithm.
    """

    row: Row
    data: bytes | None
    path: str | None
    digests: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class ImagePlaces:
    """Where the rows of Parquet objects may have their images.

    A path is relative to the folder of the Parquet object. Rows of a dataset of this project that is packed
    as WebDataset name members of the tar beside their object, which has its stem, or samples of it:
    `STEM.tar/NAME`.

    Attributes:
        storage: Where the Parquet objects are.
        index_uri: The folder of tar indexes.
        settings: What may be read.
        has_tars: Whether each may have a tar beside it that its rows name members of.
        fetches: Whether images on the web are fetched; else each is a fault.
    """

    storage: Storage
    index_uri: str
    has_tars: bool
    settings: SourceSettings
    fetches: bool = True

    def fill(self, unit: Unit, images: Sequence[NamedImage]) -> None:
        """Fill the rows of a unit with their images, or with what is wrong with these.

        Raises:
            StorageError: The tar beside the object cannot be read.
            SourceError: The images are larger than `max_unit_bytes`.
        """
        prefix = member_path(unit, "")
        members, urls, files = [], [], []
        for image in images:
            image.row.image_path = image.path
            if image.row.fault is not None:
                continue
            if not image.data and image.path and is_url(image.path):
                urls.append(image)
            elif self.has_tars and not image.data and image.path and image.path.startswith(prefix):
                members.append(image)
            else:
                files.append(image)
        self._check(unit, images)
        self._read_files(unit, files)
        if members:
            self._read_members(unit, members, len(prefix))
        if urls and self.fetches:
            self._fetch(unit, images, urls)
        elif urls:
            for image in urls:
                image.row.fail(WebError("the image is on the web, and nothing is fetched here"), "fetch")

    def _check(self, unit: Unit, images: Sequence[NamedImage]) -> None:
        num_bytes = sum(len(image.row.encoded or image.data or b"") for image in images)
        check_unit_bytes(unit, num_bytes, self.settings.max_unit_bytes)

    def _read_files(self, unit: Unit, images: Sequence[NamedImage]) -> None:
        parent = unit.path.rpartition("/")[0]
        folder_uri = child(self.storage.uri, parent) if parent else self.storage.uri

        def read(image: NamedImage) -> None:
            try:
                value = {"bytes": image.data, "path": image.path}
                image.row.encoded = image_bytes(value, folder_uri, self.settings.row_images)
            except ImageError as error:
                image.row.fail(error)

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(read, images))
        self._check(unit, images)

    def _read_members(self, unit: Unit, images: Sequence[NamedImage], prefix_characters: int) -> None:
        tar = _own_tar(unit)
        members = _members(self.storage, tar, open_storage(self.index_uri))
        wanted = [members.get((image.path or "")[prefix_characters:]) for image in images]
        limit = self.settings.row_images.max_bytes
        readable = [found[1] for found in wanted if found is not None and found[1][1] <= limit]
        check_unit_bytes(unit, sum(size for _, size in readable), self.settings.max_unit_bytes)
        datas = read_places(self.storage, tar, readable)
        for image, found in zip(images, wanted, strict=True):
            if found is None:
                image.row.fail(SampleError(f"{image.path}: the tar has no such image"))
                continue
            image.row.image_path = member_path(unit, found[0])
            fill_image(image.row, datas.get(found[1], b""), found[1][1], image.row.image_path, self.settings)

    def _fetch(self, unit: Unit, images: Sequence[NamedImage], urls: Sequence[NamedImage]) -> None:
        wanted = [Wanted(url=image.path or "", digests=image.digests) for image in urls]
        fetcher = Fetcher.of(self.settings.row_images, self.settings.fetch)
        for number, result in fetcher.fetch(wanted):
            if isinstance(result, bytes):
                urls[number].row.encoded = result
            else:
                urls[number].row.fail(result, "fetch")
            self._check(unit, images)


def member_path(unit: Unit, name: str) -> str:
    """The path of a member of the tar beside a unit's Parquet object, as rows name it."""
    return f"{_own_tar(unit).rpartition('/')[2]}/{name}"


def _own_tar(unit: Unit) -> str:
    return f"{unit.path.removesuffix('.parquet')}.tar"


@functools.lru_cache(maxsize=4)
def _members(storage: Storage, tar: str, index_storage: Storage) -> dict[str, tuple[str, Place]]:
    """Names of a tar's images and where they are, by name, and by their sample's key."""
    found = ensure_index(storage, tar, index_storage)
    with index_storage.open(index_path(tar, found.fingerprint)) as stream:
        index = pq.read_table(stream, columns=["key", "path", "offset", "size"])
    entries = [entry for entry in index.to_pylist() if entry["offset"] is not None]
    places = [(entry["path"], (entry["offset"], entry["size"])) for entry in entries]
    by_key = {entry["key"]: place for entry, place in zip(entries, places, strict=True)}
    return by_key | {place[0]: place for place in places}
