"""A real mosquitto with the configuration that is made for it: who is not to come in is kept out,
who is in reaches only what is theirs, and the operator hears of each attempt.
"""

from __future__ import annotations

import datetime as dt
import os
import queue
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from broker import mosquitto, rendering
from broker.authority import open_authority
from broker.certificates import client_certificate, new_authority, pem
from broker.enrolment import bundle_for
from broker.founding import Plan, found
from config.failures import ExitCode
from config.sections import Link
from federation.certificates import key_pem, named, new_tls_key, read_key, request_certificate
from federation.machine import Linked, Publish, Received, Unlinked
from federation.membership import read_membership
from federation.membership_files import write_membership
from federation.paho_session import PahoSession
from federation.renewal import install_certificate, name_of
from federation.session import Identity, SessionEvent
from federation.signed_session import open_session
from federation.topics import Topics
from tests.authorities import an_authority, description, now

HOME = Path(__file__).resolve().parent.parent
LONG_S = 30.0
TOPICS = Topics("flockwise", "default")
CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
ACCEPTED = b"\x20\x02\x00\x00"

pytestmark = pytest.mark.skipif(mosquitto.find() is None, reason="mosquitto is not installed")


@dataclass
class Gateway:
    """An authority with devices a and b, and its broker as `flockwise broker run` runs it."""

    directory: Path
    port: int
    lines: list[str] = field(default_factory=list)

    @property
    def authority(self) -> Path:
        return self.directory / "authority"

    def member(self, name: str) -> Path:
        return self.authority / name if name == "coordinator" else self.directory / name

    def enroll(self, device: str, days: float = 365) -> None:
        with open_authority(self.authority) as authority:
            write_membership(self.member(device), bundle_for(authority, device, now(), days).files)

    def tells(self, *words: str) -> bool:
        return comes_true(lambda: any(all(w in line for w in words) for line in self.lines))


@pytest.fixture(params=["certificates"])
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gateway]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = Gateway(tmp_path, port)
    found(made.authority, Plan(description(port, request.param)), now())
    for device in ("a", "b"):
        made.enroll(device)
    with broker_run(made):
        yield made


class broker_run:  # noqa: N801 - it is used as a function
    """`flockwise broker run` for a gateway, ended by its own process id."""

    def __init__(self, gateway: Gateway) -> None:
        words = ["--authority", str(gateway.authority), "--host", "127.0.0.1"]
        words += ["--port", str(gateway.port), "--log-format", "text"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FLOCKWISE_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flockwise", "broker", "run", *words],
            cwd=HOME,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines = gateway.lines

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.append(line.rstrip())

    def __enter__(self) -> broker_run:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert comes_true(lambda: any("for members of" in line for line in self._lines)), (
            self._lines
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self._reader.join(5)


class Client:
    """A party with the session that roles use, and what it hears."""

    def __init__(
        self, gateway: Gateway, name: str, *filters: str, client_id: str = "", **link: object
    ) -> None:
        folder = gateway.member(name)
        secure: dict[str, object] = {
            "host": "127.0.0.1",
            "port": gateway.port,
            "tls": True,
            "ca_file": folder / "ca.pem",
            "backoff_base_s": 0.2,
            "backoff_cap_s": 0.2,
        }
        if (folder / "certificate.pem").exists():
            secure |= {"cert_file": folder / "certificate.pem", "key_file": folder / "tls.key"}
        else:
            secure |= {"username": name, "password_file": folder / "password"}
        will = Publish(TOPICS.device(name), b"gone", qos=1, retain=True)
        if name == "coordinator":
            will = Publish(TOPICS.coordinator, b"gone", qos=1, retain=True)
        self.events: queue.Queue[SessionEvent] = queue.Queue()
        self.heard: list[tuple[str, bytes]] = []
        self.unlinked: list[str] = []
        self.linked = 0
        own = filters or (TOPICS.down(name),)
        identity = Identity(client_id or f"c-{name}", own, lambda _: will, boot=1)
        settings = Link.model_validate({**secure, **link})
        self.session = PahoSession(settings, identity, self.events.put)

    def look(self) -> None:
        while True:
            try:
                event = self.events.get_nowait()
            except queue.Empty:
                return
            if isinstance(event, Received):
                self.heard.append((event.topic, event.payload))
            elif isinstance(event, Linked):
                self.linked += 1
            elif isinstance(event, Unlinked):
                self.unlinked.append(event.reason)

    def comes(self, done: Callable[[], bool]) -> bool:
        def check() -> bool:
            self.look()
            return done()

        return comes_true(check)

    def hears(self, topic: str, payload: bytes) -> bool:
        return self.comes(lambda: (topic, payload) in self.heard)

    def __enter__(self) -> Client:
        self.session.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.session.stop()


def linked(client: Client) -> Client:
    assert client.comes(lambda: client.linked > 0), client.unlinked
    return client


def comes_true(condition: Callable[[], bool]) -> bool:
    give_up_s = time.monotonic() + LONG_S
    while not condition() and time.monotonic() < give_up_s:
        time.sleep(0.02)
    return condition()


def knock(gateway: Gateway, context: ssl.SSLContext | None) -> bytes:
    """What the broker answers to a CONNECT; nothing if it hangs up."""
    try:
        plain = socket.create_connection(("127.0.0.1", gateway.port), 5)
        with plain, context.wrap_socket(plain) if context else plain as link:
            link.sendall(CONNECT)
            return link.recv(4)
    except OSError:
        return b""


def context(gateway: Gateway, *identity: Path) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=gateway.authority / "ca.pem")
    made.check_hostname = False
    if identity:
        made.load_cert_chain(*identity)
    return made


def identity_by(gateway: Gateway, authority: Path, name: str, days: float) -> tuple[Path, Path]:
    """A certificate under this name from an authority, as two files."""
    key = new_tls_key()
    with open_authority(authority) as issuing:
        certificate = client_certificate(issuing.issuer, key.public_key(), name, now(), days)
    files = gateway.directory / f"{name}-{days}.pem", gateway.directory / f"{name}-{days}.key"
    files[0].write_bytes(pem(certificate))
    files[1].write_bytes(key_pem(key))
    return files


def test_a_member_is_let_in(gateway: Gateway) -> None:
    folder = gateway.member("a")
    files = folder / "certificate.pem", folder / "tls.key"
    assert knock(gateway, context(gateway, *files)) == ACCEPTED


def test_who_shows_no_certificate_is_kept_out_and_told_of(gateway: Gateway) -> None:
    assert knock(gateway, context(gateway)) == b""
    assert gateway.tells("refused", "127.0.0.1", "did not return a certificate")


def test_who_has_a_certificate_of_another_authority_is_kept_out_and_told_of(
    gateway: Gateway,
) -> None:
    other = gateway.directory / "other"
    an_authority(other)
    assert knock(gateway, context(gateway, *identity_by(gateway, other, "a", 30))) == b""
    assert gateway.tells("refused", "127.0.0.1", "certificate verify failed")


def test_whose_certificate_is_over_is_kept_out_and_told_of(gateway: Gateway) -> None:
    over = identity_by(gateway, gateway.authority, "a", -0.5)
    assert knock(gateway, context(gateway, *over)) == b""
    assert gateway.tells("refused", "127.0.0.1", "certificate verify failed")


def test_who_does_not_speak_tls_is_kept_out_and_told_of(gateway: Gateway) -> None:
    assert knock(gateway, None) == b""
    assert gateway.tells("refused", "127.0.0.1", "wrong version number")


def test_each_device_and_the_coordinator_reach_what_is_theirs(gateway: Gateway) -> None:
    with (
        Client(gateway, "a") as a,
        Client(gateway, "coordinator", *TOPICS.standing_filters()) as coordinator,
    ):
        linked(a)
        linked(coordinator)
        a.session.publish(Publish(TOPICS.up("a"), b"hello"))
        assert coordinator.hears(TOPICS.up("a"), b"hello")
        coordinator.session.publish(Publish(TOPICS.down("a"), b"want"))
        assert a.hears(TOPICS.down("a"), b"want")


@pytest.mark.parametrize(
    "topic",
    [
        TOPICS.up("b"),
        TOPICS.device("b"),
        TOPICS.down("b"),
        TOPICS.down("a"),
        TOPICS.coordinator,
        TOPICS.model,
        TOPICS.model_chunk(0, 0),
        TOPICS.csr("b"),
        TOPICS.certificate("a"),
        "elsewhere",
    ],
)
def test_what_a_device_may_not_write_reaches_nobody_and_is_told_of(
    gateway: Gateway, topic: str
) -> None:
    everything = (*TOPICS.standing_filters(), TOPICS.model)
    with (
        Client(gateway, "a") as a,
        Client(gateway, "b", *TOPICS.standing_filters("b")) as b,
        Client(gateway, "coordinator", *everything) as coordinator,
    ):
        for client in (a, b, coordinator):
            linked(client)
        a.session.publish(Publish(topic, b"forged"))
        assert gateway.tells("refused", f"a may not write {topic}")
        a.session.publish(Publish(TOPICS.up("a"), b"after"))
        assert coordinator.hears(TOPICS.up("a"), b"after")
        b.look()
        assert not [heard for heard in b.heard + coordinator.heard if heard[1] == b"forged"]


@pytest.mark.parametrize(
    ("wanted", "written"),
    [
        (TOPICS.down("b"), TOPICS.down("b")),
        (TOPICS.root + "#", TOPICS.down("b")),
        ("#", TOPICS.down("b")),
        (TOPICS.root + "device/+/down", TOPICS.down("b")),
        (TOPICS.root + "device/+", TOPICS.device("b")),
        (TOPICS.up("b"), TOPICS.up("b")),
    ],
)
def test_what_a_device_may_not_read_does_not_reach_it_and_is_told_of(
    gateway: Gateway, wanted: str, written: str
) -> None:
    by_coordinator = written == TOPICS.down("b")
    with (
        Client(gateway, "a", TOPICS.down("a"), wanted) as a,
        Client(gateway, "b") as b,
        Client(gateway, "coordinator") as coordinator,
    ):
        for client in (a, b, coordinator):
            linked(client)
        writer = coordinator if by_coordinator else b
        writer.session.publish(Publish(written, b"secret"))
        assert gateway.tells("refused", f"a may not read {wanted}")
        coordinator.session.publish(Publish(TOPICS.down("a"), b"after"))
        assert a.hears(TOPICS.down("a"), b"after")
        assert not [heard for heard in a.heard if heard[1] == b"secret"]


def test_who_logs_in_under_anothers_name_is_still_itself(gateway: Gateway) -> None:
    with (
        Client(gateway, "a", client_id="b", username="b") as a,
        Client(gateway, "coordinator", *TOPICS.standing_filters()) as coordinator,
    ):
        linked(a)
        linked(coordinator)
        a.session.publish(Publish(TOPICS.up("b"), b"forged"))
        assert gateway.tells("refused", f"a may not write {TOPICS.up('b')}")
        a.session.publish(Publish(TOPICS.up("a"), b"own"))
        assert coordinator.hears(TOPICS.up("a"), b"own")
        assert (TOPICS.up("b"), b"forged") not in coordinator.heard


def test_who_calls_itself_by_anothers_client_id_takes_nobodys_place(gateway: Gateway) -> None:
    with Client(gateway, "b", client_id="b") as b:
        linked(b)
        with Client(gateway, "a", client_id="b") as a:
            linked(a)
            with Client(gateway, "coordinator") as coordinator:
                linked(coordinator).session.publish(Publish(TOPICS.down("b"), b"still there"))
                assert b.hears(TOPICS.down("b"), b"still there")
        assert b.unlinked == []


def test_who_is_revoked_is_put_out_and_not_let_in_again(gateway: Gateway) -> None:
    with (
        Client(gateway, "a", TOPICS.down("a")) as a,
        Client(gateway, "coordinator", *TOPICS.standing_filters()) as coordinator,
    ):
        linked(a)
        linked(coordinator)
        revoke(gateway, "a")
        assert a.comes(lambda: bool(a.unlinked))
        assert coordinator.hears(TOPICS.device("a"), b"gone")
        assert gateway.tells("revoked, and put out", "device=a")
        # It may have come back once, between being put out and being shut out.
        before = len(a.unlinked)
        assert a.comes(lambda: len(a.unlinked) > before)
        linked_before = a.linked
        assert a.comes(lambda: len(a.unlinked) >= before + 3)
        assert a.linked == linked_before
    folder = gateway.member("a")
    files = folder / "certificate.pem", folder / "tls.key"
    assert knock(gateway, context(gateway, *files)) == b""
    assert gateway.tells("refused", "127.0.0.1", "certificate verify failed")


def test_the_others_stay_connected_while_one_is_revoked(gateway: Gateway) -> None:
    with Client(gateway, "b") as b, Client(gateway, "coordinator") as coordinator:
        linked(b)
        linked(coordinator)
        revoke(gateway, "a")
        coordinator.session.publish(Publish(TOPICS.down("b"), b"after"))
        assert b.hears(TOPICS.down("b"), b"after")
        assert b.unlinked == []


def test_who_is_enrolled_again_has_to_use_what_it_was_given_last(gateway: Gateway) -> None:
    folder = gateway.member("a")
    former = context(gateway, folder / "certificate.pem", folder / "tls.key")
    assert flockwise(gateway, "enroll", "a", "--output", str(gateway.directory / "a.bundle")) == 0
    assert knock(gateway, former) == b""
    gateway.enroll("a")
    folder = gateway.member("a")
    files = folder / "certificate.pem", folder / "tls.key"
    assert comes_true(lambda: knock(gateway, context(gateway, *files)) == ACCEPTED)


@pytest.mark.parametrize("name", ["c", "_coordinator"])
def test_a_certificate_is_renewed_over_the_broker(gateway: Gateway, name: str) -> None:
    gateway.enroll("c", days=30)
    folder = gateway.member(name.removeprefix("_"))
    assert name_of(folder) == name
    before = (folder / "certificate.pem").read_bytes()
    key = (folder / "tls.key").read_bytes()
    with Client(gateway, name.removeprefix("_"), TOPICS.certificate(name)) as c:
        linked(c)
        asked = Publish(TOPICS.csr(name), request_certificate(read_key(key), name))

        def is_answered() -> bool:
            # A request is lost where the authority is not connected yet; a device asks again.
            c.session.publish(asked)
            return bool(c.heard)

        assert c.comes(is_answered)
        assert install_certificate(folder, c.heard[0][1])
    assert (folder / "certificate.pem").read_bytes() != before
    files = folder / "certificate.pem", folder / "tls.key"
    assert knock(gateway, context(gateway, *files)) == ACCEPTED
    if name == "c":
        revoke(gateway, "c")
        assert knock(gateway, context(gateway, *files)) == b""


def test_a_device_renews_by_itself_when_it_is_time(gateway: Gateway) -> None:
    folder = gateway.member("c")
    begun = now() - dt.timedelta(days=70)
    with open_authority(gateway.authority) as authority:
        write_membership(folder, bundle_for(authority, "c", begun, days=90).files)
    before = (folder / "certificate.pem").read_bytes()
    membership = read_membership(folder)
    link = membership.link(Link())
    identity = Identity(
        "c", (TOPICS.down("c"),), lambda _: Publish(TOPICS.device("c"), b""), boot=1
    )

    def is_renewed() -> bool:
        # Where the authority is not connected yet, it is asked for again at the next connection.
        session = open_session(link, identity, lambda _: None, lambda: 0, membership)
        session.start()
        end_s = time.monotonic() + 2
        while (folder / "certificate.pem").read_bytes() == before and time.monotonic() < end_s:
            time.sleep(0.02)
        session.stop()
        return (folder / "certificate.pem").read_bytes() != before

    assert comes_true(is_renewed)
    files = folder / "certificate.pem", folder / "tls.key"
    assert knock(gateway, context(gateway, *files)) == ACCEPTED


def test_a_request_with_another_key_is_not_answered_and_told_of(gateway: Gateway) -> None:
    with Client(gateway, "a", TOPICS.certificate("a")) as a:
        linked(a)
        forged = Publish(TOPICS.csr("a"), request_certificate(new_tls_key(), "a"))

        def is_told() -> bool:
            a.session.publish(forged)
            lines = [line for line in gateway.lines if "certificate not renewed" in line]
            return any("device=a" in line and "not the enrolled one" in line for line in lines)

        assert comes_true(is_told)
        a.look()
        assert a.heard == []


def test_no_second_broker_runs_from_an_authority(gateway: Gateway) -> None:
    words = ["--authority", gateway.authority, "--host", "127.0.0.1", "--port", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "flockwise", "broker", "run", *words],
        cwd=HOME,
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )
    assert done.returncode == ExitCode.LOCKED
    folder = gateway.member("a")
    files = folder / "certificate.pem", folder / "tls.key"
    assert knock(gateway, context(gateway, *files)) == ACCEPTED


def test_what_is_rendered_for_elsewhere_is_a_configuration_that_mosquitto_runs(
    tmp_path: Path,
) -> None:
    program = mosquitto.find()
    assert program is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        gateway = Gateway(tmp_path, free.getsockname()[1])
    found(gateway.authority, Plan(description(gateway.port)), now())
    gateway.enroll("a")
    output = gateway.directory / "rendered"
    words = ["--authority", str(gateway.authority), "--output", str(output), "--host", "127.0.0.1"]
    assert rendering.main(words) == 0
    if os.geteuid() == 0:  # it would not come into a directory of pytest's as its own user
        with (output / "mosquitto.conf").open("a") as text:
            text.write("user root\n")
    with subprocess.Popen(
        [program, "-c", output / "mosquitto.conf"], stderr=subprocess.DEVNULL
    ) as process:
        try:
            folder = gateway.member("a")
            member = context(gateway, folder / "certificate.pem", folder / "tls.key")
            assert comes_true(lambda: knock(gateway, member) == ACCEPTED)
            assert knock(gateway, context(gateway)) == b""
        finally:
            process.kill()


def test_an_existing_ca_below_a_root_is_believed_by_broker_and_devices(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        gateway = Gateway(tmp_path, free.getsockname()[1])
    found(gateway.authority, Plan(description(gateway.port), ca=intermediate()), now())
    for device in ("a", "b"):
        gateway.enroll(device)
    with broker_run(gateway), Client(gateway, "a") as a:
        linked(a)
        revoke(gateway, "b")
        folder = gateway.member("b")
        files = folder / "certificate.pem", folder / "tls.key"
        assert knock(gateway, context(gateway, *files)) == b""


def intermediate() -> tuple[bytes, bytes]:
    """A CA that a root has signed, with the root's certificate after its own; and its key."""
    key, top_key = new_tls_key(), new_tls_key()
    below = new_authority(key, "Below", now()).certificate
    builder = x509.CertificateBuilder().subject_name(below.subject).issuer_name(named("Top"))
    builder = builder.public_key(key.public_key()).serial_number(2)
    builder = builder.not_valid_before(below.not_valid_before_utc)
    builder = builder.not_valid_after(below.not_valid_after_utc)
    top = x509.CertificateBuilder().subject_name(named("Top")).issuer_name(named("Top"))
    top = top.public_key(top_key.public_key()).serial_number(1)
    top = top.not_valid_before(below.not_valid_before_utc)
    top = top.not_valid_after(below.not_valid_after_utc)
    any_ca = x509.BasicConstraints(ca=True, path_length=None)
    usage = below.extensions.get_extension_for_class(x509.KeyUsage).value
    signed = [
        one.add_extension(any_ca, critical=True)
        .add_extension(usage, critical=True)
        .sign(top_key, hashes.SHA256())
        for one in (builder, top)
    ]
    return b"".join(pem(one) for one in signed), key_pem(key)


@pytest.mark.parametrize("gateway", ["passwords"], indirect=True)
def test_with_passwords_the_same_holds(gateway: Gateway) -> None:
    with (
        Client(gateway, "a") as a,
        Client(gateway, "b") as b,
        Client(gateway, "coordinator", *TOPICS.standing_filters(), username="_coordinator") as c,
    ):
        for client in (a, b, c):
            linked(client)
        b.session.publish(Publish(TOPICS.up("a"), b"forged"))
        assert gateway.tells("refused", "b may not write")
        a.session.publish(Publish(TOPICS.up("a"), b"hello"))
        assert c.hears(TOPICS.up("a"), b"hello")
        assert (TOPICS.up("a"), b"forged") not in c.heard
        revoke(gateway, "a")
        assert a.comes(lambda: len(a.unlinked) >= 2)
        assert a.linked == 1
        assert b.unlinked == []


@pytest.mark.parametrize("gateway", ["passwords"], indirect=True)
def test_who_has_no_password_or_a_wrong_one_is_kept_out_and_told_of(gateway: Gateway) -> None:
    assert knock(gateway, context(gateway)) == b"\x20\x02\x00\x05"
    wrong = gateway.directory / "wrong"
    wrong.write_text("open sesame")
    with Client(gateway, "a", password_file=wrong) as a:
        assert a.comes(lambda: bool(a.unlinked))
        assert a.linked == 0
    assert gateway.tells("not authorised")


def revoke(gateway: Gateway, device: str) -> None:
    """By the command, which returns when the running broker has taken it up."""
    assert flockwise(gateway, "revoke", device) == 0


def flockwise(gateway: Gateway, *words: str) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "flockwise", "broker", *words, "--authority", gateway.authority],
        cwd=HOME,
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )
    assert "has taken it up" in done.stdout, (done.stdout, done.stderr)
    return done.returncode
