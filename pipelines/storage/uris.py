"""Storage by URI. Options for a server stand in the URI's query, so each location may have its own.

s3://bucket/runs?endpoint_url=https://minio.example:9000&addressing_style=path&profile=lab
file:///mnt/usb/runs?single_writer=true
gs://bucket/runs
"""

from urllib.parse import parse_qsl, unquote, urlsplit

from pipelines.storage.interface import Storage, StorageError
from pipelines.storage.local import LocalStorage

FSSPEC_SCHEMES = ("gs", "gcs", "az", "abfs", "abfss", "hdfs", "oci", "oss", "memory")
"""Of those that fsspec knows the ones that can be written; each needs its own package."""


def open_storage(uri: str) -> Storage:
    """The storage at a URI: a plain path, `file://`, `s3://bucket/prefix` or one of FSSPEC_SCHEMES.

    Raises:
        StorageError: The scheme or an option is not served, or its package is not installed.
    """
    location, options = _split_options(uri)
    scheme = urlsplit(location).scheme if "://" in location else ""
    if scheme == "s3":
        from pipelines.storage.s3 import S3Options, S3Storage  # boto3 takes 0.3 s to import

        return S3Storage(uri, S3Options.parse(options, location))
    single_writer = _only_single_writer(options, location)
    if scheme == "file":
        return LocalStorage(unquote(urlsplit(location).path), single_writer=single_writer)
    if scheme in FSSPEC_SCHEMES:
        from pipelines.storage.remote import FsspecStorage

        return FsspecStorage(location, single_writer=single_writer)
    if scheme:
        raise StorageError(f"{location}: no storage for '{scheme}://'; use a folder, file://, s3:// or gs://")
    return LocalStorage(location)


def split_uri(uri: str) -> tuple[Storage, str]:
    """The storage of the folder that holds an object, and the object's name in it."""
    location, _ = _split_options(uri)
    root, _, name = location.rstrip("/").rpartition("/")
    if not root:
        return open_storage("/" if uri.startswith("/") else "."), name
    return open_storage(root + uri[len(location) :]), name


def child(uri: str, path: str) -> str:
    """The URI of what lies at `path` below `uri`, with the same options."""
    location, _ = _split_options(uri)
    return f"{location.rstrip('/')}/{path}{uri[len(location) :]}"


def without_options(uri: str) -> str:
    """The URI without its options: a name, the same wherever the server is."""
    return _split_options(uri)[0]


def read_flag(name: str, value: str, location: str) -> bool:
    """An option that is true or false."""
    if value not in ("true", "false"):
        raise StorageError(f"{location}: option {name}={value}; write {name}=true or {name}=false")
    return value == "true"


def _split_options(uri: str) -> tuple[str, dict[str, str]]:
    """The URI before its query, and the query; a plain path may contain any character."""
    if "://" not in uri:
        return uri, {}
    location, _, query = uri.partition("?")
    if "@" in urlsplit(location).netloc:
        scheme = urlsplit(location).scheme
        raise StorageError(
            f"{scheme}://…@…: credentials do not belong into a URI; set them as {scheme} clients do"
        )
    return location, dict(parse_qsl(query, keep_blank_values=True))


def _only_single_writer(options: dict[str, str], location: str) -> bool:
    if unknown := sorted(set(options) - {"single_writer"}):
        raise StorageError(f"{location}: unknown option '{unknown[0]}'; the only one here is single_writer")
    return read_flag("single_writer", options.get("single_writer", "false"), location)
