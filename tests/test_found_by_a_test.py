"""What a test finds beyond figures: from the task, through the job, into the row of its version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from config.sections import TrainingPlan
from coordinator.vocabulary import Evaluated, Report
from federation.machine import Log
from learning import jobs
from learning.cifar10 import Cifar10
from learning.outcomes import Evaluation, OnStep
from learning.vectors import layout_of, vector_of
from tests.one_thread import one_thread  # noqa: F401
from tests.processes import a_chunk
from tests.test_coordinator_progression import progression

PLAN = TrainingPlan(model="tutorial-cnn")


class Bare(Cifar10):
    """A task of a user's own that knows no classes."""

    def evaluate(self, model: nn.Module, data: Any, *, on_step: OnStep) -> Evaluation:
        """Say one figure."""
        return Evaluation(7, {"perplexity": 20.0})


def evaluated(folder: Path, task: str) -> dict[str, Any]:
    model = Cifar10().build_model(PLAN)
    (folder / "model").write_bytes(vector_of(model).tobytes())
    command = {
        "do": "evaluate",
        "task": task,
        "plan": PLAN.model_dump(mode="json"),
        "model": str(folder / "model"),
        "layout": layout_of(model).to_wire(),
        "data": str(a_chunk(folder / "test.npz", examples=160)),
    }
    return jobs.run_job(command, lambda phase, done, loss: None)


@pytest.mark.usefixtures("one_thread")
def test_the_built_in_task_tells_classes_apart_by_their_names(tmp_path: Path) -> None:
    event = evaluated(tmp_path, "cifar10")
    found = event["findings"]
    assert found["classes"] == [f"class-{n}" for n in range(10)]
    right = sum(row[n] for n, row in enumerate(found["confusion"]))
    assert right / 40 == event["metrics"]["accuracy"]
    assert sum(sum(row) for row in found["confusion"]) == found["examples"] == 40
    assert set(found["recall"]) <= set(found["classes"])
    assert len(found["samples"]["index"]) == 32


@pytest.mark.usefixtures("one_thread")
def test_a_task_that_tells_figures_only_is_as_good(tmp_path: Path) -> None:
    event = evaluated(tmp_path, f"{__name__}:Bare")
    assert event["metrics"] == {"perplexity": 20.0}
    assert event["findings"] == {"examples": 7}


def test_findings_are_in_the_report_and_not_in_the_log() -> None:
    made = progression(test_set="test.npz")
    effects = made.evaluated(Evaluated(1, {"accuracy": 0.5}, findings={"recall": {"cat": 0.5}}))
    facts = {"version": 1, "accuracy": 0.5}
    assert effects == [
        Log(effects[0].level, "version evaluated", facts),
        Report("evaluation", {**facts, "recall": {"cat": 0.5}}),
    ]
