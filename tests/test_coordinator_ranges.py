"""Updates by ranges: the same bits as all at once, by any number of threads, in little memory."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import Aggregation
from coordinator.aggregation import reanchored, step, united, weighted_mean
from coordinator.combiner import succeed
from coordinator.ranges import AT_ONCE, STRIDE, Encoded, Mapped, by_ranges
from coordinator.screening import LARGEST_NORM, norm_of
from coordinator.vocabulary import Contribution
from federation.compression import RANGE, Vector, decode, encode
from federation.sizes import PLAIN_CODECS, CodecError
from tests.specimens import an_id

SIZES = (1, 2, 255, 1000, RANGE - 1, RANGE, RANGE + 1, STRIDE, STRIDE + 777, 2 * STRIDE + 1)
THREADS = (1, 2, 3, 4)
codecs = st.sampled_from(PLAIN_CODECS)
some = settings(max_examples=40, deadline=None)


def crowd(n: int, d: int, seed: int) -> list[Vector]:
    chance = np.random.default_rng(seed)
    return list(chance.standard_normal((n, d), dtype=np.float32))


def plainly(deltas: list[tuple[Vector, float, float]], d: int) -> Vector:
    """A weighted mean of whole vectors, one after another."""
    total = np.zeros(d, dtype=np.float32)
    weights = 0.0
    for delta, scale, weight in deltas:
        total += delta * np.float32(scale * weight)
        weights += weight
    total /= np.float32(weights)
    return total


@some
@given(
    named=st.lists(codecs, min_size=1, max_size=AT_ONCE + 3),
    d=st.sampled_from(SIZES),
    threads=st.sampled_from(THREADS),
    seed=st.integers(0, 2**32),
)
def test_a_mean_by_ranges_is_the_mean_bit_for_bit(
    named: list[str], d: int, threads: int, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    payloads = [
        encode(codec, vector)
        for codec, vector in zip(named, crowd(len(named), d, seed), strict=True)
    ]
    # Some count as they are: for them there is nothing to multiply.
    scales = [1.0 if chance.random() < 0.3 else float(chance.random()) for _ in named]
    weights = [1.0 if chance.random() < 0.5 else float(chance.integers(1, 90)) for _ in named]
    whole = [decode(codec, payload, d) for codec, payload in zip(named, payloads, strict=True)]
    ranges = [Encoded(codec, payload, d) for codec, payload in zip(named, payloads, strict=True)]
    wanted = plainly(list(zip(whole, scales, weights, strict=True)), d)
    made = weighted_mean(zip(ranges, scales, weights, strict=True), d, threads)
    assert made.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("codec", PLAIN_CODECS)
@pytest.mark.parametrize("threads", THREADS)
def test_files_give_the_same_bits_as_what_is_in_memory(
    tmp_path: Path, codec: str, threads: int
) -> None:
    d = 4 * AT_ONCE * STRIDE + 5  # so that pages are let go in between
    deltas = []
    for n, vector in enumerate(crowd(3, d, 1)):
        (tmp_path / str(n)).write_bytes(encode(codec, vector))
        deltas.append((decode(codec, encode(codec, vector), d), 0.5 + n, 1.0 + n))
    mapped = ((Mapped(tmp_path / str(n), codec, d), 0.5 + n, 1.0 + n) for n in range(3))
    assert weighted_mean(mapped, d, threads).tobytes() == plainly(deltas, d).tobytes()


@pytest.mark.parametrize("threads", THREADS)
def test_every_range_is_done_once_whatever_the_threads(threads: int) -> None:
    d = 3 * STRIDE + 3
    done = np.zeros(d, dtype=np.int64)

    def work(where: slice) -> None:
        assert where.start % STRIDE == 0
        done[where] += 1

    by_ranges(d, work, threads)
    assert (done == 1).all()


def test_what_goes_wrong_in_a_thread_is_not_passed_over() -> None:
    def work(where: slice) -> None:
        if where.start <= 5 * RANGE < where.stop:
            raise CodecError("a range that is none")

    for threads in THREADS:
        with pytest.raises(CodecError):
            by_ranges(8 * RANGE, work, threads)


@pytest.mark.parametrize("threads", THREADS)
def test_what_numpy_is_told_of_overflow_holds_in_every_thread(threads: int) -> None:
    d = 4 * RANGE
    large = np.full(d, 3e38, dtype=np.float32)
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("error")
        assert np.isinf(weighted_mean([(large, 2.0, 2.0)] * 2, d, threads)).all()


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "yogi"])
def test_a_step_by_ranges_is_the_step_bit_for_bit(name: str, threads: int) -> None:
    d = 3 * STRIDE + 17
    rule = Aggregation.model_validate({"step": name, "step_size": 0.3})
    model, update, first, second = crowd(4, d, 2)
    known = {"sgd": (), "momentum": ("m",), "adam": ("m", "v"), "yogi": ("m", "v")}[name]
    for state in ({}, {k: np.abs(v) for k, v in (("m", first), ("v", second)) if k in known}):
        pieces = [
            step(rule, model[n : n + 999], {k: v[n : n + 999] for k, v in state.items()},
                 update[n : n + 999], threads=1)
            for n in range(0, d, 999)
        ]  # fmt: skip
        own = update.copy()
        made, after = step(rule, model, state, own, into=own, threads=threads)
        assert made is own
        assert made.tobytes() == b"".join(piece[0].tobytes() for piece in pieces)
        assert set(after) == set(known)
        for key, vector in after.items():
            assert vector.tobytes() == b"".join(piece[1][key].tobytes() for piece in pieces)


@pytest.mark.parametrize("combine", ["median", "trimmed_mean", "geometric_median", "multi_krum"])
def test_rules_that_compare_see_the_same_rows_by_any_number_of_threads(combine: str) -> None:
    d = 2 * STRIDE + 9
    rule = Aggregation.model_validate({"combine": combine})
    deltas = [(vector, 0.5 + n, 1.0) for n, vector in enumerate(crowd(5, d, 3))]
    made = [united(rule, iter(deltas), 5, d, threads)[0].tobytes() for threads in THREADS]
    assert len(set(made)) == 1


@pytest.mark.parametrize("threads", THREADS)
def test_late_updates_are_reanchored_by_ranges_bit_for_bit(threads: int) -> None:
    d = 2 * STRIDE + 100
    model, base, *deltas = crowd(6, d, 4)
    parts = [Contribution(an_id(f"d{n}"), 0, n % 2, 0.5 + n, 1.0 + n) for n in range(len(deltas))]
    given = dict(zip((part.id for part in parts), deltas, strict=True))
    rule = Aggregation(reanchor=True, step_size=0.3)
    made = succeed(rule, model, {}, parts, given.__getitem__, lambda version: base, threads)
    towards = [
        (reanchored(given[p.id], base, model) if p.staleness else given[p.id], p.scale, p.weight)
        for p in parts
    ]
    wanted = model + np.float32(0.3) * plainly(towards, d)
    assert made.model.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("threads", THREADS)
def test_the_memory_of_devices_is_summed_by_ranges_bit_for_bit(threads: int) -> None:
    d = 2 * STRIDE + 100
    model, before, *deltas = crowd(7, d, 5)
    parts = [
        Contribution(an_id(f"d{n}"), 0, 0, 0.5 + n, 1.0, known=n > 1) for n in range(len(deltas))
    ]
    given = dict(zip((part.id for part in parts), deltas, strict=True))
    rule = Aggregation(combine="mean", step_size=0.3, memory_gain=0.7)
    state = {"memory": before, "memory_holders": np.array([4], dtype=np.float32)}
    made = succeed(rule, model, state, parts, given.__getitem__, lambda version: model, threads)
    total = before.copy()
    for delta in deltas:
        total += delta
    update = plainly([(given[p.id], p.scale, p.weight) for p in parts], d) * np.float32(0.7)
    update += before * np.float32(3 / (5 * 4))
    assert made.state["memory"].tobytes() == total.tobytes()
    assert made.model.tobytes() == (model + np.float32(0.3) * update).tobytes()


# Norms


@some
@given(
    codec=codecs,
    d=st.sampled_from(SIZES),
    place=st.floats(0, 1, exclude_max=True),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    threads=st.sampled_from(THREADS),
)
def test_a_number_that_is_not_finite_is_seen_wherever_it_is(
    codec: str, d: int, place: float, bad: float, threads: int
) -> None:
    (vector,) = crowd(1, d, 6)
    sound = Encoded(codec, encode(codec, vector), d)
    assert np.isfinite(norm_of(sound, d, threads))
    vector[int(place * d)] = bad
    assert not np.isfinite(norm_of(Encoded("float32", encode("float32", vector), d), d, threads))


@pytest.mark.parametrize("d", SIZES)
def test_a_norm_is_the_same_bits_by_any_number_of_threads(d: int) -> None:
    (vector,) = crowd(1, d, 7)
    norms = {norm_of(vector, d, threads) for threads in THREADS}
    assert len(norms) == 1
    assert norms.pop() == pytest.approx(float(np.linalg.norm(vector.astype(np.float64))), rel=1e-5)


@pytest.mark.parametrize("size", [1e-18, 1.0, 1e15])
def test_a_norm_is_right_however_small_or_large_its_numbers_are(size: float) -> None:
    d = RANGE + 1
    vector = np.full(d, size, dtype=np.float32)
    assert norm_of(vector, d) == pytest.approx(float(vector[0]) * np.sqrt(d), rel=1e-5)


def test_the_largest_number_that_there_is_has_no_finite_norm_and_no_warning() -> None:
    assert norm_of(np.full(RANGE + 1, np.finfo(np.float32).max), RANGE + 1) > LARGEST_NORM


# What an update may not be


@pytest.mark.parametrize("size", [0, 3, 4 * RANGE - 4, 4 * RANGE + 4])
def test_a_file_of_another_size_is_no_update(tmp_path: Path, size: int) -> None:
    (tmp_path / "update").write_bytes(bytes(size))
    with pytest.raises(CodecError, match=f"not {size}"):
        Mapped(tmp_path / "update", "float32", RANGE)


# Memory

D = 6_500_000
COMBINED = """
import sys
from pathlib import Path
from config.settings import Aggregation
from coordinator.combiner import combine, succeed
from coordinator.ranges import Mapped
from coordinator.vocabulary import Contribution, UpdateId
import numpy as np

folder, d, n, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])

def peak(reset):
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    field = "VmRSS:" if reset else "VmHWM:"
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024

def made(d):
    parts = [Contribution(UpdateId("d", b"outbox-1", k), 0, 0, 0.5, 1.0 + k) for k in range(n)]
    read = lambda id: Mapped(folder / str(id.sequence % 2), "float32", d)
    return succeed(Aggregation(combine="mean"), model, {}, parts, read, None, threads)

model = np.zeros(d, dtype=np.float32) + 1
before = peak(True)
made(d)
print((peak(False) - before) / (4 * d))
"""


def test_a_version_takes_a_few_models_of_memory_however_many_updates_it_is_made_of(
    tmp_path: Path,
) -> None:
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this kernel does not tell the peak of a while")
    for n, vector in enumerate(crowd(2, D, 9)):
        (tmp_path / str(n)).write_bytes(encode("float32", vector))
    told: dict[int, float] = {}
    for updates in (8, 40):
        words: list[Any] = [sys.executable, "-c", COMBINED, tmp_path, D, updates, 2]
        done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told[updates] = float(done.stdout)
    # Besides the model that was there before: its successor, and mapped pages of about one more.
    assert told[40] + 1 < 4, told
    # How many pages are mapped at a time is a little chance; 32 updates more would be 32 models.
    assert told[40] - told[8] < 1, told
