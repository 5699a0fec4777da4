"""The agent's side of its worker: what is ordered, what is told, and when it is let go."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from config.settings import AgentSettings
from device_agent import trainer as module
from device_agent.trainer import SAVING_S, Outcome, Trainer
from device_agent.vocabulary import TrainingEnded, TrainingFailed, TrainingStalled
from learning.process import WAITING_FOR_ROOM
from tests.specimens import LEDGER, a_header


class FakeWorker:
    """Takes orders and answers when the test says so."""

    def __init__(self, on_event: Any, *, threads: int) -> None:
        self.tell = on_event
        self.threads = threads
        self.orders: list[dict[str, Any]] = []
        self.alive = False
        self.busy = False
        self.graces: list[float] = []
        self.ended = threading.Event()

    def submit(self, order: dict[str, Any]) -> None:
        self.orders.append(order)
        self.alive = self.busy = True
        self.ended.clear()

    def answer(self, **event: Any) -> None:
        self.busy = event["event"] == "progress"
        self.tell({"job": self.orders[-1]["job"], **event})

    def stop(self, grace_s: float = 0.0) -> None:
        self.graces.append(grace_s)
        self.alive = self.busy = False
        self.ended.set()


class Bench:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
        made: list[FakeWorker] = []

        def make(on_event: Any, *, threads: int) -> FakeWorker:
            made.append(FakeWorker(on_event, threads=threads))
            return made[-1]

        monkeypatch.setattr(module, "Worker", make)
        settings = AgentSettings(**{"device": "one", "chunk": Path("one.npz"), **fields})
        self.told: list[Outcome] = []
        self.trainer = Trainer(settings, self.told.append)
        (self.worker,) = made

    def train(self, version: int = 7, *, again: int | None = None, **fields: Any) -> dict[str, Any]:
        header = a_header(version=version, **fields)
        paths = [Path(name) for name in ("model", "training", "residual", "output", "rest")]
        self.trainer.train(header, *paths, again=again)
        return self.worker.orders[-1]


def test_the_worker_is_told_what_to_train_on_and_where_to_lay_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, threads=3, slowdown=2.0, task="mine:task")
    order = bench.train()
    assert bench.worker.threads == 3
    assert 0 <= order.pop("seed") < 2**31
    assert order.pop("plan")["codec"] == "int8"
    assert order == {
        "do": "train",
        "job": f"{LEDGER.hex()}.7",
        "task": "mine:task",
        "chunk": "one.npz",
        "model": "model",
        "model_codec": "float32",
        "checkpoint": "training",
        "checkpoint_s": 60.0,
        "residual": "residual",
        "memory": None,
        "slowdown": 2.0,
        "privacy": None,
        "seal": None,
        "output": "output",
        "residual_output": "rest",
        "memory_output": None,
        "layout": [["w", [2]]],
    }


def test_without_a_residual_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.trainer.train(a_header(), Path("m"), Path("t"), None, Path("o"), Path("r"))
    assert bench.worker.orders[-1]["residual"] is None


def test_devices_and_versions_shuffle_differently_and_repeatably(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = Bench(monkeypatch), Bench(monkeypatch, device="two")
    seeds = [one.train(7)["seed"], one.train(8)["seed"], two.train(7)["seed"]]
    assert len(set(seeds)) == 3
    assert one.train(7)["seed"] == seeds[0]


def test_what_came_of_training_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.train(7)
    bench.worker.answer(
        event="trained", examples=10, steps=5, seconds=1.5, metrics={"loss": 0.5}, size=9
    )
    assert bench.told == [TrainingEnded(7, 10, 5, 1.5, {"loss": 0.5})]


def test_a_failure_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.train(7)
    bench.worker.answer(event="failed", reason="out of memory")
    assert bench.told == [TrainingFailed(7, "out of memory")]


def test_progress_goes_to_the_log_and_no_further(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(monkeypatch)
    bench.train(7)
    with caplog.at_level(logging.DEBUG, "device_agent"):
        bench.worker.answer(event="progress", phase="training", done=0.5, loss=1.25)
    (record,) = caplog.records
    assert record.message == "progress"
    shown = {"version": 7, "phase": "training", "done": 0.5, "loss": 1.25}
    assert record.facts == shown  # type: ignore[attr-defined]
    assert bench.told == []


def test_abandoned_training_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.train()
    bench.trainer.abandon()
    assert not bench.worker.alive
    assert bench.told == []


def test_a_worker_that_has_nothing_to_do_is_let_go_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, worker_linger_s=0.01)
    bench.train()
    bench.worker.answer(event="failed", reason="")
    bench.trainer.rest()
    assert bench.worker.ended.wait(60)
    assert not bench.worker.alive


def test_a_worker_that_gets_work_in_time_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, worker_linger_s=3600)
    bench.train(7)
    bench.worker.answer(event="failed", reason="")
    bench.trainer.rest()
    bench.train(8)
    assert bench.worker.alive
    assert not [t for t in threading.enumerate() if isinstance(t, threading.Timer)]


def test_a_busy_worker_is_not_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, worker_linger_s=0)
    bench.train()
    bench.trainer.rest()
    assert not [t for t in threading.enumerate() if isinstance(t, threading.Timer)]
    assert bench.worker.alive


def test_the_worker_ends_with_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, worker_linger_s=3600)
    bench.train()
    bench.worker.answer(event="failed", reason="")
    bench.trainer.rest()
    bench.trainer.close()
    assert not bench.worker.alive
    assert not [t for t in threading.enumerate() if isinstance(t, threading.Timer)]


def test_a_training_that_pauses_or_is_stopped_is_saved_and_one_that_is_given_up_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch)
    for end in (bench.trainer.pause, bench.trainer.close, bench.trainer.abandon):
        bench.train()
        end()
    assert bench.worker.graces == [SAVING_S, SAVING_S, 0.0]


def test_another_training_on_the_same_version_shuffles_differently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch)
    seeds = {bench.train(7, again=again)["seed"] for again in (None, 1, 2)}
    assert len(seeds) == 3


def test_a_duty_cycle_slows_training_down(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, slowdown=2.0, eligibility={"duty_cycle": 0.25})
    assert bench.train()["slowdown"] == 8.0


def test_a_full_disk_is_told_apart_from_other_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.train(7)
    bench.worker.answer(event="failed", reason="no room", storage_full=True)
    bench.train(7)
    bench.worker.answer(event="failed", reason="no luck", storage_full=False)
    assert bench.told == [TrainingFailed(7, "no room", True), TrainingFailed(7, "no luck")]


def test_a_worker_that_waits_for_room_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.train(7)
    bench.worker.answer(event="progress", phase="training", done=1.0, loss=None)
    assert bench.told == []
    bench.worker.answer(event="progress", phase=WAITING_FOR_ROOM, done=1.0, loss=None)
    assert bench.told == [TrainingStalled(7)]
