"""The units: their text, and what systemd itself says of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from config.catalogue import catalogue
from installation.configuration import SETTINGS
from installation.places import PROGRAM
from installation.units import UnitSpec, read_spec, remake, unit_files

AGENT = UnitSpec("agent", None, "60%", 252, credentials=("ca", "cert"), encrypted=("key",))
SPECS = {
    "agent": AGENT,
    "agent by name": UnitSpec("agent", "front", "60%", 252),
    "coordinator": UnitSpec("coordinator", None, "60%", 252, has_data=True),
    "mosquitto": UnitSpec(
        "broker", None, "25%", 252, mosquitto="/usr/sbin/mosquitto", notifies=True
    ),
    "embedded broker": UnitSpec("broker", None, "25%", 252),
}
GREATEST_EXPOSURE = 1.5


def whole(spec: UnitSpec) -> str:
    return "\n".join(unit_files(spec).values())


@pytest.fixture
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    version = re.match(r"systemd (\d+)", told.stdout)
    if version is None or int(version[1]) < 250:
        pytest.skip("systemd-analyze is too old for --offline")
    return program


def write(spec: UnitSpec, directory: Path) -> Path:
    """Write the files of a unit with programs that are there; the one to analyze."""
    for path, text in unit_files(spec).items():
        file = directory / path.removeprefix("/etc/systemd/system/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(re.sub(f"{PROGRAM}|/usr/sbin/mosquitto", "/bin/true", text))
    return directory / (spec.service.unit if spec.name is None else spec.service.base_unit)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_systemd_finds_no_fault_in_a_unit(spec: UnitSpec, tmp_path: Path, analyze: str) -> None:
    unit = write(spec, tmp_path)
    told = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in told.stderr.splitlines() if "flockwise" in line]
    assert (told.returncode, ours) == (0, [])


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_unit_exposes_little(spec: UnitSpec, tmp_path: Path, analyze: str) -> None:
    unit = write(spec, tmp_path)
    threshold = f"--threshold={int(GREATEST_EXPOSURE * 10)}"
    told = subprocess.run(
        [analyze, "security", "--no-pager", "--offline=true", threshold, str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    figure = re.search(r"exposure level for \S+: ([\d.]+)", told.stdout)
    assert figure is not None, told.stderr
    assert float(figure[1]) <= GREATEST_EXPOSURE
    assert told.returncode == 0


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_service_has_no_capability_and_a_user_of_its_own(spec: UnitSpec) -> None:
    lines = whole(spec).splitlines()
    for line in ("CapabilityBoundingSet=", "DynamicUser=yes", "ProtectSystem=strict"):
        assert line in lines


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_what_a_restart_does_not_mend_is_not_restarted(spec: UnitSpec) -> None:
    assert "\nRestartPreventExitStatus=64 66 78 79\n" in whole(spec)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_unit_says_what_it_is_made_from(spec: UnitSpec) -> None:
    texts = list(unit_files(spec).values())
    assert [found for text in texts if (found := read_spec(text))] == [spec]
    assert remake(texts) == unit_files(spec)


def test_a_unit_of_a_later_version_is_read_as_far_as_it_is_understood() -> None:
    told = {"role": "agent", "name": None, "memory_max": "1G", "systemd": 260, "colour": "blue"}
    assert read_spec(f"# flockwise: {json.dumps(told)}\n[Unit]") == UnitSpec(
        "agent", None, "1G", 260
    )


def test_a_unit_of_somebody_else_is_not_remade() -> None:
    assert remake(["[Unit]\nDescription=mine\n"]) == {}


def test_units_are_remade_by_the_version_that_is_called() -> None:
    texts = list(unit_files(AGENT).values())
    made = subprocess.run(
        [sys.executable, "-m", "installation.units"],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    assert json.loads(made.stdout) == unit_files(AGENT)


@pytest.mark.parametrize("role", ["agent", "coordinator"])
def test_systemd_waits_for_a_role_and_watches_it(role: str) -> None:
    old = whole(UnitSpec("agent" if role == "agent" else "coordinator", None, "1G", 252))
    new = whole(UnitSpec("agent" if role == "agent" else "coordinator", None, "1G", 253))
    assert "\nType=notify\n" in old
    assert '\nExecReload=/bin/sh -c "kill -HUP ${MAINPID}"\n' in old
    assert "\nType=notify-reload\n" in new
    assert "ExecReload" not in new
    assert "\nWatchdogSec=60\n" in old


def test_the_wait_between_restarts_grows_where_systemd_knows_how() -> None:
    assert "RestartSteps" not in whole(AGENT)
    assert "\nRestartMaxDelaySec=300\n" in whole(UnitSpec("agent", None, "1G", 254))


def test_torch_may_make_machine_code_and_a_broker_may_not() -> None:
    assert "MemoryDenyWriteExecute" not in whole(AGENT)
    assert "\nMemoryDenyWriteExecute=yes\n" in whole(SPECS["mosquitto"])


def test_a_named_agent_has_files_of_its_own() -> None:
    files = unit_files(SPECS["agent by name"])
    base, own = files.values()
    assert list(files) == [
        "/etc/systemd/system/flockwise-agent@.service",
        "/etc/systemd/system/flockwise-agent@front.service.d/flockwise.conf",
    ]
    assert "--config /etc/flockwise/agent-%i.toml" in base
    assert "front" not in base
    assert "Environment=FLOCKWISE_CHUNK=%S/flockwise/agent-%i/chunk.npz" in own


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_unit_sets_variables_that_its_role_knows(spec: UnitSpec) -> None:
    known = {setting.variable for setting in catalogue(SETTINGS[spec.role]).settings}
    variables = set(re.findall(r"^Environment=(FLOCKWISE_\w+)=", whole(spec), re.MULTILINE))
    assert variables
    assert variables <= known
