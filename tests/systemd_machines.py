"""Machines for the tests of services: a gateway and three devices on one Debian, installed once.

`SYSTEMD_SUITE` names another Debian than the oldest that Flockwise serves. What is measured on the
way is printed at the end of the run (`figure`).
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

import pytest

from tests.debian_root import CannotBeMadeError, cache, debian_root
from tests.processes import a_chunk
from tests.systemd_container import Container
from tests.systemd_service import Service
from tests.systemd_wheels import build, size_bytes, wheelhouse

SUITE = os.environ.get("SYSTEMD_SUITE", "bookworm")
PYTHON = {"bookworm": "3.11", "trixie": "3.13"}
PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "python3-venv", "mosquitto")
INSTALL_S = 1800.0
CANNOT_RUN = 75  # for the target: told in a line, and no failure of what is tested
VERSION = "0.1.0"
FLOCKWISE = "/root/environment/bin/flockwise"
BROKER = "flockwise-broker.service"
COORDINATOR = "flockwise-coordinator.service"
ONE, TWO, SLOW = (f"flockwise-agent@{name}.service" for name in ("one", "two", "slow"))
AGENTS = (ONE, TWO, SLOW)
GATEWAY = (BROKER, COORDINATOR)

_COORDINATOR = """\
insecure = true

[training]
model = "tutorial-cnn"

[aggregation]
buffer_size = 2
max_staleness = 10000

[reporting]
wandb = "off"
"""
_AGENT = """\
insecure = true
device = "{name}"
chunk = "{files}/{name}.npz"
threads = 1
slowdown = {slowdown}
checkpoint_s = {checkpoint_s}

[link]
backoff_base_s = 0.2
backoff_cap_s = 1
"""
_figures: list[str] = []


def figure(text: str) -> None:
    """Note what was measured; all of it is printed when the tests have ended."""
    _figures.append(text)


atexit.register(lambda: print("\nmeasured:", *_figures, sep="\n  ") if _figures else None)


@dataclass(frozen=True, slots=True)
class Kept:
    """Who a gateway and the first device are, and how far they have come."""

    ledger: str
    outbox: str
    next_sequence: int
    version: int


def kept(machine: Container) -> Kept:
    """What is on the disk of a machine now."""
    found = json.loads(machine.say("python3", "-c", _READ_STATE))
    return Kept(*found)


# On copies, as SQLite makes files beside what it reads.
_READ_STATE = """
import json, shutil, sqlite3, tempfile
def ask(place, what):
    with tempfile.TemporaryDirectory() as copy:
        for tail in ("", "-wal"):
            try:
                shutil.copy(f"/var/lib/private/flockwise/{place}{tail}", f"{copy}/it{tail}")
            except FileNotFoundError:
                pass
        return sqlite3.connect(f"{copy}/it").execute(what).fetchone()
print(json.dumps([
    *ask("coordinator/ledger.sqlite", "SELECT hex(ledger) FROM identity"),
    *ask("agent-one/outbox/outbox.sqlite", "SELECT hex(outbox), next_sequence FROM identity"),
    *ask("coordinator/ledger.sqlite", "SELECT max(version) FROM versions"),
]))
"""


@contextmanager
def running(name: str, units: Sequence[str]) -> Iterator[Container]:
    """A machine of its own on which all is installed and these units run; the rest is stopped."""
    with container(name, installed().layers) as machine:
        machine.boot()
        for unit in (*GATEWAY, *AGENTS):
            if unit not in units:
                machine.run("systemctl", "disable", "--now", "--quiet", unit)
        for unit in units:
            Service(machine, unit).wait_until_active()
        yield machine


@contextmanager
def container(name: str, layers: Sequence[Path]) -> Iterator[Container]:
    """A container with these layers; what it wrote is deleted afterwards."""
    place = _runs() / name
    with Container(layers, place, bound=(wheelhouse(PYTHON[SUITE]), given())) as machine:
        yield machine
    shutil.rmtree(place)


@once
def prepared() -> Container:
    """A machine as it is before anything is installed: Debian, and Flockwise by `pip install`.

    It is off; `container` takes its layers.
    """
    try:
        begun_s = time.monotonic()
        debian = debian_root(f"systemd-{SUITE}", SUITE, PACKAGES)
        wheels = wheelhouse(PYTHON[SUITE])
        made_s = time.monotonic() - begun_s
        machine = Container([debian], _runs() / "prepared", bound=(wheels, given()))
        with machine:
            machine.boot()
            _prepare(machine, wheels)
            machine.power_off()
    except (CannotBeMadeError, OSError) as reason:
        pytest.exit(f"test-systemd cannot run here: {reason}", CANNOT_RUN)
    figure(f"root {size_bytes(debian) / 1e6:.0f} MB, wheels {size_bytes(wheels) / 1e6:.0f} MB,")
    figure(f"made in {made_s:.0f} s (0 where they are cached); boot {machine.boot_s:.1f} s")
    return machine


@once
def installed() -> Container:
    """The same with broker, coordinator and three agents, by the documented commands; it is off."""
    machine = Container(
        prepared().layers, _runs() / "installed", bound=(wheelhouse(PYTHON[SUITE]), given())
    )
    with machine:
        machine.boot()
        machine.run("systemctl", "disable", "--now", "mosquitto.service")
        install_gateway(machine)
        for name in ("one", "two", "slow"):
            install(machine, "agent", "--name", name, "--config", f"{given()}/{name}.toml")
        machine.power_off()
    return machine


def install_gateway(machine: Container) -> str:
    """A gateway for this machine alone, whose broker asks nobody who they are."""
    files = given()
    settings = ("--config", f"{files}/coordinator.toml", "--broker-config", f"{files}/broker.toml")
    return install(machine, "gateway", *settings)


def install(machine: Container, role: str, *options: str) -> str:
    """`flockwise ROLE install` from this checkout's wheel; what it said."""
    begun_s = time.monotonic()
    words = (FLOCKWISE, role, "install", *options, "--from", str(wheel()))
    said = machine.run(*words, timeout_s=INSTALL_S).stdout
    figure(f"{role} install {' '.join(options[:2])}: {time.monotonic() - begun_s:.1f} s")
    return said


@once
def wheel() -> Path:
    """This checkout, as a wheel that the machines see."""
    return build(given(), VERSION)


def altered_wheel(version: str, alter: Callable[[Path], None] = lambda source: None) -> Path:
    """Another version of it, whose source `alter` may change."""
    return build(given(), version, alter)


@once
def given() -> Path:
    """What is given to the machines: settings, chunks, wheels."""
    files = _runs() / "files"
    files.mkdir(parents=True)
    (files / "coordinator.toml").write_text(_COORDINATOR)
    (files / "broker.toml").write_text("insecure = true\n")
    for seed, (name, slowdown, checkpoint_s) in enumerate(
        (("one", 10, 60), ("two", 10, 60), ("slow", 200, 1))
    ):
        a_chunk(files / f"{name}.npz", seed, examples=2048 if name == "slow" else 64)
        (files / f"{name}.toml").write_text(
            _AGENT.format(name=name, files=files, slowdown=slowdown, checkpoint_s=checkpoint_s)
        )
    return files


def _prepare(machine: Container, wheels: Path) -> None:
    # The only package index that the machine knows is a directory.
    pip = f"[global]\nno-index = true\nfind-links = {wheels}\ndisable-pip-version-check = true\n"
    machine.path("/etc/pip.conf").write_text(pip)
    machine.run("python3", "-m", "venv", "/root/environment")
    machine.run("/root/environment/bin/pip", "install", "--quiet", str(wheel()))


@once
def _runs() -> Path:
    place = cache() / "runs" / str(os.getpid())
    atexit.register(lambda: shutil.rmtree(place, ignore_errors=True))
    place.mkdir(parents=True)
    return place
