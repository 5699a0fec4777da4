"""Real training for simulated devices: one model in memory, which each trains on images of its own.

A device of a simulation holds tensors instead of a file; the loop is that of every real device.
"""

from __future__ import annotations

from config.sections import TrainingPlan
from experiments.simulation.assignment import Assignment, Trained, Work
from federation.compression import Vector
from federation.layout import Layout
from learning.chunks import Chunk
from learning.cifar10 import Cifar10, TensorChunk, as_tensors
from learning.outcomes import Evaluation
from learning.training import train
from learning.vectors import layout_of, load_vector, vector_of


class Workbench:
    """The one model that all trainings and tests of a process take turns at."""

    def __init__(self, plan: TrainingPlan) -> None:
        self._task = Cifar10()
        self._model = self._task.build_model(plan)
        self.layout: Layout = layout_of(self._model)
        self.first: Vector = vector_of(self._model)

    def train(
        self,
        received: Vector,
        data: TensorChunk,
        plan: TrainingPlan,
        seed: int,
        steps: int | None = None,
    ) -> Trained:
        """Train on `data`'s training part; the delta is what a device would send.

        Args:
            received: Float32[d].
            steps: most steps to make; None makes all that the plan asks for.

        Raises:
            DivergenceError: the training left the finite numbers.
            ModelMismatchError: the received model holds numbers that are not finite.
        """
        load_vector(self._model, received)
        result = train(
            self._model,
            data.train_images,
            data.train_labels,
            plan,
            seed=seed,
            on_step=lambda done, loss: None,
            may_go_on=lambda done: steps is None or done < steps,
        )
        delta = vector_of(self._model) - received
        return Trained(delta, result.examples, result.steps, dict(result.metrics))

    def test(self, model: Vector, data: TensorChunk) -> Evaluation:
        """Test on the held-out part.

        Raises:
            ModelMismatchError: the model holds numbers that are not finite.
        """
        load_vector(self._model, model)
        return self._task.evaluate(self._model, data, on_step=lambda done, loss: None)

    def honest_work(self, chunk: Chunk) -> Work:
        """What an honest device does with its chunk."""
        data = as_tensors(chunk, "simulated device")

        def work(assignment: Assignment) -> Trained:
            plan = assignment.header.plan
            return self.train(assignment.received, data, plan, assignment.seed)

        return work
