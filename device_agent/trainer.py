"""Training in a worker process: it holds torch while it is needed, and ends after a while idle."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from config.logs import facts
from config.settings import AgentSettings
from device_agent.vocabulary import TrainingEnded, TrainingFailed, TrainingStalled
from federation.layout import Layout
from federation.messages import Header
from federation.sizes import encoded_size, sealed_size, size_bounds
from learning.process import WAITING_FOR_ROOM, Worker

Outcome: TypeAlias = TrainingStalled | TrainingEnded | TrainingFailed

log = logging.getLogger("device_agent")

# A service has to be gone within two seconds.
SAVING_S = 1.2


class Trainer:
    """One worker that trains on one version at a time."""

    def __init__(self, settings: AgentSettings, tell: Callable[[Outcome], None]) -> None:
        self._settings = settings
        self._tell = tell
        self._version = 0
        self.progress = ""
        self._worker = Worker(self._heard, threads=settings.threads)
        self._lingering: threading.Timer | None = None

    def train(
        self,
        header: Header,
        model: Path,
        checkpoint: Path,
        residual: Path | None,
        output: Path,
        rest: Path,
        again: int | None = None,
        about: bytes = b"",
        memory: Path | None = None,
        next_memory: Path | None = None,
    ) -> None:
        """Begin to train.

        Args:
            model: payload of the version.
            checkpoint: where the training is saved on the way, and taken up.
            residual: what the codec rounded away the last time, if anything.
            output: where the encoded delta is to lie.
            rest: where the new residual is to lie.
            about: what the update is bound to when it is sealed.
            memory: what is remembered, if anything.
            next_memory: where the memory is to lie that the update leads to; None if the plan has
                none.
            again: a number that tells one more training on this version from all others.
        """
        self._stop_lingering()
        self._version = header.version
        self.progress = "beginning"
        settings = self._settings
        self._worker.submit(
            {
                "do": "train",
                "job": f"{header.ledger.hex()}.{header.version}",
                "task": settings.task,
                "plan": header.plan.model_dump(mode="json"),
                "chunk": str(settings.chunk),
                "model": str(model),
                "model_codec": header.codec,
                "checkpoint": str(checkpoint),
                "checkpoint_s": settings.checkpoint_s,
                "residual": _text(residual),
                "memory": _text(memory),
                "seed": _seed(header, settings.device, again),
                "slowdown": settings.slowdown / settings.eligibility.duty_cycle,
                "privacy": settings.privacy.model_dump() if settings.privacy.is_on else None,
                "seal": {"key": header.seal.hex(), "about": about.hex()} if header.seal else None,
                "output": str(output),
                "residual_output": str(rest),
                "memory_output": _text(next_memory),
                "layout": [list(tensor) for tensor in header.layout],
            }
        )

    @property
    def alive(self) -> bool:
        """Whether a training under way has somebody who does it."""
        return self._worker.alive or not self._worker.busy

    def abandon(self) -> None:
        """End the training under way; nothing comes of it."""
        self._worker.stop()

    def pause(self) -> None:
        """Save the training under way and end it; a task that saves nothing begins anew."""
        self._stop_lingering()
        self._worker.stop(SAVING_S)

    def rest(self) -> None:
        """There is nothing to train for now: let the worker go if that lasts."""
        self._stop_lingering()
        if self._worker.alive and not self._worker.busy:
            self._lingering = threading.Timer(self._settings.worker_linger_s, self._worker.stop)
            self._lingering.daemon = True
            self._lingering.start()

    def close(self) -> None:
        """End the worker; it has a moment to save what it does."""
        self.pause()

    def _stop_lingering(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering.join()
            self._lingering = None

    def _heard(self, event: dict[str, Any]) -> None:
        version = int(str(event["job"]).rpartition(".")[2])
        match event["event"]:
            case "progress":
                self.progress = f"{event['phase']}, {event.get('done', 0.0):.0%} done"
                shown = {k: event[k] for k in ("phase", "done", "loss") if k in event}
                log.debug("progress", extra=facts(version=version, **shown))
                if event["phase"] == WAITING_FOR_ROOM:
                    self._tell(TrainingStalled(version))
            case "trained":
                self._tell(
                    TrainingEnded(
                        version=version,
                        examples=event["examples"],
                        steps=event["steps"],
                        train_s=event["seconds"],
                        metrics=event["metrics"],
                        noised=_noised(event),
                    )
                )
            case "failed":
                storage_full = event.get("storage_full") is True
                self._tell(TrainingFailed(version, event["reason"], storage_full))


def outcome_bytes(header: Header) -> int:
    """What a training on this version gives, on disk, at most: payload, and residual or memory."""
    elements = Layout.from_wire(header.layout).size
    whole, encoded = encoded_size("float32", elements), size_bounds(header.plan.codec, elements)[1]
    sent = sealed_size(encoded) if header.seal else encoded
    return sent if encoded == whole and not header.plan.memory else sent + whole


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _noised(event: dict[str, Any]) -> tuple[float, float] | None:
    told = event.get("noised")
    return None if told is None else (told["clip"], told["noise"])


def _seed(header: Header, device: str, again: int | None) -> int:
    """Devices shuffle differently, and the same device does so for each version, each time."""
    text = f"{header.plan.seed} {header.version} {device}"
    if again is not None:
        text += f" {again}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 1
