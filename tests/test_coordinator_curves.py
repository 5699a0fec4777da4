"""From rows to curves."""

from __future__ import annotations

import math
from typing import Any

from coordinator.curves import MOST_BINS, Curves, Histogram, Shown, histogram
from tests.story import evaluation, quarantine, refusal, update, version


def shown(row: dict[str, Any]) -> Shown:
    made = Curves().take(row)
    assert made is not None
    return made


def test_an_evaluation_is_of_the_global_model_and_of_each_class() -> None:
    made = shown(evaluation(3, 0.5))
    assert (made.version, made.time_s) == (3, 31.0)
    assert made.scalars == {
        "global/accuracy": 0.5,
        "global/best_accuracy": 0.5,
        "global/loss": 1.5,
        "global/examples": 12,
        "global/worst_recall": 0.25,
        "recall/cat": 1.0,
        "recall/dog": 1.0,
        "recall/owl": 0.25,
    }


def test_a_task_without_classes_has_the_curves_of_its_figures() -> None:
    made = shown({"kind": "evaluation", "time_s": 1.0, "version": 3, "perplexity": 20.5})
    assert made.scalars == {"global/perplexity": 20.5}


def test_the_best_accuracy_is_that_of_the_run() -> None:
    curves = Curves()
    made = [curves.take(evaluation(n, accuracy)) for n, accuracy in enumerate((0.5, 0.2, 0.6))]
    assert [m.scalars["global/best_accuracy"] for m in made if m] == [0.5, 0.5, 0.6]


def test_what_is_no_number_is_not_drawn() -> None:
    row = {"kind": "evaluation", "time_s": 1.0, "version": 3, "loss": math.nan, "note": "good"}
    assert shown(row).scalars == {}


def test_a_version_tells_its_updates_and_what_devices_find() -> None:
    on_device = {"devices": 2, "accuracy_mean": 0.5, "accuracy_worst_decile": 0.25}
    row = version(3, "one", "two", staleness=(0, 3)) | {"bytes_up": 300, "on_device": on_device}
    assert shown(row).scalars == {
        "global/updates": 2,
        "global/clipped": 0,
        "global/left_out": 0,
        "global/bytes_up": 300,
        "global/mean_staleness": 1.5,
        "on_device/devices": 2,
        "on_device/accuracy_mean": 0.5,
        "on_device/accuracy_worst_decile": 0.25,
    }


def test_a_version_has_histograms_of_staleness_and_of_contributions() -> None:
    curves = Curves()
    curves.take(version(1, "one", "two", staleness=(0, 2)))
    made = curves.take(version(2, "one", staleness=(1,)))
    assert made is not None
    assert made.histograms == {
        "global/staleness": Histogram((-0.5, 0.5, 1.5), (0, 1)),
        "global/contributions": Histogram((-0.5, 0.5, 1.5, 2.5), (0, 1, 1)),
    }


def test_an_update_is_shown_under_its_device() -> None:
    made = shown(update("one", 3, train_loss=1.5))
    assert made.version == 3
    assert made.scalars == {
        "device/one/staleness": 1,
        "device/one/examples": 10,
        "device/one/steps": 5,
        "device/one/train_s": 2.0,
        "device/one/bytes": 100,
        "device/one/norm": 0.5,
        "device/one/train_loss": 1.5,
    }


def test_a_refusal_is_shown_at_the_newest_version_whatever_it_said() -> None:
    curves = Curves()
    curves.take(version(4, "one"))
    made = curves.take(refusal("two", 2**60))
    assert made == Shown(4, 1.0, {"device/two/refused": 1.0})


def test_a_quarantine_is_shown_under_its_device() -> None:
    assert shown(quarantine("one", 2)).scalars == {"device/one/quarantined": 1.0}
    assert shown(quarantine("one", 2, quarantined=False)).scalars == {"device/one/quarantined": 0.0}


def test_other_rows_show_nothing() -> None:
    assert Curves().take({"kind": "news", "time_s": 1.0}) is None


def test_a_histogram_of_nothing_is_none() -> None:
    assert histogram([]) is None


def test_a_histogram_has_few_bins_however_far_it_goes() -> None:
    made = histogram([0, 1, 10_000])
    assert made is not None
    assert len(made.counts) <= MOST_BINS
    assert sum(made.counts) == 3
    assert (made.counts[0], made.counts[-1]) == (2, 1)
    assert made.edges[-2] <= 10_000 <= made.edges[-1]
