"""Trainings on a Ray cluster, for simulations that one machine is too small for.

ray is imported here alone, and only when it is asked for. The machines of the cluster need
Flockwise too, in the same version.
"""

from __future__ import annotations

import importlib
import logging
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from config.failures import ExitCode, Failure, first_line
from experiments.simulation.bench import Holdings, Job, World, begin, do
from experiments.simulation.engine import EngineEnded, Queue

ANSWER_S = 10.0


@contextmanager
def ray_engine(world: World, workers: int, address: str | None) -> Iterator[Queue]:
    """As many actors as the cluster has cores, or `workers`; each holds all images.

    Args:
        address: of the cluster; None makes one of this machine, for as long as this lasts.

    Raises:
        Failure: ray is not installed, or the cluster cannot be reached.
    """
    ray = _connected(address)
    try:
        holdings = ray.put(world.load())
        actor = ray.remote(num_cpus=1)(_Actor)
        number = workers or int(ray.cluster_resources().get("CPU", 1))
        free = [actor.remote(holdings) for _ in range(number)]

        def launch(job: Job[Any]) -> Future[Any]:
            one, promise = free.pop(), Future[Any]()

            def ended(done: Future[Any]) -> None:
                free.append(one)
                _hand_over(done, promise)

            one.do.remote(job).future().add_done_callback(ended)
            return promise

        yield Queue(launch, number)
    finally:
        ray.shutdown()


class _Actor:
    """One process of the cluster."""

    def __init__(self, holdings: Holdings) -> None:
        # What lies in ray's store cannot be written to, and torch insists that it can.
        own = replace(
            holdings,
            images=holdings.images.copy(),
            labels=holdings.labels.copy(),
            test_images=holdings.test_images.copy(),
            test_labels=holdings.test_labels.copy(),
        )
        begin(own)

    def do(self, job: Job[Any]) -> Any:
        """A failure is a result: what ray raises has a traceback for a message."""
        try:
            return do(job)
        except Failure as failure:
            return failure


def _connected(address: str | None) -> Any:
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise Failure(
            ExitCode.CONFIG, "engine ray needs the package ray: pip install 'flockwise[ray]'"
        ) from None
    if address is not None:
        _require_answer(address)
    try:
        ray.init(address, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    except Exception as error:  # ray has no type of its own for a cluster that does not answer
        line = first_line(error)
        at = "could be started here" if address is None else f"answers at {address}"
        raise Failure(ExitCode.UNAVAILABLE, f"no Ray cluster {at}: {line}") from None
    return ray


def _require_answer(address: str) -> None:
    """Say at once that nobody is there: ray itself tries for more than a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # "auto", or another word that ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise Failure(
            ExitCode.UNAVAILABLE, f"no Ray cluster answers at {address}: {reason}"
        ) from None


def _hand_over(done: Future[Any], promise: Future[Any]) -> None:
    error = done.exception()
    if error is not None:
        line = first_line(error)
        promise.set_exception(EngineEnded(f"the Ray cluster failed: {line}"))
    elif isinstance(done.result(), Failure):
        promise.set_exception(done.result())
    else:
        promise.set_result(done.result())
