"""Weights & Biases: rows get there, and nothing it does reaches the federation."""

from __future__ import annotations

import json
import logging
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.settings import CoordinatorSettings
from coordinator import wandb_sink as module
from coordinator.wandb_sink import WandbSink, scalars

HOUSE = Path(__file__).resolve().parent.parent
ROW = {"kind": "evaluation", "time_s": 1.5, "version": 3, "accuracy": 0.5}


class FakeRun:
    def __init__(self, fake: FakeWandb) -> None:
        self._fake = fake
        self.logged: list[dict[str, float]] = []
        self.finished = False

    def define_metric(self, *_: Any, **__: Any) -> None:
        self._fake.reached("define_metric")

    def log(self, row: dict[str, float]) -> None:
        self._fake.reached("log")
        self.logged.append(row)

    def finish(self) -> None:
        self._fake.reached("finish")
        self.finished = True


class FakeWandb:
    """What the sink uses of wandb; `failing` names the call that fails."""

    def __init__(self) -> None:
        self.failing = ""
        self.blocked_at = ""
        self.release = threading.Event()
        self.asked: dict[str, Any] = {}
        self.run = FakeRun(self)

    Settings = SimpleNamespace

    def init(self, **asked: Any) -> FakeRun:
        self.reached("init")
        self.asked = asked
        return self.run

    def reached(self, name: str) -> None:
        if name == self.failing:
            raise RuntimeError(f"{name} broke\nand there is more to say")
        if name == self.blocked_at:
            self.release.wait()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWandb]:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("NETRC", "/nonexistent")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    yield fake
    fake.release.set()


def a_sink(tmp_path: Path, **reporting: Any) -> WandbSink:
    return WandbSink(CoordinatorSettings(reporting=reporting), tmp_path, "run-1")


def test_rows_are_logged_in_order_and_the_run_is_finished(fake: FakeWandb, tmp_path: Path) -> None:
    sink = a_sink(tmp_path)
    sink.write(ROW)
    sink.write({**ROW, "version": 4})
    sink.close()
    assert [row["version"] for row in fake.run.logged] == [3, 4]
    assert fake.run.finished


def test_without_wandb_the_federation_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with caplog.at_level(logging.INFO):
        sink = a_sink(tmp_path)
        sink.write(ROW)
        sink.close()
        sink.write(ROW)
    assert caplog.messages == ["wandb is not installed; reports go to the JSONL file only"]


@pytest.mark.parametrize("where", ["init", "define_metric", "log", "finish"])
def test_a_wandb_that_fails_is_told_once_in_one_line_and_left_alone(
    fake: FakeWandb, tmp_path: Path, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    fake.failing = where
    sink = a_sink(tmp_path)
    for _ in range(5):
        sink.write(ROW)
    sink.close()
    sink.write(ROW)
    sink.close()
    (record,) = caplog.records
    assert record.message == "wandb failed; reports go on in the JSONL file"
    assert record.facts == {"why": f"{where} broke"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("where", ["init", "log", "finish"])
def test_a_wandb_that_hangs_does_not_hold_the_end_up(
    fake: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(module, "CLOSE_S", 0.05)
    fake.blocked_at = where
    sink = a_sink(tmp_path)
    sink.write(ROW)
    sink.close()  # returns: without an end the test would not


def test_a_wandb_that_hangs_with_its_queue_full_does_not_hold_anything_up(
    fake: FakeWandb,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    monkeypatch.setattr(module, "CLOSE_S", 0.05)
    fake.blocked_at = "init"
    sink = a_sink(tmp_path)
    for _ in range(3):
        sink.write(ROW)
    assert caplog.messages == ["wandb is far behind, a row was dropped; the JSONL file has it"]
    sink.close()


@pytest.mark.parametrize(
    ("setting", "key", "mode"),
    [
        ("auto", None, "offline"),
        ("auto", "secret", "online"),
        ("online", "secret", "online"),
        ("offline", "secret", "offline"),
    ],
)
def test_auto_is_online_where_there_is_a_key(
    fake: FakeWandb,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    key: str | None,
    mode: str,
) -> None:
    if key is not None:
        monkeypatch.setenv("WANDB_API_KEY", key)
    a_sink(tmp_path, wandb=setting).close()
    assert fake.asked["mode"] == mode


def test_a_key_where_wandb_login_puts_it_counts(
    fake: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.wandb.ai\n  login user\n  password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    a_sink(tmp_path).close()
    assert fake.asked["mode"] == "online"


def test_a_run_bears_the_names_of_the_settings_and_no_password(
    fake: FakeWandb, tmp_path: Path
) -> None:
    link = {"username": "me", "password": "very-secret"}
    reporting = {"project": "p", "group": "g", "run_name": "n"}
    settings = CoordinatorSettings(link=link, reporting=reporting)
    WandbSink(settings, tmp_path, "run-1").close()
    names = {key: fake.asked[key] for key in ("project", "group", "name", "id", "resume", "dir")}
    assert names == {
        "project": "p",
        "group": "g",
        "name": "n",
        "id": "run-1",
        "resume": "allow",
        "dir": tmp_path,
    }
    assert fake.asked["config"]["aggregation"]["buffer_size"] == 10
    assert "very-secret" not in str(fake.asked)


def test_an_evaluation_is_of_the_global_model() -> None:
    assert scalars(ROW) == {"version": 3, "global/accuracy": 0.5, "global/time_s": 1.5}


def test_a_version_tells_how_many_updates_it_has_and_how_late_they_were() -> None:
    row = {"kind": "version", "time_s": 1.0, "version": 3, "updates": 2, "staleness": [0, 3]}
    assert scalars(row) == {"version": 3, "global/updates": 2, "global/mean_staleness": 1.5}


def test_an_update_is_shown_under_its_device() -> None:
    row = {
        "kind": "update",
        "time_s": 1.0,
        "device": "one",
        "sequence": 4,
        "base_version": 3,
        "staleness": 1,
        "examples": 10,
        "steps": 5,
        "train_s": 2.0,
        "bytes": 100,
        "norm": 0.5,
        "metrics": {"loss": 1.5},
    }
    assert scalars(row) == {
        "version": 3,
        "device/one/staleness": 1,
        "device/one/examples": 10,
        "device/one/steps": 5,
        "device/one/train_s": 2.0,
        "device/one/bytes": 100,
        "device/one/norm": 0.5,
        "device/one/loss": 1.5,
    }


def test_a_refusal_is_shown_under_its_device() -> None:
    row = {"kind": "refusal", "time_s": 1.0, "device": "one", "base_version": 3, "reason": "stale"}
    assert scalars(row) == {"version": 3, "device/one/refused": 1.0}


# The real wandb, at a terminal, with nobody logged in

# The file of a run is a LevelDB log: blocks of 32 KiB, each frame with checksum, size and part.
CHILD = """
import json, logging, struct, sys
from pathlib import Path
from config.settings import CoordinatorSettings
from coordinator.wandb_sink import WandbSink
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="log: %(message)s")
def records(data, block=32768, head=7):
    at, whole = head, b""
    while at + head <= len(data):
        _, size, part = struct.unpack_from("<IHB", data, at)
        whole += data[at + head : at + head + size]
        at += head + size
        if part in (1, 4):  # a whole record, or the last part of one
            yield whole
            whole = b""
        if block - at % block < head:
            at += block - at % block

folder, mode = Path(sys.argv[1]), sys.argv[2]
sink = WandbSink(CoordinatorSettings(reporting={"wandb": mode}), folder, "0123456789abcdef")
for version in (1, 2):
    row = {"kind": "evaluation", "time_s": 1.5, "version": version, "accuracy": version / 4}
    sink.write(row)
sink.close()
import wandb
from wandb.proto.wandb_internal_pb2 import Record
wandb.teardown()  # its own process ends, with all that it has written
for path in folder.rglob("*.wandb"):
    for data in records(path.read_bytes()):
        record = Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
            print("row:", json.dumps({k: v for k, v in row.items() if k[0] != "_"}))
print("end")
"""


def at_a_terminal(folder: Path, mode: str) -> list[str]:
    """What a coordinator's child says that has a terminal, where nobody answers."""
    names = ("WANDB_", "NETRC", "FLOCKWISE_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(names)}
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(folder), mode],
            cwd=HOUSE,
            env=environment | {"HOME": str(folder), "TERM": "xterm"},
            stdin=theirs,
            stderr=theirs,
            stdout=subprocess.PIPE,
            text=True,
            timeout=100,
            check=True,
        )
    finally:
        os.close(theirs)
        os.close(ours)
    return done.stdout.splitlines()


def test_an_offline_run_is_really_written_and_nobody_is_asked(tmp_path: Path) -> None:
    *lines, end = at_a_terminal(tmp_path, "auto")
    assert end == "end"
    assert [json.loads(line[5:]) for line in lines if line.startswith("row: ")] == [
        {"version": 1, "global/accuracy": 0.25, "global/time_s": 1.5},
        {"version": 2, "global/accuracy": 0.5, "global/time_s": 1.5},
    ]


def test_to_be_online_without_a_key_is_told_and_nobody_is_asked(tmp_path: Path) -> None:
    *lines, end = at_a_terminal(tmp_path, "online")
    assert end == "end"
    assert "log: wandb failed; reports go on in the JSONL file" in lines
