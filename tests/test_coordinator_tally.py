"""What rows add up to, in the row of a version."""

from __future__ import annotations

from coordinator.tally import Tally
from tests.story import quarantine, update, version


def test_a_version_tells_the_bytes_of_all_updates_so_far() -> None:
    tally = Tally()
    for device in ("one", "two"):
        tally.take(update(device))
    assert tally.take(version(1, "one"))["bytes_up"] == 200
    tally.take(update("one"))
    assert tally.take(version(2, "one"))["bytes_up"] == 300


def test_a_version_tells_how_good_devices_find_the_model() -> None:
    tally = Tally()
    tally.take(update("one", held_out_accuracy=0.5))
    assert tally.take(version(1, "one"))["on_device"] == {
        "devices": 1,
        "accuracy_mean": 0.5,
        "accuracy_worst_decile": 0.5,
    }


def test_where_no_device_tells_an_accuracy_there_is_none() -> None:
    tally = Tally()
    tally.take(update("one", train_loss=0.5))
    assert "on_device" not in tally.take(version(1, "one"))


def test_devices_in_quarantine_are_not_asked() -> None:
    tally = Tally()
    tally.take(update("liar", held_out_accuracy=0.0))
    tally.take(update("one", held_out_accuracy=0.5))
    tally.take(quarantine("one", 1, quarantined=False))
    tally.take(quarantine("liar", 1))
    assert tally.take(version(1, "one"))["on_device"]["devices"] == 1


def test_other_rows_stay_as_they_are() -> None:
    row = update("one", held_out_accuracy=0.5)
    assert Tally().take(row) == row
