"""From bytes in the spool to a checkpoint: what is believed, and what the numbers come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.failures import Failure
from config.settings import Aggregation
from coordinator.combiner import Made, combine, require_memory
from coordinator.keyring import NoKeyring
from coordinator.screening import LARGEST_NORM, screen
from coordinator.spool import Spool
from coordinator.versions import Versions
from coordinator.vocabulary import Combine, Contribution, Screened
from federation.compression import Vector, decode, encode
from federation.layout import Layout
from federation.messages import Reason
from tests.specimens import a_layout, an_id, an_offer

TWO = a_layout(2)
UNSEALED = NoKeyring().unseal


class Disk:
    """A spool and versions; version 0 is `model`."""

    def __init__(self, folder: Path, model: Vector) -> None:
        (folder / "spool").mkdir()
        (folder / "versions").mkdir()
        self.spool = Spool(folder / "spool")
        self.versions = Versions(folder / "versions", 1024)
        self.layout = a_layout(model.size)
        self.codecs: dict[Any, str] = {}
        self.versions.save(0, model, {}, self.layout)

    def keep(self, device: str, delta: Vector, codec: str = "float32", **part: Any) -> Contribution:
        """Lay an update into the spool; how it contributes."""
        id = an_id(device)
        self.spool.path(id).write_bytes(encode(codec, delta))
        self.codecs[id] = codec
        known = {"base_version": 0, "staleness": 0, "scale": 1.0, "weight": 1.0}
        return Contribution(id, **{**known, **part})

    def make(self, rule: Aggregation, base: int, *parts: Contribution) -> Vector:
        made = self.combine(rule, base, *parts)
        assert made.info.version == base + 1
        return self.versions.load(base + 1, self.layout)[0]

    def combine(self, rule: Aggregation, base: int, *parts: Contribution) -> Made:
        order = Combine(base, parts)
        return combine(rule, self.versions, self.spool, self.layout, self.codecs, order)


def vector(*numbers: float) -> Vector:
    return np.array(numbers, dtype=np.float32)


def screened(tmp_path: Path, payload: bytes, codec: str = "float32", layout: Layout = TWO) -> Any:
    spool = Spool(tmp_path)
    spool.path(an_id()).write_bytes(payload)
    return screen(spool, layout, an_id(), an_offer(payload or b"x", codec=codec), UNSEALED)


# Screening


def test_a_sound_update_is_measured(tmp_path: Path) -> None:
    assert screened(tmp_path, encode("float32", vector(3, -4))) == Screened(an_id(), 5.0, None)


def test_an_update_of_nothing_is_sound(tmp_path: Path) -> None:
    assert screened(tmp_path, encode("int8", vector(0, 0)), "int8") == Screened(an_id(), 0.0, None)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 1])
def test_one_number_that_is_not_finite_is_enough_to_refuse(
    tmp_path: Path, bad: float, position: int
) -> None:
    delta = vector(1, 1)
    delta[position] = bad
    seen = screened(tmp_path, delta.tobytes())
    assert (seen.refusal, seen.norm) == (Reason.NOT_FINITE, 0.0)


@pytest.mark.parametrize("scale", [np.nan, np.inf, 3e38])
def test_a_scale_that_decodes_to_no_finite_numbers_is_refused(tmp_path: Path, scale: float) -> None:
    payload = vector(scale).tobytes() + bytes([127, 0])
    assert screened(tmp_path, payload, "int8").refusal is Reason.NOT_FINITE


def test_numbers_that_would_overflow_the_arithmetic_of_a_version_are_refused(
    tmp_path: Path,
) -> None:
    assert screened(tmp_path, vector(0, 3e38).tobytes()).refusal is Reason.NOT_FINITE
    assert screened(tmp_path, vector(0, LARGEST_NORM / 2).tobytes()).refusal is None


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "yogi"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_updates_that_pass_leave_a_version_finite(
    tmp_path: Path, name: str, sign: int
) -> None:
    disk = Disk(tmp_path, vector(0, 0))
    largest = vector(1, sign) * np.float32(LARGEST_NORM / 2)
    parts = [disk.keep(d, largest, weight=2.0**40) for d in ("a", "b", "c")]
    rule = Aggregation(step=name, step_size=100.0)
    assert np.isfinite(disk.make(rule, 0, *parts)).all()
    assert all(np.isfinite(v).all() for v in disk.versions.load(1, disk.layout)[1].values())


@pytest.mark.parametrize("size", [0, 4, 12])
def test_a_file_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    seen = screened(tmp_path, bytes(size))
    assert seen.refusal is Reason.BAD_SHAPE
    assert f"not {size}" in seen.detail


# Combining


def test_a_version_is_the_one_before_and_the_mean_of_its_updates(tmp_path: Path) -> None:
    disk = Disk(tmp_path, vector(10, 20))
    parts = [disk.keep("a", vector(1, 2)), disk.keep("b", vector(3, -2))]
    assert disk.make(Aggregation(step_size=0.5), 0, *parts).tolist() == [11, 20]


def test_updates_of_different_codecs_go_into_one_version(tmp_path: Path) -> None:
    disk = Disk(tmp_path, vector(0, 0))
    # 127 and -127 are the ends of the scale of int8, so nothing is rounded.
    parts = [
        disk.keep("a", vector(127, -127), codec="int8"),
        disk.keep("b", vector(1, 1), codec="float32"),
    ]
    assert disk.make(Aggregation(step_size=1.0), 0, *parts).tolist() == [64, -63]


def test_combining_is_the_formula_bit_for_bit_and_repeatable(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    model, *deltas = chance.standard_normal((6, 1000), dtype=np.float32)
    scales = [1.0, 0.5, 1.0, 0.25, 1 / 3]
    codecs = ["float32", "int8", "int8", "float32", "int8"]
    disk = Disk(tmp_path, model)
    parts = [
        disk.keep(f"device-{n}", delta, codec, scale=scale, weight=float(n + 1))
        for n, (delta, codec, scale) in enumerate(zip(deltas, codecs, scales, strict=True))
    ]
    total = np.zeros(1000, dtype=np.float32)
    for n, (delta, codec, scale) in enumerate(zip(deltas, codecs, scales, strict=True)):
        total += decode(codec, encode(codec, delta), 1000) * np.float32(scale * (n + 1))
    expected = model + np.float32(0.3) * (total / np.float32(1 + 2 + 3 + 4 + 5))
    rule = Aggregation(step_size=0.3)
    first = disk.make(rule, 0, *parts)
    again = disk.make(rule, 0, *parts)
    assert first.tobytes() == again.tobytes() == expected.tobytes()


def test_the_state_of_the_step_goes_from_version_to_version(tmp_path: Path) -> None:
    disk = Disk(tmp_path, vector(0, 0))
    momentum = Aggregation(step="momentum", step_size=1.0, beta1=0.5)
    assert disk.make(momentum, 0, disk.keep("a", vector(4, 0))).tolist() == [4, 0]
    # m = 0.5 * 4 + 2 = 4
    assert disk.make(momentum, 1, disk.keep("a", vector(2, 0))).tolist() == [8, 0]


def test_a_version_made_again_after_a_crash_does_not_use_its_own_state(tmp_path: Path) -> None:
    disk = Disk(tmp_path, vector(0, 0))
    momentum = Aggregation(step="momentum", step_size=1.0, beta1=0.5)
    part = disk.keep("a", vector(4, 0))
    assert disk.make(momentum, 0, part).tolist() == [4, 0]
    assert disk.make(momentum, 0, part).tolist() == [4, 0]


def test_reanchoring_steps_towards_the_model_that_the_device_had(tmp_path: Path) -> None:
    disk = Disk(tmp_path, vector(10, 10))
    fedasync = Aggregation(reanchor=True, step_size=0.5)
    # Version 1: the device is at 10 + 4 = 14, so halfway is 12.
    assert disk.make(fedasync, 0, disk.keep("a", vector(4, 0))).tolist() == [12, 10]
    # Version 2: another began at version 0 too and is at 10 - 8 = 2; from 12 halfway is 7.
    late = disk.keep("b", vector(-8, 0), base_version=0, staleness=1)
    assert disk.make(fedasync, 1, late).tolist() == [7, 10]


def test_without_reanchoring_a_late_update_is_added_as_it_is(tmp_path: Path) -> None:
    disk = Disk(tmp_path, vector(10, 10))
    rule = Aggregation(step_size=0.5)
    disk.make(rule, 0, disk.keep("a", vector(4, 0)))
    late = disk.keep("b", vector(-8, 0), base_version=0, staleness=1)
    assert disk.make(rule, 1, late).tolist() == [8, 10]


def test_the_updates_that_the_rule_left_out_are_told_with_the_version(tmp_path: Path) -> None:
    disk = Disk(tmp_path, vector(0, 0))
    deltas = {"a": 2, "b": 90, "c": 4, "d": 6, "e": 8}
    parts = [disk.keep(device, vector(delta, 0)) for device, delta in deltas.items()]
    made = disk.combine(Aggregation(combine="multi_krum"), 0, *parts)
    assert made.outliers == {an_id("b")}
    assert disk.versions.load(1, disk.layout)[0].tolist() == [5, 0]
    for other in ("mean", "clipped_mean", "trimmed_mean", "median", "geometric_median"):
        assert disk.combine(Aggregation(combine=other), 0, *parts).outliers == frozenset()


def test_a_late_update_is_reanchored_before_it_is_compared(tmp_path: Path) -> None:
    disk = Disk(tmp_path, vector(10, 0))
    rule = Aggregation(combine="median", reanchor=True)
    assert disk.make(rule, 0, disk.keep("a", vector(20, 0))).tolist() == [30, 0]
    # From 30 it is -15 to 10 + 5, the model of b; c and d are at 31 and 32.
    late = disk.keep("b", vector(5, 0), base_version=0, staleness=1)
    fresh = [disk.keep(d, vector(n, 0), base_version=1) for d, n in (("c", 1), ("d", 2))]
    assert disk.make(rule, 1, late, *fresh).tolist() == [31, 0]


def test_a_late_update_is_reanchored_to_the_model_as_its_device_had_it(tmp_path: Path) -> None:
    disk = Disk(tmp_path, vector(10.03, 0))
    (tmp_path / "sent").mkdir()
    disk.versions = Versions(tmp_path / "sent", 1024, "bf16")
    disk.versions.save(0, vector(10.03, 0), {}, disk.layout)
    rule = Aggregation(reanchor=True, combine="mean", step_size=1.0)
    disk.make(rule, 0, disk.keep("a", vector(20, 0)))
    late = disk.keep("b", vector(5, 0), base_version=0, staleness=1)
    # 10.03 is 10.0 in bf16: b trained from there to 15.
    assert disk.make(rule, 1, late).tolist() == [15, 0]


def test_the_spool_is_left_as_it_was(tmp_path: Path) -> None:
    disk = Disk(tmp_path, vector(0, 0))
    part = disk.keep("a", vector(4, 8))
    disk.make(Aggregation(step_size=1.0), 0, part)
    assert disk.spool.path(part.id).read_bytes() == vector(4, 8).tobytes()


def test_a_rule_that_would_need_more_memory_than_there_is_is_told_at_the_start() -> None:
    rule = Aggregation(combine="median", buffer_size=100_000)
    with pytest.raises(Failure, match="choose a smaller buffer_size"):
        require_memory(rule, 10**9)
    require_memory(rule.model_copy(update={"combine": "clipped_mean"}), 10**9)
    require_memory(rule, 10)
