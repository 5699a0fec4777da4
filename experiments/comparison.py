"""A central training of the same model beside a run: `flockwise lab baseline --summary FILE`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from config.failures import ExitCode, Failure
from experiments.summary import Summary
from experiments.wording import accuracy_text, seconds_text, sparkline

_COLUMNS = 6


class BaselineEpoch(BaseModel):
    """The model after so many epochs; seconds of training up to then."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    epoch: float
    accuracy: float
    seconds: float


class BaselineResult(BaseModel):
    """What is read of a baseline's file; what else stands there is left alone."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    model: str
    source: str
    generated: bool
    train_examples: int
    threads: int
    accuracy: float
    seconds: float
    epochs: tuple[BaselineEpoch, ...]


def read_baseline(path: Path) -> BaselineResult:
    """Read the file.

    Raises:
        Failure: it cannot be read, or is not the summary of a baseline.
    """
    try:
        return BaselineResult.model_validate_json(path.read_bytes())
    except OSError as error:
        raise Failure(
            ExitCode.NO_INPUT, f"baseline {path} cannot be read: {error.strerror}"
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise Failure(
            ExitCode.NO_INPUT,
            f"baseline {path} is no summary of `flockwise lab baseline`: {where}: {first['msg']}",
        ) from None


def comparison_lines(summary: Summary, baseline: BaselineResult) -> Iterator[str]:
    """The baseline's accuracies, and how far the federation is from them."""
    on = " on generated images" if baseline.generated else ""
    yield (
        f"Beside it, trained in one place{on}: {baseline.model},"
        f" {baseline.train_examples:,} images, {baseline.threads} threads; accuracy by epoch"
    )
    epochs = baseline.epochs
    for start in range(0, len(epochs), _COLUMNS):
        row = epochs[start : start + _COLUMNS]
        yield "  " + "  ".join(f"{one.epoch:>4g} {100 * one.accuracy:5.1f} %" for one in row)
    curve = sparkline([one.accuracy for one in epochs], 60)
    final = accuracy_text(baseline.accuracy, generated=baseline.generated)
    yield f"  {curve}  {final} after {seconds_text(baseline.seconds)} of training"
    yield "  " + _distance(summary, baseline)


def _distance(summary: Summary, baseline: BaselineResult) -> str:
    if (summary.generated, summary.model) != (baseline.generated, baseline.model):
        return "not comparable: of another model, or on images of another kind"
    if summary.accuracy is None:
        return "not comparable: no version of the federation was tested"
    points = 100 * (summary.accuracy - baseline.accuracy)
    where = "below" if points < 0 else "above"
    reached = next((e for e in baseline.epochs if e.accuracy >= summary.accuracy), None)
    when = f"; it had come that far after {seconds_text(reached.seconds)}" if reached else ""
    return f"the federation is {abs(points):.1f} points {where} it{when}"
