"""The Ray Jobs of a cluster, over its HTTP address; what goes wrong there is told with a remedy.

jobs = RayJobs("http://127.0.0.1:8265")
submitted = jobs.submit(request)
exit_code = jobs.follow(submitted.id, print)
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from pipelines.errors import RefusalError, TransientError
from pipelines.models import file_digest
from schemas.manifest import json_bytes

T = TypeVar("T")

PREFIX = "meissonic"
FAILED = 1
_PASSING = re.compile("No available agent|status code 50[234]")
"""What a head says that has just come up, and what stands before one that is restarting."""
_SILENCE_S = 60.0
_PAUSE_S = 0.5


class ClusterError(RefusalError):
    """A cluster cannot be reached, or does not do what it is asked; the message says why."""


class ClusterGoneError(ClusterError, TransientError):
    """A cluster does not answer."""


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What to run.

    Attributes:
        job: The job's name, such as "generate".
        output: URI of its output folder.
        entrypoint: The shell command.
        source: Folder of the code, which every node gets.
        code_version: Of that code.
        pip: Packages that each node installs for it, as lines of a requirements file; none for what is there.
        env: Environment variables of the driver and of all workers.
    """

    job: str
    output: str
    entrypoint: str
    source: Path
    code_version: str
    pip: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """What the ids of all submissions for this job and output begin with."""
        digest = hashlib.sha256(f"{self.job}\0{self.output.rstrip('/')}".encode()).hexdigest()
        return f"{PREFIX}-{self.job}-{digest[:12]}-"

    @cached_property
    def digest(self) -> str:
        """Of all that is sent, to tell two requests for one output apart."""
        total = hashlib.sha256(json_bytes([self.entrypoint, self.pip, self.env]))
        for path in sorted(self.source.rglob("*")):
            if path.is_file():
                total.update(f"{path.relative_to(self.source)}\0{file_digest(path)}\n".encode())
        return total.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A job that is on the cluster now.

    Attributes:
        id: Its submission id.
        is_new: It was not there before.
        earlier: How many submissions for the same job and output have ended.
    """

    id: str
    is_new: bool
    earlier: int


class RayJobs:
    """The jobs of one cluster. Once it has answered, it may be silent for a minute.

    Args:
        address: Of its dashboard, such as `http://127.0.0.1:8265`.

    Raises:
        ClusterError: There is no Ray, or it wants another token.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        for talkative in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk"):
            logging.getLogger(f"ray.{talkative}").setLevel(logging.WARNING)
        logging.getLogger("ray._private.runtime_env").setLevel(logging.WARNING)
        with self._told():
            self._client = JobSubmissionClient(self.address)

    def submit(self, request: JobRequest) -> Submitted:
        """Submit the job, or find the one that is running for the same job and output.

        Raises:
            ClusterError: For that output a job runs with another command, settings or code.
        """
        family = [job for job in self.jobs() if (job.submission_id or "").startswith(request.family)]
        ended = [job for job in family if job.status.is_terminal()]
        for job in family:
            if not job.status.is_terminal():
                self._check_same(job, request)
                return Submitted(id=str(job.submission_id), is_new=False, earlier=len(ended))
        numbers = [int(str(job.submission_id).rpartition("-")[2]) for job in ended]
        submission_id = f"{request.family}{max(numbers, default=0) + 1}"
        try:
            self._ask(lambda: self._send(request, submission_id))
        except ClusterError:
            raced = [job for job in self.jobs() if job.submission_id == submission_id]
            if not raced:
                raise
            self._check_same(raced[0], request)  # somebody else was faster, or only the answer was lost
            return Submitted(id=submission_id, is_new=False, earlier=len(ended))
        return Submitted(id=submission_id, is_new=True, earlier=len(ended))

    def jobs(self) -> list[JobDetails]:
        """All that were submitted to the cluster, oldest first."""
        found = [job for job in self._ask(self._client.list_jobs) if job.submission_id]
        return sorted(found, key=lambda job: job.start_time or 0)

    def logs(self, submission_id: str) -> str:
        """All that the job has printed."""
        return self._ask(lambda: self._client.get_job_logs(submission_id))

    def stop(self, submission_id: str) -> bool:
        """Ask the job to end, and wait until it has; False if it had ended before."""
        was_running = self._ask(lambda: self._client.stop_job(submission_id))
        self._ended(submission_id)
        return was_running

    def follow(self, submission_id: str, write: Callable[[str], object]) -> int:
        """Pass on what the job prints until it ends, through lost connections too.

        Returns:
            Its exit code.

        Raises:
            ClusterGoneError: The cluster was silent for too long.
        """
        written = 0

        def write_new(text: str, start: int) -> None:
            """After a lost connection the log begins anew."""
            nonlocal written
            new = text[max(written - start, 0) :]
            if new:
                write(new)
                written += len(new)

        async def tail() -> None:
            start, texts = 0, aiter(self._client.tail_job_logs(submission_id))
            with suppress(StopAsyncIteration):
                while True:
                    text = await asyncio.wait_for(anext(texts), _SILENCE_S)  # or the connection is a dead one
                    write_new(text, start)
                    start += len(text)

        while True:
            with suppress(
                RuntimeError, OSError, TimeoutError, aiohttp.ClientError
            ):  # what is missing is asked for below
                asyncio.run(tail())
            if self._job(submission_id).status.is_terminal():
                break
            time.sleep(_PAUSE_S)
        write_new(self.logs(submission_id), 0)
        return self._exit_code(self._job(submission_id), write)

    def _send(self, request: JobRequest, submission_id: str) -> None:
        runtime_env: dict[str, Any] = {"working_dir": str(request.source), "env_vars": request.env}
        if request.pip:
            runtime_env["pip"] = {"packages": list(request.pip), "pip_check": False}
        self._client.submit_job(
            entrypoint=request.entrypoint,
            submission_id=submission_id,
            runtime_env=runtime_env,
            metadata={
                "job": request.job,
                "output": request.output,
                "code_version": request.code_version,
                "request": request.digest,
            },
        )

    def _job(self, submission_id: str) -> JobDetails:
        return self._ask(lambda: self._client.get_job_info(submission_id))

    def _ended(self, submission_id: str) -> JobDetails:
        while not (job := self._job(submission_id)).status.is_terminal():
            time.sleep(_PAUSE_S)
        return job

    def _exit_code(self, job: JobDetails, write: Callable[[str], object]) -> int:
        if job.driver_exit_code is None or job.status.value == "STOPPED":
            write(f"{job.submission_id}: {job.status.value.lower()}: {job.message}\n")
            return FAILED
        return int(job.driver_exit_code)

    def _check_same(self, job: JobDetails, request: JobRequest) -> None:
        known = job.metadata or {}
        if known.get("request") != request.digest:
            raise ClusterError(
                f"{self.address}: {job.submission_id} is {job.status.value.lower()} for {request.output} "
                f"with another command, settings or code:\n  {job.entrypoint}\n"
                f"wait for its end, or stop it: python -m jobs stop {job.submission_id}"
            )

    def _ask(self, question: Callable[[], T]) -> T:
        """The answer of a cluster that may be silent for a while."""
        patient = Retrying(
            retry=retry_if_exception_type(ClusterGoneError),
            stop=stop_after_delay(_SILENCE_S),
            wait=wait_exponential(max=5),
            reraise=True,
        )

        def ask() -> T:
            with self._told():
                return question()

        return patient(ask)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What Ray's client raises, as refusals."""
        try:
            yield
        except AuthenticationError as error:
            raise ClusterError(
                f"{self.address}: {str(error).splitlines()[0]}; set RAY_AUTH_MODE=token, and "
                "RAY_AUTH_TOKEN or, to a file, RAY_AUTH_TOKEN_PATH (on the head: ~/.ray/auth_token)"
            ) from error
        except (ConnectionError, requests.RequestException) as error:
            raise ClusterGoneError(
                f"{self.address}: no Ray answers there ({error}); is the cluster up, and its dashboard "
                "forwarded (ray dashboard ray_cluster.yaml)? Once it is, the same command goes on"
            ) from error
        except RuntimeError as error:
            kind = ClusterGoneError if _PASSING.search(str(error)) else ClusterError
            raise kind(f"{self.address}: {error}") from error
