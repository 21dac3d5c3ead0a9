"""Tell Ray when AWS is about to take this spot node back: `python watch_preemption.py` on the node.

AWS says so two minutes before, at the instance's metadata address. Ray then gives the node nothing more. The
node has nothing but Python and Ray, so this file needs nothing else.
"""

import argparse
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

METADATA = "http://169.254.169.254"
NOTICE_S = 120
_TOKEN_S = 6 * 3600
_TIMEOUT_S = 5


def metadata(server: str, path: str) -> str | None:
    """What the instance's metadata say (IMDSv2); None where there is nothing, as there is until the notice.

    Raises:
        OSError: There is no metadata server.
    """
    wanted = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_S)}
    request = urllib.request.Request(f"{server}/latest/api/token", method="PUT", headers=wanted)  # noqa: S310
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310  # the address is ours
        token = answer.read().decode()
    headers = {"X-aws-ec2-metadata-token": token}
    request = urllib.request.Request(f"{server}/latest/meta-data/{path}", headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def watch(server: str, ray: str, pause_s: float) -> None:
    """Ask again and again until there is a notice, then drain the node that this runs on.

    Raises:
        subprocess.CalledProcessError: Ray does not drain it.
    """
    while True:
        try:
            notice = metadata(server, "spot/instance-action")
        except OSError as error:  # asked again: a server that is busy is no notice
            print(f"{server}: {error}", file=sys.stderr, flush=True)
            notice = None
        if notice is not None:
            break
        time.sleep(pause_s)
    print(f"notice: {notice}", flush=True)
    command = [ray, "drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", notice, "--deadline-remaining-seconds", str(NOTICE_S)]
    subprocess.run(command, check=True)


def main() -> None:
    """Parse the command line and watch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--server", default=METADATA, help="metadata server")
    parser.add_argument("--ray", default=str(Path(sys.executable).parent / "ray"), help="Ray's command")
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between questions")
    arguments = parser.parse_args()
    watch(arguments.server, arguments.ray, arguments.pause)


if __name__ == "__main__":
    main()
