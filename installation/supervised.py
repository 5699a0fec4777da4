"""The steps of a plan that systemd carries out: take up unit files, enable, start, stop."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from config.failures import ExitCode, Failure
from installation.machine import Machine

SETTLE_S = 10


@dataclass(frozen=True, slots=True)
class TakeUpUnits:
    """Have systemd read unit files anew."""

    units: tuple[str, ...]
    verb: ClassVar[str] = "reload"
    shown: ClassVar[str] = ""

    @property
    def what(self) -> str:
        """Whose files."""
        return f"systemd's view of {', '.join(self.units)}"

    def is_done(self, machine: Machine, changed: bool) -> bool:
        """Whether systemd knows the files as they are."""
        return all(machine.property_of(unit, "NeedDaemonReload") == "no" for unit in self.units)

    def do(self, machine: Machine) -> None:
        """Tell systemd."""
        must(machine, "daemon-reload")


@dataclass(frozen=True, slots=True)
class Enable:
    """Have a unit started at every boot."""

    unit: str
    verb: ClassVar[str] = "enable"
    shown: ClassVar[str] = ""

    @property
    def what(self) -> str:
        """The unit, and what for."""
        return f"{self.unit} (at each boot)"

    def is_done(self, machine: Machine, changed: bool) -> bool:
        """Whether it is."""
        return machine.systemctl("is-enabled", self.unit).output.strip() == "enabled"

    def do(self, machine: Machine) -> None:
        """Enable it."""
        must(machine, "enable", "--quiet", self.unit)


@dataclass(frozen=True, slots=True)
class Start:
    """Start a unit and wait until it is ready; start it anew where something has changed."""

    unit: str
    verb: ClassVar[str] = "start"
    shown: ClassVar[str] = ""

    @property
    def what(self) -> str:
        """The unit."""
        return f"{self.unit} (ready)"

    def is_done(self, machine: Machine, changed: bool) -> bool:
        """Whether it runs, and with what it would run with now."""
        return not changed and is_active(machine, self.unit)

    def do(self, machine: Machine) -> None:
        """Start it; raises Failure if it does not become ready."""
        restart(machine, self.unit)


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a unit."""

    unit: str
    verb: ClassVar[str] = "stop"
    shown: ClassVar[str] = ""

    @property
    def what(self) -> str:
        """The unit."""
        return self.unit

    def is_done(self, machine: Machine, changed: bool) -> bool:
        """Whether it does not run, and does not try to."""
        state = machine.property_of(self.unit, "ActiveState")
        return state in ("", "inactive")

    def do(self, machine: Machine) -> None:
        """Stop it, and forget that it failed."""
        must(machine, "stop", self.unit)
        machine.systemctl("reset-failed", self.unit)


@dataclass(frozen=True, slots=True)
class Disable:
    """Have a unit not started at boot any more."""

    unit: str
    verb: ClassVar[str] = "disable"
    shown: ClassVar[str] = ""

    @property
    def what(self) -> str:
        """The unit."""
        return self.unit

    def is_done(self, machine: Machine, changed: bool) -> bool:
        """Whether it is not."""
        return machine.systemctl("is-enabled", self.unit).output.strip() != "enabled"

    def do(self, machine: Machine) -> None:
        """Disable it."""
        must(machine, "disable", "--quiet", self.unit)


def is_active(machine: Machine, unit: str) -> bool:
    """Whether a unit runs and has said that it is ready."""
    return machine.systemctl("is-active", unit).output.strip() == "active"


def restart(machine: Machine, unit: str) -> None:
    """Start a unit anew; raises Failure with its last words if it does not become ready."""
    machine.systemctl("reset-failed", unit)
    if machine.systemctl("restart", unit).status != 0:
        raise not_ready(machine, unit)


def settle(machine: Machine, unit: str) -> None:
    """Watch a unit for a while after it was ready; raises Failure if it does not stay so."""
    restarts = machine.property_of(unit, "NRestarts")
    for _ in range(SETTLE_S):
        machine.sleep(1)
        if not is_active(machine, unit) or machine.property_of(unit, "NRestarts") != restarts:
            raise not_ready(machine, unit)


def not_ready(machine: Machine, unit: str) -> Failure:
    """The failure of a unit: the exit code is its own where it is one of ours."""
    code = ExitCode.UNAVAILABLE
    with suppress(ValueError):
        status = int(machine.property_of(unit, "ExecMainStatus") or 0)
        code = ExitCode(status) if status > ExitCode.FAILURE else code
    result = machine.property_of(unit, "Result") or "unknown"
    journal = ("journalctl", "--no-pager", "--output=cat", "--lines=1", f"_SYSTEMD_UNIT={unit}")
    # One that systemd has ended says last how it ended, and not why.
    said = "" if result in ("timeout", "watchdog") else machine.run(journal).output.strip()
    told = f": {said.removeprefix('flockwise: ')}" if said else ""
    return Failure(
        code, f"{unit} did not become ready ({result}){told}; journalctl -u {unit} tells more"
    )


def must(machine: Machine, *words: str) -> None:
    """Tell systemd something that has to work."""
    result = machine.systemctl(*words)
    if result.status != 0:
        raise Failure(
            ExitCode.UNAVAILABLE, f"systemctl {' '.join(words)} failed: {result.last_words}"
        )
