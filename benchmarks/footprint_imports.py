"""What a waiting agent's memory is made of: what each thing that it loads adds, one by one."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
from dataclasses import dataclass

from benchmarks.gauges import MIB

# From the ground up, so that each is charged with what nothing before it has loaded.
LOADED = (
    ("the interpreter, started", ()),
    (
        "what Python brings: ssl, sqlite3, logging, subprocess, dataclasses ...",
        ("ssl", "sqlite3", "logging", "json", "subprocess", "dataclasses", "argparse", "difflib"),
    ),
    ("importlib.metadata (it parses e-mail headers)", ("importlib.metadata",)),
    ("psutil", ("psutil",)),
    ("msgpack", ("msgpack",)),
    ("pydantic", ("pydantic", "pydantic.types", "pydantic.main")),
    (
        "our settings",
        ("flockwise", "config.values", "config.sections", "config.settings", "config.logs"),
    ),
    ("pydantic-settings (asyncio, sources for clouds)", ("pydantic_settings", "config.loading")),
    ("paho-mqtt (urllib, http)", ("paho.mqtt.client",)),
    ("the language: federation", ("federation.messages", "federation.paho_session")),
    ("the agent", ("device_agent.service",)),
)
_CODE = """
import sys
for group in sys.argv[1:]:
    for name in group.split():
        __import__(name)
    for line in open("/proc/self/smaps_rollup"):
        if line.startswith("Private_Dirty"):
            print(int(line.split()[1]) * 1024)
"""


@dataclass(frozen=True, slots=True)
class Part:
    """What was loaded, and the bytes of private memory that it added."""

    what: str
    added: int


def loaded_parts(runs: int) -> list[Part]:
    """Medians of so many runs."""
    columns = [_one_run() for _ in range(runs)]
    totals = [int(statistics.median(column)) for column in zip(*columns, strict=True)]
    steps = [totals[0], *(b - a for a, b in itertools.pairwise(totals))]
    return [Part(what, step) for (what, _), step in zip(LOADED, steps, strict=True)]


def _one_run() -> list[int]:
    groups = [" ".join(modules) for _, modules in LOADED]
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *groups], capture_output=True, text=True, check=True
    )
    return [int(line) for line in done.stdout.split()]


def imports_table(parts: list[Part]) -> str:
    """The parts and their sum, in MiB."""
    lines = ["| loaded | adds |", "|---|---|"]
    lines += [f"| {part.what} | {part.added / MIB:.1f} |" for part in parts]
    lines.append(f"| together | {sum(part.added for part in parts) / MIB:.1f} |")
    return "\n".join(lines)
