"""The text of the units: data in, text out.

What a unit is made from stands in its own first line, as JSON. So a later version of Flockwise can
make its text anew, without knowing how this one was asked to install it: `remake`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from installation import sandbox
from installation.places import (
    CONFIGURATION,
    CREDENTIALS,
    MOSQUITTO_CONFIGURATION,
    PROGRAM,
    UNITS,
    Role,
    Service,
)

MARK = "# flockwise: "
NOT_MENDED_BY_RESTART = "64 66 78 79"
_NOTIFY_RELOAD_SINCE = 253
# By the shell, as a small Debian has no program of that name.
_HANG_UP = '/bin/sh -c "kill -HUP ${MAINPID}"'
_GROWING_DELAY_SINCE = 254

_TITLES: Mapping[Role, str] = {
    "agent": "Flockwise agent",
    "coordinator": "Flockwise coordinator",
    "broker": "Flockwise broker",
}
# Loading torch from an SD card takes its time; an agent loads none before it is ready.
_START_S: Mapping[Role, int] = {"agent": 90, "coordinator": 300, "broker": 60}
_SHARES: Mapping[Role, str] = {
    # Whatever else the device does comes first.
    "agent": "CPUWeight=20\nNice=10\nIOSchedulingClass=best-effort\nIOSchedulingPriority=7\n",
    "coordinator": "CPUWeight=100\nNice=5\nIOSchedulingClass=best-effort\nIOSchedulingPriority=4\n",
    "broker": "CPUWeight=200\nNice=0\nIOSchedulingClass=best-effort\nIOSchedulingPriority=4\n",
}
_VARIABLES = {
    "ca": "FLOCKWISE_LINK__CA_FILE",
    "cert": "FLOCKWISE_LINK__CERT_FILE",
    "key": "FLOCKWISE_LINK__KEY_FILE",
    "password": "FLOCKWISE_LINK__PASSWORD_FILE",
}


@dataclass(frozen=True, slots=True)
class UnitSpec:
    """What the unit of a service is made from.

    Attributes:
        memory_max: of all its processes, as systemd spells it.
        systemd: version of the systemd that will read it.
        credentials: names of the plain ones: of ca, cert, key, password.
        encrypted: names of those that are encrypted.
        has_data: whether a coordinator has a test set.
        mosquitto: path of the program, where the broker is one.
        notifies: whether that program tells systemd when it is ready.
    """

    role: Role
    name: str | None
    memory_max: str
    systemd: int
    credentials: tuple[str, ...] = ()
    encrypted: tuple[str, ...] = ()
    has_data: bool = False
    mosquitto: str | None = None
    notifies: bool = False

    @property
    def service(self) -> Service:
        """The service that it describes."""
        return Service(self.role, self.name)


def unit_files(spec: UnitSpec) -> dict[str, str]:
    """The text of each file that makes up the unit, by its path."""
    service = spec.service
    mark = f"{MARK}{json.dumps(asdict(spec))}\n"
    base = f"{UNITS}/{service.base_unit}"
    if service.drop_in is None:
        return {base: mark + _base(spec, _own(spec))}
    return {base: _base(spec, ""), service.drop_in: f"{mark}[Service]\n{_own(spec)}"}


def read_spec(text: str) -> UnitSpec | None:
    """What a unit file was made from; None if it is not the work of `unit_files`."""
    first = text.partition("\n")[0]
    if not first.startswith(MARK):
        return None
    known: dict[str, Any] = json.loads(first.removeprefix(MARK))
    lists = {key: tuple(known.get(key, ())) for key in ("credentials", "encrypted")}
    fields = UnitSpec.__dataclass_fields__
    return UnitSpec(**{key: value for key, value in known.items() if key in fields} | lists)


def remake(texts: list[str]) -> dict[str, str]:
    """Unit files made anew, by this version, from the text of older ones; by their path."""
    specs = [spec for text in texts if (spec := read_spec(text)) is not None]
    return {path: text for spec in specs for path, text in unit_files(spec).items()}


def _base(spec: UnitSpec, own: str) -> str:
    """The part that is the same for each service of a role."""
    role, word = spec.role, _word(spec)
    title = f"{_TITLES[role]} %i" if spec.name else _TITLES[role]
    after = " flockwise-broker.service" if role != "broker" else ""
    return f"""\
[Unit]
Description={title}
After=network.target{after}
# A device is on its own for years: it never gives up to start a service.
StartLimitIntervalSec=0

[Service]
{_command(spec)}
SyslogIdentifier=flockwise
TimeoutStartSec={_START_S[role]}
TimeoutStopSec=5
KillMode=mixed
Restart=on-failure
{_backoff(spec)}\
# Settings, data or an identity that a restart does not mend.
RestartPreventExitStatus={NOT_MENDED_BY_RESTART}

StateDirectory=flockwise/{word}
StateDirectoryMode=0700
RuntimeDirectory=flockwise/{word}
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
WorkingDirectory=%S/flockwise/{word}

{_SHARES[role]}\
# If memory runs out, training ends and the rest goes on.
OOMPolicy=continue
TasksMax=256

{sandbox.EVERYWHERE}\
{sandbox.WHERE_NO_TORCH_IS if role == "broker" else sandbox.WHERE_TORCH_IS}\
{own}
[Install]
WantedBy=multi-user.target
"""


def _word(spec: UnitSpec) -> str:
    """What its files are called after, as a unit file says it: %i is the name of an instance."""
    return f"{spec.role}-%i" if spec.name else spec.role


def _command(spec: UnitSpec) -> str:
    if spec.mosquitto is not None:
        kind = "notify" if spec.notifies else "exec"
        reload = f"ExecReload={_HANG_UP}"
        return f"Type={kind}\nExecStart={spec.mosquitto} -c {MOSQUITTO_CONFIGURATION}\n{reload}"
    run = f"ExecStart={PROGRAM} {spec.role} run --config {CONFIGURATION}/{_word(spec)}.toml"
    if spec.role == "broker":
        return f"Type=exec\n{run}"
    watched = "WatchdogSec=60"
    if spec.systemd >= _NOTIFY_RELOAD_SINCE:
        return f"Type=notify-reload\n{run}\n{watched}"
    return f"Type=notify\n{run}\nExecReload={_HANG_UP}\n{watched}"


def _backoff(spec: UnitSpec) -> str:
    if spec.systemd >= _GROWING_DELAY_SINCE:
        return "RestartSec=2\nRestartSteps=6\nRestartMaxDelaySec=300\n"
    return "RestartSec=10\n"


def _own(spec: UnitSpec) -> str:
    """The part that is this service's: memory, paths, keys."""
    state = f"%S/flockwise/{_word(spec)}"
    lines = [f"MemoryMax={spec.memory_max}", f"Environment=FLOCKWISE_STATE_DIR={state}"]
    match spec.role:
        case "agent":
            lines.append(f"Environment=FLOCKWISE_CHUNK={state}/chunk.npz")
        case "coordinator":
            # Weights & Biases wants a home.
            lines.append(f"Environment=HOME={state}")
            if spec.has_data:
                lines.append(f"Environment=FLOCKWISE_TEST_SET={state}/test-set.npz")
    credentials = f"{CREDENTIALS}/{_word(spec)}"
    for name in spec.credentials:
        lines.append(f"LoadCredential={name}:{credentials}/{name}")
    for name in spec.encrypted:
        lines.append(f"LoadCredentialEncrypted={name}:{credentials}/{name}.cred")
    for name in (*spec.credentials, *spec.encrypted):
        lines.append(f"Environment={_VARIABLES[name]}=%d/{name}")
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    print(json.dumps(remake(json.load(sys.stdin))))
