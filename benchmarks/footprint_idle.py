"""What an agent takes that is linked and waits: memory, wake-ups, processor time, bytes written.

Several agents of two kinds wait beside each other: started by hand, and as systemd starts them
(told the address of a service manager, a watchdog of a minute, and a folder in memory). All are
members of a federation: they sign, believe and seal. Each has made one update, so it has seen
everything that an agent ever loads.
"""

from __future__ import annotations

import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gauges import (
    MIB,
    Memory,
    busy_s,
    child_of,
    file_states,
    median_memory,
    memory_of,
    wakeups_by_thread,
    written_bytes,
)
from broker.start import RunningBroker
from federation.topics import Topics
from tests.members import Authority
from tests.processes import Role, a_coordinator, an_agent, wait_until
from tests.stub_worker import a_stub_chunk

WATCHDOG_USEC = 60_000_000
SETTLING_S = 20.0
MEMORY = Path("/dev/shm")
KINDS = ("by hand", "by systemd")


@dataclass(frozen=True, slots=True)
class Idle:
    """One agent over a while of waiting.

    Attributes:
        main_wakeups_s: of its loop, a second; the others are of the network's thread.
        changed: files of its state that are not what they were.
    """

    kind: str
    seconds: float
    memory: Memory
    wakeups_s: float
    main_wakeups_s: float
    busy_share: float
    written: int
    changed: tuple[str, ...]


def idle_agents(
    broker: RunningBroker, folder: Path, each: int, seconds: float, settling_s: float = SETTLING_S
) -> list[Idle]:
    """So many agents of each kind, watched while they wait for so long."""
    names = [(kind, f"{kind.split()[-1]}-{n}") for kind in KINDS for n in range(each)]
    authority = Authority(Topics("flockwise", "default"))
    keys = folder / "keys"
    authority.membership(keys / "coordinator")
    with ExitStack() as closing:
        closing.enter_context(
            a_coordinator(
                broker,
                folder / "coordinator",
                stub=True,
                membership=keys / "coordinator",
                aggregation={"buffer_size": len(names) + 1, "deadline_s": None},
                training={"codec": "float32"},
            )
        )
        manager = closing.enter_context(_service_manager())
        agents: list[tuple[str, Path, Role]] = []
        for kind, device in names:
            chunk = a_stub_chunk(folder / f"{device}.npz", updates=1)
            state = folder / device
            under = _as_systemd(manager / "notify", manager / device) if kind == KINDS[1] else ()
            authority.membership(keys / device, device)
            role = an_agent(
                *(broker, state, chunk, device),
                stub=True,
                under=under,
                membership=keys / device,
                worker_linger_s=0.5,
            )
            agents.append((kind, state, closing.enter_context(role)))
        for _, _, role in agents:
            role.wait_for("update accepted")
        wait_until(lambda: all(child_of(role.process.pid) is None for _, _, role in agents))
        time.sleep(settling_s)
        return _watch(agents, seconds)


def _watch(agents: list[tuple[str, Path, Role]], seconds: float) -> list[Idle]:
    def look() -> list[tuple[float, dict[int, int], float, int, dict[str, tuple[int, int]]]]:
        return [
            (
                time.monotonic(),
                wakeups_by_thread(role.process.pid),
                busy_s(role.process.pid),
                written_bytes(role.process.pid),
                file_states(state),
            )
            for _, state, role in agents
        ]

    before = look()
    time.sleep(seconds)
    after = look()
    found = []
    for (kind, _, role), a, b in zip(agents, before, after, strict=True):
        pid, elapsed_s = role.process.pid, b[0] - a[0]
        changed = sorted(name for name in {*a[4], *b[4]} if a[4].get(name) != b[4].get(name))
        found.append(
            Idle(
                kind=kind,
                seconds=elapsed_s,
                memory=memory_of(pid),
                wakeups_s=(sum(b[1].values()) - sum(a[1].values())) / elapsed_s,
                main_wakeups_s=(b[1][pid] - a[1][pid]) / elapsed_s,
                busy_share=(b[2] - a[2]) / elapsed_s,
                written=b[3] - a[3],
                changed=tuple(changed),
            )
        )
    return found


@contextmanager
def _service_manager() -> Iterator[Path]:
    """A folder in memory, and in it an address that takes what services tell and forgets it."""
    with (
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard,
    ):
        heard.bind(f"{folder}/notify")
        heard.settimeout(0.5)
        ending = threading.Event()

        def listen() -> None:
            while not ending.is_set():
                with suppress(TimeoutError):
                    heard.recv(4096)

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield Path(folder)
        finally:
            ending.set()
            listener.join()


def _as_systemd(address: Path, runtime: Path) -> tuple[str, ...]:
    runtime.mkdir()
    return (
        "env",
        f"NOTIFY_SOCKET={address}",
        f"WATCHDOG_USEC={WATCHDOG_USEC}",
        f"RUNTIME_DIRECTORY={runtime}",
    )


def idle_table(rows: list[Idle]) -> str:
    """Medians of the agents of each kind."""
    lines = [
        "| started | RSS | private | wake-ups/s (loop) | share of a core | bytes written | files |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(row.kind for row in rows):
        mine = [row for row in rows if row.kind == kind]
        memory = median_memory(row.memory for row in mine)
        wakeups = statistics.median(row.wakeups_s for row in mine)
        main = statistics.median(row.main_wakeups_s for row in mine)
        share = statistics.median(row.busy_share for row in mine)
        changed = sorted({name for row in mine for name in row.changed})
        lines.append(
            f"| {kind} | {memory.resident / MIB:.1f} | {memory.private / MIB:.1f} "
            f"| {wakeups:.2f} ({main:.2f}) | {share:.3%} "
            f"| {max(row.written for row in mine)} | {', '.join(changed) or 'none'} |"
        )
    return "\n".join(lines)
