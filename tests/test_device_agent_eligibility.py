"""When a device may train: each setting, at its bound, and a little below it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from config.sections import Eligibility
from device_agent.eligibility import MIB, Conditions, Probe, hindrance

FINE = Conditions(
    temperature_c=50.0,
    other_load=0.1,
    free_memory_bytes=1024 * MIB,
    free_disk_bytes=1024 * MIB,
    battery_percent=90.0,
    on_mains=True,
    hour=12,
)


def told(rule: dict[str, Any], was_hindered: bool = False, **conditions: Any) -> str:
    now = replace(FINE, **conditions)
    return hindrance(Eligibility(**rule), now, was_hindered=was_hindered)


def test_by_default_an_ordinary_machine_may_train() -> None:
    assert told({}) == ""
    assert told({}, temperature_c=None, battery_percent=None) == ""


@pytest.mark.parametrize(
    ("rule", "within", "beyond", "reason"),
    [
        ({"max_temperature_c": 70}, {"temperature_c": 70.0}, {"temperature_c": 70.1}, "too hot"),
        ({"max_other_load": 1.0}, {"other_load": 1.0}, {"other_load": 1.1}, "busy"),
        (
            {"min_free_memory_mib": 100},
            {"free_memory_bytes": 100 * MIB},
            {"free_memory_bytes": 99 * MIB},
            "little memory",
        ),
        (
            {"min_free_disk_mib": 100},
            {"free_disk_bytes": 100 * MIB},
            {"free_disk_bytes": 99 * MIB},
            "little room on disk",
        ),
        ({"on_battery": False}, {"on_mains": True}, {"on_mains": False}, "on battery"),
        (
            {"min_battery_percent": 30},
            {"on_mains": False, "battery_percent": 30.0},
            {"on_mains": False, "battery_percent": 29.0},
            "battery low",
        ),
        ({"hours": "8-18"}, {"hour": 17}, {"hour": 18}, "not the hour"),
    ],
)
def test_each_bound_holds_and_says_why(
    rule: dict[str, Any], within: dict[str, Any], beyond: dict[str, Any], reason: str
) -> None:
    assert told(rule, **within) == ""
    assert told(rule, **beyond).startswith(reason)


def test_hours_may_go_past_midnight() -> None:
    hours = [hour for hour in range(24) if told({"hours": "22-6"}, hour=hour) == ""]
    assert hours == [0, 1, 2, 3, 4, 5, 22, 23]


@pytest.mark.parametrize("hours", ["8", "8-25", "24-6", "8 - 18", "-1-3", "a-b"])
def test_hours_that_are_none_are_refused(hours: str) -> None:
    with pytest.raises(ValidationError):
        Eligibility(hours=hours)


def test_who_was_hindered_goes_on_only_when_there_is_some_room() -> None:
    rule = {"max_temperature_c": 70, "min_free_memory_mib": 100, "max_other_load": 1.0}
    assert told(rule, temperature_c=66.0) == ""
    assert told(rule, was_hindered=True, temperature_c=66.0).startswith("too hot")
    assert told(rule, was_hindered=True, temperature_c=65.0) == ""
    assert told(rule, was_hindered=True, free_memory_bytes=105 * MIB).startswith("little memory")
    assert told(rule, was_hindered=True, other_load=0.95).startswith("busy")


def test_a_probe_tells_what_this_machine_is_like(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    total = sum(n * n for n in range(2_000_000))  # our own work is no load of others
    seen = probe.look()
    assert total > 0
    assert seen.free_memory_bytes > 0
    assert seen.free_disk_bytes > 0
    assert 0 <= seen.other_load < 4096
    assert 0 <= seen.hour < 24
