"""How the scoreboard follows what happens: a line or the end of a process in, a new one out.

Pure. What each line means stands in two tables at the end, one for the coordinator's lines and
one for the devices'. A line that is unknown or not as it should be changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isfinite
from typing import Any, TypeAlias

from experiments.scoreboard import (
    COORDINATOR,
    LEVELS,
    Ended,
    Event,
    Line,
    Notice,
    Phase,
    Scoreboard,
    VersionRow,
)
from experiments.wording import facts_text, on_one_line

KEPT_NOTICES = 200


def follow(board: Scoreboard, event: Event) -> Scoreboard:
    """The scoreboard after an event."""
    if isinstance(event, Ended):
        gone = {"phase": Phase.ENDED, "ended": event.how, "done": 0.0, "linked": False}
        return _with_device(board, event.source, **gone)
    rules = _OF_COORDINATOR if event.source == COORDINATOR else _OF_DEVICE
    rule = rules.get(event.text)
    try:
        after = rule(board, event) if rule is not None else board
    except (KeyError, TypeError, ValueError):
        after = board
    if event.level in LEVELS[LEVELS.index(board.run.least_level) :]:
        text = on_one_line(f"{event.text} {facts_text(event.facts)}").rstrip()
        after = _note(after, event.source, event.level, text, event.time_s)
    return after


def _note(board: Scoreboard, source: str, level: str, text: str, time_s: float) -> Scoreboard:
    notice = Notice(source, level, text, max(0.0, time_s - board.run.started_s))
    notices = (*board.notices, notice)[-KEPT_NOTICES:]
    return replace(board, notices=notices, noticed=board.noticed + 1)


def _with_device(board: Scoreboard, device: str, **changes: Any) -> Scoreboard:
    row = board.devices.get(device)
    if row is None:
        return board
    return replace(board, devices={**board.devices, device: replace(row, **changes)})


def _with_version(board: Scoreboard, version: int, **changes: Any) -> Scoreboard:
    rows = {row.version: row for row in board.versions}
    rows[version] = replace(rows[version], **changes)
    return replace(board, versions=tuple(rows[number] for number in sorted(rows)))


def _figure(value: Any) -> float | None:
    """A figure that can be shown; a loss may have grown beyond all numbers."""
    return float(value) if value is not None and isfinite(float(value)) else None


def _elapsed_s(board: Scoreboard, line: Line) -> float:
    return round(max(0.0, line.time_s - board.run.started_s), 3)


# What the coordinator says


def _published(board: Scoreboard, line: Line) -> Scoreboard:
    version = int(line.facts["version"])
    after = replace(board, model_bytes=int(line.facts["bytes"]))
    if any(row.version == version for row in board.versions):
        return after
    return _add_version(after, VersionRow(version, _elapsed_s(board, line)))


def _made(board: Scoreboard, line: Line) -> Scoreboard:
    version = int(line.facts["version"])
    devices = tuple(str(device) for device in line.facts["devices"])
    staleness = tuple(int(missed) for missed in line.facts["staleness"])
    if len(devices) != len(staleness):
        raise ValueError("a version has a staleness for each of its updates")
    return _add_version(board, VersionRow(version, _elapsed_s(board, line), devices, staleness))


def _add_version(board: Scoreboard, added: VersionRow) -> Scoreboard:
    rows = {row.version: row for row in board.versions} | {added.version: added}
    return replace(board, versions=tuple(rows[number] for number in sorted(rows)))


def _evaluated(board: Scoreboard, line: Line) -> Scoreboard:
    return _with_version(
        board,
        int(line.facts["version"]),
        tested_s=_elapsed_s(board, line),
        accuracy=_figure(line.facts["accuracy"]),
        loss=_figure(line.facts.get("loss")),
    )


def _entered(board: Scoreboard, line: Line) -> Scoreboard:
    device = str(line.facts["device"])
    return _with_device(board, device, accepted=board.devices[device].accepted + 1)


def _turned_down(board: Scoreboard, line: Line) -> Scoreboard:
    device = str(line.facts["device"])
    return _with_device(board, device, refused=board.devices[device].refused + 1)


def _coordinator_traffic(board: Scoreboard, line: Line) -> Scoreboard:
    sent, received = int(line.facts["sent_bytes"]), int(line.facts["received_bytes"])
    return replace(board, sent_bytes=sent, received_bytes=received)


# What devices say


def _link_up(board: Scoreboard, line: Line) -> Scoreboard:
    starting = board.devices[line.source].phase in (Phase.STARTING, Phase.ENDED)
    phase = Phase.WAITING if starting else board.devices[line.source].phase
    return _with_device(board, line.source, linked=True, phase=phase)


def _link_down(board: Scoreboard, line: Line) -> Scoreboard:
    return _with_device(board, line.source, linked=False)


def _announced(board: Scoreboard, line: Line) -> Scoreboard:
    version = int(line.facts["version"])
    after = _with_device(board, line.source, newest=version)
    idle = board.devices[line.source].phase in (Phase.WAITING, Phase.DELIVERING, Phase.FETCHING)
    return _fetches(after, line.source, version) if idle else after


def _fetches(board: Scoreboard, device: str, version: int) -> Scoreboard:
    return _with_device(board, device, phase=Phase.FETCHING, version=version, done=0.0)


def _fetched(board: Scoreboard, line: Line) -> Scoreboard:
    version = int(line.facts["version"])
    return _with_device(board, line.source, phase=Phase.LOADING, version=version, done=0.0)


def _progressed(board: Scoreboard, line: Line) -> Scoreboard:
    return _with_device(
        board,
        line.source,
        phase=Phase(line.facts["phase"]),
        version=int(line.facts["version"]),
        done=min(1.0, max(0.0, _figure(line.facts["done"]) or 0.0)),
        loss=_figure(line.facts.get("loss")),
    )


def _trained(board: Scoreboard, line: Line) -> Scoreboard:
    row = board.devices[line.source]
    version = int(line.facts["version"])
    accuracy = _figure(line.facts.get("held_out_accuracy"))
    after = _with_device(
        board,
        line.source,
        phase=Phase.DELIVERING,
        version=version,
        done=1.0,
        waiting_updates=row.waiting_updates + 1,
        held_out_accuracy=row.held_out_accuracy if accuracy is None else accuracy,
    )
    return _turns_to_newest(after, line.source)


def _turns_to_newest(board: Scoreboard, device: str) -> Scoreboard:
    """A device that is done with a version goes on with a newer one that it has heard of."""
    row = board.devices[device]
    behind = row.newest is not None and (row.version is None or row.newest > row.version)
    return _fetches(board, device, row.newest) if behind and row.newest is not None else board


def _delivered(board: Scoreboard, line: Line) -> Scoreboard:
    row = board.devices[line.source]
    left = max(0, row.waiting_updates - 1)
    phase = Phase.WAITING if row.phase is Phase.DELIVERING and not left else row.phase
    done = 0.0 if phase is Phase.WAITING else row.done
    return _with_device(board, line.source, waiting_updates=left, phase=phase, done=done)


def _rests(board: Scoreboard, line: Line) -> Scoreboard:
    return _with_device(board, line.source, phase=Phase.WAITING, done=0.0)


def _gave_up(board: Scoreboard, line: Line) -> Scoreboard:
    return _turns_to_newest(_rests(board, line), line.source)


def _device_traffic(board: Scoreboard, line: Line) -> Scoreboard:
    sent, received = int(line.facts["sent_bytes"]), int(line.facts["received_bytes"])
    return _with_device(board, line.source, sent_bytes=sent, received_bytes=received)


_Rule: TypeAlias = Callable[[Scoreboard, Line], Scoreboard]

_OF_COORDINATOR: Mapping[str, _Rule] = {
    "version published": _published,
    "version made": _made,
    "version evaluated": _evaluated,
    "update accepted": _entered,
    "update refused": _turned_down,
    "traffic": _coordinator_traffic,
}

_OF_DEVICE: Mapping[str, _Rule] = {
    "link up": _link_up,
    "link down": _link_down,
    "version announced": _announced,
    "not invited": _rests,
    "version fetched": _fetched,
    "progress": _progressed,
    "update in outbox": _trained,
    "update accepted": _delivered,
    "update known": _delivered,
    "update refused": _delivered,
    "training failed": _rests,
    "version overtaken": _gave_up,
    "version given up": _gave_up,
    "traffic": _device_traffic,
}
