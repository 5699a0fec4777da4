"""What sinks look up."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.sources import earlier_rows, images_of
from tests.story import a_test_set


def test_images_are_those_of_the_test_set(tmp_path: Path) -> None:
    images = images_of(a_test_set(tmp_path / "test.npz"))([0, 11])
    assert images is not None
    assert images.shape == (2, 3, 32, 32)
    assert [int(image.max()) for image in images] == [0, 11]


def test_the_test_set_is_read_once(tmp_path: Path) -> None:
    path = a_test_set(tmp_path / "test.npz")
    look_up = images_of(path)
    look_up([3, 5])
    path.unlink()
    images = look_up([5, 3])
    assert images is not None
    assert [int(image.max()) for image in images] == [5, 3]


@pytest.mark.parametrize("content", [None, b"of another task"])
def test_a_test_set_of_another_kind_has_no_images(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "test.bin"
    if content is not None:
        path.write_bytes(content)
    assert images_of(path)([0]) is None


def test_an_image_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert images_of(a_test_set(tmp_path / "test.npz"))([12]) is None


def test_earlier_rows_are_those_that_were_there(tmp_path: Path) -> None:
    path = tmp_path / "reports.jsonl"
    path.write_text('{"kind": "a"}\nnot a row\n[1]\n{"kind": "b"}\n')
    rows = earlier_rows(path)
    with path.open("a") as file:
        file.write('{"kind": "c"}\n')
    assert list(rows()) == [{"kind": "a"}, {"kind": "b"}]
    assert list(rows()) == [{"kind": "a"}, {"kind": "b"}]


def test_before_the_first_start_there_are_no_rows(tmp_path: Path) -> None:
    assert list(earlier_rows(tmp_path / "none")()) == []
