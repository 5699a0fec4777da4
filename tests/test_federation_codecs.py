"""bf16, int4, topk, the layer of zlib: what they keep, how much they err, what they refuse."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from federation.codec_topk import TOPK
from federation.compression import (
    RANGE,
    CodecError,
    Vector,
    decode,
    decode_range,
    encode,
    packed,
    plain,
    unpacked,
)
from federation.sizes import INT4_BLOCK, TOPK_BLOCK, encoded_size, size_bounds, topk_kept

FLOAT32 = np.finfo(np.float32)
SIZES = [1, 2, 31, 32, 33, 127, 128, 129, 255, 257, 513, 1025]
LAYERED = ("int8+zlib", "int4+zlib")

patiently = settings(deadline=None, max_examples=50)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = arrays(np.float32, st.sampled_from(SIZES), elements=finite, fill=finite)


def vector(*values: float) -> Vector:
    return np.array(values, dtype=np.float32)


def normal(d: int, seed: int = 0) -> Vector:
    return np.random.default_rng(seed).standard_normal(d).astype(np.float32)


def there_and_back(codec: str, one: Vector) -> Vector:
    return decode(codec, encode(codec, one), one.size)


# bf16


@pytest.mark.parametrize(
    ("bits", "upper"),
    [
        (0x3F800000, 0x3F80),
        (0x3F807FFF, 0x3F80),
        (0x3F808000, 0x3F80),  # half way: the even one
        (0x3F808001, 0x3F81),
        (0x3F818000, 0x3F82),  # half way: the even one
        (0xBF818000, 0xBF82),
        (0x00000001, 0x0000),
        (0x807FFFFF, 0x8080),  # a denormal becomes the smallest normal number
        (0x80000000, 0x8000),
        (0x7F7FFFFF, 0x7F7F),  # what would become infinity stays finite
        (0xFF7FFFFF, 0xFF7F),
    ],
)
def test_bf16_is_the_upper_half_rounded_to_the_nearest_even(bits: int, upper: int) -> None:
    one = np.array([bits], dtype=np.uint32).view(np.float32)
    assert encode("bf16", one) == struct.pack("<H", upper)


@given(vectors)
@patiently
def test_bf16_errs_by_at_most_one_in_256_of_each_element(one: Vector) -> None:
    error = np.abs(there_and_back("bf16", one).astype(np.float64) - one.astype(np.float64))
    assert (error <= np.abs(one.astype(np.float64)) / 256 + 2.0**-134).all()


@given(arrays(np.uint16, st.sampled_from(SIZES)))
@patiently
def test_what_bf16_gives_is_encoded_by_bf16_without_further_loss(
    upper: npt.NDArray[np.uint16],
) -> None:
    payload = upper.astype("<u2").tobytes()
    one = decode("bf16", payload, upper.size)
    if np.isfinite(one).all():
        assert encode("bf16", one) == payload


# int4


def test_int4_is_a_bf16_scale_for_each_block_and_then_two_levels_to_a_byte() -> None:
    one = np.zeros(INT4_BLOCK + 1, dtype=np.float32)
    one[:3] = [7.0, -3.0, 0.4]
    one[INT4_BLOCK] = -14.0
    payload = encode("int4", one)
    assert payload[:4] == struct.pack("<2H", 0x3F80, 0x4000)  # 1 and 2
    assert payload[4:6] == bytes([0xD7, 0x00])
    assert payload[-1] == 0x09
    assert len(payload) == 4 + INT4_BLOCK // 2 + 1


@given(vectors)
@patiently
def test_int4_errs_by_at_most_half_the_scale_of_the_block(one: Vector) -> None:
    back = there_and_back("int4", one).astype(np.float64)
    assert np.isfinite(back).all()
    for start in range(0, one.size, INT4_BLOCK):
        block = one[start : start + INT4_BLOCK].astype(np.float64)
        error = float(np.abs(back[start : start + INT4_BLOCK] - block).max())
        # The scale is rounded up by one in 128 at most; blocks of denormals are sent as zeros.
        bound = float(np.abs(block).max()) / 7 / 2 * (1 + 1 / 128)
        assert error <= bound * (1 + 1e-6) + 7 * float(FLOAT32.tiny)


def test_int4_gives_finite_numbers_for_the_largest_there_are() -> None:
    one = np.full(300, FLOAT32.max, dtype=np.float32)
    one[1::2] *= -1
    assert there_and_back("int4", one) == pytest.approx(one, rel=1 / 128)


def test_all_levels_of_int4_have_their_bits() -> None:
    one = np.arange(-7, 8, dtype=np.float32)
    assert there_and_back("int4", one).tolist() == one.tolist()
    scale = struct.pack("<H", 0x3F80)
    assert decode("int4", scale + bytes([0x8F]), 2).tolist() == [-1, -8], "only foreign ones say so"


# topk


def kept_of(one: Vector) -> Vector:
    """What topk is to keep, by sorting."""
    chosen = np.sort(np.argsort(-np.abs(one), kind="stable")[: topk_kept(one.size)])
    result = np.zeros_like(one)
    result[chosen] = there_and_back("int4", one[chosen])
    return result


@given(vectors)
@patiently
def test_topk_keeps_the_largest_and_of_equal_ones_the_first(one: Vector) -> None:
    np.testing.assert_array_equal(there_and_back("topk", one), kept_of(one))


@pytest.mark.parametrize("d", [RANGE - 1, RANGE, RANGE + 1, 3 * RANGE + 77])
def test_topk_keeps_the_largest_of_all_ranges_together(d: int) -> None:
    one = normal(d)
    one[RANGE // 2 :] *= np.float32(3)
    np.testing.assert_array_equal(there_and_back("topk", one), kept_of(one))
    ties = np.sign(one)
    np.testing.assert_array_equal(there_and_back("topk", ties), kept_of(ties))


@given(vectors)
@patiently
def test_what_topk_leaves_is_below_the_share_that_it_does_not_keep(one: Vector) -> None:
    """The contraction that error feedback rests on (arXiv:1809.07599, definition 2.1)."""
    exact, back = one.astype(np.float64), there_and_back("topk", one).astype(np.float64)
    left = np.where(back == 0, exact, 0.0)
    share = 1 - topk_kept(one.size) / one.size
    rounding = np.square(np.abs(exact).max() / 7 / 2 * 1.01) * topk_kept(one.size)
    assert np.square(left).sum() <= (share * np.square(exact).sum() + rounding) * (1 + 1e-9) + 1e-70


def test_one_block_may_have_all_that_is_kept() -> None:
    one = np.zeros(TOPK_BLOCK * 32, dtype=np.float32)
    one[TOPK_BLOCK : 2 * TOPK_BLOCK] = 7.0
    assert there_and_back("topk", one).tolist() == one.tolist()


def test_with_error_feedback_topk_sends_everything_in_the_end() -> None:
    one, residual = normal(1000), np.zeros(1000, dtype=np.float32)
    sent = np.zeros(1000, dtype=np.float64)
    for _ in range(200):
        whole = one + residual
        told = there_and_back("topk", whole)
        residual = whole - told
        sent += told
    assert np.linalg.norm(sent / 200 - one) < 0.25 * np.linalg.norm(one)


def topk_payload(counts: list[int], places: list[int], d: int) -> bytes:
    values = b"\x80\x3f" * (-(-len(places) // INT4_BLOCK)) + b"\x11" * (-(-len(places) // 2))
    payload = struct.pack(f"<{len(counts)}H", *counts) + bytes(places) + values
    assert len(payload) == encoded_size("topk", d)
    return payload


def test_a_topk_payload_made_by_hand_is_read() -> None:
    back = decode("topk", topk_payload([3, 7], [3, 4, 255, 0, 1, 2, 3, 4, 5, 43], 300), 300)
    assert np.flatnonzero(back).tolist() == [3, 4, 255, 256, 257, 258, 259, 260, 261, 299]
    assert (back[back != 0] == 1).all()


@pytest.mark.parametrize(
    ("counts", "places"),
    [
        ([3, 6], [3, 4, 255, 0, 1, 2, 3, 4, 5, 43]),  # one too few
        ([3, 8], [3, 4, 255, 0, 1, 2, 3, 4, 5, 43]),
        ([65535, 65535], [3, 4, 255, 0, 1, 2, 3, 4, 5, 43]),
        ([3, 7], [4, 3, 255, 0, 1, 2, 3, 4, 5, 43]),  # not ascending
        ([3, 7], [3, 3, 255, 0, 1, 2, 3, 4, 5, 43]),  # one twice
        ([3, 7], [3, 4, 255, 0, 1, 2, 3, 4, 5, 44]),  # beyond the last element
        ([10, 0], [3, 4, 255, 0, 1, 2, 3, 4, 5, 43]),  # falls back to the block's beginning
    ],
)
def test_a_topk_payload_that_nobody_can_have_written_is_refused(
    counts: list[int], places: list[int]
) -> None:
    with pytest.raises(CodecError, match="topk"):
        decode("topk", topk_payload(counts, places, 300), 300)


@given(st.data())
@patiently
def test_foreign_bytes_are_a_vector_or_refused_by_topk(data: st.DataObject) -> None:
    d = data.draw(st.sampled_from(SIZES))
    payload = bytearray(encode("topk", normal(d)))
    for _ in range(data.draw(st.integers(0, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with suppress(CodecError):
        back = decode("topk", payload, d)
        assert back.shape == (d,)
        assert decode_range("topk", payload, d, 0, d).tobytes() == back.tobytes()


def test_counts_are_believed_before_places_are_looked_at_in_any_range() -> None:
    """A range deep inside is found by the counts before it: they must add up."""
    d = 2 * RANGE
    payload = bytearray(encode("topk", normal(d)))
    counts = np.frombuffer(payload, dtype="<u2", count=d // TOPK_BLOCK)
    counts[0] += 1
    counts[-1] -= 1
    for start in (0, RANGE):
        with pytest.raises(CodecError, match="topk"):
            TOPK.decode(payload, d, start, start + RANGE)


# The layer of zlib


@pytest.mark.parametrize("codec", LAYERED)
def test_the_layer_gives_back_the_plain_payload(codec: str) -> None:
    one = normal(3 * RANGE + 5)
    wrapped, bare = encode(codec, one), encode(plain(codec), one)
    assert unpacked(codec, wrapped, one.size) == bare
    assert wrapped == packed(codec, bare)
    assert (
        decode(codec, wrapped, one.size).tobytes() == decode(plain(codec), bare, one.size).tobytes()
    )
    assert len(wrapped) < 0.95 * len(bare)


@given(st.binary(min_size=1, max_size=3000))
@patiently
def test_what_does_not_compress_stays_within_the_bound(noise: bytes) -> None:
    d = len(noise)
    bare = bytes(4 * -(-d // 256)) + noise
    assert encoded_size("int8", d) == len(bare)
    wrapped = packed("int8+zlib", bare)
    assert len(wrapped) <= size_bounds("int8+zlib", d)[1]
    assert unpacked("int8+zlib", wrapped, d) == bare


def test_a_megabyte_of_noise_stays_within_the_bound() -> None:
    bare = np.random.default_rng(0).bytes(encoded_size("int8", 10**6))
    assert len(packed("int8+zlib", bare)) <= size_bounds("int8+zlib", 10**6)[1]


@pytest.mark.parametrize("codec", LAYERED)
def test_a_layer_that_holds_something_else_is_refused(codec: str) -> None:
    one = normal(1000)
    bare, right = encode(plain(codec), one), encode(codec, one)
    for wrong in (
        right[:-1],
        right + b"\x00",
        packed(codec, bare[:-1]),
        packed(codec, bare + b"\x00"),
        zlib.compress(bare),  # with a head
        b"\xff" * 100,
        b"\x00",
    ):
        with pytest.raises(CodecError, match=r"int[48]\+zlib"):
            unpacked(codec, wrong, 1000)


@pytest.mark.parametrize("codec", LAYERED)
def test_a_layer_has_a_largest_size_and_is_not_read_by_ranges(codec: str) -> None:
    most = size_bounds(codec, 1000)[1]
    for wrong in (b"", bytes(most + 1)):
        with pytest.raises(CodecError, match=f"are at most {most} bytes, not {len(wrong)}"):
            unpacked(codec, wrong, 1000)
    with pytest.raises(CodecError, match="no size that is known beforehand"):
        decode_range(codec, encode(codec, normal(1000)), 1000, 0, 1000)


def test_a_bomb_takes_no_more_memory_than_the_codec_would() -> None:
    d = 1000
    bomb = packed("int8+zlib", bytes(500_000))
    assert len(bomb) <= size_bounds("int8+zlib", d)[1]
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="does not hold"):
            unpacked("int8+zlib", bomb, d)
        assert tracemalloc.get_traced_memory()[1] < 60_000  # zlib's own window is most of it
    finally:
        tracemalloc.stop()


@given(st.data())
@patiently
def test_foreign_bytes_are_a_vector_or_refused_by_the_layer(data: st.DataObject) -> None:
    codec = data.draw(st.sampled_from(LAYERED))
    payload = bytearray(encode(codec, normal(257)))
    for _ in range(data.draw(st.integers(0, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with suppress(CodecError):
        assert decode(codec, bytes(payload), 257).shape == (257,)


# Sizes


@pytest.mark.parametrize(
    ("codec", "d", "size"),
    [
        ("bf16", 1000, 2000),
        ("int4", 1, 3),
        ("int4", 1000, 16 + 500),
        ("topk", 1, 2 + 1 + 3),
        ("topk", 62_006, 2 * 243 + 1938 + 2 * 16 + 969),
    ],
)
def test_sizes_are_as_the_docs_say(codec: str, d: int, size: int) -> None:
    assert encoded_size(codec, d) == size
    assert size_bounds(codec, d) == (size, size)


def test_encoding_a_large_vector_needs_few_temporaries() -> None:
    one = normal(8 * RANGE)
    for codec in ("bf16", "int8", "int4", "topk"):
        encode(codec, one)
        tracemalloc.start()
        try:
            encode(codec, one)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # Its bytes twice, as they are collected and given, and what ranges need.
        assert peak < 2 * encoded_size(codec, one.size) + 32 * RANGE, codec
