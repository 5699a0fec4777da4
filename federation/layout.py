"""A layout says how a flat float32 vector of size d is cut into the named tensors of a model.

Both ends compare layouts before a byte of a model or an update is believed. Everything in a
layout is float32: integer buffers are never averaged, so they never travel.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

MAX_TENSORS = 4096
MAX_NAME = 200
MAX_RANK = 8
MAX_SIZE = 2**31


class LayoutError(ValueError):
    """What arrived does not describe a model that can be carried."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a model: its name in the state dict and its shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Layout:
    """The tensors of a model, in the order in which they lie in the flat vector."""

    tensors: tuple[TensorSpec, ...]

    @property
    def size(self) -> int:
        """d: the number of float32 elements of the flat vector."""
        return sum(tensor.size for tensor in self.tensors)

    def to_wire(self) -> list[list[Any]]:
        """The layout as plain lists: `[[name, [extent, ...]], ...]`."""
        return [[tensor.name, list(tensor.shape)] for tensor in self.tensors]

    @classmethod
    def from_wire(cls, wire: object) -> Layout:
        """Read `to_wire` back.

        Raises:
            LayoutError: anything but a list of named shapes within the limits of this module.
        """
        if not isinstance(wire, list | tuple) or not 0 < len(wire) <= MAX_TENSORS:
            raise LayoutError(f"a layout is a list of 1 to {MAX_TENSORS} named shapes")
        layout = cls(tuple(_tensor(item) for item in wire))
        if len({tensor.name for tensor in layout.tensors}) != len(layout.tensors):
            raise LayoutError("a layout names each tensor once")
        if layout.size > MAX_SIZE:
            raise LayoutError(f"a layout holds at most {MAX_SIZE} elements, not {layout.size}")
        return layout


def _tensor(item: object) -> TensorSpec:
    if not isinstance(item, list | tuple) or len(item) != 2:
        raise LayoutError("a tensor of a layout is a pair of name and shape")
    name, shape = item
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise LayoutError(f"the name of a tensor has 1 to {MAX_NAME} printable characters")
    if not isinstance(shape, list | tuple) or len(shape) > MAX_RANK:
        raise LayoutError(f"tensor {name}: a shape is a list of at most {MAX_RANK} extents")
    for extent in shape:
        if type(extent) is not int or not 1 <= extent <= MAX_SIZE:
            raise LayoutError(f"tensor {name}: an extent is a whole number from 1 to {MAX_SIZE}")
    return TensorSpec(name, tuple(shape))
