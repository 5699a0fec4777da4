"""Every place where a role does I/O, read from the source, so that a new one cannot be forgotten.

A site is a call in the source that changes a disk or sends something. A point is a site together
with what leads to it: for what all share (`federation/files.py`, `federation/database.py`) the call
elsewhere that is being carried out; for what is published the kind of message. Whatever bears the
name of an I/O function of the standard library must be decided on in `tests/crash_tables.py`.
"""

from __future__ import annotations

import ast
import fcntl
import io
import mmap
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.crash_tables import OURS, PRIMITIVES, READS, SENT

HOUSE = Path(__file__).parents[1]
ROOMS = ("federation", "coordinator", "device_agent")
WORKER = ("learning/jobs.py", "learning/checkpoint.py")
DOUBLES = ("federation/loopback.py", "federation/virtual_time.py")  # no role runs on these
SHARED = ("federation/files.py", "federation/database.py")


@dataclass(frozen=True, slots=True)
class Site:
    """One call in the source.

    Attributes:
        name: file, function and call: `coordinator/spool.py Spool.drop: self.path(id).unlink`.
        does: last word of the call.
        where: first and last line.
        on_error: whether it stands in the handler of an exception.
        shared: the name of a function of `SHARED` that it calls, if it does.
    """

    file: str
    function: str
    name: str
    does: str
    where: tuple[int, int]
    key: tuple[int, int, int, int]
    on_error: bool = False
    shared: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A place where a process can be killed; `name` is unique."""

    name: str
    role: str
    does: str

    @property
    def moments(self) -> tuple[str, ...]:
        """When to kill: `torn` is half way through a write, `sent` when a message is on its way."""
        if self.does == "write":
            return "before", "torn", "after"
        if self.does in ("publish", "subscribe"):
            return "before", "after", "sent"
        return "before", "after"


def files() -> tuple[str, ...]:
    """The source files that are read, relative to the repository."""
    found = [f"{room}/{path.name}" for room in ROOMS for path in (HOUSE / room).glob("*.py")]
    return tuple(sorted({*found, *WORKER} - set(DOUBLES)))


def points() -> tuple[Point, ...]:
    """All points of all roles."""
    found: list[Point] = []
    for file in files():
        for site in sites(file):
            if file in SHARED:
                continue
            if site.shared:
                inner = _inside(site.shared)
                found += [Point(within(i, site.name), _role(file), i.does) for i in inner]
            else:
                found += _points_of(site)
    for file in SHARED:  # what undoes is the same whatever it undoes
        for site in sites(file):
            if site.on_error and not site.shared:
                roles = ("coordinator", "agent", *(["worker"] if file == SHARED[0] else []))
                found += [Point(of_role(site, role), role, site.does) for role in roles]
    return tuple(sorted(set(found)))


def unknown() -> list[str]:
    """Calls that bear the name of an I/O function and that no table knows."""
    known = PRIMITIVES | READS
    return [
        f"{file}:{call.lineno} {ast.unparse(call.func)}"
        for file in files()
        for call, name in _calls(file)
        if name in _io_names() and name not in known and ast.unparse(call.func) not in OURS
    ]


@cache
def sites(file: str) -> tuple[Site, ...]:
    """The sites of one file, in order."""
    found: list[Site] = []
    shared = _shared_functions()
    for call, name in _calls(file):
        text = ast.unparse(call.func)
        calls_shared = text if text in shared else ""
        if not calls_shared and not (name in PRIMITIVES and text not in OURS and _acts(call, name)):
            continue
        function, on_error = _surroundings(file)[id(call)]
        on_error = on_error or function in _called_on_error(file)
        label = f"{file} {function}: {text}{_told_by(call, name)}"
        again = sum(site.name.partition(" #")[0] == label for site in found)
        label += f" #{again + 1}" if again else ""
        end = call.end_lineno or call.lineno
        found.append(
            Site(file, function, label, name, (call.lineno, end), key(call), on_error, calls_shared)
        )
    return tuple(found)


def key(call: ast.Call) -> tuple[int, int, int, int]:
    """Where a call stands: no other one stands there."""
    return call.lineno, call.col_offset, call.end_lineno or 0, call.end_col_offset or 0


def within(inner: Site, outer: str) -> str:
    """The name of a point in what all share, on the way from a call elsewhere."""
    return f"{outer} > {inner.name}"


def of_role(site: Site, role: str) -> str:
    """The name of a point that several roles have."""
    return f"{role} > {site.name}"


def sending(site: str, role: str, kind: str) -> str:
    """The name of a point where a kind of message is published."""
    return f"{role} {kind} > {site}"


@cache
def tree(file: str) -> ast.Module:
    """The source of a file; always the same object."""
    return ast.parse((HOUSE / file).read_text(encoding="utf-8"))


def _points_of(site: Site) -> Iterator[Point]:
    place = site.name.partition(":")[0]
    role = _role(site.file)
    roles = (role,) if role else ("coordinator", "agent")
    for one in roles:
        if site.does == "publish" and place in SENT:
            kinds: dict[str, tuple[str, ...]] = SENT[place]
            for kind in kinds.get(one, ()):
                yield Point(sending(site.name, one, kind), one, site.does)
        else:
            yield Point(site.name if role else of_role(site, one), one, site.does)


def _role(file: str) -> str:
    rooms = {"coordinator": "coordinator", "device_agent": "agent", "learning": "worker"}
    return rooms.get(file.partition("/")[0], "")


def _inside(function: str) -> tuple[Site, ...]:
    """The sites of `SHARED` that a call of this function of theirs comes to, if all goes well."""
    found: list[Site] = []
    for file in SHARED:
        for site in sites(file):
            if site.function.partition(".")[0] != function or site.on_error:
                continue
            found += _inside(site.shared) if site.shared else [site]
    return tuple(found)


@cache
def _shared_functions() -> frozenset[str]:
    return frozenset(
        node.name
        for file in SHARED
        for node in tree(file).body
        if isinstance(node, ast.FunctionDef) and _has_io(node)
    )


def _has_io(function: ast.FunctionDef) -> bool:
    named = (_name(n) for n in ast.walk(function) if isinstance(n, ast.Call))
    return any(n in PRIMITIVES or n in ("write_file", "_prepare") for n in named)


@cache
def _io_names() -> frozenset[str]:
    """The names of all functions of the standard library (and numpy) that do I/O, or could."""
    modules = (os, shutil, sqlite3, tempfile, fcntl)
    kinds = (Path, mmap.mmap, io.BufferedRandom, io.TextIOWrapper)
    sources = (*modules, *kinds, sqlite3.Connection, sqlite3.Cursor)
    found = {n for s in sources for n in dir(s) if n[0] != "_" and callable(getattr(s, n))}
    found |= {"save", "savez", "savez_compressed", "savetxt", "save_file", "tofile", "memmap"}
    return frozenset(found | PRIMITIVES | READS | {"dump", "send", "sendall", "sendto"})


@cache
def _calls(file: str) -> tuple[tuple[ast.Call, str], ...]:
    """All calls of a file with the name of what is called, whatever it was imported as."""
    nodes = list(ast.walk(tree(file)))
    imported = {
        alias.asname: alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    calls = sorted((n for n in nodes if isinstance(n, ast.Call)), key=key)
    return tuple((call, imported.get(_name(call), _name(call))) for call in calls)


def _name(call: ast.Call) -> str:
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def _acts(call: ast.Call, name: str) -> bool:
    """Whether this call of such a name changes anything."""
    match name:
        case "replace":
            return len(call.args) == 1  # with two it is that of a string
        case "open" if ast.unparse(call.func) == "os.open":
            return "O_RDONLY" not in ast.unparse(call.args[1])
        case "open":
            modes = [a.value for a in call.args if isinstance(a, ast.Constant)]
            return any(set(str(mode)) & set("wax+") for mode in modes)
        case "execute":
            return not _told_by(call, name).startswith(("(SELECT", "(PRAGMA user_version"))
    return True


def _told_by(call: ast.Call, name: str) -> str:
    """The first words of a statement of SQL."""
    if name != "execute":
        return ""
    text = call.args[0]
    if isinstance(text, ast.Name):
        return f"({_constant(text.id, call)})"
    return f"({' '.join(str(getattr(text, 'value', '?')).split()[:3])})"


def _constant(name: str, call: ast.Call) -> str:
    for file in files():
        if any(call is one for one, _ in _calls(file)):
            values = [
                node.value.value
                for node in ast.walk(tree(file))
                if isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == name
                and isinstance(node.value, ast.Constant)
            ]
            if values and all(str(value).lstrip().startswith("SELECT") for value in values):
                return "SELECT"
    return "?"


@cache
def _called_on_error(file: str) -> frozenset[str]:
    """The functions of a file that only handlers call."""
    when: dict[str, set[bool]] = {}
    for call, name in _calls(file):
        when.setdefault(name, set()).add(_surroundings(file)[id(call)][1])
    return frozenset(name for name, found in when.items() if found == {True})


@cache
def _surroundings(file: str) -> dict[int, tuple[str, bool]]:
    """For each call the function that it stands in, and whether it is in a handler."""
    found: dict[int, tuple[str, bool]] = {}

    def walk(node: ast.AST, names: tuple[str, ...], on_error: bool) -> None:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names, on_error = (*names, node.name), False
        if isinstance(node, ast.ExceptHandler):
            on_error = True
        if isinstance(node, ast.Call):
            found[id(node)] = (".".join(names), on_error)
        for child in ast.iter_child_nodes(node):
            walk(child, names, on_error)

    walk(tree(file), (), False)
    return found
