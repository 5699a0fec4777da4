"""The jobs of a worker, done in this process."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from federation.compression import decode, encode
from federation.files import replace_file
from learning import jobs
from learning.chunks import write_chunk
from learning.data import as_chunk
from learning.generated import generated_images
from learning.jobs import JobError, run_job
from learning.models import build_model
from learning.process import WAITING_FOR_ROOM
from learning.vectors import layout_of
from tests.one_thread import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = layout_of(build_model("fast-cnn")).size
PLAN = {
    "model": "fast-cnn",
    "epochs": 6.0,
    "batch_size": 16,
    "learning_rate": 0.05,
}


@pytest.fixture(scope="module")
def chunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small chunk of generated images."""
    images = generated_images(train=600, test=200, seed=3)
    path = tmp_path_factory.mktemp("chunks") / "chunk.npz"
    write_chunk(path, as_chunk(images))
    return path


def do(**command: Any) -> dict[str, Any]:
    ready = {"job": "job", "task": "cifar10", "plan": PLAN} | command
    return run_job(ready, lambda phase, done, loss: None)


def initialised(directory: Path) -> tuple[Path, list[Any]]:
    path = directory / "model"
    return path, do(do="initialise", output=str(path))["layout"]


def train_command(directory: Path, chunk: Path, **changes: Any) -> dict[str, Any]:
    model, layout = initialised(directory)
    command: dict[str, Any] = {
        "do": "train",
        "chunk": str(chunk),
        "model": str(model),
        "model_codec": "float32",
        "layout": layout,
        "seed": 5,
        "slowdown": 1.0,
        "residual": None,
        "memory": None,
        "output": str(directory / "update"),
        "residual_output": None,
        "memory_output": None,
    }
    return command | changes


def evaluated(model: Path, layout: list[Any], data: Path) -> dict[str, Any]:
    return do(do="evaluate", model=str(model), layout=layout, data=str(data))


def test_a_model_is_initialised_as_raw_float32_with_its_layout(tmp_path: Path) -> None:
    path, layout = initialised(tmp_path)
    assert path.stat().st_size == 4 * SIZE
    assert layout[0] == ["0.weight", [16, 3, 3, 3]]


def test_received_plus_update_is_a_better_model(tmp_path: Path, chunk: Path) -> None:
    command = train_command(tmp_path, chunk)
    event = do(**command)
    received = np.fromfile(command["model"], "<f4")
    payload = Path(command["output"]).read_bytes()
    better = received + decode("int8", payload, received.size)
    (tmp_path / "better").write_bytes(encode("float32", better))
    before = evaluated(Path(command["model"]), command["layout"], chunk)
    after = evaluated(tmp_path / "better", command["layout"], chunk)

    assert event["event"] == "trained"
    assert event["examples"] == 600
    assert event["steps"] == 6 * 38
    assert event["size"] == len(payload)
    assert event["generated"] is after["generated"] is True
    assert event["metrics"]["held_out_loss"] == before["metrics"]["loss"]
    assert event["metrics"]["held_out_accuracy"] == before["metrics"]["accuracy"]
    assert event["metrics"]["delta_norm"] == pytest.approx(
        np.linalg.norm(better - received), rel=0.01
    )
    assert after["examples"] == 200
    assert after["metrics"]["loss"] < before["metrics"]["loss"]
    assert after["metrics"]["accuracy"] > before["metrics"]["accuracy"] + 0.1


def test_the_same_command_gives_the_same_bytes(tmp_path: Path, chunk: Path) -> None:
    plan = PLAN | {"epochs": 0.3}
    first = train_command(tmp_path, chunk, plan=plan)
    second = first | {"output": str(tmp_path / "again")}
    do(**first)
    do(**second)
    assert Path(first["output"]).read_bytes() == Path(second["output"]).read_bytes()


def test_update_plus_residual_is_the_whole_difference(tmp_path: Path, chunk: Path) -> None:
    plan = PLAN | {"epochs": 0.3}
    exact = train_command(tmp_path, chunk, plan=plan | {"codec": "float32"})
    do(**exact)
    difference = np.fromfile(exact["output"], "<f4")
    lossy = exact | {"plan": plan | {"codec": "int8"}, "residual_output": str(tmp_path / "rest")}
    do(**lossy)
    sent = decode("int8", Path(lossy["output"]).read_bytes(), difference.size)
    rest = np.fromfile(tmp_path / "rest", "<f4")
    assert np.abs(rest).max() > 0
    np.testing.assert_allclose(sent + rest, difference, atol=1e-6)


def test_a_residual_is_added_to_the_next_update(tmp_path: Path, chunk: Path) -> None:
    plan = PLAN | {"epochs": 0.3, "codec": "float32"}
    plain = train_command(tmp_path, chunk, plan=plan)
    assert do(**plain)["residual_used"] is False
    difference = np.fromfile(plain["output"], "<f4")
    residual = np.linspace(-1, 1, difference.size).astype("<f4")
    (tmp_path / "residual").write_bytes(residual.tobytes())
    assert do(**plain | {"residual": str(tmp_path / "residual")})["residual_used"] is True
    np.testing.assert_array_equal(np.fromfile(plain["output"], "<f4"), difference + residual)


@pytest.mark.parametrize("content", [None, b"short", np.full(SIZE, np.nan, "<f4").tobytes()])
def test_a_residual_that_does_not_fit_is_left_out(
    tmp_path: Path, chunk: Path, content: bytes | None
) -> None:
    residual = tmp_path / "residual"
    if content is not None:
        residual.write_bytes(content)
    command = train_command(tmp_path, chunk, plan=PLAN | {"epochs": 0.1}, residual=str(residual))
    assert do(**command)["residual_used"] is False


def test_a_codec_without_loss_writes_no_residual(tmp_path: Path, chunk: Path) -> None:
    plan = PLAN | {"epochs": 0.1, "codec": "float32"}
    do(**train_command(tmp_path, chunk, plan=plan, residual_output=str(tmp_path / "rest")))
    assert not (tmp_path / "rest").exists()


def test_progress_tells_the_phases_in_their_order(tmp_path: Path, chunk: Path) -> None:
    told: list[tuple[str, float]] = []
    command = train_command(tmp_path, chunk, plan=PLAN | {"epochs": 0.2})
    run_job(
        {"job": "job", "task": "cifar10", **command},
        lambda phase, done, loss: told.append((phase, done)),
    )
    phases = [phase for phase, _ in told]
    assert list(dict.fromkeys(phases)) == ["loading", "testing", "training"]
    assert told[-1] == ("training", 1.0)


def test_a_slowed_training_sleeps_in_proportion(
    tmp_path: Path, chunk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    now = 0.0

    def monotonic() -> float:
        nonlocal now
        now += 1
        return now

    monkeypatch.setattr("learning.jobs.time.monotonic", monotonic)
    monkeypatch.setattr("learning.pace.ENDING", SimpleNamespace(wait=slept.append))
    do(**train_command(tmp_path, chunk, plan=PLAN | {"epochs": 0.1}, slowdown=4.0))
    # By this clock each step takes one second.
    assert slept == [3.0] * 4


def test_a_training_that_diverges_fails_and_writes_no_update(tmp_path: Path, chunk: Path) -> None:
    plan = PLAN | {"learning_rate": 100.0}
    command = train_command(tmp_path, chunk, plan=plan, residual_output=str(tmp_path / "rest"))
    with pytest.raises(JobError, match=r"loss became .* \(learning rate 100\)"):
        do(**command)
    assert not Path(command["output"]).exists()
    assert not (tmp_path / "rest").exists()


def test_a_model_that_is_not_finite_is_refused(tmp_path: Path, chunk: Path) -> None:
    command = train_command(tmp_path, chunk)
    Path(command["model"]).write_bytes(np.full(SIZE, np.inf, "<f4").tobytes())
    with pytest.raises(JobError, match="not finite"):
        do(**command)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"do": "dance"}, "unknown job 'dance'"),
        ({"chunk": "/nowhere/chunk.npz"}, "no chunk at /nowhere/chunk.npz"),
        ({"model": "/nowhere/model"}, "/nowhere/model: No such file or directory"),
        ({"model_codec": "zip"}, "unknown codec 'zip'"),
        ({"layout": [["w", [3]]]}, "the layout that came is not the one"),
        ({"layout": "w"}, "a layout is a list"),
        ({"task": "mnist"}, "no task 'mnist'"),
        ({"plan": PLAN | {"epochs": -1}}, "bad training plan: epochs: "),
        ({"plan": PLAN | {"model": "resnet"}}, "unknown model 'resnet'"),
        ({"output": "/nowhere/update"}, "/nowhere/update.part: No such file or directory"),
    ],
)
def test_a_job_that_cannot_be_done_says_why_in_one_line(
    tmp_path: Path, chunk: Path, change: dict[str, Any], reason: str
) -> None:
    command = train_command(tmp_path, chunk, plan=PLAN | {"epochs": 0.1}) | change
    with pytest.raises(JobError) as caught:
        do(**command)
    assert str(caught.value).startswith(reason)
    assert "\n" not in str(caught.value)


def test_a_command_that_lacks_a_field_says_which(tmp_path: Path, chunk: Path) -> None:
    command = train_command(tmp_path, chunk)
    del command["seed"]
    with pytest.raises(JobError, match="the command lacks 'seed'"):
        do(**command)


def test_a_model_file_of_another_size_is_refused(tmp_path: Path, chunk: Path) -> None:
    command = train_command(tmp_path, chunk)
    Path(command["model"]).write_bytes(bytes(8))
    with pytest.raises(JobError, match=f"{SIZE} numbers in float32 are {4 * SIZE} bytes, not 8"):
        do(**command)


# A full disk


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_apart_from_other_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(JobError) as told:
        do(do="initialise", output=str(tmp_path / "missing" / "model"))
    assert not told.value.storage_full
    monkeypatch.setattr(jobs, "replace_file", full)
    with pytest.raises(JobError, match="No space left") as told:
        do(do="initialise", output=str(tmp_path / "model"))
    assert told.value.storage_full


def test_what_was_trained_waits_for_room_and_its_checkpoint_gives_way(
    tmp_path: Path, chunk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = train_command(tmp_path, chunk, plan=PLAN | {"epochs": 0.3})
    do(**command)
    expected = Path(command["output"]).read_bytes()
    Path(command["output"]).unlink()
    saved = tmp_path / "training"
    monkeypatch.setattr(jobs, "replace_file", full)
    phases: list[str] = []
    naps: list[bool] = []

    def nap(_: float) -> None:
        naps.append(saved.exists())
        if len(naps) == 3:
            monkeypatch.setattr(jobs, "replace_file", replace_file)

    monkeypatch.setattr(time, "sleep", nap)
    ready = {"job": "job", "task": "cifar10", **command}
    ready |= {"checkpoint": str(saved), "checkpoint_s": 0}
    event = run_job(ready, lambda phase, done, loss: phases.append(phase))
    assert event["event"] == "trained"
    assert phases[-3:] == [WAITING_FOR_ROOM] * 3
    assert naps == [False] * 3
    assert Path(command["output"]).read_bytes() == expected


# A memory


def a_memory(path: Path, scale: float = 1e-3) -> Path:
    chance = np.random.default_rng(0)
    path.write_bytes((scale * chance.normal(size=SIZE)).astype("<f4").tobytes())
    return path


def test_with_a_memory_what_is_new_is_sent_and_the_next_memory_is_written(
    tmp_path: Path, chunk: Path
) -> None:
    plan = PLAN | {"epochs": 0.2, "codec": "float32"}
    plain = train_command(tmp_path, chunk, plan=plan)
    do(**plain)
    delta = np.fromfile(plain["output"], "<f4")
    held = a_memory(tmp_path / "held")
    command = plain | {
        "plan": plan | {"memory": True, "codec": "int8"},
        "memory": str(held),
        "memory_output": str(tmp_path / "next"),
        "residual": str(held),
        "residual_output": str(tmp_path / "rest"),
    }
    assert do(**command)["residual_used"] is False
    memory = np.fromfile(held, "<f4")
    payload = Path(command["output"]).read_bytes()
    assert payload == encode("int8", delta - memory)
    wanted = memory + decode("int8", payload, SIZE)
    assert (tmp_path / "next").read_bytes() == encode("float32", wanted)
    assert not (tmp_path / "rest").exists()


def test_a_first_training_begins_with_no_memory(tmp_path: Path, chunk: Path) -> None:
    plan = PLAN | {"epochs": 0.1, "codec": "float32"}
    plain = train_command(tmp_path, chunk, plan=plan)
    do(**plain)
    sent = Path(plain["output"]).read_bytes()
    with_memory = {"plan": plan | {"memory": True}, "memory_output": str(tmp_path / "next")}
    do(**plain | with_memory)
    assert Path(plain["output"]).read_bytes() == (tmp_path / "next").read_bytes() == sent


@pytest.mark.parametrize("content", [None, b"short"])
def test_without_the_memory_that_it_has_a_device_sends_nothing(
    tmp_path: Path, chunk: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "held").write_bytes(content)
    plan = PLAN | {"epochs": 0.1, "memory": True}
    command = train_command(tmp_path, chunk, plan=plan, memory=str(tmp_path / "held"))
    with pytest.raises(JobError, match="held"):
        do(**command)
    assert not Path(command["output"]).exists()


def test_noise_is_added_to_what_is_new(
    tmp_path: Path, chunk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def privatized(vector: Any, clip: float, noise: float) -> Any:
        given.append(vector)
        return np.zeros_like(vector)

    monkeypatch.setattr(jobs, "privatized", privatized)
    plan = PLAN | {"epochs": 0.1, "codec": "float32", "memory": True}
    held = a_memory(tmp_path / "held")
    command = train_command(tmp_path, chunk, plan=plan, memory=str(held))
    command |= {"memory_output": str(tmp_path / "next")}
    do(**command)
    sent = np.fromfile(command["output"], "<f4")
    do(**command | {"privacy": {"noise": 1.0}})
    np.testing.assert_array_equal(given[0], sent)
    assert (tmp_path / "next").read_bytes() == held.read_bytes(), "nothing was told, or learned"


# A budget of time


def test_a_training_stops_when_its_time_is_up_and_says_what_it_did(
    tmp_path: Path, chunk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def monotonic() -> float:
        return now

    def step(phase: str, done: float, loss: float | None) -> None:
        nonlocal now
        now += phase == "training"  # each step takes one second

    monkeypatch.setattr("learning.jobs.time.monotonic", monotonic)
    command = train_command(tmp_path, chunk, plan=PLAN | {"epochs": 1.0, "budget_s": 2.5})
    event = run_job({"job": "job", "task": "cifar10", **command}, step)
    assert (event["steps"], event["seconds"]) == (3, 3.0)
    assert 3 * 15 <= event["examples"] <= 3 * 16


def test_time_before_a_pause_counts(tmp_path: Path, chunk: Path) -> None:
    plan = PLAN | {"epochs": 0.5, "budget_s": 1000.0}
    path = tmp_path / "training"
    saving = {"checkpoint": str(path), "checkpoint_s": 0.0}
    command = train_command(tmp_path, chunk, plan=plan, **saving)

    class PowerCutError(Exception):
        pass

    def cut(phase: str, done: float, loss: float | None) -> None:
        if phase == "training" and done > 0.3:
            raise PowerCutError

    with pytest.raises(JobError, match="PowerCutError"):
        run_job({"job": "job", "task": "cifar10", **command}, cut)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    steps = int(arrays["counts"][0])
    assert 0 < steps < 19
    arrays["spent_s"] = np.asarray(np.float64(1000.0))
    np.savez(path, **arrays)
    path.with_name("training.npz").replace(path)
    event = do(**command)
    assert event["steps"] == steps, "not one more"
    assert event["seconds"] >= 1000


def test_a_budget_that_is_not_used_up_changes_no_byte(tmp_path: Path, chunk: Path) -> None:
    plan = PLAN | {"epochs": 0.2}
    command = train_command(tmp_path, chunk, plan=plan)
    do(**command)
    without = Path(command["output"]).read_bytes()
    do(**command | {"plan": plan | {"budget_s": 3600.0}})
    assert Path(command["output"]).read_bytes() == without
