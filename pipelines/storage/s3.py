"""Storage in a bucket of an S3 server, through boto3.

Credentials come from boto3's usual places, server and region from the URI's options or the environment.
"""

import contextlib
import email.utils
import functools
import hashlib
import io
import itertools
import logging
import os
import platform
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self, cast
from urllib.parse import urlsplit

import boto3
import tenacity
from botocore.config import Config
from botocore.exceptions import ClientError
from typing_extensions import override

from pipelines.storage.interface import (
    ObjectMissingError,
    RangeReader,
    Storage,
    StorageError,
    StoredObject,
    Upload,
)
from pipelines.storage.s3_errors import ChangedError, Operation, code_of, explained, is_transient
from pipelines.storage.uris import read_flag

PART_BYTES = 64 << 20
"""Objects above this size go up in parts of it: S3 takes 10 000 parts, and 5 GiB in one request."""
_PART_THREADS = 4
_LISTING_THREADS = 16
_EXISTS = {"412", "PreconditionFailed"}
_CONNECTIONS = 48
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class S3Options:
    """How to reach a server; each can stand in a URI's query.

    Attributes:
        endpoint_url: Of the server; else AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's, or Amazon's.
        region: Else AWS_REGION, AWS_DEFAULT_REGION, or the profile's.
        profile: Of the AWS configuration files; else AWS_PROFILE.
        addressing_style: Whether the bucket is in the path or in the host name; "auto" leaves it to boto3.
        single_writer: See `Storage`.
        retry_s: Seconds to go on trying while the server is out of reach, throttles or fails.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    single_writer: bool = False
    retry_s: float = 300.0

    @classmethod
    def parse(cls, options: dict[str, str], location: str) -> "S3Options":
        """The options in a query; the driver's environment is read here, so that every node agrees with it.

        Raises:
            StorageError: One is unknown or has an impossible value.
        """
        names = [field.name for field in fields(cls)]
        if unknown := sorted(set(options) - set(names)):
            raise StorageError(f"{location}: unknown option '{unknown[0]}'; options are {', '.join(names)}")
        environment = {
            "endpoint_url": os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"),
            "region": os.environ.get("AWS_REGION"),  # boto3 itself reads only AWS_DEFAULT_REGION
        }
        values: dict[str, Any] = {name: value for name, value in environment.items() if value} | options
        if "@" in urlsplit(values.get("endpoint_url") or "").netloc:
            raise StorageError(f"{location}: endpoint_url holds credentials; set AWS_ACCESS_KEY_ID and so on")
        if values.get("addressing_style", "auto") not in ("auto", "path", "virtual"):
            raise StorageError(f"{location}: addressing_style is auto, path or virtual")
        values["single_writer"] = read_flag("single_writer", values.get("single_writer", "false"), location)
        try:
            values["retry_s"] = float(values.get("retry_s", cls.retry_s))
        except ValueError:
            raise StorageError(
                f"{location}: retry_s={options['retry_s']}; it is a number of seconds"
            ) from None
        return cls(**values)


class S3Storage(Storage):
    """Objects under `s3://bucket/prefix`. Server and region are those that the driver saw, on every node."""

    def __init__(self, uri: str, options: S3Options) -> None:
        parts = urlsplit(uri)
        if not parts.netloc:
            raise StorageError(f"{uri}: no bucket; write s3://bucket/prefix")
        self.bucket = parts.netloc
        self.prefix = parts.path.strip("/")
        self.options = options
        self.single_writer = options.single_writer
        self.uri = self.uri_of("") + (f"?{parts.query}" if parts.query else "")

    @override
    def uri_of(self, path: str) -> str:
        return f"s3://{self.bucket}/{self._key(path)}".rstrip("/")

    @override
    def retrying_for(self, seconds: float) -> Self:
        return type(self)(self.uri, replace(self.options, retry_s=seconds))

    @override
    def read(self, path: str) -> bytes:
        # the whole request again if the body breaks off: boto3 itself only repeats until the body begins
        return cast(bytes, self._call("get_object", path, then=lambda reply: reply["Body"].read()))

    @override
    def open(self, path: str) -> BinaryIO:
        head = self._call("head_object", path)

        def read_range(start: int, stop: int) -> bytes:
            wanted = {"Range": f"bytes={start}-{stop - 1}", "IfMatch": head["ETag"]}
            try:
                return cast(bytes, self._call("get_object", path, then=lambda r: r["Body"].read(), **wanted))
            except ClientError as error:
                raise ChangedError(
                    f"{self.uri_of(path)}: it changed while it was read; start again"
                ) from error

        return RangeReader.buffered(read_range, head["ContentLength"])

    @override
    def size(self, path: str) -> int:
        return cast(int, self._call("head_object", path)["ContentLength"])

    @override
    def fingerprint(self, path: str) -> str:
        head = self._call("head_object", path)
        return f"etag:{head['ETag'].strip(chr(34))}:{head['ContentLength']}"

    @override
    def list(self, prefix: str = "", after: str = "") -> Iterator[StoredObject]:
        start = len(self._key(""))
        request = {"StartAfter": self._key(after)} if after else {}
        while True:
            page = self._call("list_objects_v2", prefix, Prefix=self._key(prefix), **request)
            for entry in page.get("Contents", []):
                yield StoredObject(
                    path=entry["Key"][start:],
                    size_bytes=entry["Size"],
                    modified_at=entry["LastModified"].timestamp(),
                )
            if not page["IsTruncated"]:
                return
            request = {"ContinuationToken": page["NextContinuationToken"]}

    @override
    def list_in_parallel(self, prefix: str, cuts: Sequence[str]) -> Iterator[StoredObject]:
        def entries(after: str, last: str | None) -> Sequence[StoredObject]:
            found = self.list(prefix, after)
            return [*(found if last is None else itertools.takewhile(lambda e: e.path <= last, found))]

        with ThreadPoolExecutor(_LISTING_THREADS) as pool:
            for part in pool.map(entries, ["", *cuts], [*cuts, None]):
                yield from part

    @override
    def now(self) -> float:
        reply = self._call("list_objects_v2", "", Prefix=self._key(""), MaxKeys=1)
        date = reply["ResponseMetadata"]["HTTPHeaders"]["date"]
        return email.utils.parsedate_to_datetime(date).timestamp() + 1.0  # it leaves out fractions

    @override
    def uploads(self) -> Iterator[Upload]:
        start = len(self._key(""))
        request: dict[str, str] = {}
        while True:
            page = self._call("list_multipart_uploads", "", Prefix=self._key(""), **request)
            for entry in page.get("Uploads", []):
                started_at = entry["Initiated"].timestamp()
                yield Upload(path=entry["Key"][start:], upload_id=entry["UploadId"], started_at=started_at)
            if not page.get("IsTruncated"):
                return
            request = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    @override
    def abort(self, upload: Upload) -> None:
        with contextlib.suppress(ObjectMissingError):
            self._call("abort_multipart_upload", upload.path, UploadId=upload.upload_id)

    @override
    def _put(self, path: str, data: bytes, *, only_new: bool) -> bool:
        condition = {"IfNoneMatch": "*"} if only_new else {}
        if only_new and len(data) > PART_BYTES and self.exists(path):
            return (
                False  # saves the upload; and some servers ignore the condition where parts are put together
            )
        try:
            if len(data) > PART_BYTES:
                self._put_parts(path, io.BytesIO(data), condition)
            else:
                self._call("put_object", path, Body=data, **condition)
        except ClientError as error:
            if code_of(error) not in _EXISTS:
                raise
            return False
        return True

    @override
    def _put_file(self, path: str, source: Path) -> None:
        if source.stat().st_size <= PART_BYTES:
            self._put(path, source.read_bytes(), only_new=False)
            return
        with source.open("rb") as stream:
            self._put_parts(path, stream, {})

    def _put_parts(self, path: str, source: BinaryIO, condition: dict[str, str]) -> None:
        upload_id = self._call("create_multipart_upload", path)["UploadId"]
        size_bytes = source.seek(0, io.SEEK_END)
        reading = threading.Lock()

        def put(number: int) -> dict[str, Any]:
            with reading:
                source.seek((number - 1) * PART_BYTES)
                body = source.read(PART_BYTES)
            reply = self._call("upload_part", path, UploadId=upload_id, PartNumber=number, Body=body)
            return {"PartNumber": number, "ETag": reply["ETag"]}

        try:
            with ThreadPoolExecutor(_PART_THREADS) as pool:
                parts = list(pool.map(put, range(1, -(-size_bytes // PART_BYTES) + 1)))
            self._complete(path, source, upload_id, parts, condition)
        except BaseException:
            self.abort(Upload(path=path, upload_id=upload_id, started_at=0.0))
            raise

    def _complete(
        self,
        path: str,
        source: BinaryIO,
        upload_id: str,
        parts: Sequence[dict[str, Any]],
        condition: dict[str, str],
    ) -> None:
        request = {"UploadId": upload_id, "MultipartUpload": {"Parts": parts}} | condition
        try:
            self._call("complete_multipart_upload", path, **request)
        except ObjectMissingError:  # no such upload: an earlier request was carried out and its answer lost
            source.seek(0)
            if (
                self.sha256(path)
                != hashlib.file_digest(cast(io.BufferedReader, source), "sha256").hexdigest()
            ):
                raise

    @override
    def _delete(self, path: str) -> None:
        self._call("delete_object", path)

    def _key(self, path: str) -> str:
        return f"{self.prefix}/{path}" if self.prefix else path

    def _call(self, name: str, path: str, then: Any = lambda reply: reply, **request: Any) -> Any:
        """Send one request, again and again while the server has passing trouble.

        Args:
            name: The client's method.
            path: The object, for the request and for messages.
            then: What to do with the answer; done again with the request.
            request: Its other parameters.
        """
        if not name.startswith("list"):
            request["Key"] = self._key(path)
        operation = Operation(
            name=name,
            uri=self.uri_of(path),
            bucket=self.bucket,
            server=self.options.endpoint_url or "Amazon S3",
            host=platform.node(),
        )
        with explained(operation):
            send = getattr(_client(replace(self.options, retry_s=0, single_writer=False)), name)
            for attempt in _retrying(operation, self.options.retry_s):
                with attempt:
                    return then(send(Bucket=self.bucket, **request))


def _retrying(operation: Operation, retry_s: float) -> tenacity.Retrying:
    """Exponential backoff with full jitter, up to 20 s between tries."""

    def say(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        _log.warning("%s: %s; trying again", operation.uri, error)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=20),
        stop=tenacity.stop_after_delay(retry_s),
        before_sleep=say,
        reraise=True,
    )


@functools.cache
def _client(options: S3Options) -> Any:
    """One client a process and server; clients are thread-safe."""
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},  # `_retrying` does it, bodies included
        max_pool_connections=_CONNECTIONS,
        connect_timeout=10,
        read_timeout=60,
        # SHA-256 of every body in the signature: checked by all servers, also those without newer checksums
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": options.addressing_style, "payload_signing_enabled": True},
    )
    # boto3's own default session breaks when threads start with it at once
    session = boto3.session.Session(profile_name=options.profile)
    return session.client("s3", endpoint_url=options.endpoint_url, region_name=options.region, config=config)
