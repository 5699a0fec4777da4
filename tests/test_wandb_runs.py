"""A federation in W&B, offline: killed and started again, and read back with W&B's own reader."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest

from tests.story import first_part, second_part
from tests.wandb_reader import HOUSE, Run, environment, runs_in


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a coordinator that was killed with all of its first rows told, and came back."""
    folder = tmp_path_factory.mktemp("coordinator")
    assert tells(folder, "first_part", "die") == -signal.SIGKILL
    assert tells(folder, "second_part") == 0
    return folder


def tells(folder: Path, part: str, *end: str) -> int:
    return subprocess.run(
        [sys.executable, "-m", "tests.wandb_child", str(folder), part, "offline", *end],
        cwd=HOUSE,
        env=environment(folder),
        timeout=100,
        check=False,
    ).returncode


@pytest.fixture(scope="module")
def runs(folder: Path) -> list[Run]:
    return runs_in(folder)


@pytest.fixture(scope="module")
def first(runs: list[Run]) -> Run:
    return runs[0]


def test_both_starts_are_one_run(runs: list[Run]) -> None:
    assert [run.described["run_id"] for run in runs] == ["0123456789abcdef"] * 2
    assert [run.described["resume"] for run in runs] == [True, True]
    steps = [step for run in runs for step in run.logged("_step")]
    assert steps == sorted(set(steps))
    assert len(steps) == len(first_part()) + len(second_part()) + 1  # the tables of the end


def test_the_first_start_has_no_end_and_the_second_one_has(runs: list[Run]) -> None:
    assert ["exit" in run.records for run in runs] == [False, True]


def test_a_run_has_its_names_and_its_configuration(first: Run) -> None:
    names = ("project", "run_group", "job_type", "display_name", "tags")
    told = [first.described[name] for name in names]
    assert told == ["birds", "sweep-1", "federation", "first try", ["small", "noisy"]]
    assert first.described["config"]["update"]["versions"] == 4


def test_curves_lie_over_the_version(first: Run) -> None:
    patterns = ("global/*", "on_device/*", "recall/*", "device/*", "global/accuracy")
    assert {first.axes[name]["step_metric"] for name in patterns} == {"version"}
    assert first.axes["version"]["options"]["hidden"]
    assert first.axes["time_s"]["options"]["hidden"]
    assert all("time_s" in item for item in first.history)


def test_the_best_figures_are_in_the_summary(first: Run) -> None:
    assert first.axes["global/accuracy"]["summary"] == {"last": True, "max": True}
    assert first.axes["global/loss"]["summary"] == {"last": True, "min": True}
    summaries = [record["update"] for record in first.records["summary"]]
    accuracies = [told["global/accuracy"] for told in summaries if "global/accuracy" in told]
    assert accuracies[-1] == {"last": 0.4, "max": 0.6}


def test_the_model_is_shown_by_version(runs: list[Run]) -> None:
    points = [
        (item["version"], item["time_s"], item["global/accuracy"])
        for run in runs
        for item in run.history
        if "global/accuracy" in item
    ]
    assert points == [(0, 1, 0.3), (1, 11, 0.5), (2, 21, 0.6), (3, 31, 0.4), (4, 41, 0.65)]


def test_what_an_earlier_start_knew_goes_on(runs: list[Run]) -> None:
    assert runs[1].logged("global/best_accuracy") == [0.65]
    assert runs[1].logged("global/bytes_up") == [200]
    assert runs[1].logged("on_device/accuracy_mean") == [0.4]


def test_each_class_has_a_curve(first: Run) -> None:
    assert first.logged("recall/owl") == [0.25] * 4
    assert first.logged("global/worst_recall") == [0.25] * 4


def test_each_device_has_its_curves(first: Run) -> None:
    assert first.logged("device/two/train_loss") == [1.5]
    assert first.logged("device/two/quarantined") == [1]


def test_devices_tell_how_good_the_model_is_there(first: Run) -> None:
    assert first.logged("on_device/accuracy_mean") == [0.3, 0.3, 0.4]
    assert first.logged("on_device/accuracy_worst_decile") == [0.2, 0.2, 0.4]


def test_staleness_and_contributions_are_histograms(runs: list[Run]) -> None:
    names = ("global/staleness", "global/contributions")
    assert {kind for n in names for kind in runs[0].logged(f"{n}._type")} == {"histogram"}
    assert runs[0].logged("global/staleness.values")[0] == [1, 0, 0, 1]
    assert runs[0].logged("global/staleness.bins")[0] == [-0.5, 0.5, 1.5, 2.5, 3.5]
    # Three versions with the first device, one with the second; then one more with the first.
    assert runs[0].logged("global/contributions.values")[-1] == [0, 1, 0, 1]
    assert runs[1].logged("global/contributions.values") == [[0, 1, 0, 0, 1]]


def test_the_confusion_matrix_is_a_chart(first: Run) -> None:
    table = first.table("confusion_matrix_table")
    assert table["columns"] == ["Actual", "Predicted", "nPredictions"]
    assert ["owl", "cat", 3] in table["data"]
    assert len(table["data"]) == 9
    charts = json.dumps(first.records["config"])
    assert "wandb/confusion_matrix/v1" in charts
    assert "_wandb.visualize.confusion_matrix" in charts


def test_predictions_are_a_table_with_images(first: Run) -> None:
    assert first.logged("predictions.nrows") == [3, 3]  # at the first test, and at the fourth
    table = first.table("predictions")
    assert table["columns"] == [
        *("image", "version", "index", "truth", "guess", "confidence", "right")
    ]
    stored = first.stored("run-0123456789abcdef-predictions")
    image, *told = json.loads(stored["predictions.table.json"].read_text())["data"][2]
    assert told == [3, 11, "owl", "cat", 0.4, False]
    assert (image["_type"], image["width"], image["height"]) == ("image-file", 32, 32)
    with PIL.Image.open(stored[image["path"]]) as picture:
        assert picture.getextrema() == ((11, 11),) * 3, "it is image 11 of the test set"


def test_the_last_test_is_shown_in_full(runs: list[Run]) -> None:
    assert [row[1] for row in runs[1].table("predictions")["data"]] == [4, 4, 4]


def test_versions_are_artifacts_with_what_is_known_of_them(first: Run, folder: Path) -> None:
    models = first.artifacts("model")
    assert [model["metadata"]["version"] for model in models] == [0, 1, 3]  # 2 was deleted
    assert models[1]["metadata"] == {
        "version": 1,
        "accuracy": 0.5,
        "loss": 1.5,
        "examples": 12,
        "updates": 2,
        "devices": 2,
        "base_version": 0,
        "made_of": ["one", "two"],
        "ledger": "0123456789abcdef",
    }
    assert {model["name"] for model in models} == {"model-0123456789abcdef"}
    assert set(models[1]["aliases"]) == {"latest", "best", "version-1"}
    assert set(models[2]["aliases"]) == {"latest", "version-3"}
    (file,) = models[1]["manifest"]["contents"]
    assert file["path"] == "model.safetensors"
    copied = Path(file["local_path"])
    assert copied.is_relative_to(folder), "it waits for its upload beside the run"
    assert copied.read_bytes() == bytes([1]) * 100


def test_the_test_set_is_what_the_run_used(first: Run) -> None:
    (data,) = first.artifacts("dataset")
    assert data["use_after_commit"]
    (file,) = data["manifest"]["contents"]
    assert file["ref"].startswith("file://")
    assert "local_path" not in file, "it is known by its digest, and stays where it is"


def test_alerts_are_told_once(runs: list[Run]) -> None:
    titles = [alert["title"] for alert in runs[0].records["alert"]]
    assert titles == ["two is in quarantine", "Accuracy has fallen"]
    assert "alert" not in runs[1].records
