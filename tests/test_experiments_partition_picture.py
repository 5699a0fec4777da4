"""The picture of a partition."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import rcParams
from PIL import Image

from config.failures import ExitCode, Failure
from config.partition import Partition
from experiments.partition_description import DevicePart, PartitionDescription
from experiments.partition_picture import picture, write_picture
from learning.partition import counts_by_label, partition, split_held_out
from learning.partition_noise import noise_levels


def described(
    devices: int = 5,
    *,
    labels: int = 10,
    examples: int = 2000,
    names: tuple[str, ...] | None = None,
    generated: bool = False,
    **values: Any,
) -> PartitionDescription:
    rule = Partition.model_validate(values)
    truth = np.arange(examples) % labels
    parts = partition(truth, devices, rule, seed=0)
    held_out = [len(split_held_out(truth, part, rule.held_out, seed=0)[1]) for part in parts]
    counts = counts_by_label(truth, parts, labels)
    levels = noise_levels(devices, rule.noise)
    return PartitionDescription(
        source="the images of a test",
        generated=generated,
        seed=0,
        cut=rule.in_words(),
        rule=rule.numbers(),
        class_names=names or tuple(f"label {index}" for index in range(labels)),
        devices=tuple(
            DevicePart(
                f"device-{index:03d}.npz",
                len(parts[index]) - held_out[index],
                held_out[index],
                tuple(counts[index].tolist()),
                float(levels[index]),
            )
            for index in range(devices)
        ),
        test_file="test.npz",
        test_examples=10,
    )


def texts(svg: bytes) -> str:
    """What an SVG says: matplotlib notes each text in a comment beside its glyphs."""
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    return svg.decode()


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_partition_gives_the_same_bytes_and_another_others(kind: str) -> None:
    made = described(kind="dirichlet", noise=0.1)
    assert picture(made, kind) == picture(made, kind)
    assert picture(made, kind) != picture(described(kind="dirichlet", alpha=0.1), kind)


def test_somebodys_own_style_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = described(kind="shards", labels_per_device=3)
    plain = picture(made, "png")
    monkeypatch.setitem(rcParams, "axes.facecolor", "black")
    monkeypatch.setitem(rcParams, "font.size", 20.0)
    assert picture(made, "png") == plain
    assert rcParams["axes.facecolor"] == "black"


def test_no_clock_and_no_version_is_in_the_bytes() -> None:
    svg = picture(described(), "svg").decode()
    assert "dc:date" not in svg
    assert "dc:creator" not in svg


def test_a_picture_says_what_it_shows() -> None:
    shown = texts(picture(described(3, examples=1200, kind="power_law", noise=0.2), "svg"))
    assert "1,200 images on 3 devices, cut in sizes by a power law, exponent 1" in shown
    assert "noise up to 0.2" in shown
    assert "label 7" in shown
    assert "<!-- noise -->" in shown
    assert "GENERATED" not in shown


def test_made_up_images_are_told_as_such() -> None:
    assert "GENERATED, NOT REAL" in texts(picture(described(generated=True), "svg"))


def test_cells_of_few_devices_tell_their_number_and_those_of_many_do_not() -> None:
    few = texts(picture(described(2, examples=620), "svg"))
    assert "<!-- 31 -->" in few
    many = texts(picture(described(40, examples=12_400), "svg"))
    assert "<!-- 31 -->" not in many


def test_where_there_is_nothing_it_is_white_and_most_is_darkest() -> None:
    made = described(4, labels=4, kind="shards", labels_per_device=1)
    pixels = np.asarray(Image.open(io.BytesIO(picture(made, "png"))).convert("RGB"))
    darkest = (pixels == (0x0B, 0x3A, 0x53)).all(axis=2)
    white = (pixels == 255).all(axis=2)
    assert darkest.mean() > 0.02
    assert white.mean() > 0.3


@pytest.mark.parametrize(
    "shape",
    [
        {"devices": 1},
        {"devices": 1, "labels": 1, "examples": 1},
        {"devices": 3, "labels": 2, "examples": 3},
        {"devices": 150, "kind": "dirichlet", "alpha": 0.1},
        {"devices": 1000, "examples": 3000, "noise": 0.1},
        {"devices": 20, "labels": 100, "kind": "shards", "labels_per_device": 5},
    ],
)
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_partitions_of_any_shape_are_drawn(shape: dict[str, Any], kind: str) -> None:
    assert len(picture(described(**shape), kind)) > 5000


def test_the_picture_of_many_devices_is_no_large_file() -> None:
    assert len(picture(described(1000, examples=20_000, kind="dirichlet"), "svg")) < 300_000


def test_names_are_text_whatever_is_in_them() -> None:
    names = (r"$\frac$", "a_{b", "猫", "<&>", "n" * 100)
    made = described(labels=5, names=names, examples=50)
    assert picture(made, "png").startswith(b"\x89PNG")
    texts(picture(made, "svg"))


def test_the_ending_chooses_the_format(tmp_path: Path) -> None:
    write_picture(described(), tmp_path / "who.SVG")
    write_picture(described(), tmp_path / "who.png")
    assert (tmp_path / "who.SVG").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "who.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_what_to_install_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Failure, match=r"install flockwise\[lab\]") as caught:
        picture(described(), "png")
    assert caught.value.code is ExitCode.FAILURE
