"""What processes take together with all that they started: memory and processor time."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from benchmarks.gauges import memory_of

_TICKS = os.sysconf("SC_CLK_TCK")


def family_of(pids: Iterable[int]) -> set[int]:
    """These processes and all their descendants, ended ones that nobody has buried included."""
    children: dict[int, list[int]] = defaultdict(list)
    for pid, fields in _stats():
        children[int(fields[1])].append(pid)
    found: set[int] = set()
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children[pid]
    return found


def worked_s(pids: Iterable[int]) -> float:
    """Seconds of processor time of these processes, and of the children that they have buried."""
    wanted = set(pids)
    ticks = (sum(map(int, fields[11:15])) for pid, fields in _stats() if pid in wanted)
    return sum(ticks) / _TICKS


def held_bytes(pids: Iterable[int]) -> int:
    """Their memory (PSS: what they share is counted once)."""
    total = 0
    for pid in pids:
        with suppress(OSError, ValueError, KeyError):  # it has ended
            total += memory_of(pid).proportional
    return total


def command_of(pid: int) -> str:
    """Its command line; empty if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return ""


def births_of(pids: Iterable[int]) -> dict[int, str]:
    """When each of these processes began, for `see_them_end`."""
    wanted = set(pids)
    return {pid: fields[19] for pid, fields in _stats() if pid in wanted}


def see_them_end(births: Mapping[int, str], patience_s: float = 20.0) -> None:
    """Wait until these processes have ended; kill those that do not."""
    end_s = time.monotonic() + patience_s
    while left := [
        pid for pid, fields in _stats() if fields[0] != "Z" and births.get(pid) == fields[19]
    ]:
        if time.monotonic() > end_s:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _stats() -> Iterator[tuple[int, list[str]]]:
    """The fields of `stat` after the name, of each process that there is."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()
