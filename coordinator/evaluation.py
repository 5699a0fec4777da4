"""Testing versions aside, in a worker process: never in the way of ingestion.

What is tested is what devices receive: with a lossy `transfer.model_codec` the rounded model.

Only the newest version waits its turn: when tests take longer than versions, some are skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from config.settings import CoordinatorSettings
from coordinator.versions import Versions
from coordinator.vocabulary import Evaluated
from federation.layout import Layout
from learning.process import Worker


class Evaluator:
    """One worker that tests one version at a time."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        versions: Versions,
        layout: Layout,
        tell: Callable[[Evaluated], None],
    ) -> None:
        self._settings = settings
        self._versions = versions
        self._layout = layout
        self._tell = tell
        self._waiting: int | None = None
        self._testing: int | None = None
        self._worker = Worker(self._heard, threads=settings.threads)

    def evaluate(self, version: int) -> None:
        """Test this version next; one that was still waiting is skipped."""
        if self._testing is None:
            self._begin(version)
        else:
            self._waiting = version

    def next(self) -> None:
        """The last test is over: begin the one that waits."""
        self._testing = None
        version, self._waiting = self._waiting, None
        if version is not None:
            self._begin(version)

    def close(self) -> None:
        """End the worker."""
        self._worker.stop()

    def _begin(self, version: int) -> None:
        self._testing = version
        self._worker.submit(
            {
                "do": "evaluate",
                "job": str(version),
                "task": self._settings.task,
                "plan": self._settings.training.model_dump(mode="json"),
                "model": str(self._versions.payload_path(version)),
                "model_codec": self._versions.codec(version),
                "data": str(self._settings.test_set),
                "layout": self._layout.to_wire(),
            }
        )

    def _heard(self, event: dict[str, Any]) -> None:
        if event["event"] == "evaluated":
            found = event.get("findings", {})
            self._tell(Evaluated(int(event["job"]), event["metrics"], findings=found))
        elif event["event"] == "failed":
            self._tell(Evaluated(int(event["job"]), {}, event["reason"]))
