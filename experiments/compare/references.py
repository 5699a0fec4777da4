"""What federations are measured against: one training with all images, and each device alone.

Both train the same first model by the same loop, as often on each image as a federation does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from config.failures import ExitCode, Failure
from config.sections import TrainingPlan
from experiments.simulation.bench import Bench
from federation.compression import Vector
from learning.cifar10 import Cifar10
from learning.outcomes import Evaluation
from learning.training import train
from learning.vectors import ModelMismatchError, vector_of


def reference_plan(plan: TrainingPlan, passes: float) -> TrainingPlan:
    """The plan of the devices without what only a federation has a use for."""
    return plan.model_copy(
        update={"epochs": passes, "proximal_mu": 0.0, "budget_s": None, "memory": False}
    )


@dataclass(frozen=True, slots=True)
class Tested:
    """A model after so many passes over the images."""

    passes: float
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class Central:
    """A central training: its tests, and the model Float32[d] that it ended with."""

    images: int
    tests: tuple[Tested, ...]
    model: Vector


@dataclass(frozen=True, slots=True)
class Centrally:
    """Train on what all devices train on, in one place; a job for an engine.

    Attributes:
        plan: its epochs are the passes.
        tests: so many in a pass.
        class_names: for the figures of each class.
    """

    plan: TrainingPlan
    tests: float
    class_names: tuple[str, ...]

    def do(self, bench: Bench) -> Central:
        """As `experiments.simulation.bench.Job` says."""
        task, data = Cifar10(), replace(bench.tests(), class_names=self.class_names)
        everything = bench.everything()
        images, labels = everything.train_images, everything.train_labels
        model = task.build_model(self.plan)
        tested: list[Tested] = []

        def on_step(done: float, loss: float) -> None:
            due = (len(tested) + 1) / (self.plan.epochs * self.tests)
            if done >= due or done >= 1:
                found = task.evaluate(model, data, on_step=lambda done, loss: None)
                tested.append(Tested(done * self.plan.epochs, found))

        try:
            train(model, images, labels, self.plan, seed=self.plan.seed, on_step=on_step)
        except Failure as failure:
            raise Failure(ExitCode.FAILURE, f"central: {failure.message}") from None
        return Central(len(labels), tuple(tested), vector_of(model))


@dataclass(frozen=True, slots=True)
class Alone:
    """What a device comes to alone: on the test images, and on its own held-out ones.

    `problem` says why there is nothing.
    """

    steps: int
    test: Evaluation
    own: Evaluation
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ByItself:
    """Train on one device's images and nothing else; a job for an engine.

    Attributes:
        plan: its epochs are the passes.
    """

    device: int
    plan: TrainingPlan
    class_names: tuple[str, ...]

    def do(self, bench: Bench) -> Alone:
        """As `experiments.simulation.bench.Job` says."""
        data, workbench = bench.device(self.device), bench.workbench
        first, nothing = workbench.first, Evaluation(0, {})
        tests = replace(bench.tests(), class_names=self.class_names)
        try:
            trained = workbench.train(first, data, self.plan, self.plan.seed + self.device)
            model = first + trained.delta
            return Alone(trained.steps, workbench.test(model, tests), workbench.test(model, data))
        except (Failure, ModelMismatchError) as error:
            return Alone(0, nothing, nothing, str(error)[:300])


def mean_recall(tests: Sequence[Evaluation]) -> dict[str, float]:
    """The mean over models of the share of right answers, for each class."""
    sums: dict[str, list[float]] = {}
    for test in tests:
        for index, (name, row) in enumerate(zip(test.classes, test.confusion, strict=True)):
            if total := sum(row):
                sums.setdefault(name, []).append(row[index] / total)
    return {name: sum(values) / len(values) for name, values in sums.items()}
