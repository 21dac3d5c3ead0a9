"""The fault-injecting proxy: what a client without retries sees of each fault, and that all else passes."""

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from tests.servers.fault_proxy import Fault, FaultProxy

pytestmark = pytest.mark.s3

ONE_TRY = Config(
    retries={"total_max_attempts": 1, "mode": "standard"},
    request_checksum_calculation="when_required",
    s3={"addressing_style": "path"},
)
MEGABYTE = bytes(range(256)) * 4096


@pytest.fixture(params=["s3_server", pytest.param("ceph_server", marks=[pytest.mark.ceph, pytest.mark.slow])])
def proxy(request: pytest.FixtureRequest) -> Iterator[FaultProxy]:
    with FaultProxy(request.getfixturevalue(request.param)) as proxy:
        yield proxy


@pytest.fixture
def bucket(proxy: FaultProxy) -> Any:
    return new_bucket(proxy)


def new_bucket(proxy: FaultProxy) -> Any:
    """A new bucket, through the proxy."""
    s3 = boto3.session.Session().resource("s3", endpoint_url=proxy.url, config=ONE_TRY)
    bucket = s3.create_bucket(Bucket=uuid.uuid4().hex)
    proxy.requests.clear()
    return bucket


def put(bucket: Any, key: str, body: Any = b"content", **conditions: str) -> str:
    """Put an object; S3's name for what went wrong, "" if nothing did."""
    try:
        bucket.put_object(Key=key, Body=body, **conditions)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return ""


def keys_of(bucket: Any) -> list[str]:
    listing = bucket.meta.client.list_objects_v2(Bucket=bucket.name)
    return [entry["Key"] for entry in listing.get("Contents", [])]


def test_without_a_fault_all_passes_unchanged(proxy: FaultProxy, bucket: Any) -> None:
    object_ = bucket.Object("a folder/ü+&?.bin")
    object_.put(Body=MEGABYTE, Metadata={"made-by": "test"})
    assert object_.content_length == len(MEGABYTE)
    assert object_.metadata == {"made-by": "test"}
    assert object_.get()["Body"].read() == MEGABYTE
    assert object_.get(Range="bytes=1000-1999")["Body"].read() == MEGABYTE[1000:2000]
    assert keys_of(bucket) == ["a folder/ü+&?.bin"]
    object_.delete()
    assert keys_of(bucket) == []
    methods = ["PUT", "HEAD", "GET", "GET", "GET", "DELETE", "GET"]
    keys = [object_.key] * 4 + ["", object_.key, ""]
    assert proxy.requests == list(zip(methods, keys, strict=True))
    assert proxy.hits == 0


def test_large_bodies_pass_both_ways(bucket: Any) -> None:
    content = os.urandom(100 << 20)
    bucket.put_object(Key="large", Body=content)
    assert bucket.Object("large").get()["Body"].read() == content


def test_chunked_bodies_pass(s3_server: str) -> None:  # a Ceph gateway refuses them
    with FaultProxy(s3_server) as proxy:
        bucket = new_bucket(proxy)
        target = {"Bucket": bucket.name, "Key": "chunked"}
        url = urlsplit(bucket.meta.client.generate_presigned_url("put_object", Params=target))
        connection = HTTPConnection(url.netloc)
        for body in ([b"chunk", MEGABYTE], [b"other", MEGABYTE]):  # the first leaves the connection usable
            connection.request("PUT", f"{url.path}?{url.query}", body=iter(body))
            assert connection.getresponse().read() == b""
        connection.close()
        assert bucket.Object("chunked").get()["Body"].read() == b"other" + MEGABYTE


def test_multipart_uploads_pass(proxy: FaultProxy, bucket: Any) -> None:
    upload = bucket.Object("parts").initiate_multipart_upload()
    bodies = [b"1" * (5 << 20), b"2"]
    parts = [
        {"PartNumber": n, "ETag": upload.Part(n).upload(Body=body)["ETag"]}
        for n, body in enumerate(bodies, 1)
    ]
    upload.complete(MultipartUpload={"Parts": parts})
    assert bucket.Object("parts").get()["Body"].read() == b"".join(bodies)
    assert [method for method, _ in proxy.requests] == ["POST", "PUT", "PUT", "POST", "GET"]


def test_one_of_many_conditional_writes_wins(bucket: Any) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: put(bucket, "one", f"{n}", IfNoneMatch="*"), range(16)))
    assert answers.count("") == 1
    assert bucket.Object("one").get()["Body"].read() == f"{answers.index('')}".encode()


@pytest.mark.parametrize(
    ("action", "code", "status"),
    [
        ("internal_error", "InternalError", 500),
        ("slow_down", "SlowDown", 503),
        ("denied", "AccessDenied", 403),
        ("expired", "ExpiredToken", 400),
        ("skewed", "RequestTimeTooSkewed", 403),
    ],
)
def test_errors_answer_in_place_of_the_server(
    proxy: FaultProxy, bucket: Any, action: str, code: str, status: int
) -> None:
    proxy.inject(Fault(action=action, key="k"))
    with pytest.raises(ClientError) as put_error:
        bucket.put_object(Key="k", Body=MEGABYTE)
    assert put_error.value.response["Error"]["Code"] == code
    with pytest.raises(ClientError) as head_error:
        bucket.Object("k").load()
    assert head_error.value.response["Error"]["Code"] == str(status)
    assert keys_of(bucket) == []


def test_a_server_may_not_know_conditional_writes(proxy: FaultProxy, bucket: Any) -> None:
    proxy.inject(Fault(action="not_implemented"))
    assert put(bucket, "k", IfNoneMatch="*") == "NotImplemented"
    assert put(bucket, "k") == ""
    assert proxy.hits == 1


def test_a_server_may_ignore_conditions(s3_server: str) -> None:
    with FaultProxy(s3_server) as proxy:
        bucket = new_bucket(proxy)
        assert [put(bucket, "k", IfNoneMatch="*") for _ in range(2)] == ["", "PreconditionFailed"]
        proxy.inject(Fault(action="ignore_conditions"))
        assert put(bucket, "k", b"second", IfNoneMatch="*") == ""
        assert bucket.Object("k").get()["Body"].read() == b"second"


@pytest.mark.parametrize("body", [b"short", MEGABYTE * 8])
def test_a_reset_request_never_happened(proxy: FaultProxy, bucket: Any, body: bytes) -> None:
    proxy.inject(Fault(action="reset_before", method="PUT"))
    with pytest.raises(ConnectionClosedError):
        bucket.put_object(Key="k", Body=body)
    assert keys_of(bucket) == []


def test_a_request_whose_answer_is_lost_has_happened(proxy: FaultProxy, bucket: Any) -> None:
    proxy.inject(Fault(action="lose_answer", method="PUT"))
    with pytest.raises(ConnectionClosedError):
        bucket.put_object(Key="k", Body=MEGABYTE, IfNoneMatch="*")
    assert bucket.Object("k").content_length == len(MEGABYTE)


def test_a_truncated_body_says_its_full_length(proxy: FaultProxy, bucket: Any) -> None:
    put(bucket, "k", MEGABYTE)
    proxy.inject(Fault(action="truncate", method="GET"))
    answer = bucket.Object("k").get()
    assert answer["ContentLength"] == len(MEGABYTE)
    with pytest.raises(ResponseStreamingError, match=f"{len(MEGABYTE) // 2} bytes read"):
        answer["Body"].read()


def test_a_stalled_request_ends_with_the_clients_patience(proxy: FaultProxy, bucket: Any) -> None:
    proxy.inject(Fault(action="stall", key="k"))
    impatient = ONE_TRY.merge(Config(read_timeout=0.2))
    s3 = boto3.session.Session().client("s3", endpoint_url=proxy.url, config=impatient)
    with pytest.raises(ReadTimeoutError):
        s3.put_object(Bucket=bucket.name, Key="k", Body=MEGABYTE)
    assert keys_of(bucket) == []


def test_a_listing_that_lags_omits_what_was_written_since(proxy: FaultProxy, bucket: Any) -> None:
    put(bucket, "commits/1")
    proxy.inject(Fault(action="lag_listing", key="^commits/", times=2))
    for key in ("commits/2 +ü", "commits/3", "data/1"):
        put(bucket, key)
    listing = bucket.meta.client.list_objects_v2(Bucket=bucket.name)
    assert [entry["Key"] for entry in listing["Contents"]] == ["commits/1", "data/1"]
    assert listing["KeyCount"] == 2
    listing = bucket.meta.client.list_objects_v2(Bucket=bucket.name, Delimiter="/", Prefix="commits/")
    assert [entry["Key"] for entry in listing["Contents"]] == ["commits/1"]
    assert bucket.Object("commits/3").content_length == 7
    assert keys_of(bucket) == ["commits/1", "commits/2 +ü", "commits/3", "data/1"]


def test_a_fault_strikes_after_some_and_only_so_often(proxy: FaultProxy, bucket: Any) -> None:
    proxy.inject(Fault(action="slow_down", method="PUT", key="^commits/", skip=2, times=3))
    keys = [f"{folder}/{n}" for n in range(7) for folder in ("commits", "data")]
    assert [key for key in keys if put(bucket, key)] == ["commits/2", "commits/3", "commits/4"]
    assert proxy.hits == 3
    assert proxy.requests == [("PUT", key) for key in keys]


def test_a_fault_may_strike_one_kind_of_request(proxy: FaultProxy, bucket: Any) -> None:
    proxy.inject(Fault(action="denied", query="uploads"))
    assert put(bucket, "k") == ""
    with pytest.raises(ClientError, match="AccessDenied"):
        bucket.Object("k").initiate_multipart_upload()


def test_a_fault_counts_right_under_threads(proxy: FaultProxy, bucket: Any) -> None:
    proxy.inject(Fault(action="slow_down", skip=10, times=20))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: put(bucket, f"{n}"), range(50)))
    assert answers.count("SlowDown") == 20
    assert (proxy.hits, len(proxy.requests)) == (20, 50)


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no action 'explode'; actions are \['denied', "):
        Fault(action="explode")


def test_a_closed_proxy_answers_no_more(s3_server: str) -> None:
    with FaultProxy(s3_server) as proxy:
        s3 = boto3.session.Session().client("s3", endpoint_url=proxy.url, config=ONE_TRY)
        s3.list_buckets()
    with pytest.raises(EndpointConnectionError):
        s3.list_buckets()
