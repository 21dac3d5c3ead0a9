"""Download one large file that the operator of a job named, going on where the network broke off.

    download("https://example.com/model.pt", Path("model.pt"), size_bytes=932_768_134)

Unlike `pipelines.web`, which fetches what strangers' tables name, this asks any host, through the proxies and
with the authorities that the environment sets, and takes any size.
"""

from __future__ import annotations

import logging
from pathlib import Path

import requests
import tenacity

from pipelines.models import ModelError
from pipelines.web import PASSING_STATUSES

PAUSE: tenacity.wait.wait_base = tenacity.wait_random_exponential(multiplier=0.5, max=20)
"""Between tries."""
NUM_TRIES = 8
_TIMEOUT_S = (10, 60)
"""To connect, and between two bytes."""
_CHUNK_BYTES = 1 << 20
_log = logging.getLogger(__name__)


class _BrokenOffError(Exception):
    """The next try may go on."""


def download(url: str, path: Path, *, size_bytes: int | None = None, resume: bool = False) -> None:
    """Write the content of an http or https URL to a file; redirects are followed.

    Args:
        url: Of the file.
        path: Where to write. After an error it may hold the file's beginning.
        size_bytes: Size that the file must have; None takes any.
        resume: Whether to go on from what `path` holds, also after an interruption. The server may have
            another file since: the caller must know its digest.

    Raises:
        ModelError: The server has no such file, cannot be reached, the size is another, or the disk is full.
    """

    def say(state: tenacity.RetryCallState) -> None:
        _log.warning("%s: %s; trying again", url, state.outcome and state.outcome.exception())

    tries = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_BrokenOffError),
        wait=PAUSE,
        stop=tenacity.stop_after_attempt(NUM_TRIES),
        before_sleep=say,
        reraise=True,
    )
    try:
        tries(_try, url, path, size_bytes, resume)
    except _BrokenOffError as error:
        going_on = "run the same again to go on where it stopped" if resume else "run the same again later"
        raise ModelError(f"{url}: cannot download it ({error}); {going_on}") from error


def _try(url: str, path: Path, size_bytes: int | None, resume: bool) -> None:
    num_there = path.stat().st_size if resume and path.exists() else 0
    if num_there and num_there == size_bytes:
        return
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={num_there}-"} if num_there else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                path.unlink(missing_ok=True)  # longer than the file is: not its beginning
                raise _BrokenOffError("what was there already is not its beginning")
            if response.status_code in PASSING_STATUSES:
                raise _BrokenOffError(f"the server answers with status {response.status_code}")
            if not response.ok:
                raise ModelError(
                    f"{url}: the server answers with status {response.status_code}; check the URL, and "
                    "whether this machine may reach it"
                )
            goes_on = response.status_code == requests.codes.partial_content
            _append(response, url, path, num_there if goes_on else 0, size_bytes)
    except requests.exceptions.SSLError as error:
        raise ModelError(
            f"{url}: {error}; where a proxy has its own authority, set REQUESTS_CA_BUNDLE"
        ) from error
    except (
        requests.exceptions.ConnectionError,
        requests.exceptions.Timeout,
        requests.exceptions.ChunkedEncodingError,
    ) as error:
        raise _BrokenOffError(str(error)) from error
    except requests.exceptions.RequestException as error:
        raise ModelError(f"{url}: {error}") from error
    except OSError as error:
        raise ModelError(
            f"{path}: cannot write what {url} sends ({error}); free space, or set MEISSONIC_CACHE to a "
            "folder that has it"
        ) from error


def _append(
    response: requests.Response, url: str, path: Path, num_there: int, size_bytes: int | None
) -> None:
    num_bytes = num_there
    with path.open("ab" if num_there else "wb") as stream:
        for chunk in response.iter_content(_CHUNK_BYTES):
            stream.write(chunk)
            num_bytes += len(chunk)
            if size_bytes is not None and num_bytes > size_bytes:
                break
    if size_bytes is not None and num_bytes != size_bytes:
        path.unlink()
        there = f"more than {size_bytes}" if num_bytes > size_bytes else str(num_bytes)
        raise ModelError(f"{url}: it has {there} bytes, not {size_bytes}; it is another file")
