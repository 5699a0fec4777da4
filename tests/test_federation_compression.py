"""Codecs by name: what holds for all of them, and float32 and int8 in particular."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from federation.compression import (
    CODECS,
    RANGE,
    CodecError,
    Vector,
    decode,
    decode_range,
    encode,
    is_lossy,
    plain,
    unpacked,
)
from federation.sizes import INT8_BLOCK, PLAIN_CODECS, encoded_size, size_bounds

FLOAT32 = np.finfo(np.float32)
SIZES = [1, 2, 127, 255, 256, 257, 511, 512, 513, 1025]

patiently = settings(deadline=None, max_examples=50)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = arrays(np.float32, st.sampled_from(SIZES), elements=finite, fill=finite)
moderate = arrays(
    np.float32, st.sampled_from(SIZES), elements=st.floats(-1, 1, width=32), fill=st.just(0.0)
)


def vector(*values: float) -> Vector:
    return np.array(values, dtype=np.float32)


def there_and_back(codec: str, one: Vector) -> Vector:
    return decode(codec, encode(codec, one), one.size)


@given(arrays(np.uint32, st.sampled_from(SIZES)))
@patiently
def test_float32_is_exact_bit_for_bit(bits: np.ndarray) -> None:
    back = there_and_back("float32", bits.view(np.float32))
    assert np.array_equal(back.view(np.uint32), bits)


def test_float32_is_little_endian() -> None:
    assert encode("float32", vector(1.0, -2.0)) == struct.pack("<2f", 1.0, -2.0)


def test_float32_shares_the_memory_of_its_payload() -> None:
    payload = bytearray(encode("float32", vector(1.0, 2.0)))
    decoded = decode("float32", payload, 2)
    payload[:4] = struct.pack("<f", 9.0)
    assert decoded[0] == 9.0


def test_int8_is_a_scale_for_each_block_and_then_a_byte_for_each_element() -> None:
    one = np.zeros(257, dtype=np.float32)
    one[:3] = [127.0, -64.0, 0.4]
    one[256] = -254.0
    payload = encode("int8", one)
    assert payload[:8] == struct.pack("<2f", 1.0, 2.0)
    assert np.frombuffer(payload[8:], np.int8)[[0, 1, 2, 256]].tolist() == [127, -64, 0, -127]
    assert len(payload) == 8 + 257


def test_int8_gives_multiples_of_the_scale_of_their_own_block() -> None:
    one = np.concatenate([np.full(256, 127.0), [0.127, 0.0634]]).astype(np.float32)
    back = there_and_back("int8", one)
    assert np.array_equal(back[:256], one[:256])
    assert back[256:] == pytest.approx([0.127, 0.063], rel=1e-6)


@given(vectors)
@patiently
def test_int8_errs_by_at_most_half_the_scale_of_the_block(one: Vector) -> None:
    back = there_and_back("int8", one).astype(np.float64)
    for start in range(0, one.size, INT8_BLOCK):
        block = one[start : start + INT8_BLOCK].astype(np.float64)
        error = float(np.abs(back[start : start + INT8_BLOCK] - block).max())
        largest = float(np.abs(block).max())
        # Beyond the half step there are only the roundings of float32, and denormals, sent as 0.
        assert error <= largest / 127 / 2 + largest * 1e-6 + 127 * float(FLOAT32.tiny)


@given(moderate)
@patiently
def test_what_int8_gives_is_encoded_by_int8_without_further_loss(one: Vector) -> None:
    once = there_and_back("int8", one)
    assert there_and_back("int8", once) == pytest.approx(once, rel=1e-6)


@given(vectors, st.sampled_from(sorted(CODECS)))
@patiently
def test_the_size_is_known_beforehand(one: Vector, codec: str) -> None:
    least, most = size_bounds(codec, one.size)
    assert least <= len(encode(codec, one)) <= most
    if codec in PLAIN_CODECS:
        assert least == most == encoded_size(codec, one.size)


@pytest.mark.parametrize(
    ("d", "size"), [(1, 5), (255, 259), (256, 260), (257, 265), (512, 520), (513, 525)]
)
def test_int8_takes_four_bytes_a_block_and_one_an_element(d: int, size: int) -> None:
    assert encoded_size("int8", d) == size


@pytest.mark.parametrize("codec", sorted(CODECS))
@pytest.mark.parametrize("d", SIZES)
def test_zeros_stay_zeros(codec: str, d: int) -> None:
    assert not there_and_back(codec, np.zeros(d, dtype=np.float32)).any()


def test_int8_sends_a_block_of_denormals_as_zeros_and_its_neighbour_as_it_is() -> None:
    one = np.full(512, FLOAT32.smallest_subnormal, dtype=np.float32)
    one[256:] = 127.0
    back = there_and_back("int8", one)
    assert not back[:256].any()
    assert (back[256:] == 127.0).all()


def test_int8_carries_the_smallest_normal_scale() -> None:
    one = vector(127 * float(FLOAT32.tiny), float(FLOAT32.tiny))
    assert there_and_back("int8", one) == pytest.approx(one, rel=1e-6)


def test_int8_gives_finite_numbers_for_the_largest_there_are() -> None:
    one = np.full(300, FLOAT32.max, dtype=np.float32)
    one[1::2] *= -1
    back = there_and_back("int8", one)
    assert np.isfinite(back).all()
    assert back == pytest.approx(one, rel=1e-5)


def test_only_float32_loses_nothing() -> None:
    assert [codec for codec in CODECS if not is_lossy(codec)] == ["float32"]


@pytest.mark.parametrize("codec", PLAIN_CODECS)
@pytest.mark.parametrize("d", [1, 256, 257])
def test_a_payload_of_another_size_is_refused(codec: str, d: int) -> None:
    payload = encode(codec, np.ones(d, dtype=np.float32))
    for wrong in (payload[:-1], payload + b"\x00", b"", payload * 2):
        with pytest.raises(CodecError, match=f"{codec}: {d} elements are {len(payload)} bytes"):
            decode(codec, wrong, d)


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_the_size_is_counted_in_bytes_whatever_the_view_is_made_of(codec: str) -> None:
    one = np.random.default_rng(2).standard_normal(4096).astype(np.float32)
    d = next(d for d in range(3000, 4096) if len(encode(codec, one[:d])) % 4 == 0)
    payload = encode(codec, one[:d])
    assert decode(codec, memoryview(payload).cast("i"), d).tobytes() == (
        decode(codec, payload, d).tobytes()
    )


@pytest.mark.parametrize(
    "wrong",
    [
        np.ones(3, dtype=np.float64),
        np.ones(3, dtype=np.int8),
        np.ones(3, dtype=">f4"),
        np.ones((3, 1), dtype=np.float32),
        np.float32(1).reshape(()),
    ],
    ids=["float64", "int8", "big-endian", "matrix", "scalar"],
)
@pytest.mark.parametrize("codec", sorted(CODECS))
def test_what_is_no_float32_vector_is_refused(codec: str, wrong: Vector) -> None:
    with pytest.raises(CodecError, match="takes float32"):
        encode(codec, wrong)


def test_a_vector_with_gaps_between_its_elements_is_encoded_like_any_other() -> None:
    whole = np.arange(600, dtype=np.float32)
    for codec in CODECS:
        assert encode(codec, whole[::2]) == encode(codec, whole[::2].copy())


def test_encoding_leaves_the_vector_as_it_was() -> None:
    one = np.arange(-150, 150, dtype=np.float32)
    before = one.copy()
    for codec in CODECS:
        encode(codec, one)
        assert np.array_equal(one, before)


@pytest.mark.parametrize(
    "name", ["", "zip", "INT8", "int8\nERROR", "int8+", "int8+lzma", "topk+zlib"]
)
def test_an_unknown_codec_is_named_with_those_that_are_known(name: str) -> None:
    for ask in (
        lambda: encode(name, vector(1.0)),
        lambda: decode(name, b"", 1),
        lambda: encoded_size(name, 1),
        lambda: size_bounds(name, 1),
        lambda: unpacked(name, b"", 1),
        lambda: is_lossy(name),
    ):
        with pytest.raises(
            CodecError, match=r"unknown codec .*; known are: float32, bf16, int8"
        ) as one:
            ask()
        assert str(one.value).isprintable()


@given(st.sampled_from(SIZES), st.data())
@patiently
def test_any_bytes_of_the_right_size_are_a_vector(d: int, data: st.DataObject) -> None:
    for codec in ("float32", "bf16", "int8", "int4"):
        size = encoded_size(codec, d)
        payload = data.draw(st.binary(min_size=size, max_size=size))
        decoded = decode(codec, payload, d)
        assert decoded.shape == (d,)
        assert decoded.dtype == np.float32


@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf, 3e38])
def test_a_hostile_scale_gives_numbers_that_are_not_finite_and_no_warning(scale: float) -> None:
    payload = struct.pack("<f", scale) + bytes([127, 0, 129])
    assert not np.isfinite(decode("int8", payload, 3)).all()


@pytest.mark.parametrize("codec", PLAIN_CODECS)
@pytest.mark.parametrize("d", [1, 256, RANGE - 1, RANGE, RANGE + 1, 2 * RANGE + 301])
def test_ranges_are_the_whole_bit_for_bit(codec: str, d: int) -> None:
    one = np.random.default_rng(d).standard_normal(d).astype(np.float32)
    payload = encode(codec, one)
    parts = [
        decode_range(codec, payload, d, start, min(d, start + RANGE))
        for start in range(0, d, RANGE)
    ]
    assert np.concatenate(parts).tobytes() == decode(codec, payload, d).tobytes()


@pytest.mark.parametrize("codec", PLAIN_CODECS)
def test_a_range_may_end_anywhere(codec: str) -> None:
    one = np.random.default_rng(5).standard_normal(2 * RANGE + 301).astype(np.float32)
    payload = encode(codec, one)
    whole = decode(codec, payload, one.size)
    for start, stop in ((0, 0), (0, 1), (RANGE, RANGE + 257), (RANGE, one.size), (0, one.size)):
        part = decode_range(codec, payload, one.size, start, stop)
        assert part.tobytes() == whole[start:stop].tobytes()


@pytest.mark.parametrize(("start", "stop"), [(1, 2), (-RANGE, 0), (RANGE, 0), (0, 301), (0, -1)])
@pytest.mark.parametrize("codec", PLAIN_CODECS)
def test_a_range_that_is_none_is_refused(codec: str, start: int, stop: int) -> None:
    payload = encode(codec, np.ones(300, dtype=np.float32))
    with pytest.raises(ValueError, match="no range of 300 elements"):
        decode_range(codec, payload, 300, start, stop)


@pytest.mark.parametrize("codec", PLAIN_CODECS)
def test_a_range_of_a_payload_of_another_size_is_refused(codec: str) -> None:
    payload = encode(codec, np.ones(300, dtype=np.float32))
    with pytest.raises(CodecError, match="300 elements are"):
        decode_range(codec, payload[:-1], 300, 0, 10)


@pytest.mark.parametrize("codec", PLAIN_CODECS)
def test_a_plain_payload_is_unpacked_as_it_is(codec: str) -> None:
    payload = encode(codec, np.ones(300, dtype=np.float32))
    assert plain(codec) == codec
    assert unpacked(codec, payload, 300) is payload
    with pytest.raises(CodecError, match="300 elements are"):
        unpacked(codec, payload + b"x", 300)


@pytest.mark.parametrize("codec", [codec for codec in CODECS if is_lossy(codec)])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 299, RANGE + 7])
def test_numbers_that_are_not_finite_are_refused_by_what_cannot_carry_them(
    codec: str, wrong: float, place: int
) -> None:
    one = np.ones(RANGE + 300, dtype=np.float32)
    one[place] = wrong
    with pytest.raises(CodecError, match="finite"):
        encode(codec, one)
