"""Open a finished job again for its dead letters: with its configuration, on its input, or not at all."""

from collections.abc import Iterable, Sequence
from typing import Any

from pipelines.config import ConfigT, build_config, differences, identity, merged
from pipelines.errors import LedgerError
from pipelines.ledger import Ledger
from pipelines.plan import InputObject


def recorded_config(
    model: type[ConfigT],
    ledger: Ledger,
    job: str,
    fetched: str,
    overrides: Sequence[str],
    derived: Sequence[str] = (),
) -> tuple[ConfigT, Any]:
    """The configuration of a run as its run.json has it.

    Args:
        model: Of the job.
        ledger: The run.
        job: Whose run it must be.
        fetched: Key of what the job noted beside its configuration: the digests of what it had fetched.
        overrides: Texts `a.b=value` for settings that do not change the output.
        derived: Keys of what follows from the configuration, noted for readers.

    Returns:
        The configuration, and the value of `fetched`.

    Raises:
        LedgerError: It is a run of another job, or an override would change the output.
        ConfigError: An override cannot be used.
    """
    output = ledger.storage.uri
    if ledger.spec.job != job:
        raise LedgerError(f"{output}: a run of '{ledger.spec.job}', not of '{job}'")
    request = dict(ledger.spec.config)
    digests = request.pop(fetched)
    for key in derived:
        del request[key]
    values = merged(request, ledger.spec.settings | {"output": output})
    config = build_config(model, values, overrides, f"{output}/run.json")
    if changed := differences(request, identity(config)):
        raise LedgerError(
            f"{output}: a retry cannot change what determines the output:\n  " + "\n  ".join(changed)
        )
    return config, digests


def refuse_other_input(ledger: Ledger, objects: Iterable[InputObject], what: str) -> None:
    """That the input is the one that was planned; `what` is what messages call it.

    Raises:
        LedgerError: It is not.
    """
    planned = {unit.path: unit.fingerprint for unit in ledger.planned()}
    found = {item.path: item.fingerprint for item in objects if item.rows}
    if changed := differences(planned, found):
        raise LedgerError(
            f"{ledger.storage.uri}: the {what} changed since the job was planned:\n  "
            + "\n  ".join(changed)
            + "\nrestore it, or start a new output folder for the new one"
        )
