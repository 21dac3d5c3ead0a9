"""The report of `train`: losses, rates, samples over time, what was left out, checkpoints, configuration.

It is made of what lies in the output, so it can be made at any time: while the training runs, after it was
killed, on a machine without Ray and torch.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from rich.filesize import decimal

from pipelines.errors import RefusalError
from pipelines.pages.charts import Chart, Threshold, line_chart, thinned
from pipelines.pages.rendering import render
from pipelines.pages.words import short_code_version, utc_time
from pipelines.progress import duration
from pipelines.reports.training_log import Checkpoint, StageRecord, read_stages
from pipelines.reports.training_samples import sample_sheets
from pipelines.storage import without_options

_TEMPLATE = Path(__file__).with_name("training.html.j2")
_MANY_LINES_POINTS = 120
_TABLE_ROWS = 50
_SECTIONS = {
    "summary": "Summary",
    "loss": "Loss",
    "samples": "Samples",
    "speed": "Speed",
    "optimizer": "Optimizer",
    "left-out": "Left out",
    "starts": "Starts",
    "checkpoints": "Checkpoints",
    "configuration": "Configuration",
}
_STAGE_HEAD = (
    "stage",
    "steps",
    "batch size",
    "peak learning rate",
    "pixels",
    "loss",
    "held-out loss",
    "samples/s",
    "utilisation",
    "time in steps",
    "left out",
)


def training_report(output: str) -> bytes:
    """The page.

    Args:
        output: Of a `train` job, local or s3://; it may be running.

    Raises:
        RefusalError: There is no training, or a file is not what one writes.
    """
    stages = read_stages(output)
    if not stages:
        raise RefusalError(f"{output}: no training there; name the output of a `train` job")
    location = without_options(output).rstrip("/")
    sheets = sample_sheets(stages)
    values = {
        "title": f"Training: {location.rpartition('/')[2]}",
        "lead": f"{_state(stages)}. {location}",
        "footer": f"Made from {location} on {utc_time(datetime.now(UTC).timestamp())}.",
        "location": shlex.quote(location),
        "facts": _progress_facts(stages) + _speed_facts(stages) + _setting_facts(stages),
        "stage_head": _STAGE_HEAD,
        "stage_rows": [_stage_row(stage) for stage in stages],
        "losses": _loss_charts(stages),
        "speeds": _speed_charts(stages),
        "optimizer": _optimizer_charts(stages),
        "sheets": sheets,
        "num_sheets": sum(len(stage.pictures) for stage in stages),
        "skips": [_skip_row(stage, skip) for stage in stages for skip in stage.skips],
        "starts": [row for stage in stages for row in _start_rows(stage)][-_TABLE_ROWS:],
        "checkpoints": [(stage.name, *_checkpoint_row(one)) for stage in stages for one in stage.checkpoints][
            -_TABLE_ROWS:
        ],
        "configurations": [(stage.name, _yaml(stage.run)) for stage in stages],
    }
    present = {
        "loss": values["losses"],
        "samples": sheets,
        "speed": values["speeds"],
        "optimizer": values["optimizer"],
        "starts": values["starts"],
    }
    sections = [(id, name) for id, name in _SECTIONS.items() if present.get(id, True)]
    return render(_TEMPLATE, values | {"sections": sections})


def _state(stages: Sequence[StageRecord]) -> str:
    done, total = sum(stage.steps for stage in stages), sum(stage.num_steps for stage in stages)
    if all(_is_done(stage) for stage in stages):
        return f"Done: {total:,} steps"
    where = next(stage for stage in reversed(stages) if not _is_done(stage))
    of_stage = f", in stage {where.name}" if len(stages) > 1 else ""
    return f"Step {done:,} of {total:,}{of_stage}: it runs or was stopped"


def _is_done(stage: StageRecord) -> bool:
    return any(one.step == stage.num_steps for one in stage.checkpoints)


def _progress_facts(stages: Sequence[StageRecord]) -> list[tuple[str, str]]:
    done, total, last = sum(s.steps for s in stages), sum(s.num_steps for s in stages), _last(stages)
    facts = [
        ("steps", f"{done:,} of {total:,} ({done / total:.1%})"),
        ("samples", f"{sum(s.steps * s.settings['batch_size'] for s in stages):,}"),
    ]
    if last.epoch:
        facts.append((f"epoch{_of(last, stages)}", f"{last.epoch:,}"))
    if last.last_losses:
        over = f"mean of {len(last.last_losses)} steps"
        facts.append((f"training loss, {over}", f"{fmean(last.last_losses):.4f}"))
    if last.held_out:
        facts.append(
            (f"held-out loss, mean of {len(last.held_out)} rates", f"{fmean(last.held_out.values()):.4f}")
        )
    num_skips, num_starts = sum(len(s.skips) for s in stages), sum(len(s.starts) for s in stages)
    facts.append(("batches left out", f"{num_skips:,}"))
    if num_starts:
        resumed = sum(start.step > 0 for stage in stages for start in stage.starts)
        facts.append(("starts of workers", f"{num_starts:,}, {resumed:,} from a checkpoint"))
    return facts


def _speed_facts(stages: Sequence[StageRecord]) -> list[tuple[str, str]]:
    begun = min([stages[0].begun_at, *(float(s.started_at) for s in stages[0].starts)])
    written = max(stage.written_at for stage in stages)
    seconds = sum(stage.seconds for stage in stages)
    facts = [
        ("began", utc_time(begun)),
        ("last written", utc_time(written)),
        ("from first to last", duration(max(written - begun, 0))),
    ]
    if seconds:
        facts += [
            ("time in steps", duration(seconds)),
            ("samples/s", f"{_mean(stages, 'samples_per_s'):,.1f}"),
            ("image tokens/s", f"{_mean(stages, 'tokens_per_s'):,.0f}"),
            ("model-FLOP utilisation", f"{_mean(stages, 'utilisation'):.1%}"),
            ("waiting for data", f"{_mean(stages, 'data_wait'):.1%}"),
        ]
    return facts


def _mean(stages: Sequence[StageRecord], name: str) -> float:
    """Of a rate, over the time in steps."""
    rated = [stage for stage in stages if stage.seconds]
    return sum(s.means[name] * s.seconds for s in rated) / sum(s.seconds for s in rated)


def _setting_facts(stages: Sequence[StageRecord]) -> list[tuple[str, str]]:
    last, run = _last(stages), _last(stages).run
    facts = [("precision", run["config"]["precision"])]
    if last.starts:
        start = last.starts[-1]
        facts += [
            ("workers", f"{start.num_workers} x {start.device}"),
            ("parallelism", start.parallel if start.num_workers > 1 else f"{start.parallel}, one worker"),
        ]
    code = last.starts[-1].code_version if last.starts else run.get("code_version", "")
    return [*facts, ("code", short_code_version(code)), ("start", _end_of(run["config"]["init"]["uri"], 40))]


def _last(stages: Sequence[StageRecord]) -> StageRecord:
    """The stage that is trained, or was last."""
    return next((stage for stage in reversed(stages) if stage.steps), stages[-1])


def _of(stage: StageRecord, stages: Sequence[StageRecord]) -> str:
    return f" of {stage.name}" if len(stages) > 1 else ""


def _stage_row(stage: StageRecord) -> tuple[str, ...]:
    width, height = stage.run["config"]["resolution"]
    rated = bool(stage.seconds)
    return (
        stage.name,
        f"{stage.steps:,} of {stage.num_steps:,}",
        f"{stage.settings['batch_size']:,}",
        f"{stage.settings['learning_rate']:g}",
        f"{width} x {height}",
        f"{fmean(stage.last_losses):.4f}" if stage.last_losses else "",
        f"{fmean(stage.held_out.values()):.4f}" if stage.held_out else "",
        f"{stage.means['samples_per_s']:,.1f}" if rated else "",
        f"{stage.means['utilisation']:.1%}" if rated else "",
        duration(stage.seconds) if rated else "",
        f"{len(stage.skips):,}",
    )


def _loss_charts(stages: Sequence[StageRecord]) -> list[Chart]:
    held_out, by_rate = _names(stages, "validation"), _names(stages, "masking_rate")
    return [
        *_chart(stages, "Training loss", "loss", {"loss": _points(stages, "step", "loss")}),
        *_chart(
            stages,
            "Held-out loss by masking rate",
            "loss",
            {f"{name} masked": _few(_points(stages, "validation", name)) for name in held_out},
        ),
        *_chart(
            stages,
            "Training loss by masking rate",
            "loss",
            {f"{name} masked": _few(_points(stages, "masking_rate", name)) for name in by_rate},
        ),
    ]


def _speed_charts(stages: Sequence[StageRecord]) -> list[Chart]:
    percent = {
        name: [(step, 100 * value) for step, value in _points(stages, "rate", name)]
        for name in ("utilisation", "data_wait")
    }
    samples = {"samples/s": _points(stages, "rate", "samples_per_s")}
    return [
        *_chart(stages, "Throughput", "samples/s", samples),
        *_chart(stages, "Model-FLOP utilisation", "%", {"utilisation": percent["utilisation"]}),
        *_chart(stages, "Time spent waiting for data", "%", {"waiting": percent["data_wait"]}),
    ]


def _optimizer_charts(stages: Sequence[StageRecord]) -> list[Chart]:
    norms = {"mean": _points(stages, "step", "grad_norm")}
    if any(curve.width > 1 for stage in stages for curve in stage.curves.values()):
        norms["largest"] = _points(stages, "step", "grad_norm", largest=True)
    rates = {"learning rate": _points(stages, "step", "learning_rate")}
    return [
        *_chart(stages, "Learning rate", "learning rate", rates),
        *_chart(stages, "Norm of the gradient, before clipping", "norm", norms, may_be_logarithmic=True),
    ]


def _chart(
    stages: Sequence[StageRecord],
    title: str,
    y: str,
    series: dict[str, list[tuple[float, float]]],
    *,
    may_be_logarithmic: bool = False,
) -> list[Chart]:
    """A chart over the steps of all stages, with a mark where each begins; none without points."""
    values = [value for points in series.values() for _, value in points]
    if not values:
        return []
    marks = [Threshold(value=stage.offset, label=stage.name) for stage in stages if stage.steps]
    logarithmic = may_be_logarithmic and min(values) > 0
    return [
        line_chart(
            title=title,
            x="step" if len(stages) == 1 else "step, over all stages",
            y=y,
            series=series,
            logarithmic=logarithmic,
            marks=marks if len(marks) > 1 else (),
        )
    ]


def _names(stages: Sequence[StageRecord], kind: str) -> list[str]:
    """Of the lines of a kind, by the number that a name begins with."""
    found = {name for stage in stages for of, name in stage.curves if of == kind}
    return sorted(found, key=lambda name: float(name.partition("-")[0]))


def _points(
    stages: Sequence[StageRecord], kind: str, name: str, *, largest: bool = False
) -> list[tuple[float, float]]:
    curves = (stage.curves[kind, name] for stage in stages if (kind, name) in stage.curves)
    return [point for curve in curves for point in (curve.largest() if largest else curve.means())]


def _few(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return thinned(points, _MANY_LINES_POINTS)


def _skip_row(stage: StageRecord, skip: dict[str, Any]) -> tuple[str, ...]:
    what = "gradient" if math.isfinite(float(skip["loss"])) else "loss"
    step, batch = f"{skip['step'] + 1:,}", f"{skip['index']:,}"
    return stage.name, step, batch, f"its {what} was not finite", skip["loss"], skip["grad_norm"]


def _start_rows(stage: StageRecord) -> list[tuple[str, ...]]:
    return [
        (
            stage.name,
            utc_time(start.started_at),
            f"{start.step:,}",
            f"{start.num_workers} x {start.device}",
            start.parallel,
            short_code_version(start.code_version),
        )
        for start in stage.starts
    ]


def _checkpoint_row(one: Checkpoint) -> tuple[str, ...]:
    return f"{one.step:,}", decimal(one.size_bytes), utc_time(one.written_at)


def _yaml(run: dict[str, Any]) -> str:
    return yaml.safe_dump(run, sort_keys=True, allow_unicode=True, width=100)


def _end_of(text: str, at_most: int) -> str:
    return text if len(text) <= at_most else f"…{text[-at_most:]}"
