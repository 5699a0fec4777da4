"""A comparison as large and as motley as one is likely to be, without training anything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from experiments.compare.comparing import compared
from experiments.compare.comparison import Comparison
from experiments.compare.reading import About, Run
from experiments.simulation.summary import Part, Point, Summary

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# How fast, how far, how much it trembles, and how long a version takes.
_METHODS = {
    "central": (3.0, 0.72, 0.004, 90.0),
    "local": (3.0, 0.32, 0.0, 0.0),
    "fedavg": (4.0, 0.61, 0.008, 400.0),
    "fedasync": (3.0, 0.52, 0.03, 1.1),
    "fedbuff": (3.5, 0.58, 0.015, 11.0),
    "memory": (3.2, 0.62, 0.008, 11.0),
}


def runs(devices: int = 100, seeds: int = 3, *, classes: tuple[str, ...] = CLASSES) -> list[Run]:
    """One of each method and seed."""
    return [_run(name, seed, devices, classes) for name in _METHODS for seed in range(seeds)]


def comparison(devices: int = 100, seeds: int = 3) -> Comparison:
    """All of them beside each other."""
    command = "flockwise lab compare --data images --devices 100 --seeds 3 --output runs/compare"
    return compared(runs(devices, seeds), (0.45, 0.55), command=command)


def _run(name: str, seed: int, devices: int, classes: tuple[str, ...]) -> Run:
    speed, top, tremble, version_s = _METHODS[name]
    chance = np.random.default_rng([seed, len(name)])
    common = np.random.default_rng(seed)
    labels = common.multinomial(450, common.dirichlet([0.3] * len(classes), devices))
    slow = np.abs(common.standard_normal(devices)) / 0.6745 + 0.05
    kind = name if name in ("central", "local") else "federated"
    updates = np.zeros(devices, int)
    if kind == "federated":
        even = name == "fedavg"
        updates = np.full(devices, 10) if even else np.round(12 / slow ** (0.4 if even else 0.7))
    count = {"fedavg": 10, "local": 0}.get(name, 40)
    curve = []
    for index in range(1, count + 1):
        share = index / count
        accuracy = 0.1 + (top - 0.1) * (1 - np.exp(-speed * share)) + chance.normal(0, tremble)
        per_test = version_s * {"fedasync": 25, "fedbuff": 2.5, "memory": 2.5}.get(name, 1)
        sent = 0 if kind != "federated" else round(1000 * share)
        point = Point(index, per_test * index, sent, sent * 300_000, float(accuracy), 1.0)
        curve.append(point)
    recall = {one: float(np.clip(top + chance.normal(0, 0.12), 0, 1)) for one in classes}
    parts = tuple(
        Part(
            f"device-{index:02d}",
            450,
            tuple(labels[index].tolist()),
            float(slow[index]),
            int(updates[index]),
            float(np.clip(chance.normal(top, 0.12), 0, 1)),
        )
        for index in range(devices)
    )
    settings = {
        "devices": devices,
        "strategy": name if kind == "federated" else "fedbuff",
        "seed": seed,
        "evaluate_every": {"fedasync": 25, "fedbuff": 2, "memory": 2}.get(name, 1),
        "partition": {"kind": "dirichlet", "alpha": 0.3},
        "aggregation": {
            "trigger": {"fedavg": "rounds", "fedasync": "immediate"}.get(name, "buffer"),
            "buffer_size": 10,
            "combine": "mean" if name == "memory" else "clipped_mean",
        },
        "training": {
            **{"model": "fast-cnn", "epochs": 1.0, "batch_size": 16, "learning_rate": 0.05},
            **{"momentum": 0.0, "codec": "int8", "memory": name == "memory"},
        },
    }
    accuracies = [point.accuracy for point in curve]
    summary = Summary(
        source="folder images",
        generated=False,
        settings=settings,
        ending="budget",
        virtual_s=curve[-1].time_s if curve else 2000.0,
        wall_s=100.0,
        versions=count,
        updates=int(updates.sum()),
        refused={"stale": 3} if name == "fedasync" else {},
        crashes=0,
        bytes_up=int(updates.sum()) * 300_000,
        bytes_down=10**9,
        accuracy=accuracies[-1] if accuracies else top,
        best_accuracy=max(accuracies, default=top),
        curve=tuple(curve),
        recall=recall,
        on_device={},
        parts=parts if name != "central" else (),
        model="0" * 32,
    )
    mean = float(np.mean([part.accuracy for part in parts]))
    worst = float(np.mean(sorted(part.accuracy or 0 for part in parts)[: max(1, devices // 10)]))
    run = Run(
        name,
        f"runs/compare/{name}/seed-{seed}",
        About(
            method=name,
            kind=kind,
            passes=10.0,
            tests=4.0,
            training_images=50 * devices * 10,
            test_images=10_000,
            class_names=classes,
            software={"flockwise": "0.1.0", "torch": "2.9.0", "numpy": "2.3.0", "python": "3.12.1"},
            machine="2 cores, x86_64",
        ),
        summary,
        work=tuple(10 * (index + 1) / count for index in range(count)),
        staleness={
            "fedasync": {n: round(500 * np.exp(-((n - 9) ** 2) / 40)) for n in range(30)},
            "fedbuff": {0: 500, 1: 300, 2: 120, 3: 50, 4: 20, 5: 10},
            "memory": {0: 520, 1: 290, 2: 110, 3: 50, 4: 20, 5: 10},
            "fedavg": {0: 1000},
        }.get(name, {}),
        on_device={"mean": mean, "worst_decile": worst},
    )
    if name == "central":
        return replace(run, on_device={})
    if name == "local":
        return replace(run, alone=tuple(chance.normal(top, 0.05, devices).tolist()))
    return run
