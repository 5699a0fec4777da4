"""Versions are tested aside, one at a time, the newest next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.settings import CoordinatorSettings
from coordinator import evaluation as module
from coordinator.evaluation import Evaluator
from coordinator.versions import Versions
from coordinator.vocabulary import Evaluated
from tests.specimens import a_layout


class FakeWorker:
    """Takes orders and answers when the test says so."""

    def __init__(self, on_event: Any, *, threads: int) -> None:
        self.tell = on_event
        self.threads = threads
        self.orders: list[dict[str, Any]] = []
        self.stopped = False

    def submit(self, order: dict[str, Any]) -> None:
        self.orders.append(order)

    def stop(self) -> None:
        self.stopped = True

    @property
    def jobs(self) -> list[str]:
        return [order["job"] for order in self.orders]


class Bench:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        made: list[FakeWorker] = []

        def make(on_event: Any, *, threads: int) -> FakeWorker:
            made.append(FakeWorker(on_event, threads=threads))
            return made[-1]

        monkeypatch.setattr(module, "Worker", make)
        settings = CoordinatorSettings(test_set=Path("test.npz"), threads=3, task="mine:task")
        self.told: list[Evaluated] = []
        self.versions = Versions(folder, 1024)
        self.evaluator = Evaluator(settings, self.versions, a_layout(2), self.told.append)
        (self.worker,) = made


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    return Bench(monkeypatch, tmp_path)


def test_the_worker_is_told_what_to_test_and_on_what(bench: Bench) -> None:
    bench.evaluator.evaluate(3)
    (order,) = bench.worker.orders
    assert bench.worker.threads == 3
    assert order.pop("plan")["model"] == "fast-cnn"
    assert order == {
        "do": "evaluate",
        "job": "3",
        "task": "mine:task",
        "model": str(bench.versions.payload_path(3)),
        "model_codec": "float32",
        "data": "test.npz",
        "layout": [["w", [2]]],
    }


def test_a_result_is_told_with_its_version(bench: Bench) -> None:
    bench.evaluator.evaluate(3)
    bench.worker.tell({"event": "progress", "job": "3", "done": 0.5})
    bench.worker.tell({"event": "evaluated", "job": "3", "metrics": {"accuracy": 0.5}})
    assert bench.told == [Evaluated(3, {"accuracy": 0.5})]


def test_what_a_test_found_beyond_figures_is_told_with_it(bench: Bench) -> None:
    bench.evaluator.evaluate(3)
    found = {"recall": {"cat": 0.5}}
    bench.worker.tell(
        {"event": "evaluated", "job": "3", "metrics": {"accuracy": 0.5}, "findings": found}
    )
    assert bench.told == [Evaluated(3, {"accuracy": 0.5}, findings=found)]


def test_a_failure_is_told_with_its_reason(bench: Bench) -> None:
    bench.evaluator.evaluate(3)
    bench.worker.tell({"event": "failed", "job": "3", "reason": "no test set"})
    assert bench.told == [Evaluated(3, {}, "no test set")]


def test_only_the_newest_version_waits_its_turn(bench: Bench) -> None:
    for version in (1, 2, 3):
        bench.evaluator.evaluate(version)
    assert bench.worker.jobs == ["1"]
    bench.evaluator.next()
    assert bench.worker.jobs == ["1", "3"]
    bench.evaluator.next()
    assert bench.worker.jobs == ["1", "3"]


def test_after_a_pause_the_next_version_is_tested_at_once(bench: Bench) -> None:
    bench.evaluator.evaluate(1)
    bench.evaluator.next()
    bench.evaluator.evaluate(2)
    assert bench.worker.jobs == ["1", "2"]


def test_the_worker_ends_with_the_evaluator(bench: Bench) -> None:
    bench.evaluator.close()
    assert bench.worker.stopped
