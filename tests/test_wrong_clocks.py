"""A clock of a device that is wrong by years changes nothing: only durations are used."""

from __future__ import annotations

import ast
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.processes import Role, a_broker, a_coordinator, an_agent
from tests.stub_worker import ELEMENTS, a_stub_chunk, known_delta

HOUSE = Path(__file__).resolve().parent.parent
ROOMS = ("device_agent", "federation", "learning")
OF_THE_WALL = frozenset(
    ("time", "time_ns", "localtime", "gmtime", "ctime", "asctime", "strftime", "mktime")
) | frozenset(("clock_gettime", "clock_settime"))
FILE_TIMES = frozenset(("st_mtime", "st_mtime_ns", "st_ctime", "st_ctime_ns", "getmtime", "utime"))
# What may look at a clock on the wall, or at times of files, and why.
ALLOWED = {
    "device_agent/doctor.py": "tells a person that the clock is wrong",
    "device_agent/eligibility.py": "the hours in which a person lets the device work",
    "federation/certificate_upkeep.py": "whether a certificate is due: it says so in dates",
    "federation/certificates.py": "dates of certificates",
    "federation/membership.py": "whether a file has changed: its time is compared with itself",
    "federation/renewal.py": "whether a certificate is due: it says so in dates",
    "federation/status_board.py": "when a status was written, for people",
    "federation/status_text.py": "shows that",
    "learning/jobs.py": "whether a chunk is the same file: its time is compared with itself alone",
}
LIBRARIES = ("/usr/lib/*/faketime", "/usr/lib64/faketime", "/usr/lib/faketime")
EXACT_SUM = {
    "combine": "mean",
    "cooldown": 0,
    "reanchor": False,
    "step_size": 1.0,
    "staleness": "constant",
    "max_staleness": 10_000,
}
UPDATES = 14


def clocks(source: str) -> list[str]:
    """Where a source looks at a clock that somebody may set."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="time"), attr=name) if name in OF_THE_WALL:
                found.append(f"{node.lineno}: time.{name}")
            case ast.Attribute(attr=name) if name in FILE_TIMES:
                found.append(f"{node.lineno}: {name}")
            case ast.ImportFrom(module="time", names=names):
                bad = [name.name for name in names if name.name in OF_THE_WALL]
                found += [f"{node.lineno}: from time import {name}" for name in bad]
            case ast.ImportFrom(module="datetime"):
                found.append(f"{node.lineno}: from datetime import")
            case ast.Import(names=names) if any(name.name == "datetime" for name in names):
                found.append(f"{node.lineno}: import datetime")
    return found


def modules() -> list[str]:
    paths = (path for room in ROOMS for path in sorted((HOUSE / room).rglob("*.py")))
    return [str(path.relative_to(HOUSE)) for path in paths]


@pytest.mark.parametrize("module", [m for m in modules() if m not in ALLOWED])
def test_nothing_on_a_device_looks_at_a_clock_that_can_be_set(module: str) -> None:
    assert clocks((HOUSE / module).read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.time()",
        "import time\nnow = time.time_ns",
        "from time import localtime",
        "import datetime",
        "from datetime import datetime",
        "path.stat().st_mtime",
        "os.path.getmtime(path)",
    ],
)
def test_a_planted_clock_is_found(source: str) -> None:
    assert clocks(source)


def test_durations_are_no_clocks() -> None:
    assert clocks("import time\ntime.monotonic()\ntime.sleep(1)\ntime.perf_counter()") == []


class _FakeTime:
    """The clock on the wall of the processes started meanwhile; others keep theirs."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        found = [path for pattern in LIBRARIES for path in Path("/").glob(pattern[1:])]
        if not found:
            pytest.skip("no libfaketime here: install the package faketime")
        self._library = found[0] / "libfaketimeMT.so.1"
        self._file = folder / "clock"
        self._patch = patch
        self.be_off_by("+0")

    def be_off_by(self, offset: str) -> None:
        """Set the clock, as "-20y", also for processes that run already."""
        part = self._file.with_suffix(".part")
        part.write_text(f"{offset}\n")
        part.replace(self._file)

    def start(self, *words: object) -> Role:
        """Start an agent under this clock."""
        with self._patch.context() as patched:
            patched.setenv("LD_PRELOAD", str(self._library))
            patched.setenv("FAKETIME_TIMESTAMP_FILE", str(self._file))
            patched.setenv("FAKETIME_NO_CACHE", "1")
            patched.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            return an_agent(*words, stub=True)  # type: ignore[arg-type]


def year_of(agent: Role) -> int:
    """The year that the agent's own last line tells."""
    return datetime.fromtimestamp(agent.lines[-1]["time"], UTC).year


def test_an_agent_whose_clock_jumps_by_years_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _FakeTime(tmp_path, monkeypatch)
    chunk = a_stub_chunk(tmp_path / "one.json", UPDATES, train_s=0.1)
    state = tmp_path / "gateway"
    this_year = datetime.now(UTC).year
    with (
        a_broker("auto", tmp_path / "broker") as broker,
        a_coordinator(
            broker,
            state,
            stub=True,
            strategy="fedasync",
            aggregation=EXACT_SUM,
            training={"codec": "float32"},
            keep_versions=100,
        ) as coordinator,
    ):
        device = (broker, tmp_path / "device", chunk, "one")
        with clock.start(*device) as agent:
            for offset, years in (("+0", 0), ("-20y", -20), ("+12y", 12), ("-3y", -3), ("+0", 0)):
                clock.be_off_by(offset)
                agent.wait_for("update accepted", len(agent.told("update accepted")) + 2)
                assert abs(year_of(agent) - this_year - years) <= 1, "the clock did not jump"
            agent.process.kill()
            agent.end()
        clock.be_off_by("-25y")
        with clock.start(*device) as agent:
            coordinator.wait_for("version made", UPDATES)
            assert agent.stop() == 0
            assert abs(year_of(agent) - this_year + 25) <= 1
        assert coordinator.stop() == 0
    with closing(sqlite3.connect(state / "ledger.sqlite")) as ledger:
        entered = ledger.execute("SELECT sequence, train_s FROM updates ORDER BY sequence")
        assert entered.fetchall() == [(sequence, 0.0) for sequence in range(UPDATES)]
    expected = np.zeros(ELEMENTS, np.float32)
    for sequence in range(UPDATES):
        expected += known_delta("one", sequence)
    assert (load_file(state / "versions" / f"{UPDATES:06}.safetensors")["w"] == expected).all()
