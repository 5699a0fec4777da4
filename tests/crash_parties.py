"""The roles of a run with a crash: their settings, their worker, and what it gives."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config import logs
from config.settings import AgentSettings, CoordinatorSettings
from federation.compression import encode
from federation.membership import FOLDER
from federation.topics import Topics
from tests.crash_scenarios import DEVICES, EXACT
from tests.crash_verdict import ELEMENTS, INITIAL
from tests.members import Authority
from tests.stub_worker import known_delta

if TYPE_CHECKING:
    from tests.crash_run import Run


def lay_out(run: Run) -> None:
    """Put down what the workers will give, and what lies around beforehand."""
    vectors = run.directory / "vectors"
    vectors.mkdir(parents=True)
    (vectors / "initial").write_bytes(encode("float32", known_delta(*INITIAL, ELEMENTS)))
    for device in DEVICES:
        for n in range(run.story.updates):
            delta = known_delta(device, n, ELEMENTS)
            (vectors / f"{device}.{n}").write_bytes(encode("float32", delta))
        about = {
            "device": device,
            "updates": run.story.updates,
            "vectors": str(vectors),
            "elements": ELEMENTS,
            "fails": run.story.fails,
        }
        (run.directory / f"{device}.json").write_text(json.dumps(about))
    (run.directory / "test-set").touch()
    if run.story.sealed:
        authority = Authority(Topics("flockwise", run.directory.name))
        authority.membership(run.coordinator / FOLDER)
        for device in DEVICES:
            authority.membership(run.device(device) / FOLDER, device)
    if run.story.plant is not None:
        run.story.plant(run.coordinator, run.device("a"))


def be_coordinator(run: Run) -> int:
    """Run the coordinator in this process; its exit code."""
    from coordinator import service  # noqa: PLC0415 - here and below: after `install`

    _give_worker(run.directory / "a.json", sealed=run.story.sealed)
    settings: dict[str, Any] = {
        **_common(run),
        "state_dir": run.coordinator,
        "strategy": "fedasync",
        "aggregation": {**EXACT, **run.story.rule},
        "training": {"codec": "float32", "model": "stub"},
        "reporting": {"wandb": "off"},
        "test_set": run.directory / "test-set",
        "keep_versions": 1000,
        **run.story.settings,
    }
    logs.configure("coordinator", "info", "text")
    return service.run(CoordinatorSettings(**settings)).exit_code


def be_agent(run: Run, device: str) -> int:
    """Run an agent in this process; its exit code."""
    from device_agent import service  # noqa: PLC0415

    chunk = run.directory / f"{device}.json"
    _give_worker(chunk, sealed=run.story.sealed)
    settings: dict[str, Any] = {
        **_common(run),
        "state_dir": run.device(device),
        "device": device,
        "chunk": chunk,
        "threads": 1,
    }
    logs.configure(f"agent {device}", "info", "text")
    return service.run(AgentSettings(**settings)).exit_code


def _common(run: Run) -> dict[str, Any]:
    link = {"host": "127.0.0.1", "port": run.port}
    return {
        "insecure": not run.story.sealed,
        "federation": {"name": run.directory.name},
        "link": {**link, "backoff_base_s": 0.05, "backoff_cap_s": 0.2},
        "transfer": {"chunk_bytes": 2048, "silence_s": 0.4, "patience_s": 0.3},
    }


def _give_worker(about: Path, *, sealed: bool) -> None:
    from learning import process  # noqa: PLC0415

    worker = str(Path(__file__).with_name("crash_worker.py"))
    bare = () if sealed else ("-I", "-S")
    process.worker_command = lambda threads: (sys.executable, *bare, worker, str(about))
