"""What services keep: through a stop in the middle of an epoch, a reboot, a loss of power, a time
without a broker.

Run by `make test-systemd`, as root.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import numpy as np
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
    kept,
    running,
)
from tests.systemd_service import Service, wait_until

pytestmark = pytest.mark.timeout(3600)
ALL = (*GATEWAY, *AGENTS)


@pytest.fixture(scope="module")
def machine() -> Iterator[Container]:
    with running("lasting", ALL) as machine:
        yield machine


def _lose_power(machine: Container) -> None:
    machine.cut_power()
    machine.boot()


@pytest.mark.parametrize("boot_again", [Container.reboot, _lose_power])
def test_a_boot_goes_on_where_it_was(
    machine: Container, boot_again: Callable[[Container], None]
) -> None:
    Service(machine, COORDINATOR).wait_for_more("version made", 3)
    before = kept(machine)
    begun_s = time.monotonic()
    boot_again(machine)
    for unit in ALL:
        Service(machine, unit).wait_until_active()
    figure(f"all {len(ALL)} services ready {time.monotonic() - begun_s:.1f} s after a boot began")
    Service(machine, COORDINATOR).wait_for("version made", 3)
    after = kept(machine)
    assert (after.ledger, after.outbox) == (before.ledger, before.outbox)
    assert after.version > before.version
    assert after.next_sequence > before.next_sequence
    assert not Service(machine, ONE).told("update refused")


def test_a_stop_in_the_middle_of_an_epoch_needs_no_force_and_loses_nothing(
    machine: Container,
) -> None:
    slow = Service(machine, SLOW)
    wait_until(lambda: bool(slow.children) and _trained_s(machine) > 0, slow.last_words)
    begun_s = time.monotonic()
    slow.systemctl("stop")
    took_s = time.monotonic() - begun_s
    figure(f"stop of an agent in the middle of an epoch: {took_s:.2f} s")
    assert slow.state == "inactive"
    assert slow.shown("Result") == "success", "else systemd had to kill it"
    trained_s = _trained_s(machine)
    # It goes on with what it had done, and now at full speed.
    slow.settings.write_text(slow.settings.read_text().replace("slowdown = 200", "slowdown = 1"))
    done = len(slow.told("update in outbox"))
    slow.systemctl("start")
    update = slow.wait_for("update in outbox", done + 1)
    slow.wait_for("update accepted", done + 1)
    assert float(update["FLOCKWISE_TRAIN_S"]) >= trained_s > 0


@pytest.mark.parametrize("unit", [ONE, COORDINATOR, BROKER])
def test_every_service_stops_without_force(machine: Container, unit: str) -> None:
    service = Service(machine, unit)
    begun_s = time.monotonic()
    service.systemctl("stop")
    took_s = time.monotonic() - begun_s
    figure(f"stop of {unit}: {took_s:.2f} s")
    state, result = service.state, service.shown("Result")
    service.systemctl("start")
    assert (state, result) == ("inactive", "success")


def test_a_device_is_ready_without_a_broker_and_says_so(machine: Container) -> None:
    broker, device = Service(machine, BROKER), Service(machine, ONE)
    broker.systemctl("stop")
    device.systemctl("restart")
    assert device.state == "active"
    wait_until(lambda: "no link" in device.shown("StatusText"), device.last_words)
    broker.systemctl("start")
    wait_until(lambda: "no link" not in device.shown("StatusText"), device.last_words)
    Service(machine, COORDINATOR).wait_for_more("version made", 2)


@pytest.mark.parametrize("role", ["agent", "coordinator"])
def test_status_is_told_while_a_service_runs_and_while_it_does_not(
    machine: Container, role: str
) -> None:
    service = Service(machine, ONE if role == "agent" else COORDINATOR)
    state = f"/var/lib/flockwise/{service.word}"
    words = ("flockwise", role, "status", "--state-dir", state, "--json")
    running_one = json.loads(machine.say(*words))
    service.systemctl("stop")
    stopped_one = json.loads(machine.run(*words, check=False).stdout)
    service.systemctl("start")
    assert running_one["running"] is True
    assert stopped_one["running"] is False


def _trained_s(machine: Container) -> float:
    """What the training under way of the slow device has on record; 0 if there is none."""
    file = machine.path("/var/lib/private/flockwise/agent-slow/model/training")
    try:
        with np.load(file, allow_pickle=False) as saved:
            return float(saved["spent_s"])
    except FileNotFoundError:
        return 0.0
