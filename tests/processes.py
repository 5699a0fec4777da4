"""Roles as real processes: started, watched through their JSON log, always stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest

from broker.start import RunningBroker, choose, start
from config.failures import Failure
from config.loading import to_environment
from config.settings import (
    AgentSettings,
    BrokerKind,
    BrokerSettings,
    CoordinatorSettings,
    Link,
    Settings,
)
from learning.chunks import Chunk, write_chunk

LONG_S = 180.0
STUB = str(Path(__file__).with_name("stub_role.py"))


class Role:
    """One `flockwise ... run` as a process, and what it has logged.

    With `stub` its worker needs no torch and gives known vectors: `tests/stub_worker.py`. `under`
    is a command that runs the command that follows it.
    """

    def __init__(
        self, *words: str, settings: Settings, stub: bool = False, under: Sequence[str] = ()
    ) -> None:
        self.lines: list[dict[str, Any]] = []
        self.raw: list[str] = []
        self.process = subprocess.Popen(
            [*under, sys.executable, *([STUB] if stub else ["-m", "flockwise"]), *words],
            env=to_environment(settings),
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.raw.append(line.rstrip())
                if line.startswith("{"):
                    self.lines.append(json.loads(line))

    def told(self, text: str) -> list[dict[str, Any]]:
        """The log lines with this text."""
        return [line for line in self.lines if line["text"] == text]

    def wait_for(self, text: str, times: int = 1) -> dict[str, Any]:
        """Wait until a line with this text was logged so often; the last of them."""
        end_s = time.monotonic() + LONG_S
        while len(self.told(text)) < times:
            ended = self.process.poll() is not None
            if ended or time.monotonic() > end_s:
                raise AssertionError(f"no {text!r} from {self.process.args!r}: {self.raw[-12:]}")
            time.sleep(0.02)
        return self.told(text)[times - 1]

    def end(self) -> int:
        """Wait until it ends by itself; its exit code."""
        code = self.process.wait(LONG_S)
        self._reader.join(5)
        return code

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(5)


def a_coordinator(
    broker: RunningBroker, state: Path, *, stub: bool = False, **settings: Any
) -> Role:
    whole = {
        "link": quick(broker),
        "state_dir": state,
        "insecure": "membership" not in settings,
        "training": {"model": "tutorial-cnn"},
        "aggregation": {"buffer_size": 2},
        "reporting": {"wandb": "off"},
        "log_format": "json",
        **settings,
    }
    return Role("coordinator", "run", settings=CoordinatorSettings(**whole), stub=stub)


def an_agent(
    broker: RunningBroker,
    state: Path,
    chunk: Path,
    device: str,
    *,
    stub: bool = False,
    under: Sequence[str] = (),
    **settings: Any,
) -> Role:
    whole = {
        "link": quick(broker),
        "state_dir": state,
        "chunk": chunk,
        "insecure": "membership" not in settings,
        "device": device,
        "threads": 1,
        "log_format": "json",
        **settings,
    }
    return Role("agent", "run", settings=AgentSettings(**whole), stub=stub, under=under)


def quick(broker: RunningBroker) -> Link:
    """The link to a broker, with short waits."""
    return Link(host=broker.host, port=broker.port, backoff_base_s=0.2, backoff_cap_s=1)


def a_chunk(path: Path, seed: int = 0, examples: int = 64) -> Path:
    """A tiny chunk of noise: enough to train on, nothing to learn."""
    chance = np.random.default_rng(seed)
    images = chance.integers(0, 256, (examples, 3, 32, 32), dtype=np.uint8)
    labels = chance.integers(0, 10, examples)
    names = tuple(f"class-{n}" for n in range(10))
    held = examples // 4
    write_chunk(
        path, Chunk(images[held:], labels[held:], images[:held], labels[:held], names, True)
    )
    return path


@contextmanager
def a_broker(kind: BrokerKind, directory: Path) -> Iterator[RunningBroker]:
    """A real broker on a free port of loopback; skips the test where it cannot be had."""
    try:
        choose(kind)
    except Failure as failure:
        pytest.skip(str(failure))
    with start(BrokerSettings(kind=kind, port=0, insecure=True), directory) as broker:
        yield broker


def wait_until(done: Callable[[], bool]) -> None:
    """Wait for what a process does without a word."""
    end_s = time.monotonic() + LONG_S
    while not done():
        assert time.monotonic() < end_s, "it did not come about"
        time.sleep(0.02)


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `flockwise` with these words to its end."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FLOCKWISE_")}
    return subprocess.run(
        [sys.executable, "-m", "flockwise", *words],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )
