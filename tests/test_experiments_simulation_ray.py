"""Trainings on a Ray cluster: the same bytes as here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from config.failures import ExitCode, Failure
from experiments.simulation.bench import Evaluate, Train, lay_out
from experiments.simulation.engine import inline_engine
from experiments.simulation.ray_engine import ray_engine
from experiments.simulation.training import Workbench
from learning.data import as_chunk, device_chunk
from tests.one_thread import one_thread  # noqa: F401
from tests.test_experiments_simulation_engine import IMAGES, PLAN

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("one_thread")]


# What ray leaves open in this process is its own business.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_ray_cluster_gives_the_same_bytes_as_this_process(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    parts = np.split(np.arange(60), 3)
    chunks = [device_chunk(IMAGES, part[:16], part[16:]) for part in parts]
    world = lay_out(tmp_path, chunks, 60, as_chunk(IMAGES), PLAN)
    first = Workbench(PLAN).first
    jobs = [Train(device, first, PLAN, seed=1) for device in range(3)]
    with inline_engine(world) as here:
        deltas = [here.submit(job, 0.0).result().delta.tobytes() for job in jobs]
        tested = here.submit(Evaluate(first), 0.0).result()
    with ray_engine(world, 2, None) as cluster:
        pending = [cluster.submit(job, 0.0) for job in jobs]
        assert [one.result().delta.tobytes() for one in pending] == deltas
        assert cluster.submit(Evaluate(first), 0.0).result() == tested
        wild = PLAN.model_copy(update={"learning_rate": 100.0, "epochs": 30})
        with pytest.raises(Failure, match="diverged"):
            cluster.submit(Train(0, first, wild, 0), 0.0).result()


def test_a_cluster_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    world = lay_out(
        tmp_path, [device_chunk(IMAGES, np.arange(60), np.arange(0))], 60, as_chunk(IMAGES), PLAN
    )
    with pytest.raises(Failure) as raised, ray_engine(world, 1, "127.0.0.1:1"):
        pass
    assert raised.value.code == ExitCode.UNAVAILABLE
    assert "\n" not in raised.value.message
