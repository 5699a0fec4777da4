"""What must be true of the disks after a crash, read with plain SQL and checked by addition."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

from tests.crash_scenarios import DEVICES
from tests.stub_worker import known_delta

if TYPE_CHECKING:
    from tests.crash_run import Run

ELEMENTS = 1500
INITIAL = ("initial", 0)
_ACCEPTED = "SELECT device, outbox, sequence FROM updates WHERE refusal IS NULL"
_IN_VERSIONS = """
SELECT device, outbox, sequence, version FROM contributions JOIN updates USING (entry)
ORDER BY version, position
"""


def is_at_rest(run: Run) -> bool:
    """Whether all updates are made and judged, and those accepted are in versions."""
    try:
        for device in DEVICES:
            if _outbox(run, device)[1] != run.story.updates or _waiting(run, device):
                return False
        accepted = _ask(run.coordinator / "ledger.sqlite", _ACCEPTED)
        return len(accepted) == len(_ask(run.coordinator / "ledger.sqlite", _IN_VERSIONS))
    except sqlite3.Error:
        return False  # it is being made, or written, just now


def check(run: Run) -> None:
    """Everything is there, once, exact, and nothing else is.

    Raises:
        AssertionError: it is not.
    """
    ledger = run.coordinator / "ledger.sqlite"
    for path in (ledger, *(run.device(d) / "outbox" / "outbox.sqlite" for d in DEVICES)):
        assert _ask(path, "PRAGMA integrity_check") == [("ok",)], f"{path} is damaged"
        assert not _ask(path, "PRAGMA foreign_key_check"), f"{path} contradicts itself"
    made = {(d, _outbox(run, d)[0], n) for d in DEVICES for n in range(run.story.updates)}
    accepted = _ask(ledger, _ACCEPTED)
    refused = _ask(ledger, _ACCEPTED.replace("IS NULL", "IS NOT NULL"))
    assert len(accepted) == len(set(accepted)), "an update was accepted twice"
    assert not set(accepted) & set(refused), "an update was accepted and refused"
    assert not refused or run.story.refused, f"refused: {refused}"
    judged = set(accepted) | set(refused)
    known = {name[1] for name in made}  # of a wiped outbox nobody asks for anything
    assert made <= judged, f"never judged: {sorted(made - judged)}"
    assert {one for one in judged if one[1] in known} == made, "judged, and never made"
    rows = _ask(ledger, _IN_VERSIONS)
    assert sorted(row[:3] for row in rows) == sorted(accepted), "in no version, or in two"
    _check_versions(run, rows)
    _check_files(run)
    for log in run.directory.glob("*.log"):
        assert "Traceback" not in log.read_text(errors="replace"), f"{log.name} tells of a defect"
    _check_replay(run)


def _check_versions(run: Run, rows: list[tuple[Any, ...]]) -> None:
    ledger = run.coordinator / "ledger.sqlite"
    versions = [row[0] for row in _ask(ledger, "SELECT version FROM versions ORDER BY version")]
    assert versions == list(range(len(versions))), f"a version is missing: {versions}"
    adopted = _ask(ledger, "SELECT version FROM versions WHERE rule IS NULL AND version > 0")
    for version in _kept(run, versions[-1]):
        left_out = {"a"} if (version,) in adopted else set()
        total = known_delta(*INITIAL, ELEMENTS).astype(np.float64)
        remembered, holders = np.zeros(ELEMENTS), set()
        for device, outbox, sequence, when in rows:
            if when <= version and device not in left_out:
                news = known_delta(device, sequence, ELEMENTS)
                total += news
                if run.story.memory:  # each version is of one update; halves are exact
                    total += remembered / len(holders) if outbox in holders else 0
                    remembered += news
                    holders.add(outbox)
        path = run.coordinator / "versions" / f"{version:06}.safetensors"
        found = load_file(path)["w"]
        assert found.tobytes() == total.astype(np.float32).tobytes(), f"{path.name} is not the sum"


def _check_files(run: Run) -> None:
    """Nothing lies around that nothing names."""
    states = (run.coordinator, *map(run.device, DEVICES))
    parts = [path for state in states for path in state.rglob("*.part")]
    assert not parts, f"left: {parts}"
    newest = _ask(run.coordinator / "ledger.sqlite", "SELECT max(version) FROM versions")[0][0]
    names = ("{:06}.safetensors", "{:06}.step.safetensors", "{:06}.float32")
    kept = _kept(run, newest)
    wanted = {name.format(version) for version in kept for name in names}
    found = _names(run.coordinator / "versions")
    if not run.story.after:  # who adopts a version leaves its payload to the next start
        odd = _not_older(found ^ wanted, kept)
        assert not odd, f"versions: {sorted(odd)}"
    spool = _names(run.coordinator / "spool")
    rows = _ask(run.coordinator / "ledger.sqlite", _IN_VERSIONS)
    wanted = {f"{d}.{o.hex()}.{n}" for d, o, n, version in rows if version in kept}
    assert wanted <= spool, f"lost from the spool: {sorted(wanted - spool)}"
    spare = {f"{d}.{o.hex()}.{n}" for d, o, n, version in rows if version < kept.start}
    if not run.story.wiped:  # what a wiped device had begun is left to age
        assert spool <= wanted | spare, f"left in the spool: {sorted(spool - wanted - spare)}"
    for device in DEVICES:
        outbox, model = run.device(device) / "outbox", _names(run.device(device) / "model")
        residual = _ask(outbox / "outbox.sqlite", "SELECT residual FROM identity")[0][0]
        kept = _check_memory(run, device) if run.story.memory else {residual}
        found = _names(outbox) - {"outbox.sqlite"}
        assert found == kept, f"outbox of {device}: {sorted(found)}"
        assert len(model) == 2, f"model of {device}: {sorted(model)}"
        assert "header" in model, f"model of {device}: {sorted(model)}"


def _check_memory(run: Run, device: str) -> set[str]:
    """What a device remembers is all that was taken of it; the name of the file, if anything."""
    outbox = run.device(device) / "outbox"
    rows = _ask(outbox / "outbox.sqlite", "SELECT sequence, held FROM memories")
    taken = [n for d, _, n in _ask(run.coordinator / "ledger.sqlite", _ACCEPTED) if d == device]
    assert rows == ([(max(taken), 1)] if taken else []), f"{device}: {taken} taken, has {rows}"
    if not rows:
        return set()
    sequence = max(taken)
    wanted = sum(known_delta(device, n, ELEMENTS) for n in taken)
    found = np.fromfile(outbox / f"{sequence}.memory", "<f4")
    assert found.tobytes() == np.asarray(wanted, np.float32).tobytes(), f"{device} is wrong"
    return {f"{sequence}.memory"}


def _check_replay(run: Run) -> None:
    from coordinator import replaying  # noqa: PLC0415 - after `install`

    verdict = run.directory / "verdict.txt"
    pid = os.fork()
    if not pid:
        code = 1
        with (
            verdict.open("w") as out,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
            contextlib.suppress(BaseException),
        ):
            ledger = run.coordinator / "ledger.sqlite"
            made = "SELECT max(version) FROM versions WHERE rule IS NOT NULL"
            to = str(_ask(ledger, made)[0][0])
            code = replaying.main(["--state-dir", str(run.coordinator), "--to", to])
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    told = verdict.read_text()
    assert status == 0, f"replay: {told}"
    lines = [line for line in told.splitlines() if line.startswith("version ")]
    assert lines, told
    assert all("bit for bit as it was" in line for line in lines), told
    if run.story.keeps_all:
        assert "from version 0," in told, told


def _kept(run: Run, newest: int) -> range:
    keep = run.story.settings.get("keep_versions", newest + 1)
    return range(newest + 1 - keep, newest + 1)


def _not_older(names: set[str], kept: range) -> set[str]:
    """Without what the next version will sweep away: whoever deletes may be killed on the way."""
    return {name for name in names if int(name.partition(".")[0]) >= kept.start}


def _names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if not p.name.endswith(("-wal", "-shm"))}


def _outbox(run: Run, device: str) -> tuple[bytes, int]:
    path = run.device(device) / "outbox" / "outbox.sqlite"
    identity, made = _ask(path, "SELECT outbox, next_sequence FROM identity")[0]
    return identity, made


def _waiting(run: Run, device: str) -> list[tuple[Any, ...]]:
    return _ask(run.device(device) / "outbox" / "outbox.sqlite", "SELECT sequence FROM updates")


def _ask(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return database.execute(query).fetchall()
