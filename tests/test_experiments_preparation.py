"""The images of a run are real where they can be had, and labelled where they are not."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from config.failures import ExitCode, Failure
from config.settings import DemoSettings
from experiments import preparation
from experiments.preparation import Prepared, prepare
from experiments.run_directory import RunDirectory, make_run_directory
from learning.chunks import read_chunk
from learning.data import ImageSet
from learning.generated import generated_images

NOW = datetime(2026, 1, 2, 3, 4, 5)


def prepared(tmp_path: Path, said: list[str], **values: Any) -> Prepared:
    settings = DemoSettings.model_validate({"devices": 3, **values})
    return prepare(settings, RunDirectory(tmp_path), said.append, lambda done, total: None)


def no_network(cache: Path | None = None) -> ImageSet:
    raise Failure(ExitCode.NO_INPUT, "CIFAR-10 could not be downloaded (no route); give a folder")


def no_asking(cache: Path | None = None) -> ImageSet:
    raise AssertionError("the network was asked")


def test_each_device_gets_a_chunk_and_there_is_a_test_set(tmp_path: Path) -> None:
    data = prepared(tmp_path, [], generated=True, examples=90, test_examples=20)
    run = RunDirectory(tmp_path)
    assert list(data.examples) == ["device-000", "device-001", "device-002"]
    for device, count in data.examples.items():
        chunk = read_chunk(run.chunk(device))
        assert (len(chunk.train_labels), chunk.generated) == (count, True)
    assert sum(data.examples.values()) == 81
    assert len(read_chunk(run.test_set).held_out_labels) == data.test_examples == 20


def test_without_a_network_it_says_so_in_one_line_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "downloaded_images", no_network)
    said: list[str] = []
    data = prepared(tmp_path, said, examples=90, test_examples=20)
    assert data.generated
    assert "generated" in data.source
    assert len(said) == 1
    assert said[0].startswith(
        "CIFAR-10 could not be downloaded (no route). Going on with GENERATED"
    )


def test_real_images_are_taken_where_they_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = generated_images(train=60, test=10, seed=0)
    monkeypatch.setattr(preparation, "downloaded_images", lambda: real)
    said: list[str] = []
    prepared(tmp_path, said, examples=30)
    assert said == []


def test_who_wants_generated_images_does_not_ask_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "downloaded_images", no_asking)
    assert prepared(tmp_path, [], generated=True, examples=90, test_examples=20).generated


def test_a_folder_is_read_and_not_replaced_by_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "downloaded_images", no_asking)
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for number in range(6):
                pixels = np.full((32, 32, 3), number, np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    data = prepared(tmp_path, [], data=tmp_path / "images")
    assert (data.generated, data.test_examples) == (False, 12)
    with pytest.raises(Failure, match="no images at"):
        prepared(tmp_path, [], data=tmp_path / "none")


def test_a_run_directory_is_named_after_the_time_and_never_used_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = make_run_directory(None, NOW), make_run_directory(None, NOW)
    assert first.path == tmp_path / "runs" / "demo-20260102-030405"
    assert second.path == tmp_path / "runs" / "demo-20260102-030405-2"


def test_a_directory_that_holds_something_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("")
    with pytest.raises(Failure, match="holds something already"):
        make_run_directory(tmp_path, NOW)
    with pytest.raises(Failure, match="cannot make the directory"):
        make_run_directory(tmp_path / "precious" / "run", NOW)
