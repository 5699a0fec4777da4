"""What measures a round's overhead: a relay that counts, a task that stands still, a table."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from benchmarks.families import births_of, command_of, family_of, held_bytes, see_them_end, worked_s
from benchmarks.overhead import row, table
from benchmarks.overhead_figures import Found, Work, link_between, moved_right, rounds_between
from benchmarks.overhead_flockwise import run
from benchmarks.overhead_task import STEP, TASK, TENSORS, beginning, step_of
from benchmarks.peers.environment import is_made, made
from benchmarks.relay import Carried, Relay
from broker.start import Choice, choose
from config.failures import Failure
from federation.compression import decode
from learning.jobs import run_job

ELEMENTS = 1003


@contextmanager
def an_echo() -> Iterator[int]:
    """A server that sends everything back twice; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    while piece := client.recv(65536):
                        client.sendall(piece * 2)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def exchanged(port: int, data: bytes) -> bytes:
    """What comes back for this."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(data)
        answer = b""
        while len(answer) < 2 * len(data):
            answer += client.recv(65536)
    return answer


def test_a_relay_changes_nothing_and_counts_both_ways() -> None:
    data = os.urandom(100_000)
    with an_echo() as port, Relay("127.0.0.1", port) as relay:
        assert len(exchanged(relay.port, data)) == 200_000
        assert relay.until(time.time()) == Carried(100_000, 200_000)


def test_a_relay_tells_rounds_apart() -> None:
    with an_echo() as port, Relay("127.0.0.1", port) as relay:
        times_s = [time.time()]
        for size in (10, 2000):
            exchanged(relay.port, b"x" * size)
            times_s.append(time.time())
        assert link_between(relay, times_s) == (Carried(10, 20), Carried(2000, 4000))


def test_a_relay_to_nobody_ends_the_connection() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with (
            Relay("127.0.0.1", unused.getsockname()[1]) as relay,
            socket.create_connection(("127.0.0.1", relay.port)) as client,
        ):
            client.settimeout(30)
            assert client.recv(1) == b""


@pytest.mark.parametrize("elements", [TENSORS, ELEMENTS])
def test_the_first_model_is_cut_into_as_many_tensors_anywhere(elements: int) -> None:
    tensors = beginning(elements)
    assert len(tensors) == TENSORS
    assert sum(tensor.size for tensor in tensors) == elements
    assert np.array_equal(np.concatenate(tensors), np.concatenate(beginning(elements)))


def test_clients_add_different_numbers_whose_mean_is_the_step() -> None:
    steps = [step_of(client, 10) for client in range(10)]
    assert len(set(steps)) == 10
    assert sum(steps) / 10 == pytest.approx(STEP)


def test_the_update_of_the_still_task_is_its_step(tmp_path: Path) -> None:
    plan = {"model": str(ELEMENTS), "codec": "float32"}
    fresh = {"do": "initialise", "task": TASK, "plan": plan, "output": str(tmp_path / "model")}
    layout = run_job(fresh, lambda *_: None)["layout"]
    (tmp_path / "chunk").write_text(str(STEP))
    job = fresh | {
        "do": "train",
        "chunk": str(tmp_path / "chunk"),
        "model": str(tmp_path / "model"),
        "layout": layout,
        "seed": 0,
        "output": str(tmp_path / "update"),
    }
    event = run_job(job, lambda *_: None)
    delta = decode("float32", (tmp_path / "update").read_bytes(), ELEMENTS)
    assert np.allclose(delta, STEP, atol=1e-6)
    assert event["generated"]


def test_a_model_that_lacks_a_client_is_found_out() -> None:
    work = Work(10, ELEMENTS, 4)
    assert moved_right(4 * STEP, 4 * STEP * 1.0001, work, STEP)
    assert not moved_right(3.8 * STEP, 3.8 * STEP, work, STEP)


def found(system: str, seconds: float, models: float) -> Found:
    """A run with a slow first round."""
    work = Work(10, 250_000, 3)
    carried = Carried(int(models * work.model_bytes / 2), int(models * work.model_bytes / 2))
    memory = {"serving": 2**20, "clients": 2**21, "training": 2**22, "most": 2**23}
    rounds_s = (9.0, seconds, seconds)
    return Found(system, work, rounds_s, (Carried(7, 7), carried, carried), 1.5, memory)


def test_the_table_compares_rounds_after_the_first() -> None:
    text = table([found("Flockwise", 0.5, 2.0), found("Flower 1.0", 20.0, 5.0)])
    ours = next(line for line in text.splitlines() if line.startswith("| Flockwise"))
    assert ours.split(" | ")[2:7] == ["9.00", "0.500", "0.500", "0.500", "2.000"]
    assert "1/40.0 of that of Flower 1.0" in text.splitlines()[-1]


def test_the_table_does_without_a_peer() -> None:
    text = table([found("Flockwise", 0.5, 2.0)])
    assert text.splitlines()[-1] == "1 MB: 2.000 models at the link (at most 2.02)"


def test_a_row_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.overhead.choose", lambda _: Choice("mosquitto", "mosquitto 2"))
    kept = json.loads(json.dumps(row(found("Flockwise", 0.5, 2.0))))
    assert kept["rounds_s"] == [9.0, 0.5, 0.5]
    assert kept["model_bytes"] == 1_000_000


def test_rounds_are_between_moments() -> None:
    assert rounds_between([1.0, 1.5, 4.0]) == (0.5, 2.5)


def test_a_family_is_a_process_with_all_that_it_started() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as parent:
        end_s = time.monotonic() + 60
        while len(family := family_of([parent.pid])) < 2 and time.monotonic() < end_s:
            time.sleep(0.02)
        births = births_of(family)
        assert len(family) == 2
        assert all("-c" in command_of(pid) for pid in family)
        assert held_bytes(family) > held_bytes([parent.pid]) > 0
        assert worked_s(family) >= 0
        see_them_end(births, patience_s=0)
        assert parent.wait(60) != 0


def test_without_a_network_a_peer_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "flwr" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 'ERROR: no matching distribution' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(Failure, match=r"flwr cannot be installed .*no matching distribution"):
        made("flwr", tmp_path)
    assert not is_made("flwr", tmp_path)


def test_an_environment_that_is_there_is_used_without_a_network(tmp_path: Path) -> None:
    python = tmp_path / "flwr" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n[ $1 = -c ] && echo 1.99\n")
    python.chmod(0o755)
    (tmp_path / "flwr" / "installed").touch()
    assert made("flwr", tmp_path).release == "1.99"


def test_rounds_of_real_processes_are_told(tmp_path: Path) -> None:
    try:
        choose("mosquitto")
    except Failure as failure:
        pytest.skip(str(failure))
    told = run(Work(2, 100_000, 3), tmp_path / "run")
    assert len(told.rounds_s) == 3
    assert 2.0 < told.link_models < 2.1
    assert told.memory["most"] >= told.memory["serving"] > 0
