"""Installing, renewing and taking off, on real machines.

Run by `make test-systemd`, as root.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.systemd_container import Container
from tests.systemd_machines import (
    AGENTS,
    BROKER,
    COORDINATOR,
    FLOCKWISE,
    GATEWAY,
    INSTALL_S,
    ONE,
    TWO,
    VERSION,
    altered_wheel,
    container,
    figure,
    given,
    install,
    install_gateway,
    kept,
    prepared,
    running,
    wheel,
)
from tests.systemd_service import Service

pytestmark = pytest.mark.timeout(3600)
ALL = (*GATEWAY, *AGENTS)
UNAVAILABLE, USAGE, PORT_TAKEN, CONFIG = 69, 64, 74, 78


@pytest.fixture
def machine() -> Iterator[Container]:
    with running("installing", ALL) as machine:
        yield machine


def test_the_distributions_broker_is_told_of_and_left_alone() -> None:
    with container("fresh", prepared().layers) as machine:
        machine.boot()
        before = _files_of(machine)
        settings = ("--broker-config", f"{given()}/broker.toml")
        refused = _flockwise(machine, "gateway", "install", *settings, program=FLOCKWISE)
        assert refused.returncode == PORT_TAKEN
        assert "systemctl disable --now mosquitto.service" in refused.stderr
        assert _files_of(machine) == before


def test_a_dry_run_shows_all_and_changes_nothing() -> None:
    with container("fresh", prepared().layers) as machine:
        machine.boot()
        before = _files_of(machine)
        shown = _flockwise(
            machine,
            *("agent", "install", "--dry-run", "--config", f"{given()}/one.toml"),
            program=FLOCKWISE,
        )
        assert shown.returncode == 0
        assert "would write /etc/systemd/system/flockwise-agent.service" in shown.stdout
        assert "DynamicUser=yes" in shown.stdout
        assert _files_of(machine) == before


def test_a_bad_configuration_installs_nothing() -> None:
    with container("fresh", prepared().layers) as machine:
        machine.boot()
        machine.path("/root/agent.toml").write_text('device = "NO"\n')
        before = _files_of(machine)
        words = ("agent", "install", "--config", "/root/agent.toml")
        refused = _flockwise(machine, *words, program=FLOCKWISE)
        assert refused.returncode == CONFIG
        assert "device is 'NO'" in refused.stderr
        assert _files_of(machine) == before


def test_installing_again_changes_nothing(machine: Container) -> None:
    before = {unit: Service(machine, unit).pid for unit in ALL}
    said = install_gateway(machine)
    assert "nothing was changed" in said
    said = install(machine, "agent", "--name", "one", "--config", f"{given()}/one.toml")
    assert "nothing was changed" in said
    assert {unit: Service(machine, unit).pid for unit in ALL} == before


def test_an_upgrade_keeps_state_and_goes_on(machine: Container) -> None:
    Service(machine, COORDINATOR).wait_for_more("version made", 2)
    before = kept(machine)
    begun_s = time.monotonic()
    _flockwise(machine, "gateway", "upgrade", "--from", str(altered_wheel("0.1.1")), check=True)
    figure(f"upgrade: {time.monotonic() - begun_s:.1f} s")
    assert machine.say("flockwise", "--version") == "flockwise 0.1.1"
    assert [Service(machine, unit).state for unit in ALL] == ["active"] * len(ALL)
    Service(machine, COORDINATOR).wait_for_more("version made", 2)
    after = kept(machine)
    assert (after.ledger, after.outbox) == (before.ledger, before.outbox)
    assert after.version > before.version
    assert after.next_sequence > before.next_sequence
    assert len(list(machine.path("/opt/flockwise").glob("environment-*"))) <= 2


def test_an_upgrade_to_what_is_there_changes_nothing(machine: Container) -> None:
    before = {unit: Service(machine, unit).pid for unit in ALL}
    done = _flockwise(machine, "agent", "upgrade", "--from", str(wheel()), check=True)
    assert "kept environment" in done.stdout
    assert {unit: Service(machine, unit).pid for unit in ALL} == before


def test_an_upgrade_that_cannot_be_had_touches_nothing(machine: Container) -> None:
    def need_what_is_nowhere(source: Path) -> None:
        setup = source / "setup.cfg"
        text = setup.read_text()
        setup.write_text(
            text.replace("    msgpack", "    flockwise-needs-nothing-of-this-name\n    msgpack")
        )

    before = {unit: Service(machine, unit).pid for unit in ALL}
    broken = altered_wheel("0.2.0", need_what_is_nowhere)
    refused = _flockwise(machine, "agent", "upgrade", "--from", str(broken))
    assert refused.returncode == UNAVAILABLE
    assert "flockwise-needs-nothing-of-this-name" in refused.stderr
    assert {unit: Service(machine, unit).pid for unit in ALL} == before
    assert len(list(machine.path("/opt/flockwise").glob("environment-*"))) == 1


def _ends_at_once(source: Path) -> None:
    (source / "federation/shell.py").write_text("raise RuntimeError('this version is broken')\n")


def _is_never_ready(source: Path) -> None:
    shell = source / "federation/shell.py"
    text = shell.read_text()
    assert "self._watch.begin()" in text
    shell.write_text(text.replace("self._watch.begin()", "time.sleep(100_000)"))


def _dies_after_it_was_ready(source: Path) -> None:
    shell = source / "federation/shell.py"
    text = shell.read_text()
    shell.write_text(
        text.replace(
            "self._watch.begin()", "self._watch.begin(); time.sleep(2); raise RuntimeError('later')"
        )
    )


@pytest.mark.parametrize("breaking", [_ends_at_once, _is_never_ready, _dies_after_it_was_ready])
def test_a_failed_upgrade_goes_back_by_itself(
    machine: Container, breaking: Callable[[Path], None]
) -> None:
    for unit in (COORDINATOR, *AGENTS):
        Service(machine, unit).configure("[Service]\nTimeoutStartSec=30\n")
    Service(machine, COORDINATOR).wait_for_more("version made", 2)
    before = kept(machine)
    broken = altered_wheel(f"0.3.{len(breaking.__name__)}", breaking)
    begun_s = time.monotonic()
    failed = _flockwise(machine, "gateway", "upgrade", "--from", str(broken))
    figure(f"failed upgrade ({breaking.__name__[1:]}): {time.monotonic() - begun_s:.1f} s")
    assert failed.returncode == UNAVAILABLE
    assert f"flockwise {VERSION} is back and runs" in failed.stderr
    assert machine.say("flockwise", "--version") == f"flockwise {VERSION}"
    assert [Service(machine, unit).state for unit in ALL] == ["active"] * len(ALL)
    assert len(list(machine.path("/opt/flockwise").glob("environment-*"))) == 1
    Service(machine, COORDINATOR).wait_for_more("version made", 2)
    after = kept(machine)
    assert (after.ledger, after.outbox) == (before.ledger, before.outbox)
    assert after.version > before.version


def test_one_of_several_agents_is_taken_off_and_comes_back_as_itself(machine: Container) -> None:
    before, other = kept(machine), Service(machine, TWO).pid
    _flockwise(machine, "agent", "uninstall", "--name", "one", check=True)
    assert Service(machine, ONE).state == "inactive"
    assert Service(machine, ONE).shown("UnitFileState") in ("", "disabled")
    assert Service(machine, TWO).pid == other
    install(machine, "agent", "--name", "one", "--config", f"{given()}/one.toml")
    Service(machine, COORDINATOR).wait_for_more("version made", 2)
    assert kept(machine).outbox == before.outbox


def test_uninstalling_with_purge_leaves_nothing(machine: Container) -> None:
    with container("fresh", prepared().layers) as fresh:
        fresh.boot()
        fresh.run("systemctl", "disable", "--now", "mosquitto.service")
        before = _files_of(fresh)
    for name in ("one", "two", "slow"):
        _flockwise(machine, "agent", "uninstall", "--name", name, "--purge", check=True)
    assert Service(machine, BROKER).state == "active"
    _flockwise(machine, "gateway", "uninstall", "--purge", check=True)
    left = sorted(_files_of(machine) - before)
    assert [path for path in left if "flockwise" in path] == []
    assert [path for path in left if not path.startswith(_SYSTEMDS)] == []
    for listed in (("list-units", "--all"), ("list-unit-files",)):
        # Where nothing is listed, it may fail.
        known = machine.run("systemctl", *listed, "--no-legend", "flockwise*", check=False)
        assert known.stdout == ""


def test_uninstalling_without_purge_keeps_settings_and_state(machine: Container) -> None:
    before = kept(machine)
    for name in ("one", "two", "slow"):
        _flockwise(machine, "agent", "uninstall", "--name", name, check=True)
    _flockwise(machine, "gateway", "uninstall", check=True)
    assert not machine.path("/opt/flockwise").exists()
    assert machine.path("/etc/flockwise/agent-one.toml").exists()
    after = kept(machine)
    assert (after.ledger, after.outbox) == (before.ledger, before.outbox)
    assert after.version >= before.version


# What systemd keeps for itself, of this boot or of any service, and its journal.
_SYSTEMDS = (
    *("/run/log/journal/", "/run/private", "/run/systemd/", "/var/lib/systemd/"),
    *("/tmp/systemd-private-", "/var/log/journal/", "/var/tmp/systemd-private-"),
)
_LIST = """
import json, os
found = []
for path, folders, names in os.walk("/"):
    if path == "/":
        folders[:] = [name for name in folders if name not in ("proc", "sys", "dev")]
    found += [os.path.join(path, name) for name in (*folders, *names)]
print(json.dumps(found))
"""


def _files_of(machine: Container) -> set[str]:
    """All files and directories, but for what the kernel shows and what Python compiles."""
    found: list[str] = json.loads(machine.say("python3", "-c", _LIST))
    return {path for path in found if "/__pycache__" not in path}


def _flockwise(
    machine: Container, *words: str, check: bool = False, program: str = "flockwise"
) -> subprocess.CompletedProcess[str]:
    return machine.run(program, *words, check=check, timeout_s=INSTALL_S)
