"""The report of a comparison: made of compare.json alone, harmless, and whole in a browser."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from experiments.compare.comparing import compared
from experiments.compare.comparison import Comparison, read_comparison
from experiments.compare.page import page
from experiments.compare.spread import middle_curve
from experiments.compare.table import columns, in_words, sentences
from tests.chromium_page import measured
from tests.comparisons import comparison, runs

BOUND = "\N{NO-BREAK SPACE}"
HOSTILE = "<script>alert(1)</script>\"'&$x^2$"


@pytest.fixture(scope="module")
def large() -> Comparison:
    return comparison(devices=100, seeds=3)


@pytest.fixture(scope="module")
def html(large: Comparison) -> str:
    return page(large)


class Reader(HTMLParser):
    """Elements and ids of a page, and whether all that is opened is closed."""

    VOID = ("meta", "link", "br", "hr", "img", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_same_comparison_gives_the_same_bytes_also_when_read_back(
    large: Comparison, html: str, tmp_path: Path
) -> None:
    file = tmp_path / "compare.json"
    file.write_bytes(large.as_json())
    assert read_comparison(file).as_json() == large.as_json()
    assert page(read_comparison(file)) == html


def test_a_report_of_a_hundred_devices_is_small(html: str) -> None:
    assert len(html.encode()) < 1_000_000


def test_a_report_is_one_file_that_asks_for_nothing(html: str) -> None:
    read = Reader(html)
    assert not read.open
    assert not {tag for tag, _ in read.elements} & {"script", "img", "link", "iframe", "object"}
    for _, attributes in read.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("href", "xlink:href", "src"):
            assert str(attributes.get(name, "#")).startswith(("#", "data:image/png;base64,"))
    assert not re.search(r"url\((?!#)|@import", html)
    assert "default-src 'none'" in html


def test_no_id_is_there_twice_and_each_that_is_referred_to_is_there(html: str) -> None:
    ids = [found["id"] for _, found in Reader(html).elements if "id" in found]
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', html)) <= set(ids)


def test_what_the_table_says_stands_in_the_figures(large: Comparison, html: str) -> None:
    text = Reader(html).text.replace(BOUND, " ")
    for column in columns(large):
        for cell in column.cells:
            assert cell.main in text
    for sentence in sentences(large):
        assert sentence in text
    memory = next(one for one in large.methods if one.name == "memory")
    seconds = sorted(outcome.reached[1].time_s or 0 for outcome in memory.outcomes)[1]
    first = next(
        time_s
        for outcome in memory.outcomes
        for time_s, accuracy in zip(outcome.curve.time_s, outcome.curve.accuracy, strict=True)
        if accuracy >= large.targets[1] and time_s == seconds
    )
    assert columns(large)[1].cells[5].main == f"{first // 60:.0f} min {round(first) % 60:02d} s"


def test_all_figures_are_there_with_words_for_who_does_not_see_them(html: str) -> None:
    labels = re.findall(r'role="img" aria-label="([^"]+)"', html)
    assert len(labels) == 8
    assert labels[0].startswith("Accuracy against virtual time")


def test_names_are_text_and_nothing_else(large: Comparison) -> None:
    class_names = (HOSTILE, *large.class_names[1:])
    made = runs(10, 1, classes=class_names)
    found = compared(made, (0.5,), title=HOSTILE, command=f"flockwise lab compare {HOSTILE}")
    hostile = replace(
        found,
        source=HOSTILE,
        notes=(HOSTILE,),
        facts=((HOSTILE, HOSTILE),),
        given={HOSTILE: HOSTILE},
        different={HOSTILE: {HOSTILE: HOSTILE}},
        methods=tuple(replace(one, label=HOSTILE, tuned=HOSTILE) for one in found.methods),
        devices=tuple(replace(one, name=HOSTILE) for one in found.devices),
    )
    html = page(hostile)
    read = Reader(html)
    assert not read.open
    assert "script" not in {tag for tag, _ in read.elements}
    assert read.text.count(HOSTILE) > 20


def test_generated_images_are_told_loudly() -> None:
    made = [replace(run, summary=replace(run.summary, generated=True)) for run in runs(10, 1)]
    found = compared(made, ())
    assert "GENERATED IMAGES" in page(found)
    assert "GENERATED IMAGES" in "\n".join(in_words(found))
    assert any("GENERATED" in note for note in found.notes)


def test_a_target_that_nobody_reaches_is_told_so() -> None:
    found = compared(runs(10, 2), (0.99,))
    assert next(sentences(found)) == "No federated method reached 99.0 %."
    cells = {cell.main for cell in columns(found)[0].cells}
    assert cells == {"not reached", "\N{EN DASH}"}
    assert f"not{BOUND}reached" in page(found)


def test_targets_are_chosen_by_what_was_reached_unless_given() -> None:
    found = compared(runs(10, 2), ())
    assert not found.targets_given
    assert found.targets == (0.5, 0.6)
    assert all(one.reached[0].time_s for m in found.methods[2:] for one in m.outcomes)


def test_devices_without_any_update_are_told(large: Comparison) -> None:
    run = next(one for one in runs(10, 1) if one.name == "fedbuff")
    parts = (replace(run.summary.parts[0], updates=0), *run.summary.parts[1:])
    found = compared([replace(run, summary=replace(run.summary, parts=parts))], ())
    assert any("1 device of 10 had no update" in note for note in found.notes)
    assert "GENERATED" not in page(found)


def test_one_run_without_labels_or_tests_can_be_drawn() -> None:
    run = next(one for one in runs(10, 1) if one.name == "fedavg")
    bare = replace(
        run.summary, curve=(), recall={}, parts=(), settings={}, accuracy=None, best_accuracy=None
    )
    html = page(compared([replace(run, summary=bare, work=(), on_device={}, staleness={})], ()))
    assert not Reader(html).open


def test_curves_of_several_seeds_become_a_median_and_a_band() -> None:
    x, middle, low, high = middle_curve(
        [([0, 2, 4], [0.0, 0.2, 0.4]), ([0, 2, 4], [0.1, 0.3, 0.5]), ([0, 4], [0.2, 0.6])]
    )
    assert x == [0, 2, 4]
    assert middle == pytest.approx([0.1, 0.3, 0.5])
    assert low == pytest.approx([0.0, 0.2, 0.4])
    assert high == pytest.approx([0.2, 0.4, 0.6])


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (600, False)])
def test_nothing_overflows_in_a_browser_and_nothing_is_asked_for(
    html: str, tmp_path: Path, width: int, dark: bool
) -> None:
    found = measured(html, tmp_path, width=width, dark=dark)
    assert found["requests"] == []
    assert found["over"] == []
    assert found["page"] <= found["width"]
    assert found["cut"] == []
    assert found["figures"] == 8
    assert found["injected"] == 0
    assert (found["background"] == "rgb(20, 25, 30)") == dark
    if width == 1200:
        assert found["wide"] == []
