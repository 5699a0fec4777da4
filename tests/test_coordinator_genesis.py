"""The first version: made once for each ledger, by the real worker."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.failures import ExitCode, Failure
from config.settings import CoordinatorSettings
from coordinator import genesis as module
from coordinator.evaluation import Evaluator
from coordinator.genesis import ensure_first_version
from coordinator.ledger import Ledger
from coordinator.versions import Versions
from coordinator.vocabulary import Evaluated
from tests.processes import a_chunk
from tests.specimens import a_layout


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    opened = Ledger(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    (tmp_path / "versions").mkdir()
    return Versions(tmp_path / "versions", 1024)


def settings(**fields: Any) -> CoordinatorSettings:
    return CoordinatorSettings(**{"training": {"model": "tutorial-cnn"}, **fields})


def test_a_new_ledger_gets_a_fresh_model_that_can_be_tested(
    ledger: Ledger, versions: Versions, tmp_path: Path
) -> None:
    test_set = a_chunk(tmp_path / "test.npz", examples=16)
    chosen = settings(test_set=test_set)
    layout = ensure_first_version(chosen, ledger, versions, tmp_path)
    assert layout.size == 62_006
    assert ledger.model() == ("cifar10", "tutorial-cnn", layout)
    assert ledger.newest_version() == 0
    vector, state = versions.load(0, layout)
    assert np.isfinite(vector).all()
    assert vector.any()
    assert state == {}
    assert not (tmp_path / "fresh.float32").exists()

    told: queue.SimpleQueue[Evaluated] = queue.SimpleQueue()
    evaluator = Evaluator(chosen, versions, layout, told.put)
    evaluator.evaluate(0)
    tested = told.get(timeout=90)
    evaluator.close()
    assert tested.problem == ""
    assert 0 <= tested.metrics["accuracy"] <= 1
    assert np.isfinite(tested.metrics["loss"])


class NoWorker:
    def __init__(self, *_: Any, **__: Any) -> None:
        raise AssertionError("nothing is to be made")


def test_a_ledger_that_has_its_model_makes_no_other(
    ledger: Ledger, versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Worker", NoWorker)
    ledger.begin("cifar10", "tutorial-cnn", a_layout(2))
    assert ensure_first_version(settings(), ledger, versions, tmp_path) == a_layout(2)


@pytest.mark.parametrize(
    "other", [{"training": {"model": "fast-cnn"}}, {"task": "mine:task"}], ids=["model", "task"]
)
def test_a_ledger_about_another_model_is_told(
    ledger: Ledger,
    versions: Versions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    other: dict[str, Any],
) -> None:
    monkeypatch.setattr(module, "Worker", NoWorker)
    ledger.begin("cifar10", "tutorial-cnn", a_layout(2))
    with pytest.raises(Failure, match=r"is about tutorial-cnn \(cifar10\), not") as caught:
        ensure_first_version(settings(**other), ledger, versions, tmp_path)
    assert caught.value.code == ExitCode.CONFIG
    assert "choose another state_dir" in str(caught.value)


@pytest.mark.parametrize("began", [False, True])
def test_a_ledger_keeps_to_the_memory_that_it_began_with(
    ledger: Ledger,
    versions: Versions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    began: bool,
) -> None:
    monkeypatch.setattr(module, "Worker", NoWorker)
    ledger.begin("cifar10", "tutorial-cnn", a_layout(2), memory=began)

    def begin(*, memory: bool) -> None:
        training = {"model": "tutorial-cnn", "memory": memory}
        chosen = settings(training=training, aggregation={"combine": "mean"})
        ensure_first_version(chosen, ledger, versions, tmp_path)

    begin(memory=began)
    how = "with" if began else "without"
    with pytest.raises(Failure, match=f"was begun {how} training.memory") as caught:
        begin(memory=not began)
    assert caught.value.code == ExitCode.CONFIG
    assert "\n" not in str(caught.value)


class FailingWorker:
    """Answers every order with what the test laid down."""

    answers: tuple[dict[str, Any], ...] = ()
    stopped = 0

    def __init__(self, on_event: Any, *, threads: int) -> None:
        self._tell = on_event

    def submit(self, _: dict[str, Any]) -> None:
        for answer in type(self).answers:
            self._tell(answer)

    def stop(self) -> None:
        type(self).stopped += 1


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (({"event": "failed", "reason": "unknown model"},), "cannot make the model: unknown model"),
        ((), "cannot make the model: no answer in 0.01 s"),
        (({"event": "progress"},), "cannot make the model: no answer in 0.01 s"),
    ],
)
def test_a_task_that_makes_no_model_is_told_and_leaves_nothing(
    ledger: Ledger,
    versions: Versions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers: tuple[dict[str, Any], ...],
    told: str,
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    monkeypatch.setattr(module, "Worker", FailingWorker)
    monkeypatch.setattr(FailingWorker, "answers", answers)
    monkeypatch.setattr(FailingWorker, "stopped", 0)
    with pytest.raises(Failure, match=told) as caught:
        ensure_first_version(settings(), ledger, versions, tmp_path)
    assert caught.value.code == ExitCode.FAILURE
    assert ledger.model() is None
    assert versions.stored() == ()
    assert FailingWorker.stopped == 1
