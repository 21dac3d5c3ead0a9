"""Which report a folder gets, and the command that writes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.__main__ import main
from pipelines.errors import RefusalError
from pipelines.garbage import find_garbage
from pipelines.reports import writing
from pipelines.reports.writing import try_to_write_report, write_report
from pipelines.storage import child, open_storage
from pipelines.verify import verify
from tests.pipelines.made_generations import MadeGenerations
from tests.pipelines.reports.made_curation import made_curation


def test_the_command_writes_the_page_beside_the_data(root_uri: str) -> None:
    output = child(root_uri, "out")
    MadeGenerations(output, ["a fox", "a boat"]).commit()
    told = CliRunner().invoke(main, ["report", output, "--price", "2"])
    assert told.exit_code == 0, told.output
    assert open_storage(output).uri_of("report.html") in told.output
    page = open_storage(output).read("report.html").decode()
    assert "a boat" in page
    assert "cost of a thousand" in page


def test_a_report_is_neither_garbage_nor_wrong(tmp_path: Path) -> None:
    MadeGenerations(str(tmp_path), ["a fox", "a boat"]).commit()
    write_report(str(tmp_path))
    assert find_garbage(str(tmp_path), 0).objects == []
    assert verify(str(tmp_path)).problems == []


def test_the_report_of_a_curation_has_its_cost(tmp_path: Path) -> None:
    made = made_curation(tmp_path)
    made.score()
    write_report(made.output, 2.0)
    assert "cost of a thousand results" in Path(made.output, "report.html").read_text()


def test_a_price_is_refused_where_the_report_has_no_cost(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "run.json").write_text("{}")
    with pytest.raises(RefusalError, match=r"--price: .* leave it out"):
        write_report(str(tmp_path), 2.0)


def test_a_folder_of_no_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusalError, match="name the output folder"):
        write_report(str(tmp_path))


def test_a_job_does_not_fail_for_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    MadeGenerations(str(tmp_path), ["a fox"]).commit()

    def fails(output: str, price: float | None) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(writing, "generation_report", fails)
    assert try_to_write_report(str(tmp_path)) is None
    assert "results are complete" in caplog.text
    assert "ZeroDivisionError" in caplog.text
