"""What the package itself offers."""

import subprocess
import sys

import pytest

import meissonic


@pytest.mark.parametrize("name", meissonic.__all__)
def test_every_name_is_listed_and_there(name: str) -> None:
    assert name in dir(meissonic)
    assert getattr(meissonic, name).__module__.startswith("meissonic.")


def test_names_that_it_does_not_have_are_refused() -> None:
    with pytest.raises(AttributeError, match="'meissonic' has no attribute 'Sampled'"):
        _ = meissonic.Sampled  # type: ignore[attr-defined]


def test_configurations_are_read_without_torch() -> None:
    code = (
        "import sys, meissonic, meissonic.model_folder as m;"
        "m.read_configs('examples/shapes/model'); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
