"""Layouts: what goes over the wire comes back, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.layout import (
    MAX_NAME,
    MAX_RANK,
    MAX_SIZE,
    MAX_TENSORS,
    Layout,
    LayoutError,
    TensorSpec,
)

names = st.text("ab1é. ", min_size=1, max_size=5)
shapes = st.lists(st.integers(1, 9), max_size=4).map(tuple)
layouts = st.lists(
    st.builds(TensorSpec, names, shapes), min_size=1, max_size=6, unique_by=lambda t: t.name
).map(lambda tensors: Layout(tuple(tensors)))


def test_the_size_is_that_of_all_tensors() -> None:
    layout = Layout((TensorSpec("weight", (3, 4)), TensorSpec("bias", (4,)), TensorSpec("t", ())))
    assert [tensor.size for tensor in layout.tensors] == [12, 4, 1]
    assert layout.size == 17


def test_on_the_wire_a_layout_is_plain_lists() -> None:
    layout = Layout((TensorSpec("weight", (3, 4)), TensorSpec("scale", ())))
    assert layout.to_wire() == [["weight", [3, 4]], ["scale", []]]


@given(layouts)
@settings(deadline=None, max_examples=50)
def test_what_goes_over_the_wire_comes_back(layout: Layout) -> None:
    assert Layout.from_wire(layout.to_wire()) == layout
    tuples = tuple((name, tuple(shape)) for name, shape in layout.to_wire())
    assert Layout.from_wire(tuples) == layout


@pytest.mark.parametrize(
    "wire",
    [
        [["w" * MAX_NAME, [1]]],
        [["w", [1] * MAX_RANK]],
        [["w", [MAX_SIZE]]],
        [["w", [2**16, 2**15]]],
        [[f"w{n}", []] for n in range(MAX_TENSORS)],
    ],
    ids=["name", "rank", "extent", "size", "tensors"],
)
def test_what_lies_just_within_the_limits_is_taken(wire: list[Any]) -> None:
    assert Layout.from_wire(wire).to_wire() == wire


@pytest.mark.parametrize(
    ("wire", "complaint"),
    [
        (None, "1 to 4096"),
        ("weights", "1 to 4096"),
        ({"w": [1]}, "1 to 4096"),
        ([], "1 to 4096"),
        ([[f"w{n}", []] for n in range(MAX_TENSORS + 1)], "1 to 4096"),
        (["w"], "pair of name and shape"),
        (["wx"], "pair of name and shape"),
        ([["w"]], "pair of name and shape"),
        ([["w", [1], 4]], "pair of name and shape"),
        ([[1, [1]]], "printable"),
        ([[b"w", [1]]], "printable"),
        ([["", [1]]], "printable"),
        ([["a\nb", [1]]], "printable"),
        ([["w" * (MAX_NAME + 1), [1]]], "printable"),
        ([["w", 3]], "at most 8 extents"),
        ([["w", "33"]], "at most 8 extents"),
        ([["w", [1] * (MAX_RANK + 1)]], "at most 8 extents"),
        ([["w", [0]]], "extent"),
        ([["w", [-1]]], "extent"),
        ([["w", [True]]], "extent"),
        ([["w", [2.0]]], "extent"),
        ([["w", ["2"]]], "extent"),
        ([["w", [None]]], "extent"),
        ([["w", [MAX_SIZE + 1]]], "extent"),
        ([["w", [10**30]]], "extent"),
        ([["w", [MAX_SIZE] * MAX_RANK]], "at most 2147483648 elements"),
        ([["w", [MAX_SIZE]], ["b", [1]]], "at most 2147483648 elements"),
        ([["w", [1]], ["w", [1]]], "once"),
    ],
)
def test_anything_else_is_an_error_of_one_line(wire: object, complaint: str) -> None:
    with pytest.raises(LayoutError, match=complaint) as caught:
        Layout.from_wire(wire)
    assert str(caught.value).isprintable()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@given(anything | st.lists(st.tuples(anything, anything), max_size=4))
@settings(deadline=None, max_examples=50)
def test_anything_at_all_is_a_layout_or_a_layout_error(wire: object) -> None:
    try:
        layout = Layout.from_wire(wire)
    except LayoutError:
        return
    assert 1 <= layout.size <= MAX_SIZE
