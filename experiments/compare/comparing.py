"""From runs to a comparison: what each came to, beside the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from config.partition import Partition
from experiments.compare.comparison import Compared, Comparison, Curve, Holder, Outcome, Reached
from experiments.compare.findings import (
    LABELS,
    chosen_targets,
    common_settings,
    different_settings,
    equal_tuning,
    notes_on,
    run_on,
    tuning,
)
from experiments.compare.reading import Run
from experiments.wording import count_text


def compared(
    runs: Sequence[Run], targets: Sequence[float], title: str = "", command: str = ""
) -> Comparison:
    """Put runs beside each other: those of one name are one method with several seeds.

    Args:
        targets: accuracies; none lets them be chosen by what was reached.
        command: how to do it again.
    """
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.name, []).append(run)
    aims = tuple(sorted(targets)) or chosen_targets(runs)
    settings = next((run.summary.settings for run in runs if run.summary.settings), {})
    shown = next((run for run in runs if run.summary.parts and not run.real), None)
    holders = tuple(
        Holder(part.device, part.images, part.labels, part.slowness)
        for part in (shown.summary.parts if shown else ())
    )
    classes = _class_names(runs)
    return Comparison(
        title=title or _title(by_name),
        command=command,
        generated=any(run.summary.generated for run in runs),
        real=any(run.real for run in runs),
        targets=aims,
        targets_given=bool(targets),
        methods=tuple(
            Compared(
                name,
                LABELS.get(name, name),
                of_name[0].about.kind,
                tuning(of_name[0]),
                tuple(_outcome(run, aims) for run in of_name),
            )
            for name, of_name in by_name.items()
        ),
        class_names=classes,
        devices=holders,
        cut=_cut(settings),
        source=runs[0].summary.source,
        seed=shown.seed if shown else 0,
        passes=next((run.about.passes for run in runs if run.about.passes), None),
        tuning=equal_tuning(runs),
        notes=notes_on(runs),
        facts=run_on(runs),
        given=common_settings(runs),
        different=different_settings(by_name),
    )


def _outcome(run: Run, targets: Sequence[float]) -> Outcome:
    summary, curve = run.summary, run.summary.curve
    federated = run.about.kind == "federated"
    return Outcome(
        seed=run.seed,
        where=run.where,
        ending=summary.ending,
        virtual_s=summary.virtual_s,
        versions=summary.versions,
        updates=summary.updates,
        refused=sum(summary.refused.values()),
        crashes=summary.crashes,
        bytes_up=curve[-1].bytes_up if curve else summary.bytes_up,
        bytes_down=summary.bytes_down,
        passes=round(run.work[-1], 3) if run.work else None,
        accuracy=summary.accuracy,
        best_accuracy=summary.best_accuracy,
        curve=Curve(
            tuple(point.time_s for point in curve),
            tuple(point.updates for point in curve),
            tuple(point.bytes_up for point in curve),
            tuple(round(passes, 4) for passes in run.work),
            tuple(round(point.accuracy, 6) for point in curve),
        ),
        reached=tuple(_reached(run, target) for target in targets),
        recall=summary.recall,
        on_device=run.on_device,
        device_updates=tuple(part.updates for part in summary.parts) if federated else (),
        slowness=tuple(part.slowness for part in summary.parts) if federated else (),
        label_weight=_label_weight(run) if federated else (),
        staleness=run.staleness,
        alone=run.alone,
        model=summary.model,
    )


def _reached(run: Run, target: float) -> Reached:
    point = next((one for one in run.summary.curve if one.accuracy >= target), None)
    if point is None:
        return Reached(None, None, None)
    if run.about.kind != "federated":
        return Reached(point.time_s, None, None)
    return Reached(point.time_s, point.updates, point.bytes_up)


def _label_weight(run: Run) -> tuple[float, ...]:
    parts = [part for part in run.summary.parts if part.labels]
    if not parts or not any(part.updates for part in parts):
        return ()
    classes = range(len(parts[0].labels))
    held = [sum(part.labels[label] for part in parts) for label in classes]
    heard = [sum(part.updates * part.labels[label] for part in parts) for label in classes]
    scale = sum(held) / max(1, sum(heard))
    return tuple(
        round(scale * told / has, 4) if has else 0.0 for told, has in zip(heard, held, strict=True)
    )


def _class_names(runs: Sequence[Run]) -> tuple[str, ...]:
    """As the runs know them; a label without a name has its number."""
    labels = max((len(part.labels) for run in runs for part in run.summary.parts), default=0)
    known = max((run.about.class_names for run in runs), key=len)
    recalled = max((tuple(run.summary.recall) for run in runs), key=len)
    names = known or (recalled if len(recalled) >= labels else ())
    return (*names, *(f"class {index}" for index in range(len(names), labels)))


def _cut(settings: Mapping[str, object]) -> str:
    try:
        return Partition.model_validate(settings["partition"]).in_words()
    except (KeyError, ValidationError):
        return "as they were"


def _title(by_name: Mapping[str, Sequence[Run]]) -> str:
    number = len(by_name)
    words = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
    ways = f"{words[number] if number < len(words) else number} way{'s' if number > 1 else ''}"
    devices = {len(run.summary.parts) for runs in by_name.values() for run in runs} - {0}
    on = f" on {count_text(devices.pop(), 'device')}" if len(devices) == 1 else ""
    return f"{ways} to train one model{on}"
