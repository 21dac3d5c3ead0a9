"""Storage in a bucket of an S3 server, through boto3.

The server is `AWS_ENDPOINT_URL` when set, else Amazon's; credentials come from boto3's usual places.
"""

import contextlib
import functools
import io
import os
import time
from collections.abc import Iterator
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from typing_extensions import override

from pipelines.storage import ObjectMissingError, Storage, StorageError, StoredObject

_MISSING = {"404", "NoSuchKey", "NotFound"}
_NO_BUCKET = {"NoSuchBucket"}
_DENIED = {"403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
_EXISTS = {"412", "PreconditionFailed"}
_CONFLICT = {"409", "ConditionalRequestConflict", "OperationAborted"}
_CREATE_TRIES = 8
_READ_AHEAD_BYTES = 1 << 18


class S3Storage(Storage):
    """Objects under `s3://bucket/prefix`. The endpoint is the one the driver saw, on every node."""

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        if not parts.netloc:
            raise StorageError(f"{uri}: no bucket; write s3://bucket/prefix")
        self.bucket = parts.netloc
        self.prefix = parts.path.strip("/")
        self.uri = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        self.endpoint_url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")

    def __repr__(self) -> str:
        return f"S3Storage({self.uri!r})"

    @override
    def read(self, path: str) -> bytes:
        with self._explained(path):
            return cast(
                bytes, self._client.get_object(Bucket=self.bucket, Key=self._key(path))["Body"].read()
            )

    @override
    def open(self, path: str) -> BinaryIO:
        return io.BufferedReader(_RangeReader(self, path, self.size(path)), _READ_AHEAD_BYTES)

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """The object's bytes from `start` up to, not including, `stop`."""
        with self._explained(path):
            reply = self._client.get_object(
                Bucket=self.bucket, Key=self._key(path), Range=f"bytes={start}-{stop - 1}"
            )
            return cast(bytes, reply["Body"].read())

    @override
    def write(self, path: str, data: bytes) -> None:
        with self._explained(path):
            self._client.put_object(Bucket=self.bucket, Key=self._key(path), Body=data)

    @override
    def create(self, path: str, data: bytes) -> bool:
        for attempt in range(_CREATE_TRIES):
            try:
                with self._explained(path):
                    self._client.put_object(
                        Bucket=self.bucket, Key=self._key(path), Body=data, IfNoneMatch="*"
                    )
                return True
            except _AlreadyThereError:
                return False
            except _ConflictError:  # another write of this key is under way: its end decides
                if self.exists(path):
                    return False
                time.sleep(0.1 * 2**attempt)
        raise StorageError(
            f"{self.uri_of(path)}: {_CREATE_TRIES} writes met another under way; start the job again"
        )

    @override
    def size(self, path: str) -> int:
        return cast(int, self._head(path)["ContentLength"])

    @override
    def fingerprint(self, path: str) -> str:
        head = self._head(path)
        return f"etag:{head['ETag'].strip(chr(34))}:{head['ContentLength']}"

    @override
    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        start = len(self._key(""))
        with self._explained(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self._key(prefix)
            )
            for page in pages:
                for entry in page.get("Contents", []):
                    yield StoredObject(
                        path=entry["Key"][start:],
                        size_bytes=entry["Size"],
                        modified_at=entry["LastModified"].timestamp(),
                    )

    @override
    def delete(self, path: str) -> None:
        with self._explained(path):
            self._client.delete_object(Bucket=self.bucket, Key=self._key(path))

    @property
    def _client(self) -> Any:
        return _client(self.endpoint_url)

    def _key(self, path: str) -> str:
        return f"{self.prefix}/{path}" if self.prefix else path

    def _head(self, path: str) -> dict[str, Any]:
        with self._explained(path):
            return cast(dict[str, Any], self._client.head_object(Bucket=self.bucket, Key=self._key(path)))

    @contextlib.contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        """Turn botocore's errors into ours, which say what to do."""
        uri, server = self.uri_of(path), self.endpoint_url or "Amazon S3"
        try:
            yield
        except NoCredentialsError as error:
            raise StorageError(
                f"{uri}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            ) from error
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _EXISTS:
                raise _AlreadyThereError(f"{uri}: exists already") from error
            if code in _CONFLICT:
                raise _ConflictError(f"{uri}: another write is in progress") from error
            if code in _MISSING:
                raise ObjectMissingError(f"{uri}: no such object on {server}") from error
            if code in _NO_BUCKET:
                raise StorageError(
                    f"{uri}: {server} has no bucket '{self.bucket}'; create it, or set "
                    "AWS_ENDPOINT_URL to the server that has it"
                ) from error
            if code in _DENIED:
                raise StorageError(
                    f"{uri}: {server} denied access ({code}); check AWS_ACCESS_KEY_ID, "
                    "AWS_SECRET_ACCESS_KEY and the bucket's policy (read, write, list)"
                ) from error
            raise StorageError(f"{uri}: {server} answered {code}: {error}") from error
        except BotoCoreError as error:
            raise StorageError(
                f"{uri}: cannot talk to {server} ({error}); check AWS_ENDPOINT_URL, AWS_REGION "
                "and the network"
            ) from error


class _AlreadyThereError(StorageError):
    """A conditional write found an object."""


class _ConflictError(StorageError):
    """A conditional write met another write of the same key."""


class _RangeReader(io.RawIOBase):
    """A seekable view of one object, read by ranges."""

    def __init__(self, storage: S3Storage, path: str, size_bytes: int) -> None:
        self._storage, self._path, self._size = storage, path, size_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = (
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        )
        return self._position

    def readinto(self, buffer: Any) -> int:
        stop = min(self._position + len(buffer), self._size)
        if stop <= self._position:
            return 0
        data = self._storage.read_range(self._path, self._position, stop)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@functools.cache
def _client(endpoint_url: str | None) -> Any:
    """One client a process and server; clients are thread-safe."""
    config = Config(retries={"mode": "standard", "max_attempts": 8}, max_pool_connections=32)
    session = boto3.session.Session()  # boto3's own default session breaks when threads start with it at once
    return session.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=os.environ.get("AWS_REGION"),  # boto3 itself reads only AWS_DEFAULT_REGION
        config=config,
    )
