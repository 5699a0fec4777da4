"""What a process takes, read from /proc: memory, wake-ups, processor time, files, bytes written."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

KIB = 1024
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one process, in bytes.

    Attributes:
        resident: RSS, what it shares included.
        proportional: PSS, what it shares divided by those who share it.
        private: USS, what goes with it when it ends; pages of libraries that nobody else uses
            at the time are among it.
        own: the part of USS that it has written itself, which no other process changes.
    """

    resident: int
    proportional: int
    private: int
    own: int


def memory_of(pid: int) -> Memory:
    """Memory of a process now."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, _ = line.split()
        fields[name.rstrip(":")] = int(size) * KIB
    own = fields["Private_Dirty"]
    return Memory(fields["Rss"], fields["Pss"], fields["Private_Clean"] + own, own)


def wakeups_of(pid: int) -> int:
    """How often its threads have gone to sleep by themselves, all that live now."""
    return sum(wakeups_by_thread(pid).values())


def wakeups_by_thread(pid: int) -> dict[int, int]:
    """The same for each thread; the one whose number is the process's is the main thread."""
    counts = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    counts[int(task.name)] = int(line.split()[1])
    return counts


def busy_s(pid: int) -> float:
    """Seconds that its threads have run, by the scheduler's own count in nanoseconds."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def open_files(pid: int) -> int:
    """Its file descriptors."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def written_bytes(pid: int) -> int:
    """What it has had the kernel write to a disk, in whole pages of files."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes"):
            return int(line.split()[1])
    raise ValueError("the kernel does not count what is written")


def child_of(pid: int) -> int | None:
    """Its newest child, if it has one: the worker of a role."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            parent = stat.read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid:
                children.append(int(stat.parent.name))
    return max(children, default=None)


def file_states(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of the last change of each file below a folder."""
    states = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                stat = path.stat()
                states[str(path.relative_to(folder))] = stat.st_size, stat.st_mtime_ns
    return states


def median_memory(samples: Iterable[Memory]) -> Memory:
    """The median of each figure."""
    rows = [(one.resident, one.proportional, one.private, one.own) for one in samples]
    return Memory(*(int(statistics.median(column)) for column in zip(*rows, strict=True)))
