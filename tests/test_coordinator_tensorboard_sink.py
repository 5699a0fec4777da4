"""TensorBoard's files, read back with TensorBoard's own reader."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from config.reporting import Reporting
from coordinator.sources import NOTHING, Sources
from coordinator.tensorboard_sink import TensorBoardSink, folder_name
from tests.story import first_part, second_part

pytest.importorskip("tensorboard")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what it imports is its own business
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

RUN = "0123456789abcdef"


def tell(directory: Path, rows: list[dict[str, Any]], sources: Sources = NOTHING) -> None:
    sink = TensorBoardSink(Reporting(), directory, RUN, sources)
    for row in rows:
        sink.write(row)
    sink.close()


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of two starts."""
    directory = tmp_path_factory.mktemp("tensorboard")
    tell(directory, first_part())
    tell(directory, second_part(), Sources(earlier=lambda: iter(first_part())))
    reader = EventAccumulator(str(directory / RUN), {"scalars": 0, "histograms": 0, "tensors": 0})
    reader.Reload()
    return reader


def test_curves_lie_over_the_version_through_all_starts(read: Any) -> None:
    points = [(event.step, round(event.value, 6)) for event in read.Scalars("global/accuracy")]
    assert points == [(0, 0.3), (1, 0.5), (2, 0.6), (3, 0.4), (4, 0.65)]


def test_the_time_between_points_is_that_of_the_rows(read: Any) -> None:
    first, second, *_ = read.Scalars("global/accuracy")
    assert second.wall_time - first.wall_time == pytest.approx(10)


def test_devices_and_classes_have_their_curves(read: Any) -> None:
    tags = set(read.Tags()["scalars"])
    assert tags >= {"device/one/norm", "device/two/refused", "recall/owl", "global/worst_recall"}


def test_histograms_hold_what_was_counted(read: Any) -> None:
    (first, *_) = read.Histograms("global/staleness")
    value = first.histogram_value
    assert (first.step, value.num) == (1, 2)
    assert (value.min, value.max, value.sum) == (-0.5, 3.5, 3.0)
    last = read.Histograms("global/contributions")[-1]
    assert (last.step, last.histogram_value.num) == (4, 2)


def test_confusion_and_alerts_are_texts(read: Any) -> None:
    tags = read.Tags()["tensors"]
    assert {"confusion_matrix/text_summary", "alerts/text_summary"} <= set(tags)
    (shown, *_) = read.Tensors("confusion_matrix/text_summary")
    (text,) = shown.tensor_proto.string_val
    assert "| owl | 3 | 0 | 1 |" in text.decode()
    alerts = [event.tensor_proto.string_val[0] for event in read.Tensors("alerts/text_summary")]
    assert [b"fallen" in alert for alert in alerts] == [False, True]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("first try", "first_try"),
        ("../../etc", "etc"),
        ("..", RUN),
        (None, RUN),
    ],
)
def test_a_folder_is_named_after_its_run(name: str | None, folder: str) -> None:
    assert folder_name(name, RUN) == folder


def test_without_tensorboard_the_federation_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    tell(tmp_path, first_part())
    assert caplog.messages == ["tensorboard is not installed; reports go on without it"]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_directory_that_cannot_be_written_is_told_and_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / RUN).write_text("in the way")
    tell(tmp_path, first_part())
    assert caplog.messages == ["tensorboard failed; reports go on in the JSONL file"]


def test_a_coordinator_loads_torch_for_nothing_else() -> None:
    look = "import sys, coordinator.service; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"
