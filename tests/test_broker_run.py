"""Starting and ending a broker: `flockwise broker run`, and `start` for demo and tests."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker import mosquitto, run, start
from broker.address import Address, accepts_connect, listening_address
from broker.start import Choice, RunningBroker, choose
from config.failures import ExitCode, Failure
from config.settings import BrokerKind, BrokerSettings

HOME = Path(__file__).resolve().parent.parent
LONG_S = 20.0
KINDS: tuple[BrokerKind, ...] = ("mosquitto", "embedded")

STARTER = """
import sys, time
from pathlib import Path
from broker.start import start
from config.settings import BrokerSettings
running = start(BrokerSettings(kind=sys.argv[1], port=0, insecure=True), Path(sys.argv[2]))
print(running.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> BrokerKind:
    chosen: BrokerKind = request.param
    try:
        choose(chosen)
    except Failure as failure:
        pytest.skip(str(failure))
    return chosen


@contextmanager
def broker_run(*options: str) -> Iterator[subprocess.Popen[str]]:
    """`flockwise broker run`, killed in the end if it still runs."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLOCKWISE_")}
    with subprocess.Popen(
        [sys.executable, "-m", "flockwise", "broker", "run", "--insecure", *options],
        cwd=HOME,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def free_port() -> int:
    return listening_address("127.0.0.1", 0, loopback_only=True).port


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def comes_true(condition: Callable[[], bool]) -> bool:
    give_up_s = time.monotonic() + LONG_S
    while not condition() and time.monotonic() < give_up_s:
        time.sleep(0.02)
    return condition()


def fake_mosquitto(monkeypatch: pytest.MonkeyPatch, directory: Path, script: str) -> None:
    program = directory / "mosquitto"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    choice = Choice("mosquitto", "mosquitto 0", program)
    monkeypatch.setattr(start, "choose", lambda kind: choice)


def test_it_says_in_one_line_which_broker_runs_where(kind: BrokerKind) -> None:
    port = free_port()
    with broker_run("--kind", kind, "--port", str(port)) as process:
        line = first_line(process)
        assert line == f"broker: {choose(kind).title} on 127.0.0.1:{port}\n"
        assert accepts_connect(Address("127.0.0.1", port))


def test_sigterm_ends_it_with_0_and_frees_the_port(kind: BrokerKind) -> None:
    port = free_port()
    with broker_run("--kind", kind, "--port", str(port)) as process:
        first_line(process)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=LONG_S)
        assert (process.returncode, output, errors) == (0, "", "")
    assert listening_address("127.0.0.1", port, loopback_only=True).port == port


def test_ctrl_c_ends_it_quietly(kind: BrokerKind) -> None:
    port = free_port()
    with broker_run("--kind", kind, "--port", str(port)) as process:
        first_line(process)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=LONG_S)
        assert (process.returncode, output, errors) == (130, "", "")
    assert not accepts_connect(Address("127.0.0.1", port))


def test_sigterm_ends_it_though_clients_are_connected(kind: BrokerKind) -> None:
    port = free_port()
    with broker_run("--kind", kind, "--port", str(port)) as process:
        first_line(process)
        with socket.create_connection(("127.0.0.1", port), LONG_S) as link:
            link.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
            assert link.recv(4) == b"\x20\x02\x00\x00"
            process.send_signal(signal.SIGTERM)
            assert link.recv(1) == b""
        assert process.wait(LONG_S) == 0


def test_a_taken_port_is_one_line_and_an_exit_code_of_its_own(kind: BrokerKind) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with broker_run("--kind", kind, "--port", str(port)) as process:
            output, errors = process.communicate(timeout=LONG_S)
    assert (process.returncode, output) == (ExitCode.PORT_TAKEN, "")
    assert errors == (
        f"flockwise: broker: 127.0.0.1:{port} is taken by another program; "
        "end that, or choose another port\n"
    )


def test_an_open_address_is_refused_though_anybody_is_to_be_let_in(kind: BrokerKind) -> None:
    port = str(free_port())
    with broker_run("--kind", kind, "--host", "0.0.0.0", "--port", port) as process:
        output, errors = process.communicate(timeout=LONG_S)
    assert (process.returncode, output) == (ExitCode.CONFIG, "")
    assert "0.0.0.0 can be reached from other machines" in errors
    assert errors.count("\n") == 1


def test_nobody_is_let_in_unasked_unless_that_is_said(kind: BrokerKind, tmp_path: Path) -> None:
    with pytest.raises(Failure, match="say --insecure for a trial") as caught:
        start.start(BrokerSettings(kind=kind, port=0), tmp_path)
    assert caught.value.code is ExitCode.CONFIG
    with broker_run("--kind", kind, "--port", "0", "--no-insecure") as process:
        output, errors = process.communicate(timeout=LONG_S)
    assert (process.returncode, output) == (ExitCode.CONFIG, "")
    assert "flockwise broker init" in errors


def test_the_embedded_broker_does_not_serve_an_authority(tmp_path: Path) -> None:
    options = ("--kind", "embedded", "--no-insecure", "--authority", str(tmp_path))
    with broker_run(*options) as process:
        output, errors = process.communicate(timeout=LONG_S)
    assert (process.returncode, output) == (ExitCode.CONFIG, "")
    assert "neither TLS nor rights" in errors


def test_a_mosquitto_that_dies_is_told(tmp_path: Path) -> None:
    if mosquitto.find() is None:
        pytest.skip("mosquitto is not installed")
    with broker_run("--kind", "mosquitto", "--port", "0", "--state-dir", str(tmp_path)) as process:
        first_line(process)
        (child,) = children(process.pid)
        os.kill(child, signal.SIGKILL)
        _, errors = process.communicate(timeout=LONG_S)
    assert process.returncode == ExitCode.FAILURE
    assert errors == f"flockwise: broker: {choose('mosquitto').title} ended with status -9\n"


def test_mosquitto_ends_when_its_parent_is_killed() -> None:
    if mosquitto.find() is None:
        pytest.skip("mosquitto is not installed")
    with broker_run("--kind", "mosquitto", "--port", "0") as process:
        first_line(process)
        (child,) = children(process.pid)
        assert is_running(child)
        process.kill()
        assert comes_true(lambda: not is_running(child))


def test_a_started_broker_ends_when_its_parent_is_killed(kind: BrokerKind, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, kind, str(tmp_path)],
        cwd=HOME,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        child = int(first_line(process))
        assert is_running(child)
        process.kill()
        assert comes_true(lambda: not is_running(child))


def test_a_started_broker_outlives_the_thread_that_started_it(
    kind: BrokerKind, tmp_path: Path
) -> None:
    started: list[RunningBroker] = []

    def start_it() -> None:
        started.append(start.start(BrokerSettings(kind=kind, port=0, insecure=True), tmp_path))

    thread = threading.Thread(target=start_it)
    thread.start()
    thread.join()
    with started[0] as running:
        assert accepts_connect(Address(running.host, running.port))
        assert running.alive


def test_a_stopped_broker_is_gone_and_may_be_stopped_again(
    kind: BrokerKind, tmp_path: Path
) -> None:
    running = start.start(BrokerSettings(kind=kind, port=0, insecure=True), tmp_path)
    assert is_running(running.pid)
    running.stop()
    running.stop()
    assert not running.alive
    assert not is_running(running.pid)


def test_two_brokers_on_free_ports_do_not_collide(kind: BrokerKind, tmp_path: Path) -> None:
    settings = BrokerSettings(kind=kind, port=0, insecure=True)
    with start.start(settings, tmp_path / "1") as one, start.start(settings, tmp_path / "2") as two:
        assert one.port != two.port
        assert one.alive
        assert two.alive


def test_starting_on_a_taken_port_fails_as_such(kind: BrokerKind, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = BrokerSettings(kind=kind, port=taken.getsockname()[1], insecure=True)
        with pytest.raises(Failure, match="is taken by another program") as caught:
            start.start(settings, tmp_path)
    assert caught.value.code is ExitCode.PORT_TAKEN


def test_a_port_that_is_taken_at_the_last_moment_fails_as_such(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_mosquitto(monkeypatch, tmp_path, "echo 'Error: Address already in use'; exit 1")
    with pytest.raises(Failure) as caught:
        start.start(BrokerSettings(port=free_port(), insecure=True), tmp_path)
    assert caught.value.code is ExitCode.PORT_TAKEN


def test_a_free_port_that_is_taken_at_the_last_moment_is_replaced_by_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = 'grep ^listener "$2"; echo "Error: Address already in use"; exit 1'
    fake_mosquitto(monkeypatch, tmp_path, script)
    with pytest.raises(Failure):
        start.start(BrokerSettings(port=0, insecure=True), tmp_path)
    log = (tmp_path / "broker.log").read_text().splitlines()
    assert len({line for line in log if line.startswith("listener")}) == 3


def test_a_broker_that_dies_while_starting_is_told_with_its_last_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_mosquitto(monkeypatch, tmp_path, "echo first; echo 'Error: no listener' >&2; exit 3")
    with pytest.raises(Failure) as caught:
        start.start(BrokerSettings(port=0, insecure=True), tmp_path)
    assert caught.value.code is ExitCode.FAILURE
    assert str(caught.value) == (
        "broker: mosquitto 0 ended with status 3 while starting: Error: no listener"
    )


def test_a_broker_that_stays_silent_is_ended_and_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_mosquitto(monkeypatch, tmp_path, 'echo "$$" > "${2%.conf}.pid"; exec sleep 600')
    monkeypatch.setattr(start, "START_TIMEOUT_S", 0.5)
    with pytest.raises(Failure, match="stays silent while starting"):
        start.start(BrokerSettings(port=0, insecure=True), tmp_path)
    assert not is_running(int((tmp_path / "mosquitto.pid").read_text()))


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match=r"cannot write .*file/broker\.log") as caught:
        start.start(BrokerSettings(port=0, insecure=True), tmp_path / "file")
    assert caught.value.code is ExitCode.CANNOT_WRITE


def test_auto_is_mosquitto_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosquitto, "find", lambda: Path("/bin/mosquitto"))
    monkeypatch.setattr(mosquitto, "version", lambda program: "9.9")
    assert choose("auto") == Choice("mosquitto", "mosquitto 9.9", Path("/bin/mosquitto"))


def test_auto_is_embedded_where_mosquitto_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mosquitto, "find", lambda: None)
    assert choose("auto").kind == "embedded"


def test_mosquitto_that_is_asked_for_and_not_installed_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mosquitto, "find", lambda: None)
    with pytest.raises(Failure, match="mosquitto is not installed; install it") as caught:
        choose("mosquitto")
    assert caught.value.code is ExitCode.CONFIG


@pytest.mark.parametrize(
    ("host", "listens_on", "reached_at"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.7", "127.0.0.7", "127.0.0.7"),
        ("0.0.0.0", "0.0.0.0", "127.0.0.1"),
    ],
)
def test_a_host_becomes_an_address_to_listen_on_and_one_to_reach_it_at(
    host: str, listens_on: str, reached_at: str
) -> None:
    address = listening_address(host, 0, loopback_only=False)
    assert (address.host, address.reachable.host) == (listens_on, reached_at)
    assert address.port > 0


@pytest.mark.parametrize("host", ["no such host", "192.0.2.1"])
def test_a_host_that_is_not_of_this_machine_is_told(host: str) -> None:
    with pytest.raises(Failure) as caught:
        listening_address(host, 1883, loopback_only=False)
    assert caught.value.code is ExitCode.CONFIG
    assert host in str(caught.value)


def test_something_that_is_not_a_broker_accepts_no_connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = Address("127.0.0.1", other.getsockname()[1])
        assert not accepts_connect(address, timeout_s=0.1)


def test_an_embedded_broker_that_does_not_shut_down_in_time_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embedded = pytest.importorskip("broker.embedded")

    async def hang(broker: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(embedded, "_SHUTDOWN_S", 0.01)
    monkeypatch.setattr(embedded.MendedBroker, "shutdown", hang)
    address = Address("127.0.0.1", free_port())
    ended_by = asyncio.run(embedded.serve(address, lambda: signal.raise_signal(signal.SIGTERM)))
    assert ended_by is signal.SIGTERM


def test_the_form_of_the_log_is_the_one_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(run.logs, "configure", lambda *words: asked.append(words))
    monkeypatch.setattr(run, "_run_embedded", lambda settings: None)
    run.main(["--kind", "embedded", "--insecure", "--log-format", "json", "--log-level", "error"])
    assert asked == [("broker", "error", "json")]
