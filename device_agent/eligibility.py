"""May this device train now? What the settings allow, held against what the machine is like.

`hindrance` is a pure function of settings, conditions and whether the device was hindered before:
what has been too much has to fall a little below its bound before work goes on, so that a device
at the bound does not begin and stop all the time. `Probe` looks at the machine, with psutil.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from config.sections import Eligibility

MIB = 2**20
RELIEF_C = 5.0
RELIEF_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a machine is like at a moment.

    Attributes:
        temperature_c: of its hottest sensor; None where there is none.
        other_load: cores that processes other than ours keep busy.
        free_memory_bytes: what can be had without swapping.
        free_disk_bytes: where the state lies.
        battery_percent: None where there is no battery.
        on_mains: whether it is plugged in, or has no battery.
        hour: of the local day, 0 to 23.
    """

    temperature_c: float | None
    other_load: float
    free_memory_bytes: int
    free_disk_bytes: int
    battery_percent: float | None
    on_mains: bool
    hour: int


def hindrance(rule: Eligibility, now: Conditions, *, was_hindered: bool) -> str:
    """Why the device may not train now, in a few words; empty if it may."""
    relief = RELIEF_SHARE if was_hindered else 0.0
    if rule.max_temperature_c is not None and now.temperature_c is not None:
        bound = rule.max_temperature_c - (RELIEF_C if was_hindered else 0.0)
        if now.temperature_c > bound:
            return f"too hot: {now.temperature_c:.0f} °C, at most {bound:g}"
    if rule.max_other_load is not None and now.other_load > rule.max_other_load * (1 - relief):
        return f"busy: others use {now.other_load:.1f} cores, at most {rule.max_other_load:g}"
    if now.free_memory_bytes < rule.min_free_memory_mib * MIB * (1 + relief):
        free = now.free_memory_bytes // MIB
        return f"little memory: {free} MiB free, at least {rule.min_free_memory_mib}"
    if now.free_disk_bytes < rule.min_free_disk_mib * MIB * (1 + relief):
        free = now.free_disk_bytes // MIB
        return f"little room on disk: {free} MiB free, at least {rule.min_free_disk_mib}"
    if not now.on_mains and not rule.on_battery:
        return "on battery"
    if now.battery_percent is not None and not now.on_mains:
        bound = rule.min_battery_percent * (1 + relief)
        if now.battery_percent < bound:
            return f"battery low: {now.battery_percent:.0f} %, at least {bound:.0f}"
    if rule.hour_span is not None and not _is_within(now.hour, *rule.hour_span):
        return f"not the hour: {rule.hours} only"
    return ""


def _is_within(hour: int, begin: int, end: int) -> bool:
    """Whether an hour lies from `begin` up to, not including, `end`; past midnight if need be."""
    return begin <= hour < end if begin < end else hour >= begin or hour < end


class Probe:
    """Looks at this machine; the load of others is that since the last look."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._busy = _busy_s()

    def look(self) -> Conditions:
        """What the machine is like now."""
        battery = _battery()
        return Conditions(
            temperature_c=_hottest_c(),
            other_load=self._other_load(),
            free_memory_bytes=psutil.virtual_memory().available,
            free_disk_bytes=psutil.disk_usage(str(self._state_dir)).free,
            battery_percent=None if battery is None else battery.percent,
            on_mains=battery is None or battery.power_plugged is not False,
            hour=datetime.now().astimezone().hour,
        )

    def _other_load(self) -> float:
        before, self._busy = self._busy, _busy_s()
        elapsed_s, all_s, ours_s = (b - a for a, b in zip(before, self._busy, strict=True))
        # A child of ours that has ended takes what it used with it.
        return max(0.0, (all_s - max(0.0, ours_s)) / elapsed_s) if elapsed_s > 0 else 0.0


def _busy_s() -> tuple[float, float, float]:
    """Seconds of each core so far, of all cores that were busy, and of those, ours."""
    cpu = psutil.cpu_times()
    idle_s = cpu.idle + getattr(cpu, "iowait", 0.0)
    total_s = sum(cpu) - getattr(cpu, "guest", 0.0) - getattr(cpu, "guest_nice", 0.0)
    ours_s = 0.0
    me = psutil.Process(os.getpid())
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        ours_s += times.user + times.system
    return total_s / (psutil.cpu_count() or 1), total_s - idle_s, ours_s


def _hottest_c() -> float | None:
    read = getattr(psutil, "sensors_temperatures", None)
    found = [one.current for group in (read() if read else {}).values() for one in group]
    return max(found, default=None)


def _battery() -> Any:
    read = getattr(psutil, "sensors_battery", None)
    return read() if read else None
