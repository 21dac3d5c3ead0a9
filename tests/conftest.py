"""Fixtures of all tests: a local Ray with logical GPUs, storage on a folder and on a mock S3 server."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

# Threads that wait for each other on a busy machine make tests twenty times slower. Read by torch on import.
os.environ["OMP_NUM_THREADS"] = "1"
# Read by Ray and botocore when they are imported or when a subprocess starts.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of this process alone: 4 CPUs and 2 GPUs that exist by name only."""
    import ray

    ray.init("local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """URL of a mock S3 server with a bucket "bucket"; the environment points every client there."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    before = os.environ.get("AWS_ENDPOINT_URL")
    os.environ["AWS_ENDPOINT_URL"] = url
    boto3.client("s3").create_bucket(Bucket="bucket")
    yield url
    if before is None:
        del os.environ["AWS_ENDPOINT_URL"]
    else:
        os.environ["AWS_ENDPOINT_URL"] = before
    server.stop()


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def root_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty place: a folder, and again a prefix of a bucket."""
    if request.param == "folder":
        return str(tmp_path / "root")
    request.getfixturevalue("s3_server")
    return f"s3://bucket/{uuid.uuid4().hex}"
