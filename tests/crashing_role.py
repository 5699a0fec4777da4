"""A role that kills itself with SIGKILL at a planned point, or has a call there fail.

The product's modules are compiled with each site of `tests/crash_points.py` going through `_io`;
nothing else of them is changed. The process counts how often it comes to each point, and does what
is planned for that count. `install` has to come before any module of the product is imported.
"""

from __future__ import annotations

import ast
import builtins
import errno
import importlib.machinery
import json
import os
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Protocol

from tests.crash_points import HOUSE, SHARED, Site, files, key, of_role, sending, sites
from tests.crash_points import within as point_within
from tests.crash_tables import SENT

SENT_S = 0.05
NAME = "__crash_point__"


@dataclass(frozen=True, slots=True)
class Crash:
    """What is to happen where: at the `hit`-th time that `role` comes to `point`.

    Attributes:
        moment: before, torn, after, sent: killed; full: the call fails as on a full disk; broken:
            it fails otherwise; omitted: it is left out, each time.
    """

    role: str
    point: str
    moment: str
    hit: int = 1

    @property
    def kills(self) -> bool:
        """Whether the process ends."""
        return self.moment in ("before", "torn", "after", "sent")


class Watch(Protocol):
    """Who is told of each call at a point."""

    def before(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """It is about to be made."""

    def after(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """It was made."""

    def killed(self) -> None:
        """The process ends now."""


@dataclass(slots=True)
class _State:
    role: str = ""
    planned: dict[str, list[Crash]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    record: Path | None = None
    watch: Watch | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


_state = _State()
_sites: dict[str, Site] = {}
_shared_calls: dict[str, list[Site]] = {}


def install() -> None:
    """From now on the product's modules are imported with their sites going through here."""
    for file in files():
        for site in sites(file):
            _sites[site.name] = site
            if site.shared and file not in SHARED:
                _shared_calls.setdefault(str(HOUSE / file), []).append(site)
    setattr(builtins, NAME, _io)
    sys.meta_path.insert(0, _Finder)


def arm(
    role: str,
    crashes: Iterable[Crash],
    record: Path | None = None,
    watch: Watch | None = None,
) -> None:
    """Begin to count, and do what is planned for this role.

    Args:
        role: coordinator, agent or worker.
        record: where to say at the end how often it came to each point: see `tell_counts`.
        watch: told of each call.
    """
    _state.role, _state.record, _state.watch = role, record, watch
    _state.counts.clear()
    _state.planned = {}
    for crash in crashes:
        _state.planned.setdefault(crash.point, []).append(crash)


def tell_counts() -> None:
    """Write down how often each point was come to."""
    if _state.record is not None:
        _state.record.write_text(json.dumps(_state.counts))


class _Finder:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        file = name.replace(".", "/") + ".py"
        if file not in files():
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = _Loader(name, str(HOUSE / file))
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text(encoding="utf-8")
        where = {site.key: site.name for site in sites(_relative(self.path)) if not site.shared}
        tree = _Through(where).visit(ast.parse(source))
        code: CodeType = compile(ast.fix_missing_locations(tree), self.path, "exec")
        return code


class _Through(ast.NodeTransformer):
    """`f(x)` becomes `__crash_point__("...", f, x)` where it is a site."""

    def __init__(self, where: dict[tuple[int, int, int, int], str]) -> None:
        self._where = where

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = self._where.get(key(node))
        self.generic_visit(node)
        if name is None:
            return node
        args = [ast.Constant(name), node.func, *node.args]
        return ast.copy_location(ast.Call(ast.Name(NAME, ast.Load()), args, node.keywords), node)


def _io(name: str, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    if not _state.role:
        return call(*args, **named)
    point = _point(_sites[name], args)
    with _state.lock:
        _state.counts[point] += 1
        hit = _state.counts[point]
    moment = ""
    for crash in _state.planned.get(point, ()):
        if crash.moment == "omitted":
            return True
        if crash.hit == hit:
            moment = crash.moment
    if moment == "before":
        die()
    if _state.watch is not None:
        _state.watch.before(call, args)
    match moment:
        case "torn":
            _write_half(call, *args)
            die()
        case "full" | "broken":
            raise _failure(name, moment)
    result = call(*args, **named)
    if _state.watch is not None:
        _state.watch.after(call, args)
    if moment == "sent":
        time.sleep(SENT_S)
    if moment:
        die()
    return result


def die() -> None:
    """As if the power went, for this process."""
    if _state.watch is not None:
        _state.watch.killed()
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # another thread's signal may take a moment to reach this one


def _write_half(write: Callable[..., Any], data: Any) -> None:
    view = data if isinstance(data, str) else memoryview(data).cast("B")
    write(view[: len(view) // 2])
    write.__self__.flush()  # type: ignore[attr-defined]


def _failure(name: str, how: str) -> Exception:
    full = how == "full"
    if "execute" in _sites[name].does:
        error = sqlite3.OperationalError("it does not work")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_CANTOPEN
        return error
    code = errno.ENOSPC if full else errno.EIO
    return OSError(code, os.strerror(code))


def _point(site: Site, args: tuple[Any, ...]) -> str:
    """The point that this call is, by what leads to it or what it carries."""
    place = site.name.partition(":")[0]
    if site.does == "publish" and place in SENT:
        from federation.messages import decode  # noqa: PLC0415 - only once it goes through here

        return sending(site.name, _state.role, type(decode(args[0].payload)).__name__)
    if site.file in SHARED and not site.on_error:
        return point_within(site, _caller())
    if site.file.startswith("federation/"):
        return of_role(site, _state.role)
    return site.name


def _caller() -> str:
    """The call, outside of what all share, that is being carried out."""
    frame = sys._getframe(3)
    while frame is not None:
        for site in _shared_calls.get(frame.f_code.co_filename, ()):
            if site.where[0] <= frame.f_lineno <= site.where[1]:
                return site.name
        frame = frame.f_back  # type: ignore[assignment]
    return "?"


def _relative(path: str) -> str:
    return str(Path(path).relative_to(HOUSE))
