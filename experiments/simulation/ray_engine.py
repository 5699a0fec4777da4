"""Trainings on a Ray cluster, for simulations that one machine is too small for; ray is imported
here alone, and only when it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from config.failures import ExitCode, Failure
from experiments.simulation.bench import Job, World, begin, do
from experiments.simulation.engine import Queue


@contextmanager
def ray_engine(world: World, workers: int, address: str | None) -> Iterator[Queue]:
    """As many actors as the cluster has cores, or `workers`; each holds the images once.

    Args:
        address: of the cluster; None makes one of this machine, for as long as this lasts.

    Raises:
        Failure: ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray  # noqa: PLC0415
    except ImportError:
        raise Failure(
            ExitCode.CONFIG, "engine ray needs the package ray: pip install 'flockwise[ray]'"
        ) from None
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray.init(
            address=address, log_to_driver=False, include_dashboard=False, logging_level="error"
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise Failure(ExitCode.UNAVAILABLE, f"no Ray cluster at {address}: {line}") from None
    try:
        cores = int(ray.cluster_resources().get("CPU", 1))
        shared = ray.put(world.load())
        actor = ray.remote(num_cpus=1)(_Actor)
        free = [actor.remote(shared) for _ in range(workers or cores)]

        def launch(job: Job[Any]) -> Future[Any]:
            one = free.pop()
            done: Future[Any] = one.do.remote(job).future()
            done.add_done_callback(lambda _: free.append(one))
            return done

        yield Queue(launch, len(free))
    finally:
        ray.shutdown()


class _Actor:
    """One process of the cluster."""

    def __init__(self, world: Any) -> None:
        begin(world)

    def do(self, job: Job[Any]) -> Any:
        return do(job)
