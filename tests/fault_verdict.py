"""What came of a run with faults, read from the disks with plain SQL and checked with arithmetic.

Nothing of the product's reading code is used for what is judged, apart from `flockwise coordinator
replay`, which is judged itself.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from tests.fault_federation import Federation
from tests.processes import command
from tests.stub_worker import ELEMENTS, known_delta

Vector = npt.NDArray[np.float32]
Exact = npt.NDArray[np.float64]

_CONTRIBUTIONS = """
SELECT c.version, u.device, u.sequence, u.base_version, c.staleness
FROM contributions c JOIN updates u USING (entry) ORDER BY c.version, c.position
"""


def waiting(federation: Federation, device: str) -> list[int]:
    """The numbers of the updates in a device's outbox."""
    path = federation.outbox(device) / "outbox.sqlite"
    return [row[0] for row in _ask(path, "SELECT sequence FROM updates")]


def at_rest(federation: Federation) -> bool:
    """Whether every update that there can be is in a version, and no device waits."""
    try:
        in_versions = _ask(federation.state / "ledger.sqlite", "SELECT count(*) FROM contributions")
        return in_versions[0][0] == federation.plan.updates and not any(
            waiting(federation, device) for device in federation.plan.devices
        )
    except sqlite3.Error:
        return False  # it is being written just now


def accepted_updates(federation: Federation) -> int:
    """How many updates the ledger has taken in; 0 where it cannot be read just now."""
    try:
        query = "SELECT count(*) FROM updates WHERE refusal IS NULL"
        return int(_ask(federation.state / "ledger.sqlite", query)[0][0])
    except sqlite3.Error:
        return 0


def check(federation: Federation) -> dict[str, Any]:
    """Check all that must be true of the disks after a run that came to rest; some figures.

    Raises:
        AssertionError: something is lost, was done twice, or came out otherwise than it must.
    """
    plan = federation.plan
    for party in federation.parties.values():
        for fault in party.faults():
            raise AssertionError(f"{party.name} met what nobody expected: {fault}")
    made = set(_made(federation))
    wanted = {(d, n) for d in plan.devices for n in range(plan.updates_each)}
    assert {(device, n) for device, _, n in made} == wanted, "a device made other updates"
    ledger = federation.state / "ledger.sqlite"
    accepted = _ask(ledger, "SELECT device, outbox, sequence FROM updates WHERE refusal IS NULL")
    assert len(accepted) == len(set(accepted)), "an update was accepted twice"
    assert set(accepted) == made, f"made, not accepted: {sorted(made - set(accepted))[:5]}"
    rows = _ask(ledger, _CONTRIBUTIONS)
    used = [(row[1], row[2]) for row in rows]
    assert sorted(used) == sorted(wanted), "an update is in no version, or in two"
    (newest,) = _ask(ledger, "SELECT max(version) FROM versions")[0]
    (versions,) = _ask(ledger, "SELECT count(*) FROM versions WHERE version > 0")[0]
    assert versions == newest, "a version is missing"
    for device in plan.devices:
        folder = federation.outbox(device)
        assert not waiting(federation, device), f"{device} has updates left"
        assert not list(folder.glob("*.update")), f"{device} has files left"
    _check_spool(federation)
    _check_vector(federation, rows, newest)
    _check_replay(federation, newest)
    (refused,) = _ask(ledger, "SELECT count(*) FROM updates WHERE refusal IS NOT NULL")[0]
    return {"updates": len(accepted), "versions": newest, "refused": refused}


def expected(federation: Federation, rows: list[tuple[Any, ...]]) -> Vector:
    """What the newest version must be, worked out from who is in which version alone.

    Each operation is made in float64 and rounded to float32; as float64 has more than twice the
    digits, that is the correctly rounded result of the operation.
    """
    constant = federation.plan.rule["aggregation"].get("staleness") == "constant"
    model = np.zeros(ELEMENTS)
    for version, parts in _by_version(rows):
        total = np.zeros(ELEMENTS)
        for _, device, sequence, base, staleness in parts:
            assert staleness == version - 1 - base, "the ledger has a wrong staleness"
            scale = 1.0 if constant else (1 + staleness) ** -0.5
            scaled = _rounded(known_delta(device, sequence) * _rounded(np.array(scale)))
            total = _rounded(total + scaled)
        model = _rounded(model + _rounded(total / len(parts)))
    return model.astype(np.float32)


def exact_sum(federation: Federation) -> Vector:
    """The sum of all updates in whole numbers, in no order."""
    plan = federation.plan
    total = np.zeros(ELEMENTS, np.int64)
    for device in plan.devices:
        for sequence in range(plan.updates_each):
            total += known_delta(device, sequence).astype(np.int64)
    return total.astype(np.float32)


def who_waits(federation: Federation) -> str:
    """Who waits for what, in lines: for a run that does not come to rest."""
    lines = ["it does not come to rest:"]
    ledger = federation.state / "ledger.sqlite"
    try:
        judged = dict(_ask(ledger, "SELECT device, count(*) FROM updates GROUP BY device"))
        newest = _ask(ledger, "SELECT max(version) FROM versions")[0][0]
        buffered = _ask(
            ledger,
            "SELECT device, sequence, base_version FROM updates WHERE refusal IS NULL "
            "AND entry NOT IN (SELECT entry FROM contributions)",
        )
        lines.append(f"ledger: version {newest}, in the buffer {buffered}")
    except sqlite3.Error as error:
        judged = {}
        lines.append(f"ledger: cannot be read ({error})")
    for device in federation.plan.devices:
        party = federation.parties[device]
        left: list[int] = []
        count = 0
        try:
            left = waiting(federation, device)
            path = federation.outbox(device) / "outbox.sqlite"
            count = _ask(path, "SELECT next_sequence FROM identity")[0][0]
        except sqlite3.Error as error:
            lines.append(f"{device}: its outbox cannot be read ({error})")
        if left or count < federation.plan.updates_each or not party.alive:
            life = "alive" if party.alive else "down"
            lines.append(
                f"{device}: {life}, made {count} of {federation.plan.updates_each}, judged "
                f"{judged.get(device, 0)}, waiting {left}"
            )
            lines += [f"    {line}" for line in party.last_lines(6)]
    lines += ["coordinator:", *(f"    {line}" for line in federation.coordinator.last_lines(12))]
    return "\n".join(lines)


def _check_spool(federation: Federation) -> None:
    for device, outbox, sequence in _made(federation):
        path = federation.state / "spool" / f"{device}.{outbox.hex()}.{sequence}"
        assert path.read_bytes() == known_delta(device, sequence).tobytes(), f"{path} is altered"


def _check_vector(federation: Federation, rows: list[tuple[Any, ...]], newest: int) -> None:
    path = federation.state / "versions" / f"{newest:06}.safetensors"
    found = load_file(path)["w"].tobytes()
    assert found == expected(federation, rows).tobytes(), "the newest version came out wrong"
    if federation.plan.rule["aggregation"].get("staleness") == "constant":
        assert found == exact_sum(federation).tobytes(), "the newest version is not the exact sum"


def _check_replay(federation: Federation, newest: int) -> None:
    output = federation.directory / "replayed.safetensors"
    done = command(
        *("coordinator", "replay", "--json", "--state-dir", str(federation.state)),
        *("--output", str(output)),
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["from"], told["to"], told["identical"]) == (0, newest, True), done.stdout[:500]
    assert len(told["versions"]) == newest
    was = federation.state / "versions" / f"{newest:06}.safetensors"
    assert output.read_bytes() == was.read_bytes(), "replay wrote other bytes"


def _made(federation: Federation) -> Iterator[tuple[str, bytes, int]]:
    """Every update that ever reached an outbox: numbers are given out without gaps."""
    for device in federation.plan.devices:
        path = federation.outbox(device) / "outbox.sqlite"
        ((outbox, count),) = _ask(path, "SELECT outbox, next_sequence FROM identity")
        yield from ((device, outbox, sequence) for sequence in range(count))


def _by_version(rows: list[tuple[Any, ...]]) -> Iterator[tuple[int, list[tuple[Any, ...]]]]:
    for version, parts in groupby(rows, key=lambda row: int(row[0])):
        yield version, list(parts)


def _rounded(numbers: Exact | npt.NDArray[Any]) -> Exact:
    rounded: Exact = np.asarray(numbers, np.float64).astype(np.float32).astype(np.float64)
    return rounded


def _ask(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return database.execute(query).fetchall()
