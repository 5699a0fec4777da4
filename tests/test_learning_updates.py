"""What is sent of what was learned, and what the device keeps of it."""

from __future__ import annotations

import numpy as np
import pytest

from federation.compression import CODECS, RANGE, Vector, decode, encode, is_lossy
from learning.updates import make_update

D = 1000


def some_vector(seed: int, scale: float = 1.0) -> Vector:
    return (scale * np.random.default_rng(seed).normal(size=D)).astype(np.float32)


def test_without_more_the_delta_is_encoded_and_what_was_rounded_away_is_kept() -> None:
    delta = some_vector(0)
    update = make_update(delta, "int8")
    assert update.payload == encode("int8", delta)
    assert update.memory is None
    assert update.residual is not None
    np.testing.assert_array_equal(update.residual, delta - decode("int8", update.payload, D))


def test_a_residual_is_added_before_it_is_encoded() -> None:
    delta, residual = some_vector(0), some_vector(1)
    assert make_update(delta, "int8", residual=residual).payload == encode("int8", delta + residual)


def test_without_loss_nothing_is_rounded_away() -> None:
    assert make_update(some_vector(0), "float32").residual is None


def test_a_first_update_with_a_memory_is_the_delta_itself() -> None:
    delta = some_vector(0)
    update = make_update(delta, "int8", memory=np.zeros(D, dtype=np.float32))
    assert update.payload == make_update(delta, "int8").payload
    assert update.residual is None
    assert update.memory is not None
    np.testing.assert_array_equal(update.memory, decode("int8", update.payload, D))


def test_what_is_new_against_the_memory_is_sent_and_is_in_the_next_one() -> None:
    delta, memory = some_vector(0), some_vector(1)
    update = make_update(delta, "int8", memory=memory)
    news = decode("int8", update.payload, D)
    assert update.payload == encode("int8", delta - memory)
    assert update.memory is not None
    np.testing.assert_array_equal(update.memory, memory + news)


def test_a_memory_comes_ever_closer_to_a_delta_that_stays_as_it_is() -> None:
    """EF21: what the codec rounds away is in the next difference."""
    delta, memory = some_vector(0), np.zeros(D, dtype=np.float32)
    errors = []
    for _ in range(3):
        update = make_update(delta, "int8", memory=memory)
        assert update.memory is not None
        memory = update.memory
        errors.append(float(np.linalg.norm(delta - memory)))
    assert errors[1] < errors[0] / 50
    assert errors[2] <= errors[1]


def test_what_is_covered_is_what_leaves_the_device() -> None:
    """The noise is on the difference: of the memory, the other end knows every bit."""
    seen: list[Vector] = []

    def cover(vector: Vector) -> Vector:
        seen.append(vector)
        return vector * np.float32(0.5)

    delta, memory, residual = some_vector(0), some_vector(1), some_vector(2)
    half = np.float32(0.5)
    with_memory = make_update(delta, "int8", memory=memory, cover=cover)
    assert with_memory.payload == encode("int8", (delta - memory) * half)
    with_residual = make_update(delta, "int8", residual=residual, cover=cover)
    assert with_residual.payload == encode("int8", delta * half + residual)
    np.testing.assert_array_equal(seen[0], delta - memory)
    np.testing.assert_array_equal(seen[1], delta)


@pytest.mark.parametrize("codec", [codec for codec in CODECS if is_lossy(codec)])
def test_what_is_sent_and_what_is_left_are_all_there_was(codec: str) -> None:
    delta, residual = some_vector(0), some_vector(1)
    update = make_update(delta, codec, residual=residual)
    assert update.payload == encode(codec, delta + residual)
    assert update.residual is not None
    told = decode(codec, update.payload, D)
    np.testing.assert_array_equal(update.residual, (delta + residual) - told)


@pytest.mark.parametrize("codec", [codec for codec in CODECS if is_lossy(codec)])
def test_a_memory_is_what_the_other_end_makes_of_the_payload(codec: str) -> None:
    delta, memory = some_vector(0), some_vector(1)
    update = make_update(delta, codec, memory=memory)
    assert update.memory is not None
    np.testing.assert_array_equal(update.memory, memory + decode(codec, update.payload, D))


def test_a_residual_is_made_by_ranges_as_if_at_once() -> None:
    delta = np.random.default_rng(3).normal(size=2 * RANGE + 9).astype(np.float32)
    update = make_update(delta, "topk")
    assert update.residual is not None
    np.testing.assert_array_equal(
        update.residual, delta - decode("topk", update.payload, delta.size)
    )


def test_nothing_that_is_given_is_changed() -> None:
    delta, memory, residual = some_vector(0), some_vector(1), some_vector(2)
    before = [vector.tobytes() for vector in (delta, memory, residual)]
    make_update(delta, "int8", memory=memory)
    make_update(delta, "int8", residual=residual)
    assert [vector.tobytes() for vector in (delta, memory, residual)] == before


def test_a_memory_needs_no_residual() -> None:
    with pytest.raises(ValueError, match="no residual"):
        make_update(some_vector(0), "int8", residual=some_vector(1), memory=some_vector(2))
