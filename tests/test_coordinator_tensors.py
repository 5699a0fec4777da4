"""Checkpoints as anyone reads them: what is written here is read by the library of the format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from coordinator.tensors import write_tensors
from federation.compression import Vector


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"w": np.zeros(0, dtype=np.float32)},
        {"b": np.array([1.5], dtype=np.float32), "a": np.ones((2, 3, 4), dtype=np.float32)},
        {'bloc \u00e9 " \\': np.arange(7, dtype=np.float32), "scalar": np.float32(3).reshape(())},
        {"turned": np.arange(12, dtype=np.float32).reshape(3, 4).T},
    ],
)
def test_the_library_reads_what_was_written(tmp_path: Path, tensors: dict[str, Vector]) -> None:
    write_tensors(tmp_path / "x.safetensors", tensors)
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == np.float32
        assert found[name].shape == tensor.shape
        np.testing.assert_array_equal(found[name], tensor)


def test_it_takes_as_many_bytes_as_the_library_takes(tmp_path: Path) -> None:
    tensors = {f"layer.{n}": np.arange(n + 1, dtype=np.float32) for n in range(9)}
    write_tensors(tmp_path / "own", tensors)
    save_file(tensors, tmp_path / "library")
    own, library = ((tmp_path / name).stat().st_size for name in ("own", "library"))
    assert own == library


def test_a_model_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for number in (1.0, 2.0):
        write_tensors(path, {"w": np.full(5, number, dtype=np.float32)})
        assert load_file(path)["w"].tolist() == [number] * 5
    assert [one.name for one in tmp_path.iterdir()] == ["x.safetensors"]
