"""The summary says what came of a run, to people and to programs, also of one that broke off."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import experiments.summary
from config.failures import Failure
from experiments.comparison import BaselineResult, comparison_lines, read_baseline
from experiments.scoreboard import DeviceRow, Phase, Run, Scoreboard, VersionRow
from experiments.summary import Summary, as_json, read_reports, summarize
from experiments.summary_text import as_text

RUN = Run(
    started_s=0.0,
    strategy="fedbuff",
    model="tutorial-cnn",
    examples={"a": 900, "b": 850},
    test_examples=500,
    source="images in photos",
    generated=False,
    versions=3,
    broker="mosquitto 2.0.11",
    directory=Path("/runs/x"),
)
BOARD = Scoreboard(
    run=RUN,
    devices={
        "a": DeviceRow(accepted=2, sent_bytes=130_000, received_bytes=500_000),
        "b": DeviceRow(
            phase=Phase.ENDED,
            accepted=1,
            sent_bytes=65_000,
            received_bytes=250_000,
            ended="was ended by SIGKILL",
        ),
    },
    versions=(
        VersionRow(0, 2.0, accuracy=0.1, loss=2.3, tested_s=3.0),
        VersionRow(1, 8.0, ("a", "b"), (0, 0), accuracy=0.3, loss=2.0, tested_s=9.0),
        VersionRow(2, 64.2, ("a",), (1,)),
    ),
    model_bytes=248_024,
)


def update(device: str, **facts: Any) -> dict[str, Any]:
    row = {"device": device, "bytes": 62_976, "train_s": 1.5, "staleness": 0, "metrics": {}}
    return {"kind": "update", "time_s": 1.0, **row, **facts}


REPORTS = [
    {"kind": "evaluation", "time_s": 1.0, "version": 0, "accuracy": 0.1},
    update("a"),
    update("b", train_s=2.5),
    {"kind": "refusal", "time_s": 2.0, "device": "b", "reason": "stale"},
    update("a"),
]


def a_summary(board: Scoreboard = BOARD, **changes: Any) -> Summary:
    values: dict[str, Any] = {
        "ending": "finished",
        "problem": None,
        "settings": {"seed": 0, "training": {"epochs": 1.0}},
        **changes,
    }
    return summarize(board, REPORTS, **values)


def generated() -> Summary:
    return a_summary(replace(BOARD, run=replace(RUN, generated=True, source="generated images")))


def test_a_device_is_credited_with_what_went_into_versions() -> None:
    device = a_summary().devices["a"]
    assert (device.contributions, device.accepted, device.refused) == (2, 2, 0)
    assert (device.examples, device.train_s, device.mean_staleness) == (900, 3.0, 0.5)
    assert (device.bytes_up, device.bytes_down, device.ended) == (130_000, 500_000, None)


def test_a_device_that_ended_is_in_the_summary() -> None:
    device = a_summary().devices["b"]
    assert (device.contributions, device.refused) == (1, 1)
    assert device.ended == "was ended by SIGKILL"


def test_updates_and_bytes_are_summed_up() -> None:
    summary = a_summary()
    assert (summary.updates.accepted, summary.updates.refused) == (3, 1)
    assert summary.updates.bytes_each == 62_976
    assert summary.updates.staleness == {0: 2, 1: 1}
    assert (summary.bytes_up, summary.bytes_down) == (195_000, 750_000)


def test_the_accuracy_is_that_of_the_newest_version_that_was_tested() -> None:
    summary = a_summary()
    assert (summary.accuracy, summary.seconds) == (0.3, 64.2)


def test_a_run_in_which_nothing_happened_has_a_summary() -> None:
    board = Scoreboard(RUN, {"a": DeviceRow(), "b": DeviceRow()})
    summary = summarize(board, [], ending="interrupted", problem=None, settings={})
    assert (summary.accuracy, summary.versions, summary.updates.bytes_each) == (None, (), None)
    assert "No version was tested." in as_text(summary)
    assert json.loads(as_json(summary))["devices"]["a"]["mean_staleness"] is None


def test_the_json_has_the_documented_keys() -> None:
    told = json.loads(as_json(a_summary()))
    assert (told["kind"], told["schema"], told["ending"]) == ("demo", 1, "finished")
    assert told["data"] == {
        "source": "images in photos",
        "generated": False,
        "train_examples": 1750,
        "test_examples": 500,
    }
    assert told["versions"][1] == {
        "version": 1,
        "made_s": 8.0,
        "tested_s": 9.0,
        "accuracy": 0.3,
        "loss": 2.0,
        "devices": ["a", "b"],
        "staleness": [0, 0],
    }
    assert told["updates"]["staleness"] == {"0": 2, "1": 1}
    documented = (experiments.summary.__doc__ or "").splitlines()
    for key in told:
        assert any(key in line.split("  ")[2:4][0] for line in documented if line[:4] == "    "), (
            key
        )


def test_the_text_tells_the_figures() -> None:
    text = as_text(a_summary())
    for part in (
        "Flockwise demo, fedbuff: finished",
        "2 devices with 1,750 images in all, 500 to test on: images in photos",
        "Accuracy by version\n     0  10.0 %     1  30.0 %\n",
        "2 versions in 64 s, made of 3 updates (3 accepted, 1 refused)",
        "63.0 kB an update up, 248 kB a version down; 195 kB up and 750 kB down in all",
        "staleness 0.33 versions on average: 2 missed none, 1 missed 1",
        "1 refused, was ended by SIGKILL",
        "All files of the run: /runs/x",
    ):
        assert part in text


def test_the_text_of_a_run_that_broke_off_says_where_and_why() -> None:
    failed = a_summary(ending="failed", problem="no device is left")
    assert "failed at version 2 of 3: no device is left" in as_text(failed)
    assert "interrupted at version 2 of 3" in as_text(a_summary(ending="interrupted"))


def test_accuracies_on_generated_images_are_labelled() -> None:
    text = as_text(generated())
    assert "Accuracy by version on generated images" in text
    assert "30.0 % (generated images)" in text
    assert json.loads(as_json(generated()))["data"]["generated"] is True


def test_torn_and_foreign_lines_of_the_reports_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "reports.jsonl"
    file.write_text('{"kind": "update"}\n[1]\n\n{"kind": "upd')
    assert read_reports(file) == [{"kind": "update"}]
    assert read_reports(tmp_path / "none") == []


BASELINE = {
    "model": "tutorial-cnn",
    "parameters": 62_006,
    "source": "images in photos",
    "generated": False,
    "train_examples": 1945,
    "threads": 2,
    "accuracy": 0.5,
    "seconds": 40.0,
    "epochs": [
        {"epoch": 1.0, "accuracy": 0.25, "loss": 2.0, "seconds": 10.0},
        {"epoch": 2.0, "accuracy": 0.5, "loss": None, "seconds": 40.0},
    ],
}


def a_baseline(tmp_path: Path, **changes: Any) -> BaselineResult:
    file = tmp_path / "baseline.json"
    file.write_text(json.dumps({**BASELINE, **changes}))
    return read_baseline(file)


def test_a_baseline_is_shown_beside(tmp_path: Path) -> None:
    lines = list(comparison_lines(a_summary(), a_baseline(tmp_path)))
    assert "1,945 images, 2 threads" in lines[0]
    assert "1  25.0 %" in lines[1]
    assert lines[-1].strip() == (
        "the federation is 20.0 points below it; it had come that far after 40 s"
    )
    assert lines[-1] in as_text(a_summary(), beside=lines)


@pytest.mark.parametrize("changes", [{"generated": True}, {"model": "fast-cnn"}])
def test_what_cannot_be_compared_is_not_compared(tmp_path: Path, changes: dict[str, Any]) -> None:
    lines = list(comparison_lines(a_summary(), a_baseline(tmp_path, **changes)))
    assert "not comparable" in lines[-1]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"model": 1}', "\x00"])
def test_a_file_that_is_no_baseline_is_one_clear_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "baseline.json"
    file.write_text(text)
    with pytest.raises(Failure) as caught:
        read_baseline(file)
    assert "no summary of `flockwise lab baseline`" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_baseline_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cannot be read"):
        read_baseline(tmp_path / "none")
