"""Versions on disk: the same bits come back, and anyone can load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from config.failures import ExitCode, Failure
from coordinator.versions import Versions
from federation.compression import Vector, decode
from federation.layout import Layout, TensorSpec
from federation.sizes import encoded_size
from federation.transfer import manifest_of
from tests.specimens import a_layout

LAYOUT = Layout((TensorSpec("conv.weight", (2, 3)), TensorSpec("scale", ()), TensorSpec("b", (2,))))
VECTOR: Vector = np.arange(9, dtype=np.float32) / 7


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path, chunk_bytes=1024)


def test_what_is_saved_comes_back_bit_for_bit(versions: Versions) -> None:
    odd = VECTOR.copy()
    odd[:3] = [-0.0, np.float32(1e-45), np.finfo(np.float32).max]
    versions.save(3, odd, {"m": VECTOR, "v": odd}, LAYOUT)
    vector, state = versions.load(3, LAYOUT)
    assert vector.tobytes() == odd.tobytes()
    assert {name: value.tobytes() for name, value in state.items()} == {
        "m": VECTOR.tobytes(),
        "v": odd.tobytes(),
    }


def test_anyone_can_load_a_checkpoint_by_the_names_of_the_model(versions: Versions) -> None:
    versions.save(3, VECTOR, {}, LAYOUT)
    tensors = load_file(versions.checkpoint_path(3))
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "conv.weight": (2, 3),
        "scale": (),
        "b": (2,),
    }
    assert tensors["conv.weight"].tolist() == VECTOR[:6].reshape(2, 3).tolist()
    assert tensors["scale"] == VECTOR[6]
    assert tensors["b"].tolist() == VECTOR[7:].tolist()


def test_the_payload_is_the_raw_vector_cut_into_chunks(versions: Versions) -> None:
    vector = np.arange(600, dtype=np.float32)
    info = versions.save(1, vector, {}, a_layout(600))
    pieces = [versions.chunk(1, index) for index in range(3)]
    assert [len(piece or b"") for piece in pieces] == [1024, 1024, 352]
    payload = b"".join(piece or b"" for piece in pieces)
    assert payload == vector.astype("<f4").tobytes()
    assert info.payload == manifest_of(payload, 1024)
    assert (info.version, info.codec, info.layout) == (1, "float32", a_layout(600))


@pytest.mark.parametrize("codec", ["bf16", "int8"])
def test_a_payload_may_be_smaller_than_the_checkpoint_that_stays_exact(
    tmp_path: Path, codec: Any
) -> None:
    vector = np.random.default_rng(0).standard_normal(600).astype(np.float32)
    versions = Versions(tmp_path, 1024, codec)
    info = versions.save(1, vector, {}, a_layout(600))
    assert (info.codec, info.payload.size) == (codec, encoded_size(codec, 600))
    payload = versions.payload_path(1).read_bytes()
    assert info.payload == manifest_of(payload, 1024)
    assert versions.chunk(1, 0) == payload[:1024]
    assert versions.load(1, a_layout(600))[0].tobytes() == vector.tobytes()
    sent = versions.as_sent(1, a_layout(600))
    assert sent.tobytes() == decode(codec, payload, 600).tobytes() != vector.tobytes()


def test_a_version_that_was_published_stays_in_its_codec_and_is_remembered_as_it_was_sent(
    tmp_path: Path,
) -> None:
    """Devices may have trained on it: what they sent is a difference from just that."""
    vector = np.random.default_rng(0).standard_normal(600).astype(np.float32)
    before = Versions(tmp_path, 1024, "int8")
    info = before.save(1, vector, {}, a_layout(600))
    after = Versions(tmp_path, 1024, "bf16")
    assert after.info(1, a_layout(600)) == info
    assert after.as_sent(1, a_layout(600)).tobytes() == before.as_sent(1, a_layout(600)).tobytes()
    assert after.save(2, vector, {}, a_layout(600)).codec == "bf16"
    replaying = Versions(tmp_path, 1024)
    assert [replaying.codec(version) for version in (1, 2, 3)] == ["int8", "bf16", "float32"]


def test_a_model_that_is_sent_as_it_is_needs_no_decoding(versions: Versions) -> None:
    versions.save(1, VECTOR, {}, LAYOUT)
    assert versions.as_sent(1, LAYOUT).tobytes() == VECTOR.tobytes()


@pytest.mark.parametrize(("version", "index"), [(2, 0), (1, 1), (1, 2**20), (2**53, 0)])
def test_a_chunk_that_is_not_stored_is_none(versions: Versions, version: int, index: int) -> None:
    versions.save(1, VECTOR, {}, LAYOUT)
    assert versions.chunk(version, index) is None


@pytest.mark.parametrize("damage", [None, b"", b"garbage"])
def test_a_payload_that_is_lost_or_damaged_is_made_again(
    versions: Versions, damage: bytes | None
) -> None:
    info = versions.save(1, VECTOR, {}, LAYOUT)
    payload = versions.payload_path(1).read_bytes()
    if damage is None:
        versions.payload_path(1).unlink()
    else:
        versions.payload_path(1).write_bytes(damage)
    assert versions.info(1, LAYOUT) == info
    assert versions.payload_path(1).read_bytes() == payload


def test_what_is_older_than_asked_for_is_deleted_with_all_that_lies_beside_it(
    versions: Versions, tmp_path: Path
) -> None:
    for version in range(4):
        versions.save(version, VECTOR, {"m": VECTOR}, LAYOUT)
    (tmp_path / "000001.float32.part").touch()
    (tmp_path / "README").touch()
    assert versions.stored() == (0, 1, 2, 3)
    versions.keep(2)
    assert versions.stored() == (2, 3)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [
        "000002.float32",
        "000002.safetensors",
        "000002.step.safetensors",
        "000003.float32",
        "000003.safetensors",
        "000003.step.safetensors",
        "README",
    ]


def test_versions_beyond_six_digits_are_versions_too(versions: Versions) -> None:
    versions.save(1_234_567, VECTOR, {}, LAYOUT)
    assert versions.load(1_234_567, LAYOUT)[0].tolist() == VECTOR.tolist()
    assert versions.stored() == (1_234_567,)


@pytest.mark.parametrize("damage", [None, b"", b"\xff" * 64])
def test_a_damaged_checkpoint_is_told_by_its_name(versions: Versions, damage: bytes | None) -> None:
    versions.save(1, VECTOR, {}, LAYOUT)
    path = versions.checkpoint_path(1)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    with pytest.raises(Failure, match=f"checkpoint {path} cannot be used") as caught:
        versions.load(1, LAYOUT)
    assert caught.value.code == ExitCode.NO_INPUT


def test_a_checkpoint_of_another_model_is_told(versions: Versions) -> None:
    versions.save(1, VECTOR, {}, LAYOUT)
    with pytest.raises(Failure, match="lacks tensor 'w'"):
        versions.load(1, a_layout(9))
    larger = Layout((TensorSpec("b", (1,)),))
    with pytest.raises(Failure, match="is of another model"):
        versions.load(1, larger)
