"""`flockwise lab partition`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from config.failures import ExitCode, Failure
from config.partition import Partition
from experiments.partition_description import table
from experiments.partitioning import main, partition_images, write_partition
from learning.chunks import read_chunk
from learning.generated import generated_images


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def generate(output: Path, *options: str) -> None:
    main(["--output", str(output), "--generated", "--examples", "60", *options])


def test_each_device_gets_a_chunk_and_there_is_a_test_set(tmp_path: Path) -> None:
    generate(tmp_path / "chunks", "--devices", "3", "--test-examples", "20")
    assert sorted(contents(tmp_path / "chunks")) == [
        "device-000.npz",
        "device-001.npz",
        "device-002.npz",
        "partition.json",
        "test.npz",
    ]
    chunks = [read_chunk(tmp_path / "chunks" / f"device-00{index}.npz") for index in range(3)]
    assert [len(chunk.train_labels) for chunk in chunks] == [18, 18, 18]
    assert [len(chunk.held_out_labels) for chunk in chunks] == [2, 2, 2]
    test = read_chunk(tmp_path / "chunks" / "test.npz")
    assert (len(test.train_labels), len(test.held_out_labels)) == (0, 20)
    assert all(chunk.generated for chunk in [*chunks, test])


def test_the_chunks_together_are_the_training_images(tmp_path: Path) -> None:
    images = generated_images(train=50, test=10, seed=4)
    rule = Partition(kind="dirichlet", alpha=0.3, held_out=0.2)
    made = write_partition(images, tmp_path, rule, devices=4, seed=4)
    together = []
    for part in made.devices:
        chunk = read_chunk(tmp_path / part.file)
        assert (part.train, part.held_out) == (len(chunk.train_labels), len(chunk.held_out_labels))
        labels = np.concatenate([chunk.train_labels, chunk.held_out_labels])
        assert part.labels == tuple(np.bincount(labels, minlength=10))
        pixels = np.concatenate([chunk.train_images, chunk.held_out_images])
        together += [(image.tobytes(), label) for image, label in zip(pixels, labels, strict=True)]
    expected = [
        (image.tobytes(), label)
        for image, label in zip(images.train_images, images.train_labels, strict=True)
    ]
    assert sorted(together) == sorted(expected)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--dirichlet", "0.5"),
        ("--kind", "dirichlet", "--balanced"),
        ("--kind", "shards", "--labels-per-device", "4"),
        ("--kind", "quantity"),
        ("--kind", "power_law"),
    ],
)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        generate(tmp_path / name, *options, "--noise", "0.1", "--seed", str(seed))
    first, again, other = (contents(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    assert first["device-000.npz"] != other["device-000.npz"]


def test_the_description_tells_what_was_done(tmp_path: Path) -> None:
    generate(tmp_path, "--devices", "2", "--dirichlet", "0.5", "--held-out", "0.2", "--seed", "7")
    described = json.loads((tmp_path / "partition.json").read_bytes())
    assert described["generated"] is True
    assert described["source"] == "generated images (seed 7)"
    assert described["seed"] == 7
    assert described["cut"] == "by Dirichlet(0.5)"
    assert described["rule"] == {
        "kind": "dirichlet",
        "alpha": 0.5,
        "balanced": False,
        "noise": 0.0,
        "held_out": 0.2,
    }
    assert [device["file"] for device in described["devices"]] == [
        "device-000.npz",
        "device-001.npz",
    ]
    assert sum(sum(device["labels"]) for device in described["devices"]) == 60


def test_the_description_is_printed_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(tmp_path, "--kind", "power_law", "--noise", "0.2", "--json")
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "partition.json").read_bytes())
    assert [device["noise"] for device in printed["devices"]] == pytest.approx(
        [0.04, 0.08, 0.12, 0.16, 0.2]
    )


def test_the_short_form_is_the_long_one(tmp_path: Path) -> None:
    generate(tmp_path / "short", "--dirichlet", "0.3")
    generate(tmp_path / "long", "--kind", "dirichlet", "--alpha", "0.3")
    assert contents(tmp_path / "short") == contents(tmp_path / "long")


def test_what_the_demo_asks_for_is_what_the_command_makes(tmp_path: Path) -> None:
    generate(tmp_path / "command", "--devices", "3", "--dirichlet", "0.3", "--test-examples", "10")
    images = generated_images(train=60, test=10, seed=0)
    partition_images(images, tmp_path / "demo", devices=3, dirichlet=0.3)
    assert contents(tmp_path / "command") == contents(tmp_path / "demo")


def test_a_picture_is_drawn_beside(tmp_path: Path) -> None:
    picture = tmp_path / "who.png"
    generate(tmp_path / "chunks", "--picture", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "who.png" not in contents(tmp_path / "chunks")


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"cannot write .*who\.svg: No such file") as caught:
        generate(tmp_path / "chunks", "--picture", str(tmp_path / "nowhere" / "who.svg"))
    assert caught.value.code is ExitCode.CANNOT_WRITE


def test_the_help_teaches_each_kind(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    for word in ("shards", "power_law", "quantity", "--noise", "--picture", "--dirichlet 0.5"):
        assert word in shown


def test_a_smaller_partition_leaves_no_chunk_of_a_larger_one(tmp_path: Path) -> None:
    generate(tmp_path, "--devices", "5")
    (tmp_path / "notes.txt").write_text("mine")
    generate(tmp_path, "--devices", "1")
    assert sorted(contents(tmp_path)) == [
        "device-000.npz",
        "notes.txt",
        "partition.json",
        "test.npz",
    ]


def test_the_table_shows_labels_by_devices_and_that_images_are_generated(tmp_path: Path) -> None:
    images = generated_images(train=20, test=10, seed=0)
    lines = table(partition_images(images, tmp_path, devices=1)).splitlines()
    assert lines[0].split() == [*images.class_names, "train", "held-out"]
    assert lines[1].split() == ["device-000", *["2"] * 10, "18", "2"]
    assert "GENERATED" in lines[2]
    assert "cut evenly; 10 test images" in lines[2]


def test_the_table_tells_the_noise_where_there_is_some(tmp_path: Path) -> None:
    images = generated_images(train=20, test=10, seed=0)
    made = write_partition(images, tmp_path, Partition(noise=0.1), devices=2)
    lines = table(made).splitlines()
    assert [line.split()[-1] for line in lines[:3]] == ["noise", "0.050", "0.100"]
    assert "cut evenly, noise up to 0.1;" in lines[3]


def test_of_many_devices_the_table_shows_the_first_ones(tmp_path: Path) -> None:
    images = generated_images(train=20, test=10, seed=0)
    shown = table(partition_images(images, tmp_path, devices=6), most=4)
    assert "device-003" in shown
    assert "device-004" not in shown
    assert "... and 2 more devices" in shown


def test_a_folder_of_images_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for index in range(4):
                image = Image.new("RGB", (32, 32), (index, 0, 0))
                image.save(tmp_path / "images" / part / name / f"{index}.png")
    output = tmp_path / "chunks"
    main(["--output", str(output), "--data", str(tmp_path / "images"), "--devices", "2"])
    chunk = read_chunk(output / "device-001.npz")
    assert chunk.class_names == ("cat", "dog")
    assert not chunk.generated
    assert "GENERATED" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--devices", "0"], "argument --devices: '0' is not a whole number from 1"),
        (["--devices", "many"], "argument --devices: 'many' is not a whole number"),
        (["--devices", "61"], "61 devices cannot share 60 training images"),
        (["--dirichlet", "0"], "argument --dirichlet: '0' is not a number above 0"),
        (["--dirichlet", "inf"], "argument --dirichlet: 'inf' is not a number above 0"),
        (["--held-out", "1"], "--held-out is '1', but must be a number of at least 0, below 1"),
        (["--held-out", "x"], "--held-out is 'x', but must be a number"),
        (["--kind", "shard"], "must be one of .*; did you mean shards"),
        (["--alpha", "0.5"], "alpha is for kind dirichlet or quantity, not iid"),
        (["--kind", "shards", "--alpha", "2"], "alpha is for kind dirichlet or quantity, not sh"),
        (["--balanced"], "balanced is for kind dirichlet, not iid"),
        (["--dirichlet", "0.5", "--kind", "iid"], "--dirichlet is short for --kind dirichlet"),
        (["--dirichlet", "0.5", "--alpha", "1"], "--dirichlet is short for --kind dirichlet"),
        (["--dirichlet", "1e9"], "--dirichlet is '1000000000.0', but must be a number above 0"),
        (["--kind", "shards", "--labels-per-device", "11"], "cannot have 11 labels where the im"),
        (["--kind", "shards", "--devices", "2"], "2 devices with 2 of 10 labels each leave"),
        (["--noise", "-1"], "--noise is '-1', but must be a number from 0 to 1"),
        (["--picture", "who.pdf"], "argument --picture: 'who.pdf' does not end in .png or .svg"),
        (["--seed", "-1"], "argument --seed: '-1' is not a whole number from 0"),
        (["--data", "images"], "not allowed with argument"),
    ],
)
def test_a_bad_option_is_a_failure_of_usage(
    tmp_path: Path, options: list[str], reason: str
) -> None:
    with pytest.raises(Failure, match=reason) as caught:
        generate(tmp_path, *options)
    assert caught.value.code is ExitCode.USAGE


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match=r"cannot write chunks to .*file") as caught:
        generate(tmp_path / "file")
    assert caught.value.code is ExitCode.CANNOT_WRITE
