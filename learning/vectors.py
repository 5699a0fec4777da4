"""A model as one flat float32 vector of size d, its tensors in the order of its state dict.

Only float32 travels: a model with integer buffers (as the counters of batch normalization are)
has no vector, because an average of counters means nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from federation.compression import Vector, decode
from federation.layout import Layout, TensorSpec
from federation.sizes import encoded_size


class ModelMismatchError(ValueError):
    """A model, a layout and a vector that do not belong together."""


def layout_of(model: nn.Module) -> Layout:
    """The names and shapes of the model's tensors.

    Raises:
        ModelMismatchError: a tensor of the model is not float32.
    """
    return Layout(
        tuple(TensorSpec(name, tuple(tensor.shape)) for name, tensor in _tensors(model).items())
    )


def vector_of(model: nn.Module) -> Vector:
    """A copy of the model's tensors as Float32[d].

    Raises:
        ModelMismatchError: a tensor of the model is not float32.
    """
    flat = [tensor.detach().reshape(-1) for tensor in _tensors(model).values()]
    vector: Vector = torch.cat(flat).numpy()
    return vector


def load_vector(model: nn.Module, vector: Vector) -> None:
    """Write `vector`, Float32[d], into the tensors of the model.

    Raises:
        ModelMismatchError: the vector is not of the model's size, or not finite.
    """
    tensors = _tensors(model)
    size = sum(tensor.numel() for tensor in tensors.values())
    if vector.shape != (size,):
        raise ModelMismatchError(f"a vector of {vector.size} numbers for a model of {size}")
    if not np.isfinite(vector).all():
        raise ModelMismatchError("the model holds numbers that are not finite")
    # What was decoded from bytes is read-only, and torch would warn of it.
    flat = torch.from_numpy(vector if vector.flags.writeable else vector.copy())
    start = 0
    with torch.no_grad():
        for tensor in tensors.values():
            tensor.copy_(flat[start : start + tensor.numel()].view(tensor.shape))
            start += tensor.numel()


def read_vector(path: Path, codec: str, d: int) -> Vector:
    """Read Float32[d] from a file; its size is checked before it is read.

    Numbers that lie there as they are stay there until they are used: the file is mapped, and is
    not to be written to meanwhile. What is written to the vector does not reach it.

    Raises:
        OSError: no such file, or it cannot be read.
        ModelMismatchError: the file is not of the size that d elements take.
        CodecError: no such codec.
    """
    expected = encoded_size(codec, d)
    size = path.stat().st_size
    if size != expected:
        raise ModelMismatchError(f"{path}: {d} numbers in {codec} are {expected} bytes, not {size}")
    return decode(codec, np.memmap(path, dtype=np.uint8, mode="c").data, d)


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = dict(model.state_dict())
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise ModelMismatchError(f"tensor {name} of the model is {tensor.dtype}, not float32")
    return tensors
