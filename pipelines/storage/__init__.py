"""Objects under a root URI: a local folder, a bucket of an S3 server, or what fsspec serves.

    storage = open_storage("s3://bucket/runs/one?endpoint_url=https://minio.example:9000")
    storage.create("run.json", data)     # False when another writer was first

Paths are relative to the root and use "/". A write is complete or absent, never partial.
"""

from pipelines.storage.interface import (
    TEMPORARY,
    ConditionalWriteError,
    ObjectMissingError,
    Storage,
    StorageError,
    StoredObject,
    Upload,
)
from pipelines.storage.uris import child, open_storage, split_uri, without_options

__all__ = [
    "TEMPORARY",
    "ConditionalWriteError",
    "ObjectMissingError",
    "Storage",
    "StorageError",
    "StoredObject",
    "Upload",
    "child",
    "open_storage",
    "split_uri",
    "without_options",
]
