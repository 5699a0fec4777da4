"""The stories in which roles come to their crash points: a federation each, small and quick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crashing_role import Crash

DEVICES = ("a", "b")
PUBLISH = "coordinator/broadcast.py Broadcast.go_on: self._session.publish"
SEND = "device_agent/service.py _Service._send: self._session.publish"
TOUCHED = "coordinator/spool.py Spool.open: path.touch"
SCHEMA = "federation/database.py _prepare: database.executescript"
WRITTEN = "federation/files.py replace_file.write: stream.write"
EXACT = {
    "combine": "mean",
    "cooldown": 0,
    "reanchor": False,
    "step_size": 1.0,
    "staleness": "constant",
    "max_staleness": 10_000,
}


MEMORY = {"codec": "float32", "model": "stub", "memory": True}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One federation and what happens to it besides the crash that is looked at.

    Attributes:
        updates: how many each device makes.
        rule, settings: of the aggregation, and of the coordinator besides.
        first: what befalls a role before the crash looked at, in this order.
        always: what is left out in every start.
        wiped: whether the first crash of an agent takes its disk along.
        fails: the trainings that fail the first time, after they left a file.
        plant: puts files into the directory of the coordinator and of device a.
        refused: whether updates may be refused: then the model is the sum of the others.
        running, after: commands on the coordinator's state while it runs, and afterwards.
        sealed: whether all are members of a federation: messages signed, updates sealed.
        supervised: whether each role has a runtime directory, as a service manager gives it.
    """

    updates: int = 3
    rule: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    first: tuple[Crash, ...] = ()
    always: tuple[Crash, ...] = ()
    wiped: bool = False
    fails: tuple[int, ...] = ()
    plant: Callable[[Path, Path], None] | None = None
    refused: bool = False
    running: tuple[tuple[str, ...], ...] = ()
    after: tuple[tuple[str, ...], ...] = ()
    supervised: bool = False
    sealed: bool = False

    @property
    def memory(self) -> bool:
        """Whether devices remember what was taken of them."""
        return bool(self.settings.get("training", {}).get("memory"))

    @property
    def keeps_all(self) -> bool:
        """Whether every version and update is still on disk at the end."""
        return "keep_versions" not in self.settings


def _strays(coordinator: Path, agent: Path) -> None:
    """What lies around after misfortunes of every kind."""
    for folder, names in (
        (agent / "outbox", ("7.update", "7.residual", "7.memory", "9.update.part")),
        (agent / "model", ("00000000000000ff.3", "header.part", "training.part")),
    ):
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_bytes(b"stray")


def _fails(point: str, how: str = "full") -> Crash:
    role = {"coordinator": "coordinator", "device_agent": "agent"}[point.partition("/")[0]]
    return Crash(role, point, how)


# Points (as patterns) that no story comes to, and why.
OUT_OF_REACH: dict[str, str] = {
    "coordinator > federation/shell.py Shell.run: session.*subscribe": "it reads all the time",
    "coordinator > federation/paho_*.subscribe: *": "what it reads it reads all the time",
    "coordinator > federation/paho_*.unsubscribe: *": "what it reads it reads all the time",
    "* > federation/paho_connection.py Connection._on_subscribe: *": "brokers here grant QoS 1",
    "agent > federation/snapshot.py *": "what the coordinator's `inspect` does just so",
    "coordinator > federation/signed_session.py *.subscribe: *": "as above",
    "coordinator > federation/signed_session.py *.unsubscribe: *": "as above",
    "device_agent/outbox.py Outbox._begin_anew: *": "after a file was lost: its own tests",
    "device_agent/memory.py Memories.drop: *": "in that transaction",
    "device_agent/past.py enter_noised: *": "one transaction with what makes an update one",
    "*federation/membership_files.py *": "a person joins once: its own tests cut it short",
    "* > federation/files.py give_to_owner: os.fchown": "for it another user has to be root",
    "*federation/renewal.py *": "once a year; what it writes, `membership_files` does",
    "* > federation/certificate_upkeep.py *": "once a year, and again if nobody answers",
    "coordinator/reporting.py Reporter.__init__: self._file.write": "after a torn line",
    "coordinator/ledger.py Ledger.set_aside: *": "what is set aside was in no version, and is not",
    "coordinator/quarantine.py enter: os.chown": "for it another user has to be root",
    "coordinator/schema.py bring_up_to_date: *": "it changes a copy that is thrown away",
    "device_agent/doctor.py *": "it asks before there is anything to lose, and deletes its probe",
}

SCENARIOS: dict[str, Scenario] = {
    "plain": Scenario(),
    "supervised": Scenario(updates=2, supervised=True),
    "sealed": Scenario(sealed=True),
    # A broker that retains nothing, and loses all that is for all.
    "uncached": Scenario(
        updates=2,
        always=(
            Crash("coordinator", f"coordinator Chunk > {PUBLISH}", "omitted"),
            Crash("coordinator", f"coordinator Header > {PUBLISH}", "omitted"),
        ),
    ),
    "crowded": Scenario(settings={"uploads": {"at_once": 1}}),
    "cleaning": Scenario(updates=4, settings={"keep_versions": 2}),
    "stale": Scenario(updates=4, rule={"max_staleness": 0}, refused=True),
    "memory": Scenario(settings={"training": MEMORY}),
    "memory and stale": Scenario(
        updates=4, rule={"max_staleness": 0}, settings={"training": MEMORY}, refused=True
    ),
    "strays": Scenario(plant=_strays, fails=(1,)),
    "wiped": Scenario(first=(Crash("agent", SEND, "sent", 2),), wiped=True),
    "interrupted": Scenario(first=(Crash("coordinator", TOUCHED, "after"),)),
    "replayed": Scenario(
        updates=2,
        running=(("inspect", "--json"),),
        after=(
            ("quarantine", "a", "--reason", "was stolen"),
            ("replay", "--to", "4", "--without", "a", "--output", "replayed", "--adopt"),
        ),
    ),
    "full ledger": Scenario(
        updates=2,
        first=(
            _fails(f"coordinator/ledger.py Ledger.__init__: open_database > {SCHEMA}"),
            _fails(f"coordinator/ledger.py Ledger.__init__: open_database > {SCHEMA}", "broken"),
            _fails("coordinator/ledger.py Ledger.__init__: self._db.execute(UPDATE identity SET)"),
            _fails("coordinator/tensors.py write_tensors.write: stream.write"),
            _fails("coordinator/ledger.py Ledger.begin: self._db.execute(INSERT INTO model)"),
        ),
    ),
    "full outbox": Scenario(
        updates=2,
        first=(
            _fails(f"device_agent/outbox.py Outbox.__init__: open_database > {SCHEMA}"),
            _fails(f"device_agent/outbox.py Outbox.__init__: open_database > {SCHEMA}", "broken"),
            _fails(
                "device_agent/outbox.py Outbox._count_start: self._db.execute(UPDATE identity SET)"
            ),
            _fails("device_agent/room.py allot: os.posix_fallocate"),
            _fails(f"device_agent/store.py Store._remember: replace_file > {WRITTEN}"),
        ),
    ),
}
