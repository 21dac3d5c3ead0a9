"""Fixtures of all tests: a local Ray with logical GPUs, storage in a folder and on two S3 servers."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ceph

# Threads that wait for each other on a busy machine make tests twenty times slower. Read by torch on import.
os.environ["OMP_NUM_THREADS"] = "1"
# Read by Ray and botocore when they are imported or when a subprocess starts.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
# The mock server takes any credentials, the real one these.
os.environ["AWS_ACCESS_KEY_ID"] = "testaccesskey"
os.environ["AWS_SECRET_ACCESS_KEY"] = "testsecretkey1"
os.environ.pop("AWS_SESSION_TOKEN", None)
os.environ["AWS_DEFAULT_REGION"] = "us-east-1"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the tests of a GPU where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU")


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


@pytest.fixture(scope="session")
def ceph_server() -> Iterator[str]:
    """URL of a real S3 server with a bucket "bucket"; only clients that are given it go there."""
    import boto3

    if shutil.which("radosgw") is None:
        missing = f"there is no radosgw; {ceph.SCRIPT.name} names the packages to install"
        if os.environ.get("MEISSONIC_REQUIRE_CEPH"):
            pytest.fail(f"MEISSONIC_REQUIRE_CEPH is set and {missing}")
        pytest.skip(missing)
    with ceph.running_ceph() as url:
        boto3.session.Session().client("s3", endpoint_url=url).create_bucket(Bucket="bucket")
        yield url


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright."""
    from tests.browser import chromium

    with chromium() as opened:
        yield opened


@pytest.fixture(
    params=[
        "folder",
        pytest.param("s3", marks=pytest.mark.s3),
        pytest.param("ceph", marks=[pytest.mark.s3, pytest.mark.ceph, pytest.mark.slow]),
    ]
)
def root_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty place: a folder, and again a prefix of a bucket on each S3 server.

    It may end with options ("?endpoint_url=..."): `pipelines.storage.child` names places in it.
    """
    if request.param == "folder":
        return str(tmp_path / "root")
    if request.param == "s3":
        request.getfixturevalue("s3_server")
        return f"s3://bucket/{uuid.uuid4().hex}"
    url = request.getfixturevalue("ceph_server")
    return f"s3://bucket/{uuid.uuid4().hex}?endpoint_url={url}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("may not mount a small file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
