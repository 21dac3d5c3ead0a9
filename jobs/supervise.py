"""Run a job again when its process dies or the cluster fails it: `python -m jobs.supervise RETRIES JOB …`.

A job that says what is wrong, with exit code 1, would say so again, and is not run again. What was done is
kept, so each run goes on where the last one stopped.
"""

from __future__ import annotations

import subprocess
import sys
import time

from jobs.command import FAILED, INTERRUPTED

USAGE = 2
_FINAL = (0, FAILED, USAGE, INTERRUPTED)
_PAUSE_S = 5.0


def supervise(command: list[str], retries: int, pause_s: float = _PAUSE_S) -> int:
    """Run a command, again at most `retries` times; gives its last exit code, 128 + N after a signal N."""
    for attempt in range(retries + 1):
        code = subprocess.run(command).returncode
        if code in _FINAL:
            return code
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        left = retries - attempt
        then = f"runs again, {left} more times at most" if left else "no retries are left"
        print(f"the job's driver {how}; {then}", file=sys.stderr, flush=True)
        if left:
            time.sleep(pause_s)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(supervise([sys.executable, "-m", "jobs", *sys.argv[2:]], int(sys.argv[1])))
