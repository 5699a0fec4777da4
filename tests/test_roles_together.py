"""The roles as a person starts them: real processes, a real broker, real training."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from broker.start import RunningBroker
from config.failures import ExitCode
from config.settings import BrokerKind
from tests.processes import a_broker, a_chunk, a_coordinator, an_agent, command, wait_until


@pytest.fixture(params=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningBroker]:
    kind: BrokerKind = request.param
    with a_broker(kind, tmp_path / "broker") as running:
        yield running


@pytest.fixture
def any_broker(tmp_path: Path) -> Iterator[RunningBroker]:
    with a_broker("auto", tmp_path / "broker") as running:
        yield running


def test_three_commands_make_a_federation(broker: RunningBroker, tmp_path: Path) -> None:
    state = tmp_path / "coordinator"
    test_set = a_chunk(tmp_path / "test.npz", seed=9)
    with (
        a_coordinator(broker, state, versions=2, test_set=test_set) as coordinator,
        an_agent(broker, tmp_path / "a", a_chunk(tmp_path / "a.npz", 1), "one") as one,
        an_agent(broker, tmp_path / "b", a_chunk(tmp_path / "b.npz", 2), "two") as two,
    ):
        assert coordinator.end() == ExitCode.OK, coordinator.raw
        one.wait_for("update accepted")
        two.wait_for("update accepted")
        assert one.stop() == ExitCode.OK
        assert two.stop() == ExitCode.OK
    assert coordinator.told("version evaluated")[-1]["version"] == 2
    ledger = sqlite3.connect(state / "ledger.sqlite")
    contributions = ledger.execute(
        "SELECT version, count(*) FROM contributions GROUP BY version"
    ).fetchall()
    ledger.close()
    assert contributions == [(1, 2), (2, 2)]
    tensors = load_file(state / "versions" / "000002.safetensors")
    assert sum(tensor.size for tensor in tensors.values()) == 62_006


def test_a_restarted_coordinator_goes_on_where_it_was(
    any_broker: RunningBroker, tmp_path: Path
) -> None:
    state = tmp_path / "coordinator"
    chunks = [a_chunk(tmp_path / f"{n}.npz", n) for n in (1, 2)]
    with (
        an_agent(any_broker, tmp_path / "a", chunks[0], "one"),
        an_agent(any_broker, tmp_path / "b", chunks[1], "two"),
    ):
        with a_coordinator(any_broker, state) as first:
            first.wait_for("version made")
            first.process.kill()
            first.end()
        made = first.told("version made")[-1]["version"]
        with a_coordinator(any_broker, state, versions=made + 2) as second:
            assert second.wait_for("version published")["version"] >= made
            assert second.end() == ExitCode.OK


def test_the_last_agent_to_come_under_an_id_keeps_it(broker: RunningBroker, tmp_path: Path) -> None:
    chunk = a_chunk(tmp_path / "chunk.npz")
    with an_agent(broker, tmp_path / "a", chunk, "twin") as first:
        first.wait_for("link up")
        with an_agent(broker, tmp_path / "b", chunk, "twin") as second:
            assert first.end() == ExitCode.DUPLICATE
            assert "another agent has taken over the device id 'twin'" in first.raw[-1]
            assert second.stop() == ExitCode.OK


def test_a_second_coordinator_leaves_the_federation_to_the_first(
    broker: RunningBroker, tmp_path: Path
) -> None:
    chunk = a_chunk(tmp_path / "chunk.npz")
    with (
        a_coordinator(broker, tmp_path / "a") as first,
        an_agent(broker, tmp_path / "device", chunk, "one"),
    ):
        first.wait_for("version published")
        with a_coordinator(broker, tmp_path / "b") as second:
            assert second.end() == ExitCode.DUPLICATE
            assert "another coordinator is online" in second.raw[-1]
        first.wait_for("update accepted")
        assert first.stop() == ExitCode.OK


def test_two_federations_on_one_broker_do_not_hear_each_other(
    any_broker: RunningBroker, tmp_path: Path
) -> None:
    chunk = a_chunk(tmp_path / "chunk.npz")
    red, blue = {"federation": {"name": "red"}}, {"federation": {"name": "blue"}}
    with (
        a_coordinator(any_broker, tmp_path / "cr", **red) as red_coordinator,
        a_coordinator(any_broker, tmp_path / "cb", **blue) as blue_coordinator,
        an_agent(any_broker, tmp_path / "ar", chunk, "same", log_level="debug", **red) as agent,
        an_agent(any_broker, tmp_path / "ab", chunk, "other", **blue),
    ):
        agent.wait_for("update accepted")
        blue_coordinator.wait_for("update accepted")
        heard = {line["device"] for line in red_coordinator.lines if "device" in line}
        assert heard == {"same"}
        heard = {line["device"] for line in blue_coordinator.lines if "device" in line}
        assert heard == {"other"}
        everything = [*red_coordinator.lines, *blue_coordinator.lines, *agent.lines]
        assert not [line for line in everything if "ignored" in line["text"]]


def test_an_agent_alone_waits_and_ends_when_told(any_broker: RunningBroker, tmp_path: Path) -> None:
    with an_agent(any_broker, tmp_path / "a", a_chunk(tmp_path / "c.npz"), "one") as agent:
        agent.wait_for("link up")
        assert agent.stop() == ExitCode.OK


@pytest.mark.parametrize("role", ["agent", "coordinator"])
def test_a_broker_that_is_not_there_is_one_line_and_an_exit_code(role: str, tmp_path: Path) -> None:
    words = [role, "run", "--link-port", "1", "--link-give-up-after-s", "1"]
    words += ["--state-dir", str(tmp_path / "state"), "--insecure"]
    if role == "agent":
        words += ["--device", "one", "--chunk", str(a_chunk(tmp_path / "c.npz"))]
    else:
        words += ["--training-model", "tutorial-cnn", "--reporting-wandb", "off"]
    done = command(*words)
    assert done.returncode == ExitCode.UNAVAILABLE
    assert "no broker answered at 127.0.0.1:1 in 1 s" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_chunk_that_is_not_there_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    missing = tmp_path / "missing.npz"
    done = command("agent", "run", "--device", "one", "--chunk", str(missing))
    assert done.returncode == ExitCode.NO_INPUT
    assert done.stderr.splitlines() == [
        f"flockwise: there is no chunk {missing}; make one with `flockwise lab partition`"
    ]


def test_a_bad_setting_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    done = command("agent", "run", "--device", "Not An Id", "--chunk", str(tmp_path))
    assert done.returncode == ExitCode.CONFIG
    assert len(done.stderr.splitlines()) == 1
    assert "--device" in done.stderr


def test_a_state_directory_serves_one_process(any_broker: RunningBroker, tmp_path: Path) -> None:
    chunk = a_chunk(tmp_path / "c.npz")
    with an_agent(any_broker, tmp_path / "a", chunk, "one") as first:
        first.wait_for("link up")
        with an_agent(any_broker, tmp_path / "a", chunk, "two") as second:
            assert second.end() == ExitCode.LOCKED
            assert f"in use by process {first.process.pid}" in second.raw[-1]


def test_a_model_that_nobody_knows_is_told_at_once(
    any_broker: RunningBroker, tmp_path: Path
) -> None:
    with a_coordinator(any_broker, tmp_path / "c", training={"model": "no-such"}) as coordinator:
        assert coordinator.end() == ExitCode.FAILURE
        assert "no-such" in coordinator.raw[-1]
        assert "Traceback" not in "\n".join(coordinator.raw)


def test_an_agent_that_is_killed_in_a_training_goes_on_with_it(
    any_broker: RunningBroker, tmp_path: Path
) -> None:
    chunk = a_chunk(tmp_path / "c.npz", examples=400)
    slow = {"slowdown": 8, "checkpoint_s": 1, "log_level": "debug"}
    plan = {"model": "tutorial-cnn", "epochs": 4}
    with a_coordinator(any_broker, tmp_path / "c", training=plan) as coordinator:
        saved = tmp_path / "a" / "model" / "training"
        with an_agent(any_broker, tmp_path / "a", chunk, "one", **slow) as first:
            first.wait_for("progress")
            wait_until(saved.exists)
            first.process.kill()
        with an_agent(any_broker, tmp_path / "a", chunk, "one", **slow) as second:
            second.wait_for("update in outbox")
            done = [line["done"] for line in second.told("progress") if line["phase"] == "training"]
            assert done[0] > 0.02, "it did not begin at the beginning"
            coordinator.wait_for("update accepted")


def test_one_name_under_two_prefixes_is_two_federations(
    any_broker: RunningBroker, tmp_path: Path
) -> None:
    chunk = a_chunk(tmp_path / "chunk.npz")
    here, there = {"federation": {"prefix": "here"}}, {"federation": {"prefix": "there"}}
    with (
        an_agent(any_broker, tmp_path / "a", chunk, "same", **here) as one,
        an_agent(any_broker, tmp_path / "b", chunk, "same", **there) as two,
    ):
        one.wait_for("link up")
        two.wait_for("link up")
        assert one.stop() == two.stop() == ExitCode.OK
        assert not [*one.told("link down"), *two.told("link down")]


def test_a_test_set_that_is_not_there_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    done = command("coordinator", "run", "--test-set", "none.npz", "--state-dir", state)
    assert done.returncode == ExitCode.NO_INPUT
    assert done.stderr.splitlines() == ["flockwise: test_set none.npz is not a file"]
