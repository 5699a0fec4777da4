"""Models as flat vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from federation.compression import encode
from learning.models import build_model
from learning.vectors import (
    ModelMismatchError,
    layout_of,
    load_vector,
    read_vector,
    vector_of,
)


def small_model() -> nn.Module:
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0]]))
        model.bias.fill_(3.0)
    return model


def test_a_vector_holds_the_tensors_in_the_order_of_the_state_dict() -> None:
    assert vector_of(small_model()).tolist() == [1, 2, 3]


def test_a_layout_names_the_tensors_in_the_same_order() -> None:
    assert layout_of(small_model()).to_wire() == [["weight", [1, 2]], ["bias", [1]]]


def test_a_vector_loaded_is_the_vector_read_back_whatever_the_memory_format() -> None:
    model = build_model("fast-cnn")
    vector = np.random.default_rng(0).normal(size=layout_of(model).size).astype(np.float32)
    load_vector(model, vector)
    assert np.array_equal(vector_of(model), vector)


def test_a_vector_is_a_copy() -> None:
    model = small_model()
    vector_of(model)[0] = 9
    assert vector_of(model)[0] == 1


def test_a_read_only_vector_can_be_loaded_and_is_not_changed_by_training() -> None:
    model = small_model()
    vector = np.frombuffer(np.array([4, 5, 6], "<f4").tobytes(), "<f4")
    load_vector(model, vector)
    with torch.no_grad():
        model.bias.add_(1)  # type: ignore[operator]
    assert vector.tolist() == [4, 5, 6]


@pytest.mark.parametrize("size", [2, 4])
def test_a_vector_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ModelMismatchError, match=f"a vector of {size} numbers for a model of 3"):
        load_vector(small_model(), np.zeros(size, np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_refused_and_changes_nothing(bad: float) -> None:
    model = small_model()
    with pytest.raises(ModelMismatchError, match="not finite"):
        load_vector(model, np.array([0, bad, 0], np.float32))
    assert vector_of(model).tolist() == [1, 2, 3]


def test_a_model_with_an_integer_buffer_has_no_vector() -> None:
    model = nn.BatchNorm1d(2)
    with pytest.raises(ModelMismatchError, match="num_batches_tracked"):
        vector_of(model)
    with pytest.raises(ModelMismatchError, match="num_batches_tracked"):
        layout_of(model)


def test_a_file_gives_its_vector_back(tmp_path: Path) -> None:
    path = tmp_path / "vector"
    path.write_bytes(encode("float32", np.array([1, 2], np.float32)))
    assert read_vector(path, "float32", 2).tolist() == [1, 2]


def test_what_becomes_of_a_vector_does_not_reach_its_file(tmp_path: Path) -> None:
    path = tmp_path / "vector"
    path.write_bytes(encode("float32", np.array([1, 2], np.float32)))
    vector = read_vector(path, "float32", 2)
    vector *= 2
    assert read_vector(path, "float32", 2).tolist() == [1, 2]


def test_a_vector_outlives_the_name_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "vector"
    path.write_bytes(encode("float32", np.array([1, 2], np.float32)))
    vector = read_vector(path, "float32", 2)
    path.unlink()
    assert vector.tolist() == [1, 2]


def test_a_file_of_another_size_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "vector"
    path.write_bytes(bytes(11))
    with pytest.raises(ModelMismatchError, match=r"vector: 3 numbers.*12 bytes, not 11"):
        read_vector(path, "float32", 3)
