"""Quarantine by hand: the file, the commands, and how a running coordinator notices."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from config.failures import ExitCode, Failure
from config.settings import Aggregation, CoordinatorSettings
from coordinator import inspection, status
from coordinator.core import CoordinatorCore, Self
from coordinator.ledger import Ledger
from coordinator.quarantine import FILE, LOOK_EVERY_S, Attentive, enter, read_entries
from coordinator.quarantining import quarantine, release
from coordinator.vocabulary import Contribution, Entry, Judge, Recollection
from federation.machine import Log, Tick
from federation.messages import Reason
from tests.specimens import LEDGER, PROCESS, TOPICS, a_layout, a_version, an_id, an_offer, at
from tests.test_coordinator_ledger import OLD_SCHEMA

HOUSE = Path(__file__).resolve().parent.parent
PUT = Entry(True, "hand", "was stolen", 3)
OUT = Entry(False, "hand", "found again", 4)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state directory of a coordinator that does not run; camera-7 is in version 1."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.begin("task", "model", a_layout(2))
    for sequence in range(2):
        ledger.judge(Judge(an_id("camera-7", sequence), an_offer(), 1.0))
    part = Contribution(an_id("camera-7"), 0, 0, 0.25, 1.0, clip=0.25)
    ledger.add_version(1, [part], Aggregation(), {part.id})
    ledger.judge(Judge(an_id("camera-8"), an_offer(), refusal=Reason.STALE, detail="too old"))
    ledger.close()
    return tmp_path


def words(state: Path, *more: str) -> list[str]:
    return [*more, "--state-dir", str(state)]


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


# The file


def test_the_last_word_on_each_device_is_kept(tmp_path: Path) -> None:
    assert read_entries(tmp_path) == {}
    enter(tmp_path, "a", PUT)
    enter(tmp_path, "b", PUT)
    enter(tmp_path, "a", OUT)
    found = read_entries(tmp_path)
    assert {device: entry.quarantined for device, entry in found.items()} == {"a": False, "b": True}
    assert found["a"].at > found["b"].at > 0


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"format": 2, "devices": {}}', b'{"format": 1, "devices": {"a": 3}}'],
)
def test_a_file_that_cannot_be_read_is_told_and_not_overwritten(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(Failure, match=FILE) as caught:
        enter(tmp_path, "a", PUT)
    assert caught.value.code == ExitCode.CONFIG
    assert (tmp_path / FILE).read_bytes() == content


def test_many_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom coordinator.quarantine import enter\n"
        "from tests.test_coordinator_quarantine import PUT\n"
        f"for n in range(10): enter(Path({str(tmp_path)!r}), f'{{sys.argv[1]}}-{{n}}', PUT)\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, name], cwd=HOUSE) for name in ("a", "b", "c")
    ]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert len(read_entries(tmp_path)) == 30


@pytest.mark.parametrize("call", ["fcntl.flock", "os.fsync", "Path.replace", "os.close"])
def test_a_kill_while_it_is_written_leaves_the_old_word_or_the_new(
    tmp_path: Path, call: str
) -> None:
    enter(tmp_path, "a", PUT)
    code = (
        "import fcntl, os, signal\nfrom pathlib import Path\n"
        "from coordinator.quarantine import enter\n"
        "from tests.test_coordinator_quarantine import OUT\n"
        "def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"{call} = die\n"
        f"enter(Path({str(tmp_path)!r}), 'a', OUT)\n"
    )
    child = subprocess.run([sys.executable, "-c", code], cwd=HOUSE, check=False)
    assert child.returncode == -signal.SIGKILL
    is_old = call != "os.close"  # by then the new file is in place
    assert read_entries(tmp_path)["a"].quarantined is is_old
    enter(tmp_path, "b", PUT)
    assert set(read_entries(tmp_path)) == {"a", "b"}


# A coordinator that runs


def attentive(state: Path) -> tuple[Attentive, CoordinatorCore]:
    memory = Recollection(LEDGER, a_version(0), {}, (), entries=read_entries(state))
    core = CoordinatorCore(
        Self(LEDGER, PROCESS, 1), TOPICS, CoordinatorSettings(task="task"), memory
    )
    return Attentive(core, state), core


def texts(effects: list[Any]) -> list[str]:
    return [effect.text for effect in effects if isinstance(effect, Log)]


def test_a_running_coordinator_notices_before_the_next_event_a_second_later(state: Path) -> None:
    enter(state, "a", PUT)
    noticing, core = attentive(state)
    assert texts(noticing.handle(Tick(), at(0))) == []
    assert quarantine(words(state, "camera-7", "--reason", "was stolen")) == 0
    assert texts(noticing.handle(Tick(), at(LOOK_EVERY_S / 2))) == []
    assert texts(noticing.handle(Tick(), at(LOOK_EVERY_S))) == ["device in quarantine"]
    assert core.progression.standing.why("camera-7") == "was stolen"
    assert release(words(state, "a")) == 0
    assert texts(noticing.handle(Tick(), at(9))) == ["device let out of quarantine"]
    assert texts(noticing.handle(Tick(), at(19))) == []


def test_a_running_coordinator_goes_on_with_what_it_knows_if_the_file_is_broken(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    enter(state, "a", PUT)
    noticing, core = attentive(state)
    (state / FILE).write_text("{")
    assert noticing.handle(Tick(), at(9)) == []
    assert core.progression.standing.quarantined == {"a"}
    assert [record.message for record in caplog.records] == ["quarantine not taken up"]
    assert noticing.handle(Tick(), at(19)) == []
    assert len(caplog.records) == 1, "it is told once"


# The commands


def test_to_quarantine_tells_what_the_device_did_and_how_to_take_it_back(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quarantine(words(state, "camera-7", "--reason", "was stolen")) == 0
    shown = capsys.readouterr().out
    assert "1 of its updates are in versions 1 to 1" in shown
    assert f"replay --state-dir {state} --without camera-7 --adopt" in shown
    entry = read_entries(state)["camera-7"]
    assert (entry.quarantined, entry.by, entry.reason, entry.version) == (
        True,
        "hand",
        "was stolen",
        1,
    )


def test_a_device_that_the_ledger_does_not_know_is_told_of(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quarantine(words(state, "camera-9")) == 0
    assert "knows no device camera-9" in capsys.readouterr().out
    assert quarantine(words(state, "camera-9", "--json")) == 0
    assert told(capsys)["known"] is False


def test_to_release_a_device_that_is_not_there_is_a_mistake(state: Path) -> None:
    with pytest.raises(Failure, match="camera-7 is not in quarantine") as caught:
        release(words(state, "camera-7"))
    assert caught.value.code == ExitCode.USAGE


@pytest.mark.parametrize("command", [quarantine, release])
def test_what_is_no_device_and_no_state_directory_is_told(
    command: Any, state: Path, tmp_path: Path
) -> None:
    with pytest.raises(Failure, match="'Camera 7' is no device"):
        command(words(state, "Camera 7"))
    with pytest.raises(Failure, match="there is no ledger"):
        command(words(tmp_path / "nowhere", "camera-7"))


def test_inspect_and_status_show_the_quarantine_and_what_is_known_of_each_device(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quarantine(words(state, "camera-7", "--reason", "was stolen"))
    quarantine(words(state, "camera-8"))
    release(words(state, "camera-8"))
    capsys.readouterr()
    inspection.main(words(state, "--json"))
    found = told(capsys)
    assert [(row["device"], row["reason"]) for row in found["quarantine"]] == [
        ("camera-7", "was stolen")
    ]
    by_device = {row["device"]: row for row in found["devices"]}
    assert (by_device["camera-7"]["clipped"], by_device["camera-7"]["left_out"]) == (1, 1)
    assert by_device["camera-8"]["refused"] == 1
    assert found["refusals"] == [
        {"device": "camera-8", "reason": "stale", "times": 1, "detail": "too old"}
    ]
    status.main(words(state, "--json"))
    assert told(capsys)["devices_quarantined"] == {"camera-7": "was stolen"}
    inspection.main(words(state))
    assert "was stolen" in capsys.readouterr().out


def test_the_lock_of_the_file_is_let_go(state: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        enter(state, "a", PUT)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_ledger_that_no_coordinator_has_brought_up_to_date_yet_can_be_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as db:
        db.executescript(OLD_SCHEMA)
        db.execute("INSERT INTO versions VALUES (0, 1e9, NULL, 'the first version', NULL)")
        db.commit()
    assert inspection.main(words(tmp_path, "--json")) == 0
    assert told(capsys)["quarantine"] == []
    assert quarantine(words(tmp_path, "camera-7")) == 0
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,), "only a copy was changed"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_root_says_belongs_to_the_one_who_runs_the_coordinator(state: Path) -> None:
    os.chown(state, 65534, 65534)
    former = os.umask(0o077)
    try:
        assert quarantine(words(state, "camera-7")) == 0
    finally:
        os.umask(former)
    assert {path.name for path in state.iterdir() if path.stat().st_uid == 65534} == {FILE}
    assert not list(state.glob("*.lock")), "and nothing else of it is there"
