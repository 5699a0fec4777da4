"""Weights & Biases: rows get there, and nothing it does reaches the federation."""

from __future__ import annotations

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

from config.reporting import Reporting
from config.settings import CoordinatorSettings
from coordinator import sink_thread as module
from coordinator import sinks
from coordinator.sinks import open_reporter
from coordinator.sources import Sources, images_of
from coordinator.versions import Versions
from coordinator.wandb_sink import WandbSink
from tests import story
from tests.wandb_reader import HOUSE, environment, runs_in

ROW = {"kind": "evaluation", "time_s": 1.5, "version": 3, "accuracy": 0.5}


class FakeRun:
    def __init__(self, fake: FakeWandb) -> None:
        self._fake = fake
        self.logged: list[dict[str, Any]] = []
        self.steps: list[int] = []
        self.alerts: list[str] = []
        self.kept: list[Any] = []
        self.finished = False
        self.step = 0

    def define_metric(self, *_: Any, **__: Any) -> None:
        self._fake.reached("define_metric")

    def log(self, row: dict[str, Any], *, step: int, commit: bool) -> None:
        self._fake.reached("log")
        assert not self.steps or step > self.steps[-1], "W&B drops what comes with an older step"
        assert commit, "else W&B keeps it until the next step"
        self.logged.append(row)
        self.steps.append(step)

    def alert(self, *, title: str, text: str, level: str) -> None:
        self._fake.reached("alert")
        self.alerts.append(f"{level} {title}: {text}")

    def log_artifact(self, artifact: FakeArtifact, aliases: list[str]) -> None:
        self._fake.reached("log_artifact")
        artifact.aliases = aliases
        self.kept.append(artifact)

    def finish(self) -> None:
        self._fake.reached("finish")
        self.finished = True


class FakeArtifact:
    def __init__(self, name: str, kind: str, metadata: dict[str, Any] | None = None) -> None:
        self.name, self.kind, self.metadata = name, kind, metadata
        self.aliases: list[str] = []

    def add_file(self, path: str, name: str) -> None:
        Path(path).read_bytes()


class FakeWandb:
    """What the sink uses of wandb; `failing` names the call that fails."""

    def __init__(self) -> None:
        self.failing = ""
        self.blocked_at = ""
        self.release = threading.Event()
        self.asked: dict[str, Any] = {}
        self.run = FakeRun(self)

    Settings = SimpleNamespace
    AlertLevel = SimpleNamespace(WARN="WARN")
    Artifact = FakeArtifact
    Histogram = staticmethod(lambda np_histogram: np_histogram)
    Table = staticmethod(lambda columns, data: data)
    Image = staticmethod(lambda pixels: pixels.shape)
    plot_table = staticmethod(lambda **asked: asked["data_table"])

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
    return WandbSink(Reporting.model_validate(reporting), {"lr": 1}, tmp_path, "run-1")


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
    assert caplog.messages == ["wandb is not installed; reports go on without it"]


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
    for _ in range(5):
        sink.write(ROW)
    assert caplog.messages == ["wandb is far behind, a row was dropped; the JSONL file has it"]
    sink.close()
    assert caplog.messages[1:] == [
        "wandb was far behind, 3 rows were dropped; the JSONL file has them",
        "wandb did not end in 0.05 s, its last rows may be lost; the JSONL file has them",
    ]


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


def test_a_run_bears_the_names_of_the_settings(fake: FakeWandb, tmp_path: Path) -> None:
    a_sink(tmp_path, project="p", group="g", job_type="j", run_name="n", tags="red, blue").close()
    names = ("project", "group", "job_type", "name", "tags", "id", "resume", "dir", "config")
    assert {key: fake.asked[key] for key in names} == {
        "project": "p",
        "group": "g",
        "job_type": "j",
        "name": "n",
        "tags": ["red", "blue"],
        "id": "run-1",
        "resume": "allow",
        "dir": tmp_path,
        "config": {"lr": 1},
    }


def test_the_configuration_is_the_coordinators_and_has_no_password(
    fake: FakeWandb, tmp_path: Path
) -> None:
    link = {"username": "me", "password": "very-secret"}
    settings = CoordinatorSettings(link=link)
    open_reporter(settings, tmp_path, "run-1", Versions(tmp_path, 1024)).close()
    assert fake.asked["config"]["aggregation"]["buffer_size"] == 10
    assert "very-secret" not in str(fake.asked)


def test_without_sinks_in_the_settings_there_are_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sinks, "WandbSink", None)
    monkeypatch.setattr(sinks, "TensorBoardSink", None)
    settings = CoordinatorSettings(reporting={"wandb": "off"})
    open_reporter(settings, tmp_path, "run-1", Versions(tmp_path, 1024)).close()


def told(
    fake: FakeWandb, tmp_path: Path, rows: list[Any], sources: Sources, **reporting: Any
) -> FakeRun:
    sink = WandbSink(Reporting.model_validate(reporting), {}, tmp_path, "run-1", sources)
    for row in rows:
        sink.write(row)
    sink.close()
    return fake.run


def test_steps_go_on_where_earlier_rows_end(fake: FakeWandb, tmp_path: Path) -> None:
    earlier = Sources(earlier=lambda: iter([ROW, ROW]))
    assert told(fake, tmp_path, [ROW, ROW], earlier).steps == [4, 6]


def test_steps_go_on_where_the_server_is_if_that_is_further(
    fake: FakeWandb, tmp_path: Path
) -> None:
    fake.run.step = 9
    assert told(fake, tmp_path, [ROW, ROW], Sources()).steps == [9, 11]


def test_odd_rows_of_an_earlier_start_do_no_harm(fake: FakeWandb, tmp_path: Path) -> None:
    odd = [{}, {"kind": "version"}, {"kind": "evaluation", "version": None, "accuracy": "good"}]
    earlier = Sources(earlier=lambda: iter(odd))
    assert told(fake, tmp_path, [ROW], earlier).finished


def test_tables_are_shown_at_their_turn_and_at_the_end(fake: FakeWandb, tmp_path: Path) -> None:
    rows = [story.evaluation(n, 0.5) for n in range(5)]
    run = told(fake, tmp_path, rows, Sources(), tables_every=3)
    assert [row["version"] for row in run.logged if "predictions" in row] == [0, 3, 4]
    assert [row["version"] for row in run.logged if "confusion_matrix" in row] == [0, 3, 4]


def test_tables_can_be_left_out(fake: FakeWandb, tmp_path: Path) -> None:
    run = told(fake, tmp_path, [story.evaluation(1, 0.5)], Sources(), tables_every=None)
    assert not [row for row in run.logged if "predictions" in row]


def test_samples_without_images_are_shown_all_the_same(fake: FakeWandb, tmp_path: Path) -> None:
    run = told(fake, tmp_path, [story.evaluation(1, 0.5)], Sources())
    assert run.logged[0]["predictions"][2] == [1, 11, "owl", "cat", 0.4, False]


def test_without_pillow_there_are_no_images(
    fake: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    sources = Sources(images=images_of(story.a_test_set(tmp_path / "test.npz")))
    run = told(fake, tmp_path, [story.evaluation(1, 0.5)], sources)
    assert run.logged[0]["predictions"][0] == [1, 0, "cat", "cat", 0.9, True]


@pytest.mark.parametrize(
    ("artifacts", "kept"), [("off", []), ("last", [3]), ("tested", [0, 1, 2, 3])]
)
def test_versions_become_artifacts_as_the_settings_say(
    fake: FakeWandb, tmp_path: Path, artifacts: str, kept: list[int]
) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(b"model")
    run = told(
        fake, tmp_path, story.first_part(), Sources(lambda version: path), artifacts=artifacts
    )
    assert [artifact.metadata["version"] for artifact in run.kept] == kept


def test_a_version_that_was_deleted_meanwhile_is_passed_over(
    fake: FakeWandb, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sources = Sources(lambda version: tmp_path / "gone")
    run = told(fake, tmp_path, story.first_part(), sources, artifacts="tested")
    assert run.finished
    assert not run.kept
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_accuracy_that_falls_and_a_quarantine_are_alerts(
    fake: FakeWandb, tmp_path: Path
) -> None:
    assert told(fake, tmp_path, story.first_part(), Sources()).alerts == [
        "WARN two is in quarantine: at version 2, by rule: wild",
        "WARN Accuracy has fallen: 40.0% at version 3, 60.0% at version 2",
    ]


def test_what_an_earlier_start_told_is_no_alert_again(fake: FakeWandb, tmp_path: Path) -> None:
    earlier = Sources(earlier=lambda: iter(story.first_part()))
    assert told(fake, tmp_path, [story.evaluation(4, 0.4)], earlier).alerts == []


# The real wandb, at a terminal, with nobody logged in


def at_a_terminal(folder: Path, mode: str) -> list[str]:
    """What a coordinator's child says that has a terminal, where nobody answers."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.wandb_child", str(folder), "second_part", mode],
            cwd=HOUSE,
            env=environment(folder),
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
    assert at_a_terminal(tmp_path, "auto") == []
    (run,) = runs_in(tmp_path)
    assert run.logged("global/accuracy") == [0.65]


def test_to_be_online_without_a_key_is_told_and_nobody_is_asked(tmp_path: Path) -> None:
    lines = at_a_terminal(tmp_path, "online")
    assert "log: wandb failed; reports go on in the JSONL file" in lines
