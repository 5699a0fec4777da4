"""Passwords, keys and tokens are in the files that are for them, and nowhere else.

Real roles run at the level `debug` with secrets that can be recognised; then all that they wrote is
searched: standard output and error, logs, state, reports, and the arguments of their processes.
"""

from __future__ import annotations

import os
import socket
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from broker import mosquitto
from broker.authority import Clients
from broker.founding import Plan, found
from config.catalogue import catalogue
from config.settings import AgentSettings, BrokerSettings, CoordinatorSettings, Settings
from tests import processes
from tests.authorities import description, now
from tests.processes import Role, a_broker, command
from tests.stub_worker import a_stub_chunk

PASSWORD = "correct-horse-battery-staple"
FILED = "tr0ub4dor-and-3-in-a-file"
WANDB_KEY = "0123456789abcdef0123456789abcdef01234567"
SHORTEST = 16


@dataclass
class Search:
    """What was written, and what is not to be in it."""

    folder: Path
    secrets: dict[str, bytes] = field(default_factory=dict)
    written: dict[str, bytes] = field(default_factory=dict)
    allowed: set[Path] = field(default_factory=set)

    def keep_secret(self, name: str, secret: str | bytes) -> None:
        """Look for this, as it is and as it may be told."""
        raw = secret.encode() if isinstance(secret, str) else secret
        assert len(raw) >= SHORTEST, name
        # The last of base64 depends on what follows.
        forms = {"": raw, " in base64": b64encode(raw)[:-4], " in hex": raw.hex().encode()}
        self.secrets.update({f"{name}{form}": data for form, data in forms.items()})

    def keep_file_secret(self, path: Path) -> None:
        """A private key, or a password: the file may hold it, and no other may."""
        self.allowed.add(path)
        data = path.read_bytes()
        if b"PRIVATE KEY" not in data:
            self.keep_secret(path.name, data.strip())
            return
        name = str(path.relative_to(self.folder))
        _, _, text = data.partition(b"PRIVATE KEY-----\n")
        key = load_pem_private_key(b"-----BEGIN PRIVATE KEY-----\n" + text, None)
        if isinstance(key, EllipticCurvePrivateKey):
            self.keep_secret(name, key.private_numbers().private_value.to_bytes(32, "big"))
        else:
            assert isinstance(key, Ed25519PrivateKey | X25519PrivateKey)
            self.keep_secret(name, key.private_bytes_raw())
        self.secrets[f"first line of {name}"] = text.splitlines()[0]

    def heard(self, name: str, text: str) -> None:
        """Somebody wrote this."""
        self.written[name] = self.written.get(name, b"") + text.encode()

    def run(self, *words: str, **environment: str) -> str:
        """A command of a person's, and all that it prints."""
        done = command(*words, **environment)
        self.heard(" ".join(words[:2]), done.stdout + done.stderr)
        return done.stdout + done.stderr

    def watch(self, role: Role) -> None:
        """The arguments of a role's processes; what it logged is read when it has ended."""
        process = psutil.Process(role.process.pid)
        for one in (process, *process.children(recursive=True)):
            self.heard(f"arguments of {one.name()}", "\n".join(one.cmdline()))

    def leaks(self) -> list[str]:
        """Where a secret is that should not be there."""
        found = dict(self.written)
        for path in self.folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and path not in self.allowed:
                found[str(path.relative_to(self.folder))] = path.read_bytes()
        return [
            f"{name} is in {where}"
            for where, data in found.items()
            for name, secret in self.secrets.items()
            if secret in data
        ]


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def ended(search: Search, roles: Iterable[tuple[str, Role]]) -> None:
    """Stop the roles, and take what they logged."""
    for name, role in roles:
        search.watch(role)
        role.stop()
        role.end()
        search.heard(f"log of the {name}", "\n".join(role.raw))
        assert any('"debug"' in line for line in role.raw) or name == "broker", name


def only_what_is_set(settings: Settings) -> dict[str, str]:
    """The environment of a role with what was set: a membership fills the rest in."""
    told = {name: value for name, value in os.environ.items() if not name.startswith("FLOCKWISE_")}
    for setting in catalogue(type(settings)).settings:
        value: Any = settings.model_dump(exclude_unset=True)
        for name in setting.path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            told[setting.variable] = str(value).lower() if isinstance(value, bool) else str(value)
    return told


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    made = Search(tmp_path)
    made.keep_secret("password", PASSWORD)
    made.keep_secret("password of the file", FILED)
    made.keep_secret("key of wandb", WANDB_KEY)
    return made


# A federation with an authority


@pytest.fixture(params=["certificates", "passwords"])
def federation(
    request: pytest.FixtureRequest, search: Search, monkeypatch: pytest.MonkeyPatch
) -> Search:
    """Broker, coordinator and a device, all members, until an update was accepted."""
    if mosquitto.find() is None:
        pytest.skip("mosquitto is not installed")
    clients: Clients = request.param
    folder, port = search.folder, a_free_port()
    authority, state, device = folder / "authority", folder / "coordinator", folder / "device"
    found(authority, Plan(description(port, clients)), now())
    bundle = folder / "one.flockwise"
    on = ("--authority", str(authority))
    search.run("broker", "enroll", "one", "--output", str(bundle), *on)
    search.run("agent", "join", str(bundle), "--state-dir", str(device))
    bundle.unlink()  # as the command says
    monkeypatch.setenv("WANDB_API_KEY", WANDB_KEY)
    monkeypatch.setattr(processes, "to_environment", only_what_is_set)
    common: dict[str, Any] = {"log_format": "json", "log_level": "debug"}
    with ExitStack() as stack:
        broker = stack.enter_context(
            Role(
                *("broker", "run"),
                settings=BrokerSettings(authority=authority, host="127.0.0.1", port=port, **common),
            )
        )
        coordinator = stack.enter_context(
            Role(
                *("coordinator", "run"),
                settings=CoordinatorSettings(
                    membership=authority / "coordinator",
                    state_dir=state,
                    strategy="fedasync",
                    training={"codec": "float32"},
                    reporting={"wandb": "offline"},
                    **common,
                ),
                stub=True,
            )
        )
        chunk = a_stub_chunk(folder / "one.json", updates=3)
        agent = stack.enter_context(
            Role(
                *("agent", "run"),
                settings=AgentSettings(device="one", chunk=chunk, state_dir=device, **common),
                stub=True,
            )
        )
        agent.wait_for("update accepted")
        search.run("agent", "status", "--state-dir", str(device))
        search.run("agent", "doctor", "--device", "one", "--chunk", str(chunk), *_in(device))
        search.run("coordinator", "status", "--state-dir", str(state))
        search.run("coordinator", "inspect", "--state-dir", str(state))
        search.run("coordinator", "rotate-key", "--state-dir", str(state))
        search.run("broker", "list", *on)
        search.run(
            "broker", "render", "--output", str(folder.with_name(f"{folder.name}-rendered")), *on
        )
        ended(search, {"agent": agent, "coordinator": coordinator, "broker": broker}.items())
    private = [*authority.rglob("*"), *(device / "membership").iterdir(), *state.rglob("*.pem")]
    for path in private:
        if path.is_file() and (path.name == "password" or b"PRIVATE KEY" in path.read_bytes()):
            search.keep_file_secret(path)
    return search


def _in(state: Path) -> tuple[str, str]:
    return "--state-dir", str(state)


def test_keys_and_passwords_of_members_are_in_their_own_files_alone(federation: Search) -> None:
    names = {path.name for path in federation.allowed}
    assert {"ca.key", "authority.key", "signing.key", "server.pem"} <= names
    assert any(path.parent.name == "sealing" for path in federation.allowed)
    assert ({"password"} if "password" in names else {"tls.key"}) <= names
    assert federation.leaks() == []


# Passwords in settings


def test_a_password_of_the_settings_is_told_to_the_broker_alone(search: Search) -> None:
    folder = search.folder
    password_file = folder / "password"
    password_file.write_text(FILED)
    search.allowed.add(password_file)
    common: dict[str, Any] = {"insecure": True, "log_format": "json", "log_level": "debug"}
    with a_broker("auto", folder / "broker") as broker, ExitStack() as stack:
        link = {"host": broker.host, "port": broker.port, "username": "somebody"}
        coordinator = stack.enter_context(
            Role(
                *("coordinator", "run"),
                settings=CoordinatorSettings(
                    link={**link, "password": PASSWORD},
                    state_dir=folder / "coordinator",
                    strategy="fedasync",
                    training={"codec": "float32"},
                    reporting={"wandb": "off"},
                    **common,
                ),
                stub=True,
            )
        )
        chunk = a_stub_chunk(folder / "one.json", updates=1)
        agent = stack.enter_context(
            Role(
                *("agent", "run"),
                settings=AgentSettings(
                    device="one",
                    chunk=chunk,
                    link={**link, "password_file": password_file},
                    state_dir=folder / "device",
                    **common,
                ),
                stub=True,
            )
        )
        agent.wait_for("update accepted")
        ended(search, {"agent": agent, "coordinator": coordinator}.items())
    assert search.leaks() == []


BAD_SETTINGS = {
    "of the wrong type": f'[link]\nusername = "x"\npassword = ["{PASSWORD}"]',
    "without a username": f'[link]\npassword = "{PASSWORD}"',
    "given twice": f'[link]\nusername = "x"\npassword = "{PASSWORD}"\npassword_file = "p"',
    "under a name with a slip": f'[link]\npasword = "{PASSWORD}"',
    "beside what is wrong": f'[link]\nport = "x"\nusername = "x"\npassword = "{PASSWORD}"',
    "in the place of a section": f'link = "{PASSWORD}"',
    "in a file that is no TOML": f'[link]\npassword = "{PASSWORD}',
}


@pytest.mark.parametrize("text", BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_no_error_shows_a_password(search: Search, text: str) -> None:
    file = search.folder / "agent.toml"
    file.write_text(f'device = "one"\nchunk = "one.npz"\n{text}\n')
    search.allowed.add(file)
    assert "agent.toml" in search.run("agent", "run", "--config", str(file))
    assert search.leaks() == []


def test_no_error_shows_a_password_of_the_environment(search: Search) -> None:
    variables = {"FLOCKWISE_LINK__PASSWORD": PASSWORD, "FLOCKWISE_LINK__PORT": "none"}
    told = search.run("agent", "run", "--device", "one", "--chunk", "x", **variables)
    assert "FLOCKWISE_LINK__PORT" in told
    assert search.leaks() == []


def test_help_shows_no_secret_of_the_environment(search: Search) -> None:
    variables = {"FLOCKWISE_LINK__PASSWORD": PASSWORD, "WANDB_API_KEY": WANDB_KEY}
    for words in (("agent", "run"), ("coordinator", "run"), ("demo",)):
        assert "--link-password" in search.run(*words, "--help", **variables) or words == ("demo",)
    assert search.leaks() == []


def test_a_token_or_bundle_that_is_damaged_is_not_shown(search: Search) -> None:
    token = "flockwise1." + urlsafe_b64encode(b"damaged" + PASSWORD.encode()).decode()
    search.keep_secret("token", token)
    bundle = search.folder / "one.flockwise"
    bundle.write_text(f'{{"kind": "flockwise membership", "signing_key": "{PASSWORD}"}}')
    search.allowed.add(bundle)
    assert "damaged" in search.run("agent", "join", token)
    assert "no bundle" in search.run("agent", "join", str(bundle))
    assert search.leaks() == []


# The search itself


def test_a_planted_leak_is_found(tmp_path: Path) -> None:
    planted = Search(tmp_path)
    planted.keep_secret("password", PASSWORD)
    assert planted.leaks() == []
    planted.heard("log", f"trying {PASSWORD} ...")
    (tmp_path / "status.json").write_text(b64encode(PASSWORD.encode()).decode())
    assert planted.leaks() == ["password is in log", "password in base64 is in status.json"]


def test_the_arguments_of_a_process_are_searched(tmp_path: Path) -> None:
    planted = Search(tmp_path)
    settings = BrokerSettings(insecure=True, port=0, kind="embedded")
    with Role("broker", "run", settings=settings) as role:
        planted.secrets["word"] = b"broker\nrun"
        planted.watch(role)
        role.stop()
    assert len(planted.leaks()) == 1
