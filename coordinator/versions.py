"""Versions on disk: a `.safetensors` checkpoint each, and the payload that devices fetch.

The checkpoint is the truth and can be loaded into the model by anyone; the server optimizer's
state lies beside it, as version v + 1 needs it as much as v. The payload is a cache, made again
from the checkpoint when it is missing, in the codec that its name ends with. A lossy one is rounded
to the nearest without memory: whatever devices receive, they send their difference from just that.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import get_args

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from config.failures import ExitCode, Failure
from config.values import ModelCodec
from coordinator.tensors import write_tensors
from coordinator.vocabulary import VersionInfo
from federation.compression import Vector, decode, encode
from federation.files import replace_file
from federation.layout import Layout
from federation.transfer import manifest_of

DOWN_CODECS: tuple[ModelCodec, ...] = get_args(ModelCodec)


class Versions:
    """The folder of checkpoints and payloads."""

    def __init__(self, folder: Path, chunk_bytes: int, codec: ModelCodec = "float32") -> None:
        """Begin.

        Args:
            codec: of the payloads of new versions.
        """
        self._folder = folder
        self._chunk_bytes = chunk_bytes
        self._codec = codec

    def checkpoint_path(self, version: int) -> Path:
        """Where the tensors of a version lie, by the names of the model's state dict."""
        return self._folder / f"{version:06}.safetensors"

    def codec(self, version: int) -> ModelCodec:
        """How a version is encoded for devices; one that was published stays as it is."""
        published = (c for c in DOWN_CODECS if self._payload_path(version, c).exists())
        return next(published, self._codec)

    def payload_path(self, version: int) -> Path:
        """Where the bytes lie that devices fetch."""
        return self._payload_path(version, self.codec(version))

    def as_sent(self, version: int, layout: Layout) -> Vector:
        """A version as devices have it, Float32[d]: what its payload stands for."""
        return as_received(self.codec(version), self.load(version, layout)[0])

    def has(self, version: int) -> bool:
        """Whether the checkpoint of a version is on disk."""
        return self.checkpoint_path(version).exists()

    def save(
        self, version: int, vector: Vector, state: dict[str, Vector], layout: Layout
    ) -> VersionInfo:
        """Checkpoint a version durably.

        Args:
            vector: Float32[d], the model.
            state: what the server's step remembers, Float32[d] each.
            layout: how the vector is cut into tensors.
        """
        # The optimizer's state first: a checkpoint that is there is never without it.
        write_tensors(self._state_path(version), state)
        write_model(self.checkpoint_path(version), vector, layout)
        return self._publishable(version, vector, layout)

    def load(self, version: int, layout: Layout) -> tuple[Vector, dict[str, Vector]]:
        """The model Float32[d] and the state of the server's step of a version."""
        path = self.checkpoint_path(version)
        vector: Vector = np.empty(layout.size, dtype=np.float32)
        parts = _cut(vector, layout)
        try:
            with safe_open(path, framework="numpy") as file:
                for name in parts.keys() - file.keys():
                    raise _damaged(path, f"lacks tensor {name!r}")
                for name, part in parts.items():  # one by one: no second copy of the whole
                    tensor = file.get_tensor(name)
                    if tensor.size != part.size:
                        raise _damaged(path, "is of another model")
                    part[...] = tensor.reshape(part.shape)
        except (OSError, SafetensorError) as error:
            raise _damaged(path, str(error)) from None
        return vector, self._read(self._state_path(version))

    def info(self, version: int, layout: Layout) -> VersionInfo:
        """What there is to say of a stored version; its payload is there afterwards."""
        return self._publishable(version, self.load(version, layout)[0], layout)

    def stored(self) -> tuple[int, ...]:
        """The versions that lie here, oldest first."""
        return tuple(sorted({_version(path) for path in self._folder.glob("[0-9]*.*")}))

    def keep(self, oldest: int) -> None:
        """Delete what is older than version `oldest`."""
        for path in self._folder.glob("[0-9]*.*"):
            if _version(path) < oldest:
                path.unlink(missing_ok=True)

    def chunk(self, version: int, index: int) -> bytes | None:
        """Chunk `index` of a version's payload; None if it is not stored."""
        for codec in DOWN_CODECS:  # asked for each chunk: the file is opened, not looked for first
            path = self._payload_path(version, codec)
            with suppress(FileNotFoundError), path.open("rb") as file:
                file.seek(index * self._chunk_bytes)
                return file.read(self._chunk_bytes) or None
        return None

    def _publishable(self, version: int, vector: Vector, layout: Layout) -> VersionInfo:
        codec = self.codec(version)
        payload = encode(codec, vector)
        replace_file(self._payload_path(version, codec), payload)
        return VersionInfo(version, codec, manifest_of(payload, self._chunk_bytes), layout)

    def _payload_path(self, version: int, codec: ModelCodec) -> Path:
        return self._folder / f"{version:06}.{codec}"

    def _state_path(self, version: int) -> Path:
        return self._folder / f"{version:06}.step.safetensors"

    def _read(self, path: Path) -> dict[str, Vector]:
        try:
            return dict(load_file(path))
        except (OSError, SafetensorError) as error:
            raise _damaged(path, str(error)) from None


def as_received(codec: str, vector: Vector) -> Vector:
    """What a device makes of a model Float32[d] that is sent in a codec."""
    return vector if codec == "float32" else decode(codec, encode(codec, vector), vector.size)


def _version(path: Path) -> int:
    return int(path.name.partition(".")[0])


def write_model(path: Path, vector: Vector, layout: Layout) -> None:
    """Write a model Float32[d] as a checkpoint that anyone can load."""
    write_tensors(path, _cut(vector, layout))


def _cut(vector: Vector, layout: Layout) -> dict[str, Vector]:
    """The tensors of a flat model Float32[d] by their names, as views."""
    tensors: dict[str, Vector] = {}
    start = 0
    for tensor in layout.tensors:
        tensors[tensor.name] = vector[start : start + tensor.size].reshape(tensor.shape)
        start += tensor.size
    return tensors


def _damaged(path: Path, reason: str) -> Failure:
    return Failure(ExitCode.NO_INPUT, f"checkpoint {path} cannot be used: {reason}")
