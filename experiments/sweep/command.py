"""`flockwise lab sweep`: many simulations by one definition, here or as W&B says."""

from __future__ import annotations

from collections.abc import Sequence

from config.failures import ExitCode, Failure
from config.loading import Gathered, gather
from config.sweep import SweepSettings
from coordinator.wandb_sink import effective_mode, has_key
from experiments.images import all_images
from experiments.interruption import cleaned_up
from experiments.sweep.book import Book, digest_of, keep_definition
from experiments.sweep.definition import Definition, read_definition
from experiments.sweep.lines import name_of, plan_line, say
from experiments.sweep.local import Picker, rows_of
from experiments.sweep.online import kept_sweep, lead, where_of
from experiments.sweep.points import Point, Run, key_of, points_of, runs_of, settings_at
from experiments.sweep.single import Rules


def main(argv: Sequence[str]) -> int:
    """Sweep, tell how it goes, and show what is best; 1 if a run failed."""
    gathered = gather(SweepSettings, _words(argv), prog="flockwise lab sweep")
    settings = gathered.settings()
    definition = read_definition(settings.definition)
    for note in definition.notes:
        say(f"{definition.source}: {note}")
    is_online = effective_mode(settings.reporting.wandb) == "online"
    book = Book(definition.metric, definition.varied, settings.output)
    try:
        with cleaned_up():
            (_online if is_online else _local)(gathered, settings, definition, book)
    except KeyboardInterrupt:
        of = "" if book.total is None else f" of {book.total}"
        kept = "" if book.output is None else "; the same command goes on"
        say(f"interrupted: {len(book.rows)}{of} runs are done{kept}")
        book.show(as_json=settings.print_json)
        raise
    book.show(as_json=settings.print_json)
    return ExitCode.FAILURE if any(row.problem for row in book.rows.values()) else ExitCode.OK


def _local(
    gathered: Gathered[SweepSettings], settings: SweepSettings, definition: Definition, book: Book
) -> None:
    """Points that are made here."""
    points = points_of(definition, settings.count, settings.seed)
    runs_of(points, gathered, definition, "")  # faults are told before images are read
    if definition.method == "bayes":
        say("bayes needs W&B online, which has its model: points are drawn at random instead")
    images = None if settings.generated else all_images(settings)
    runs = runs_of(points, gathered, definition, digest_of(images))
    missing = book.take_up(runs)
    done = len(runs) - len(missing)
    say(plan_line(points, runs, done, generated=settings.generated))
    keep_definition(definition, settings.output)
    if missing and not book.is_good_enough:
        rules = Rules(definition.metric, definition.early_terminate, settings.output)
        there = tuple(book.rows.values())
        runs_here = [_in_a_process(run, definition) for run in missing]
        for row in rows_of(runs_here, rules, images, settings.jobs, there):
            book.keep(row)
    if left := len(runs) - len(book.rows):
        say(f"a run has reached the target of the metric: {left} not made")


def _online(
    gathered: Gathered[SweepSettings], settings: SweepSettings, definition: Definition, book: Book
) -> None:
    """Points as W&B says."""
    if not has_key():
        text = "W&B online needs a key: wandb login, or WANDB_API_KEY; or --reporting-wandb offline"
        raise Failure(ExitCode.CONFIG, text)
    if settings.seeds > 1:
        text = "online, W&B says what to try: make seed one of the parameters, in place of --seeds"
        raise Failure(ExitCode.CONFIG, text)
    if definition.method == "grid":  # faults are told before anybody else hears of it
        runs_of(points_of(definition, None, 0), gathered, definition, "")
    images = None if settings.generated else all_images(settings)
    about = digest_of(images)
    keep_definition(definition, settings.output)
    rules = Rules(definition.metric, None, settings.output)

    def make_run(point: Point) -> Run:
        of_point = settings_at(gathered, definition, point)
        # The run of W&B is there already. One simulation at a time, as the next point hangs on
        # it; its trainings go beside each other.
        silent = of_point.reporting.model_copy(update={"wandb": "off"})
        here = {"workers": settings.jobs, "reporting": silent}
        return Run(key_of(of_point, about), point, of_point.model_copy(update=here))

    project = definition.project or settings.reporting.project
    sweep = settings.join or kept_sweep(settings.output)
    where = where_of(sweep, definition.entity, project)
    reporting, picker = settings.reporting, Picker(images)
    lead(definition, where, rules, reporting, make_run, picker, settings.count, book.keep)


def _in_a_process(run: Run, definition: Definition) -> Run:
    """A run that trains where it is, and belongs to the group of its sweep."""
    settings, reporting = run.settings, run.settings.reporting
    told = {
        "group": reporting.group or definition.name,
        "job_type": reporting.job_type or "sweep",
        "project": definition.project or reporting.project,
        "run_name": " ".join(filter(None, (reporting.run_name, name_of(run, definition.varied)))),
    }
    here = {
        "reporting": reporting.model_copy(update=told),
        "engine": "inline" if settings.engine == "local" else settings.engine,
    }
    return Run(run.key, run.point, settings.model_copy(update=here))


def _words(argv: Sequence[str]) -> list[str]:
    if argv and not argv[0].startswith("-"):
        return ["--definition", *argv]
    return list(argv)
