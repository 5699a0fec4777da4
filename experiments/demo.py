"""`flockwise demo`: a whole federation on this machine, from images to a summary, shown live.

Data are cut into chunks, a broker, a coordinator and agents run as processes of their own, and
what came of it is summed up, also after Ctrl-C and after a failure. Everything lies in one
directory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from config.failures import ExitCode, Failure
from config.loading import load
from config.settings import DemoSettings
from experiments import recipes
from experiments.comparison import BaselineResult, comparison_lines, read_baseline
from experiments.display import display_on, is_terminal
from experiments.interruption import interruptible
from experiments.local_federation import LocalFederation, Outcome
from experiments.preparation import Prepared, prepare
from experiments.run_directory import RunDirectory, make_run_directory
from experiments.settings_file import write_settings
from experiments.summary import Summary, as_json, read_reports, summarize
from experiments.summary_text import as_text
from federation.files import replace_file
from learning.folders import OnRead


def main(argv: Sequence[str]) -> int:
    """Run the demo; 0 if all versions were made, 130 after Ctrl-C, 1 where it could not go on."""
    settings = load(DemoSettings, argv, prog="flockwise demo")
    recipes.versions(settings)  # says what does not hold together, before anything is made
    baseline = None if settings.baseline is None else read_baseline(settings.baseline)
    _require_directory(settings.summary)
    _bear_any_terminal()
    # With --json stdout is for the summary alone.
    console = Console(stderr=settings.print_json, highlight=False)
    run = make_run_directory(settings.run_dir, datetime.now())
    again = f"to run it again: flockwise demo --config {run.settings} --run-dir NEW"
    write_settings(run.settings, recipes.resolved(settings), again)
    data = _prepare(settings, run, console)
    with interruptible() as asked, LocalFederation(settings, run, data) as federation:
        broker = federation.broker
        _say(console, f"{broker.title} on {broker.listens_on}, files in {run.path}")
        outcome = federation.go(display_on(console), asked)
    _hand_over(settings, run, _sum_up(settings, run, outcome), baseline, console)
    if outcome.ending == "failed":
        raise Failure(ExitCode.FAILURE, f"the demo could not go on: {outcome.problem}")
    return asked.exit_code if outcome.ending == "interrupted" else ExitCode.OK


def _prepare(settings: DemoSettings, run: RunDirectory, console: Console) -> Prepared:
    with _reading(console) as on_read:
        data = prepare(settings, run, lambda text: _say(console, text), on_read)
    total = sum(data.examples.values())
    _say(console, f"{data.source}: {total:,} to train on, {data.test_examples:,} to test")
    return data


@contextmanager
def _reading(console: Console) -> Iterator[OnRead]:
    """Show how many images have been read: a bar in a terminal, else a line at the begin."""
    if not is_terminal(console):
        told = False

        def tell(_done: int, total: int) -> None:
            nonlocal told
            if not told:
                _say(console, f"reading {total:,} images")
            told = True

        yield tell
        return
    columns = (TextColumn("reading images"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", visible=False)
        yield lambda done, total: progress.update(bar, completed=done, total=total, visible=True)


def _sum_up(settings: DemoSettings, run: RunDirectory, outcome: Outcome) -> Summary:
    return summarize(
        outcome.board,
        read_reports(run.reports),
        ending=outcome.ending,
        problem=outcome.problem,
        settings={
            "seed": settings.seed,
            "dirichlet": settings.dirichlet,
            "straggler": settings.straggler,
            "training": recipes.training_plan(settings).model_dump(mode="json"),
            "aggregation": recipes.aggregation(settings).model_dump(mode="json"),
        },
    )


def _hand_over(
    settings: DemoSettings,
    run: RunDirectory,
    summary: Summary,
    baseline: BaselineResult | None,
    console: Console,
) -> None:
    """Write the summary to its files and print it, with the baseline beside it."""
    beside: list[str] = []
    if baseline is not None:
        summary = replace(summary, baseline=baseline.model_dump())
        beside = list(comparison_lines(summary, baseline))
    text = as_json(summary)
    failure: Failure | None = None
    for path in (run.summary, settings.summary):
        if path is not None:
            try:
                replace_file(path, text.encode())
            except OSError as error:
                reason = error.strerror or error
                failure = Failure(ExitCode.CANNOT_WRITE, f"cannot write {path}: {reason}")
    wandb = (run.coordinator / "wandb").exists()
    _say(console, "\n" + as_text(summary, beside=beside, wandb=wandb).rstrip())
    if settings.print_json:
        sys.stdout.write(text)
    if failure is not None:
        raise failure


def _say(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)


def _require_directory(file: Path | None) -> None:
    """Say before the work, not after it, that a summary has no place to go."""
    if file is not None and not file.absolute().parent.is_dir():
        raise Failure(ExitCode.CANNOT_WRITE, f"summary {file}: there is no such directory")


def _bear_any_terminal() -> None:
    """Where an output cannot write a character of ours, it writes a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
