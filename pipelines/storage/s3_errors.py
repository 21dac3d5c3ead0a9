"""What an S3 server's errors mean: which pass by themselves, and what to do about the others."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ProfileNotFound,
    ResponseStreamingError,
    SSLError,
)

from pipelines.storage.interface import ConditionalWriteError, ObjectMissingError, StorageError

_MISSING = {"404", "NoSuchKey", "NotFound", "NoSuchUpload"}
_DENIED = {"401", "403", "AccessDenied", "Forbidden", "AllAccessDisabled", "AccountProblem"}
_BAD_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"}
_EXPIRED = {"ExpiredToken", "TokenRefreshRequired"}
_CONDITION_FAILED = {"412", "PreconditionFailed"}
_TRANSIENT = {
    "429",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequests",
    "RequestTimeout",
    "BandwidthLimitExceeded",
    # another conditional write of this key is under way: the next try tells who won
    "409",
    "ConditionalRequestConflict",
    "OperationAborted",
}
_PERMISSIONS = {
    "put_object": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject, and s3:ListBucket where the object does not exist",
    "list_objects_v2": "s3:ListBucket",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "delete_object": "s3:DeleteObject",
}


class ChangedError(StorageError):
    """The object is no longer the one that was opened."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What was asked of the server, for messages.

    Attributes:
        name: The client's method.
        uri: The object.
        bucket: Its bucket.
        server: The endpoint.
        host: The node that asked.
    """

    name: str
    uri: str
    bucket: str
    server: str
    host: str


def code_of(error: ClientError) -> str:
    """The server's word for it, or the HTTP status where an answer has no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code_of(error) in _TRANSIENT or (status >= 500 and status != 501)
    passing = ConnectionError | HTTPClientError | IncompleteReadError | ResponseStreamingError
    return isinstance(error, passing) and not isinstance(error, SSLError)


@contextlib.contextmanager
def explained(operation: Operation) -> Iterator[None]:
    """Turn botocore's errors into ours, which say what to do; a condition that failed stays as it is."""
    try:
        yield
    except NoCredentialsError as error:
        raise StorageError(
            f"{operation.uri}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE"
        ) from error
    except ProfileNotFound as error:
        raise StorageError(f"{operation.uri}: {error}; on {operation.host}") from error
    except ClientError as error:
        if code_of(error) in _CONDITION_FAILED:
            raise
        raise _explanation(operation, error) from error
    except BotoCoreError as error:
        raise StorageError(
            f"{operation.uri}: cannot talk to {operation.server} ({error}); check the endpoint "
            "(AWS_ENDPOINT_URL or ?endpoint_url=…), the region and the network"
        ) from error


def _explanation(operation: Operation, error: ClientError) -> StorageError:
    code, uri, server = code_of(error), operation.uri, operation.server
    if code in _MISSING:
        return ObjectMissingError(f"{uri}: no such object on {server}")
    if code == "NoSuchBucket":
        return StorageError(
            f"{uri}: {server} has no bucket '{operation.bucket}'; create it, or set AWS_ENDPOINT_URL or "
            "?endpoint_url=… to the server that has it"
        )
    if code in _DENIED:
        permission = _PERMISSIONS.get(operation.name, operation.name)
        return StorageError(
            f"{uri}: {server} denied access to {operation.host} ({code}): permission {permission} is missing "
            "in the policy of the user, role or bucket"
        )
    if code in _BAD_CREDENTIALS:
        return StorageError(
            f"{uri}: {server} does not accept the credentials ({code}); check AWS_ACCESS_KEY_ID, "
            f"AWS_SECRET_ACCESS_KEY and AWS_PROFILE on {operation.host}"
        )
    if code in _EXPIRED:
        return StorageError(
            f"{uri}: the credentials of {operation.host} have expired ({code}); renew them and start the job "
            "again: it goes on where it stopped"
        )
    if code == "RequestTimeTooSkewed":
        return StorageError(
            f"{uri}: the clock of {operation.host} is wrong: {server} refuses its signature ({code}); "
            "synchronise it (NTP) and start the job again"
        )
    if code in ("501", "NotImplemented") and operation.name in ("put_object", "complete_multipart_upload"):
        return ConditionalWriteError(f"{uri}: {server} does not know conditional writes ({code})")
    return StorageError(f"{uri}: {server} answered {code}: {error}")
