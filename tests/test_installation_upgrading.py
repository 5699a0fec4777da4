"""Upgrades: the new beside the old, and back again where a service does not become ready."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.failures import ExitCode, Failure
from installation.commands import install, renew
from installation.machine import Machine
from installation.places import CURRENT
from tests.fake_machine import FakePrograms, fake_machine, make_wheel, tree


class Device:
    """A device with an agent of version 1.0 on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.machine: Machine
        self.programs: FakePrograms
        self.machine, self.programs = fake_machine(self.root)
        self.config = directory / "agent.toml"
        (directory / "chunk.npz").write_bytes(b"images")
        self.config.write_text(f'device = "camera-7"\nchunk = "{directory}/chunk.npz"\n')
        wheel = make_wheel(directory, "1.0", "one")
        install("agent", ["--config", str(self.config), "--from", str(wheel)], self.machine)

    def upgrade(self, version: str, content: str) -> int:
        wheel = make_wheel(self.directory / version, version, content)
        return renew("agent", ["--from", str(wheel)], self.machine)

    @property
    def current(self) -> str:
        return str((self.root / CURRENT.lstrip("/")).readlink())

    @property
    def environments(self) -> list[str]:
        return sorted(path.name for path in (self.root / "opt/flockwise").glob("environment-*"))


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_an_upgrade_switches_and_restarts(device: Device) -> None:
    assert device.upgrade("2.0", "two") == ExitCode.OK
    assert device.current == "/opt/flockwise/environment-2"
    assert ("systemctl", "restart", "flockwise-agent.service") in device.programs.ran
    assert device.programs.active == {"flockwise-agent.service"}


def test_an_upgrade_installs_for_the_same_roles(device: Device) -> None:
    device.upgrade("2.0", "two")
    installs = [argv[-1] for argv in device.programs.ran if "install" in argv]
    assert installs[-1].endswith("environment-2/wheel/flockwise-2.0-py3-none-any.whl[agent]")


def test_one_older_environment_is_kept(device: Device) -> None:
    device.upgrade("2.0", "two")
    assert device.environments == ["environment-1", "environment-2"]
    device.upgrade("3.0", "three")
    assert device.environments == ["environment-2", "environment-3"]


def test_an_upgrade_to_the_same_changes_nothing(
    device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(device.root)
    assert device.upgrade("1.0", "one") == ExitCode.OK
    assert tree(device.root) == before
    assert "kept environment /opt/flockwise/environment-1" in capsys.readouterr().out


def test_a_version_that_does_not_become_ready_is_taken_back(
    device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(device.root)
    device.programs.broken_since = 2
    with pytest.raises(Failure) as caught:
        device.upgrade("2.0", "two")
    assert caught.value.code is ExitCode.UNAVAILABLE
    assert caught.value.message == (
        "flockwise 2.0 did not become ready, so flockwise 1.0 is back and runs"
    )
    assert tree(device.root) == before
    assert device.programs.active == {"flockwise-agent.service"}
    assert "going back to flockwise 1.0: flockwise-agent.service" in capsys.readouterr().out


def test_a_version_that_is_ready_and_then_falls_is_taken_back(device: Device) -> None:
    falls = iter([None, None])

    def wait(_: float) -> None:
        if next(falls, "later") == "later":
            device.programs.active.clear()

    machine = Machine(device.root, device.programs, 252, encrypts=True, sleep=wait)
    wheel = make_wheel(device.directory / "2.0", "2.0", "two")
    with pytest.raises(Failure, match=r"flockwise 1\.0 is back and runs"):
        renew("agent", ["--from", str(wheel)], machine)
    assert device.current == "/opt/flockwise/environment-1"
    assert device.environments == ["environment-1"]


def test_a_pip_that_fails_leaves_the_services_alone(device: Device) -> None:
    before = tree(device.root)
    device.programs.failing["pip install"] = "ERROR: no space left"
    device.programs.ran.clear()
    with pytest.raises(Failure, match="pip install failed: ERROR: no space left"):
        device.upgrade("2.0", "two")
    assert tree(device.root) == before
    assert not any(argv[:2] == ("systemctl", "restart") for argv in device.programs.ran)


def test_what_somebody_has_stopped_stays_so(device: Device) -> None:
    device.programs.active.clear()
    assert device.upgrade("2.0", "two") == ExitCode.OK
    assert device.programs.active == set()
    assert device.current == "/opt/flockwise/environment-2"


def test_settings_and_state_are_not_touched(device: Device) -> None:
    kept = {
        path: content
        for path, content in tree(device.root).items()
        if path.startswith(("etc/flockwise", "var/"))
    }
    device.upgrade("2.0", "two")
    after = tree(device.root)
    assert {path: after[path] for path in kept} == kept


def test_an_environment_that_was_not_finished_makes_room(device: Device) -> None:
    left = device.root / "opt/flockwise/environment-2/lib"
    left.mkdir(parents=True)
    device.upgrade("2.0", "two")
    assert device.current == "/opt/flockwise/environment-2"
    assert not left.exists()


def test_where_nothing_is_installed_there_is_nothing_to_upgrade(tmp_path: Path) -> None:
    machine, _ = fake_machine(tmp_path)
    with pytest.raises(Failure, match="use install instead") as caught:
        renew("agent", [], machine)
    assert caught.value.code is ExitCode.UNAVAILABLE
