"""Chunk files, the good ones and the bad ones."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from config.failures import ExitCode, Failure
from learning.chunks import BadChunk, Chunk, read_chunk, write_chunk

Arrays = dict[str, npt.NDArray[Any]]


def a_chunk(train: int = 3, held_out: int = 2, classes: int = 4) -> Chunk:
    chance = np.random.default_rng(0)
    return Chunk(
        chance.integers(0, 256, (train, 3, 32, 32), np.uint8),
        chance.integers(0, classes, train),
        chance.integers(0, 256, (held_out, 3, 32, 32), np.uint8),
        chance.integers(0, classes, held_out),
        tuple(f"class-{index}" for index in range(classes)),
        generated=True,
    )


def assert_equal(left: Chunk, right: Chunk) -> None:
    for name in ("train_images", "train_labels", "held_out_images", "held_out_labels"):
        assert np.array_equal(getattr(left, name), getattr(right, name))
    assert left.class_names == right.class_names
    assert left.generated == right.generated


def saved(tmp_path: Path, change: Callable[[Arrays], object] = lambda arrays: None) -> Path:
    """A chunk as numpy itself would write it, after a change to its arrays."""
    path = tmp_path / "good.npz"
    write_chunk(path, a_chunk())
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
    change(arrays)
    bad = tmp_path / "bad.npz"
    np.savez(bad, **arrays)  # type: ignore[arg-type]
    return bad


def header(path: Path, name: str, array_header: bytes, payload: bytes = b"") -> None:
    """Rewrite one array of a chunk with a header of our own."""
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    stream = io.BytesIO()
    stream.write(b"\x93NUMPY\x01\x00" + len(array_header).to_bytes(2, "little"))
    parts[f"{name}.npy"] = stream.getvalue() + array_header + payload
    with zipfile.ZipFile(path, "w") as archive:
        for filename, content in parts.items():
            archive.writestr(filename, content)


@pytest.mark.parametrize(("train", "held_out"), [(3, 2), (1, 0), (0, 1)])
def test_a_chunk_is_read_as_it_was_written(tmp_path: Path, train: int, held_out: int) -> None:
    path = tmp_path / "chunk.npz"
    write_chunk(path, a_chunk(train, held_out))
    assert_equal(read_chunk(path), a_chunk(train, held_out))


def test_a_chunk_with_more_than_256_classes_keeps_its_labels(tmp_path: Path) -> None:
    path = tmp_path / "chunk.npz"
    write_chunk(path, a_chunk(50, 50, classes=300))
    assert_equal(read_chunk(path), a_chunk(50, 50, classes=300))


def test_the_same_chunk_is_always_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    write_chunk(first, a_chunk())
    write_chunk(second, a_chunk())
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_numpy_itself_reads_a_chunk_without_pickle(tmp_path: Path) -> None:
    path = tmp_path / "chunk.npz"
    write_chunk(path, a_chunk())
    with np.load(path, allow_pickle=False) as archive:
        assert np.array_equal(archive["train_images"], a_chunk().train_images)


def test_a_chunk_that_numpy_wrote_is_read(tmp_path: Path) -> None:
    assert_equal(read_chunk(saved(tmp_path)), a_chunk())


def test_a_missing_chunk_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"no chunk at .*none\.npz") as caught:
        read_chunk(tmp_path / "none.npz")
    assert caught.value.code is ExitCode.NO_INPUT


def test_a_directory_is_no_chunk(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cannot read"):
        read_chunk(tmp_path)


def test_a_chunk_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"cannot write .*chunk\.npz: No such") as caught:
        write_chunk(tmp_path / "missing" / "chunk.npz", a_chunk())
    assert caught.value.code is ExitCode.CANNOT_WRITE


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 and then nonsense"])
def test_a_file_that_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(BadChunk, match=r"bad\.npz is not a chunk"):
        read_chunk(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_chunk_is_refused(tmp_path: Path, share: float) -> None:
    path = saved(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BadChunk):
        read_chunk(path)


def test_a_flipped_bit_in_the_images_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "chunk.npz"
    write_chunk(path, a_chunk())
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadChunk, match="CRC"):
        read_chunk(path)


FAULTS: dict[str, tuple[Callable[[Arrays], object], str]] = {
    "lacking": (lambda a: a.pop("class_names"), "it holds generated"),
    "extra": (lambda a: a.update(extra=np.zeros(1)), "it holds class_names, extra"),
    "float images": (
        lambda a: a.update(train_images=a["train_images"].astype(np.float32)),
        "train_images is of type <f4",
    ),
    "larger images": (
        lambda a: a.update(train_images=np.zeros((3, 3, 64, 64), np.uint8)),
        r"train_images has the shape \[3, 3, 64, 64\]",
    ),
    "channels last": (
        lambda a: a.update(train_images=np.zeros((3, 32, 32, 3), np.uint8)),
        r"train_images has the shape",
    ),
    "fewer labels": (
        lambda a: a.update(held_out_labels=np.zeros(1, np.int64)),
        r"held_out_images has the shape \[2, 3, 32, 32\], not \[1, 3, 32, 32\]",
    ),
    "label above": (
        lambda a: a.update(train_labels=np.array([0, 1, 4])),
        "train_labels go beyond its 4 classes",
    ),
    "label below": (
        lambda a: a.update(train_labels=np.array([0, -1, 1])),
        "train_labels go beyond its 4 classes",
    ),
    "objects": (
        lambda a: a.update(class_names=np.array(["a", None, "b", "c"], object)),
        "class_names has no header of numpy, or one of an array of objects",
    ),
    "no classes": (lambda a: a.update(class_names=np.array([], np.str_)), "class_names"),
    "doubled class": (lambda a: a.update(class_names=np.array(["a", "b", "a", "c"])), "each once"),
    "no images": (
        lambda a: a.update(
            train_images=np.zeros((0, 3, 32, 32), np.uint8),
            train_labels=np.zeros(0, np.int64),
            held_out_images=np.zeros((0, 3, 32, 32), np.uint8),
            held_out_labels=np.zeros(0, np.int64),
        ),
        "it holds no images",
    ),
    "text for a flag": (lambda a: a.update(generated=np.array("yes")), "generated is of type"),
    "Fortran order": (
        lambda a: a.update(train_images=np.asfortranarray(a["train_images"])),
        "Fortran order",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_chunk_with_a_wrong_array_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    change, reason = FAULTS[name]
    with pytest.raises(BadChunk, match=reason) as caught:
        read_chunk(saved(tmp_path, change))
    assert "\n" not in caught.value.message


def test_pickled_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))  # type: ignore[return-value]

    path = saved(tmp_path, lambda a: a.update(generated=np.array(Trap(), object)))
    with pytest.raises(BadChunk):
        read_chunk(path)
    assert not (tmp_path / "sprung").exists()


def test_a_header_that_promises_more_than_the_file_holds_allocates_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path)
    count = 900_000
    for kind, extents in (("labels", f"({count},)"), ("images", f"({count}, 3, 32, 32)")):
        text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {extents}, }}\n"
        payload = bytes(count) if kind == "labels" else b""
        header(path, f"train_{kind}", text.encode(), payload)
    with pytest.raises(BadChunk, match="train_images does not have the size"):
        read_chunk(path)


def test_a_header_with_more_images_than_allowed_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    header(
        path, "train_labels", b"{'descr': '|u1', 'fortran_order': False, 'shape': (10000000,), }\n"
    )
    with pytest.raises(BadChunk, match="0 to 1000000"):
        read_chunk(path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (3**9**9,), }\n",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }\n",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (-3,), }\n",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': 3, }\n",
        b"{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (3,), }\n",
    ],
)
def test_a_broken_header_is_refused(tmp_path: Path, text: bytes) -> None:
    path = saved(tmp_path)
    header(path, "train_labels", text, bytes(3))
    with pytest.raises(BadChunk, match="train_labels"):
        read_chunk(path)


def test_a_compressed_chunk_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with np.load(path, allow_pickle=False) as archive:
        np.savez_compressed(tmp_path / "small.npz", **archive)
    with pytest.raises(BadChunk, match="compressed"):
        read_chunk(tmp_path / "small.npz")
