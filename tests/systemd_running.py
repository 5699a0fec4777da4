"""Services as they run for years: ready, restarted when they die or hang, held in their sandbox.

Run by `make test-systemd`, as root.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.systemd_container import Container
from tests.systemd_machines import (
    AGENTS,
    BROKER,
    COORDINATOR,
    GATEWAY,
    ONE,
    SLOW,
    figure,
    running,
)
from tests.systemd_service import Service, wait_until

pytestmark = pytest.mark.timeout(3600)
ALL = (*GATEWAY, *AGENTS)


@pytest.fixture(scope="module")
def machine() -> Iterator[Container]:
    with running("running", ALL) as machine:
        yield machine


@pytest.fixture(autouse=True)
def _still_running(machine: Container) -> Iterator[None]:
    yield
    for unit in ALL:
        service = Service(machine, unit)
        if service.state == "failed":
            service.systemctl("restart")


@pytest.mark.parametrize("unit", ALL)
def test_a_service_is_active_and_was_started_by_the_boot(machine: Container, unit: str) -> None:
    service = Service(machine, unit)
    assert service.state == "active"
    assert service.shown("UnitFileState") == "enabled"
    assert service.restarts == 0


@pytest.mark.parametrize("unit", [COORDINATOR, *AGENTS])
def test_a_role_is_ready_when_it_says_so_and_tells_how_it_goes(
    machine: Container, unit: str
) -> None:
    service = Service(machine, unit)
    assert service.shown("Type") in ("notify", "notify-reload")
    assert service.shown("StatusText")
    assert service.shown("WatchdogUSec") not in ("0", "infinity")


def test_real_training_makes_versions(machine: Container) -> None:
    Service(machine, COORDINATOR).wait_for_more("version made", 3)


@pytest.mark.parametrize("unit", [BROKER, COORDINATOR, ONE])
def test_a_killed_service_comes_back_and_versions_go_on(machine: Container, unit: str) -> None:
    service = Service(machine, unit)
    pid = service.pid
    before = int(machine.say("date", "+%s%3N"))
    service.systemctl("kill", "--signal=KILL")
    service.wait_until_back(pid)
    figure(f"{unit} back after kill -9: {int(machine.say('date', '+%s%3N')) - before} ms")
    Service(machine, COORDINATOR).wait_for_more("version made", 2)


@pytest.mark.parametrize("unit", [COORDINATOR, ONE])
def test_a_hung_core_is_caught_by_the_watchdog(machine: Container, unit: str) -> None:
    service = Service(machine, unit)
    service.configure("[Service]\nWatchdogSec=3\n")
    service.systemctl("restart")
    pid = service.pid
    service.systemctl("kill", "--signal=STOP", "--kill-whom=main")
    service.wait_until_back(pid)
    reports = machine.say("journalctl", "--boot", f"UNIT={unit}", "--output=cat")
    assert "Watchdog timeout" in reports
    Service(machine, COORDINATOR).wait_for_more("version made", 2)


def test_a_long_epoch_does_not_trip_the_watchdog(machine: Container) -> None:
    service = Service(machine, SLOW)
    service.configure("[Service]\nWatchdogSec=3\n")
    service.systemctl("restart")
    pid = service.pid
    wait_until(lambda: bool(service.children), service.last_words)
    Service(machine, COORDINATOR).wait_for_more("version made", 2)
    machine.run("sleep", "10")
    assert service.children, "the epoch was not long enough to tell"
    assert service.pid == pid
    assert service.restarts == 0


@pytest.mark.parametrize("unit", [ONE, COORDINATOR])
def test_a_reload_takes_up_a_changed_setting(machine: Container, unit: str) -> None:
    service = Service(machine, unit)
    before, pid = service.settings.read_text(), service.pid
    assert not service.journal("PRIORITY=7")
    try:
        service.settings.write_text(f'log_level = "debug"\n{before}')
        service.systemctl("reload")
        wait_until(lambda: bool(service.journal("PRIORITY=7")), service.last_words)
    finally:
        service.settings.write_text(before)
        service.systemctl("reload")
    service.wait_until_active()
    assert service.pid == pid


@pytest.mark.parametrize("unit", [ONE, COORDINATOR])
def test_a_reload_with_bad_settings_leaves_the_service_as_it_was(
    machine: Container, unit: str
) -> None:
    service = Service(machine, unit)
    before, pid = service.settings.read_text(), service.pid
    try:
        service.settings.write_text(f'no_such_setting = "x"\n{before}')
        machine.run("systemctl", "reload", unit, check=False)
        wait_until(
            lambda: any("no_such_setting" in str(one["MESSAGE"]) for one in service.journal()),
            service.last_words,
        )
        service.wait_until_active()
        Service(machine, COORDINATOR).wait_for_more("version made", 2)
        assert service.pid == pid
    finally:
        service.settings.write_text(before)
        machine.run("systemctl", "reload", unit, check=False)


def test_bad_settings_end_a_service_for_good_and_say_why(machine: Container) -> None:
    service = Service(machine, ONE)
    before = service.settings.read_text()
    try:
        service.settings.write_text(before.replace("slowdown = 10", "slowdown = 0"))
        service.configure("[Service]\nRestartSec=100ms\n")
        machine.run("systemctl", "restart", ONE, check=False)
        wait_until(lambda: service.state == "failed", service.last_words)
        machine.run("sleep", "3")
        assert service.state == "failed"
        assert service.shown("ExecMainStatus") == "78"
        assert service.restarts == 0
        assert "slowdown is 0" in service.journal()[-1]["MESSAGE"]
    finally:
        service.settings.write_text(before)


@pytest.mark.parametrize("unit", ALL)
def test_a_service_has_no_capability_and_no_user_of_the_machine(
    machine: Container, unit: str
) -> None:
    status = machine.say("cat", f"/proc/{Service(machine, unit).pid}/status")
    fields = dict(_fields(status))
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    # The range that systemd takes users from that exist only while a service runs.
    assert 61184 <= int(fields["Uid"].split()[0]) <= 65519


@pytest.mark.parametrize("unit", ALL)
def test_a_service_can_write_to_its_own_directories_alone(machine: Container, unit: str) -> None:
    service = Service(machine, unit)
    writable = json.loads(machine.say("python3", "-c", _WRITABLE, str(service.pid)))
    own = tuple(f"{place}/private/flockwise/{service.word}" for place in ("/var/lib", "/run"))
    assert [path for path in writable if not path.startswith((*own, *_OF_ITS_OWN))] == []
    assert any(path.startswith(own[0]) for path in writable)


def test_the_journal_has_levels_and_facts_as_fields(machine: Container) -> None:
    entry = Service(machine, COORDINATOR).wait_for("version made")
    assert entry["PRIORITY"] == "6"
    assert entry["SYSLOG_IDENTIFIER"] == "flockwise"
    assert entry["FLOCKWISE_ROLE"] == "coordinator"
    assert int(entry["FLOCKWISE_VERSION"]) > 0
    by_device = machine.say("journalctl", "--boot", "FLOCKWISE_DEVICE=one", "--output=cat")
    assert by_device


# Private /tmp and shared memory, and the devices that everybody may write to.
_OF_ITS_OWN = ("/tmp", "/var/tmp", "/dev", "/proc")
# Every directory that the process could write to: as its user, in its mounts, with no capability.
_WRITABLE = """
import ctypes, json, os, sys
pid = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
uid = os.stat(f"/proc/{pid}").st_uid
space = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
if libc.setns(space, 0x20000):
    raise OSError(ctypes.get_errno(), "setns")
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
found = []
for path, folders, _ in os.walk("/"):
    if path == "/proc" or path == "/sys":
        folders.clear()
        continue
    if os.access(path, os.W_OK):
        found.append(path)
        folders.clear()
print(json.dumps(found))
"""


def _fields(status: str) -> Iterator[tuple[str, str]]:
    for line in status.splitlines():
        name, _, value = line.partition(":")
        yield name, value.strip()
