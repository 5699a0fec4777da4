"""Training with privacy, as the worker does it: what it writes and tells is noised, or absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.compression import decode
from learning import privacy
from learning.chunks import write_chunk
from learning.data import as_chunk
from learning.generated import generated_images
from learning.jobs import JobError
from tests.one_thread import one_thread  # noqa: F401
from tests.test_learning_jobs import PLAN, SIZE, do, train_command

pytestmark = pytest.mark.usefixtures("one_thread")

EXACT = PLAN | {"epochs": 0.3, "codec": "float32"}
SMALL = EXACT | {"codec": "int8"}
RULE = {"clip": 0.01, "noise": 2.0}


@pytest.fixture(scope="module")
def chunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = generated_images(train=300, test=100, seed=3)
    path = tmp_path_factory.mktemp("chunks") / "chunk.npz"
    write_chunk(path, as_chunk(images))
    return path


def sent(command: dict[str, Any]) -> np.ndarray[Any, Any]:
    codec = command["plan"]["codec"]
    return decode(codec, Path(command["output"]).read_bytes(), SIZE).astype(np.float64)


def test_an_update_is_clipped_and_noised_with_the_width_that_was_asked_for(
    tmp_path: Path, chunk: Path
) -> None:
    bare = train_command(tmp_path, chunk, plan=EXACT)
    assert "noised" not in do(**bare)
    delta = sent(bare)
    command = bare | {"privacy": RULE}
    event = do(**command)
    assert event["noised"] == RULE
    error = sent(command) - delta * (RULE["clip"] / np.linalg.norm(delta))
    width = RULE["clip"] * RULE["noise"]
    assert error.std() == pytest.approx(width, rel=6 / np.sqrt(2 * SIZE))
    assert error.mean() == pytest.approx(0, abs=6 * width / np.sqrt(SIZE))


def test_the_same_command_gives_other_noise(tmp_path: Path, chunk: Path) -> None:
    first = train_command(tmp_path, chunk, plan=EXACT, privacy=RULE)
    second = first | {"output": str(tmp_path / "again")}
    do(**first)
    do(**second)
    assert not np.any(sent(first) == sent(second))


def test_with_noise_nothing_else_about_the_data_is_told(tmp_path: Path, chunk: Path) -> None:
    event = do(**train_command(tmp_path, chunk, plan=EXACT, privacy=RULE))
    told = (event["examples"], event["steps"], event["seconds"], event["metrics"])
    assert told == (1, 0, 0.0, {})


def test_a_device_may_tell_its_figures_all_the_same(tmp_path: Path, chunk: Path) -> None:
    event = do(**train_command(tmp_path, chunk, plan=EXACT, privacy=RULE | {"tell_figures": True}))
    assert event["noised"] == RULE
    assert (event["examples"], event["steps"]) == (96, 6)
    assert {"held_out_loss", "held_out_accuracy", "delta_norm"} <= event["metrics"].keys()


def test_what_the_codec_rounds_away_is_that_of_the_noised_vector(
    tmp_path: Path, chunk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noised: list[np.ndarray[Any, Any]] = []
    original = privacy.privatized

    def remembered(*args: Any) -> Any:
        noised.append(original(*args))
        return noised[-1].copy()

    monkeypatch.setattr("learning.jobs.privatized", remembered)
    rest = tmp_path / "rest"
    command = train_command(tmp_path, chunk, plan=SMALL, privacy=RULE, residual_output=str(rest))
    do(**command)
    left = np.fromfile(rest, "<f4")
    np.testing.assert_allclose(sent(command) + left, noised[0], atol=1e-7)

    # The next update adds it after its own noise: a function of noised vectors and no more.
    again = command | {"residual": str(rest), "residual_output": str(tmp_path / "next")}
    assert do(**again)["residual_used"] is True
    after = np.fromfile(tmp_path / "next", "<f4")
    np.testing.assert_allclose(sent(again) + after, noised[1] + left, atol=1e-7)


@pytest.mark.parametrize("given", [None, {"clip": 1.0}, {"noise": None}])
def test_without_noise_training_is_as_ever(tmp_path: Path, chunk: Path, given: Any) -> None:
    plain = train_command(tmp_path, chunk, plan=EXACT)
    event = do(**plain)
    before = sent(plain)
    again = do(**plain | {"privacy": given})
    assert "noised" not in again
    assert again["metrics"] == event["metrics"]
    np.testing.assert_array_equal(sent(plain), before)


@pytest.mark.parametrize("given", [{"noise": 0}, {"noise": 1.0, "clip": -1}, {"sigma": 1.0}, "on"])
def test_an_order_for_noise_that_cannot_be_read_trains_nothing(
    tmp_path: Path, chunk: Path, given: Any
) -> None:
    command = train_command(tmp_path, chunk, plan=EXACT, privacy=given)
    with pytest.raises(JobError, match="bad privacy: "):
        do(**command)
    assert not Path(command["output"]).exists()
