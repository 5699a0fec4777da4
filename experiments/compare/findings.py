"""What can be said of a set of runs: targets, doubts, and in what they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from config.simulation import SimulationSettings
from experiments.compare.reading import Run
from experiments.wording import count_text

# Decided by the comparison, or by the machine: no choice of a method.
_NOT_CHOSEN = {
    *("seed", "versions", "target", "engine", "workers", "ray_address", "print_json"),
    *("strategy", "evaluate_every"),
}
_STEP = 0.05

LABELS = {
    "central": "Central",
    "local": "Each alone",
    "fedavg": "FedAvg",
    "fedasync": "FedAsync",
    "fedbuff": "FedBuff",
    "memory": "Memory",
}


def chosen_targets(runs: Sequence[Run]) -> tuple[float, ...]:
    """Two accuracies, multiples of five points: what all federated runs reached, and what any did.

    Those that guessing reaches tell nothing.
    """
    best = [run.summary.best_accuracy or 0.0 for run in runs if run.about.kind == "federated"]
    classes = max((len(run.summary.recall) for run in runs), default=0) or 10
    steps = {int(min(best, default=0.0) / _STEP + 1e-9), int(max(best, default=0.0) / _STEP + 1e-9)}
    return tuple(round(step * _STEP, 2) for step in sorted(steps) if step * _STEP > 1.5 / classes)


def tuning(run: Run) -> str:
    """Where a method's settings come from."""
    own = run.about.own
    if own:
        told = ", ".join(f"{key} = {value}" for key, value in own.items() if key != "strategy")
        return f"own file {run.about.file}: {told or 'nothing but its strategy'}"
    if run.about.method:
        return "defaults" if run.about.kind == "federated" else "the common ones"
    return "as it was run"


def equal_tuning(runs: Sequence[Run]) -> str:
    """What the settings say about how much effort went into each method."""
    tuned = {run.name for run in runs if run.about.own}
    if any(not run.about.method for run in runs):
        return (
            "These runs were made one by one: what was tried before them is not on record. Settings"
            " in which they differ are listed below."
        )
    if not tuned:
        return (
            "No method was tuned here: all train by the same plan, and beyond the common settings"
            " above each has the defaults of its strategy."
        )
    names = ", ".join(LABELS.get(name, name) for name in sorted(tuned))
    return (
        f"Settings of their own were given to {names}; the other methods have the defaults of their"
        " strategy. How much effort went into those settings is not on record."
    )


def notes_on(runs: Sequence[Run]) -> tuple[str, ...]:
    """What a reader should know before believing the figures."""
    return tuple(dict.fromkeys(_notes(runs)))


def _notes(runs: Sequence[Run]) -> Iterator[str]:
    if any(run.summary.generated for run in runs):
        yield (
            "The images are GENERATED, made up by a program: the accuracies say nothing about real"
            " images, and the order of the methods may be another one there."
        )
    sources = {(run.seed, run.summary.source) for run in runs}
    if len(sources) > len({run.seed for run in runs}):
        yield "The runs are not all on the same images: their accuracies cannot be compared."
    shared = [key for key in _differing(runs) if not key.startswith(("aggregation", "standing"))]
    if shared and any(not run.about.method for run in runs):
        yield f"The runs differ in more than the method: {', '.join(shared)}."
    for run in runs:
        yield from _notes_on_one(run)
    if any(run.real for run in runs):
        yield "Some runs were real ones: their time is that of the clock on the wall."
    if len({run.seed for run in runs}) == 1:
        yield "One seed was run: differences of a point or two may be chance."


def _notes_on_one(run: Run) -> Iterator[str]:
    summary, settings = run.summary, run.summary.settings
    rule, devices = settings.get("aggregation", {}), settings.get("devices", 0)
    federated = run.about.kind == "federated"
    if federated and rule.get("trigger") == "buffer" and 2 * rule["buffer_size"] > devices:
        yield (
            f"The buffer of {run.name} holds {rule['buffer_size']} updates of"
            f" {count_text(devices, 'device')}, each at most once: a version waits for many of"
            " them, nearly as in rounds."
        )
    if run.about.passes and summary.ending == "time":
        yield (
            f"{run.name}, seed {run.seed}, ended at the limit of virtual time, after"
            f" {run.work[-1] if run.work else 0:.1f} of {run.about.passes:g} passes."
        )
    silent = sum(not part.updates for part in summary.parts)
    if federated and silent:
        yield (
            f"{run.name}, seed {run.seed}: {count_text(silent, 'device')} of"
            f" {len(summary.parts)} had no update in any version."
        )
    if run.about.kind == "local" and (lost := len(summary.parts) - len(run.alone)):
        yield f"{count_text(lost, 'device')} came to nothing alone, and are not in its figures."
    if federated and not summary.curve:
        yield f"No version of {run.name}, seed {run.seed}, was tested."


def run_on(runs: Sequence[Run]) -> tuple[tuple[str, str], ...]:
    """What it was run on, as label and text."""
    return tuple(_facts(runs))


def _facts(runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    first = next((run for run in runs if run.about.training_images), runs[0])
    about, settings = (
        first.about,
        next((r.summary.settings for r in runs if r.summary.settings), {}),
    )
    note = " (GENERATED, NOT REAL)" if first.summary.generated else ""
    yield "Images", f"{first.summary.source}{note}"
    shown = next((run.summary for run in runs if run.summary.parts), None)
    if shown is not None:
        train, devices = sum(part.images for part in shown.parts), len(shown.parts)
        text = f"{train:,} to train on, on {count_text(devices, 'device')}"
        if about.training_images:
            text += f"; {about.training_images - train:,} held out there"
        if about.test_images:
            text += f"; {about.test_images:,} test images"
        yield "How many", text
    training = settings.get("training", {})
    if training:
        epochs = float(training.get("epochs", 0))
        yield "Model", str(training.get("model", ""))
        yield (
            "Training",
            f"{epochs:g} epoch{'' if epochs == 1 else 's'} an update, batches of"
            f" {training.get('batch_size')}, learning rate {training.get('learning_rate'):g},"
            f" momentum {training.get('momentum'):g}, updates as {training.get('codec')}",
        )
    if settings.get("fleet"):
        yield "Devices", _fleet_text(settings["fleet"])
    if about.passes:
        tests = f", tested about {about.tests:g} times a pass" if about.tests else ""
        yield "Budget", f"{about.passes:g} passes over the training images{tests}"
    yield "Seeds", ", ".join(str(seed) for seed in sorted({run.seed for run in runs}))
    if about.software:
        yield "Software", ", ".join(f"{name} {one}" for name, one in about.software.items())
    if about.machine:
        yield "Machine", about.machine


def _fleet_text(fleet: Mapping[str, Any]) -> str:
    speeds = {"equal": "equally fast", "half_normal": "half-normal times"}
    told = speeds.get(fleet["speed"], f"lognormal times (spread {fleet['spread']:g})")
    text = f"the typical one {fleet['images_per_s']:g} images a second; {told}"
    if fleet["stragglers"]:
        tied = ", those richest in the first labels" if fleet["straggler_labels"] else ""
        text += f"; {fleet['stragglers']:.0%} {fleet['straggler_factor']:g} times slower{tied}"
    there = {
        "always": "always there",
        "on_off": f"there {fleet['on_s']:g} s, away {fleet['off_s']:g} s, on average",
        "day_night": f"there {fleet['hours']:g} hours of the day",
    }
    text += f"; {there[fleet['availability']]}"
    if fleet["crash"]:
        text += f"; {fleet['crash']:.0%} of trainings end in a crash"
    if fleet["bandwidth"]:
        text += f"; links of {fleet['bandwidth']:g} bytes a second"
    return text


def common_settings(runs: Sequence[Run]) -> dict[str, str]:
    """Settings that all federated runs share and that are not the defaults of their strategies."""
    flat = [_flat(run.summary.settings) for run in _federated(runs)]
    if not flat:
        return {}
    usual = [_defaults(one.get("strategy", "")) for one in flat]
    return {
        key: _text(value)
        for key, value in flat[0].items()
        if key not in _NOT_CHOSEN
        and all(other.get(key) == value for other in flat)
        and any(default.get(key) != value for default in usual)
    }


def different_settings(by_name: Mapping[str, Sequence[Run]]) -> dict[str, dict[str, str]]:
    """Settings in which federated methods differ: by key, what each has."""
    firsts = _federated([runs[0] for runs in by_name.values()])
    keys = ["strategy", *_differing(firsts), "evaluate_every"]
    flat = {run.name: _flat(run.summary.settings) for run in firsts}
    return {key: {name: _text(one.get(key)) for name, one in flat.items()} for key in keys if flat}


def _differing(runs: Sequence[Run]) -> list[str]:
    flat = [_flat(run.summary.settings) for run in _federated(runs)]
    keys = dict.fromkeys(key for one in flat for key in one if key not in _NOT_CHOSEN)
    return [key for key in keys if any(one.get(key) != flat[0].get(key) for one in flat)]


def _federated(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.about.kind == "federated" and run.summary.settings]


def _defaults(strategy: str) -> dict[str, Any]:
    try:
        return _flat(SimulationSettings.model_validate({"strategy": strategy}).model_dump())
    except ValidationError:
        return {}


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{above}{name}.")
        else:
            flat[above + name] = value
    return flat


def _text(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case _:
            return str(value)
