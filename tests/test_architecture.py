"""The house's lines: who may import whom, and how large a room's module may grow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent
ROOMS: dict[str, set[str]] = {
    "config": set(),
    "federation": {"config"},
    "learning": {"config", "federation"},
    "broker": {"config", "federation"},
    "coordinator": {"config", "federation", "learning"},
    "device_agent": {"config", "federation", "learning"},
    "installation": {"config", "broker"},
    "experiments": {
        "config",
        "federation",
        "learning",
        "broker",
        "coordinator",
        "device_agent",
    },
    "flockwise": {"config"},
}
ONLY_IN = {
    "paho": {"federation/paho_connection.py"},
    "wandb": {"coordinator/wandb_sink.py", "experiments/sweep/online.py"},
    "logging_journald": {"config/logs.py"},
    # The writer of TensorBoard's files is torch's; it is loaded where somebody asked for it.
    "torch": {"learning/", "coordinator/tensorboard_sink.py"},
    "torchvision": {"learning/"},
    "amqtt": {"broker/"},
    "rich": {"experiments/"},
    "safetensors": {"coordinator/versions.py"},
}
LIGHT = ("learning/process.py", "device_agent/", "installation/", "config/", "federation/shell.py")
HEAVY = {"torch", "torchvision", "wandb", "rich", "amqtt", "PIL", "safetensors"}
LONGEST_MODULE = 300


def modules(house: Path = HOUSE) -> list[str]:
    found = [house / "flockwise.py"]
    for room in ROOMS:
        found += sorted((house / room).rglob("*.py"))
    return [str(path.relative_to(house)) for path in found]


def imports(source: str) -> Iterator[str]:
    """The first name of each module that the source imports, wherever it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which way they go"
            yield (node.module or "").partition(".")[0]


def faults(module: str, source: str) -> list[str]:
    """What in this module crosses the lines."""
    room = module.partition("/")[0].removesuffix(".py")
    found = []
    for name in imports(source):
        if name in ROOMS and name != room and name not in ROOMS[room]:
            found.append(f"{module}: {room} must not import {name}")
        homes = ONLY_IN.get(name)
        if homes and not any(module.startswith(home) for home in homes):
            found.append(f"{module}: {name} is imported only in {', '.join(homes)}")
        if name in HEAVY and module.startswith(LIGHT):
            found.append(f"{module}: a waiting agent does not load {name}")
    return found


@pytest.mark.parametrize("module", modules())
def test_imports_go_one_way(module: str) -> None:
    assert faults(module, (HOUSE / module).read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("config/planted.py", "from federation.topics import Topics"),
        ("federation/planted.py", "import learning.models"),
        ("learning/planted.py", "def f():\n    import coordinator.core"),
        ("coordinator/planted.py", "from device_agent.core import AgentCore"),
        ("device_agent/planted.py", "import coordinator"),
        ("broker/planted.py", "import experiments.demo"),
        ("coordinator/planted.py", "import torch"),
        ("federation/planted.py", "import paho.mqtt.client"),
        ("learning/planted.py", "import wandb"),
        ("coordinator/wandb_rows.py", "import wandb"),
        ("learning/process.py", "import torch"),
    ],
)
def test_a_planted_import_is_found(module: str, source: str) -> None:
    assert faults(module, source)


@pytest.mark.parametrize("module", modules())
def test_a_long_module_says_why_in_its_first_lines(module: str) -> None:
    lines = (HOUSE / module).read_text().splitlines()
    if len(lines) > LONGEST_MODULE:
        assert "long because" in " ".join(lines[:15]), f"{module} has {len(lines)} lines"


@pytest.mark.parametrize("module", modules())
def test_a_module_opens_with_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(ast.parse((HOUSE / module).read_text()))
