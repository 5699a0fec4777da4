"""Versions on disk: a `.safetensors` checkpoint each, and the payload that devices fetch.

The checkpoint is the truth and can be loaded into the model by anyone; the server optimizer's
state lies beside it, as version v + 1 needs it as much as v. The payload is a cache, made again
from the checkpoint when it is missing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from config.failures import ExitCode, Failure
from coordinator.vocabulary import VersionInfo
from federation.compression import Vector, encode
from federation.files import replace_file
from federation.layout import Layout
from federation.transfer import manifest_of

DOWN_CODEC = "float32"


class Versions:
    """The folder of checkpoints and payloads."""

    def __init__(self, folder: Path, chunk_bytes: int) -> None:
        self._folder = folder
        self._chunk_bytes = chunk_bytes

    def checkpoint_path(self, version: int) -> Path:
        """Where the tensors of a version lie, by the names of the model's state dict."""
        return self._folder / f"{version:06}.safetensors"

    def payload_path(self, version: int) -> Path:
        """Where the bytes lie that devices fetch."""
        return self._folder / f"{version:06}.{DOWN_CODEC}"

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
        replace_file(self._state_path(version), save(state))
        write_model(self.checkpoint_path(version), vector, layout)
        return self._publishable(version, vector, layout)

    def load(self, version: int, layout: Layout) -> tuple[Vector, dict[str, Vector]]:
        """The model Float32[d] and the state of the server's step of a version."""
        tensors = self._read(self.checkpoint_path(version))
        try:
            parts = [tensors[tensor.name].reshape(-1) for tensor in layout.tensors]
            vector: Vector = np.concatenate(parts).astype(np.float32, copy=False)
        except KeyError as error:
            raise _damaged(self.checkpoint_path(version), f"lacks tensor {error}") from None
        if vector.size != layout.size:
            raise _damaged(self.checkpoint_path(version), "is of another model")
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
        try:
            with self.payload_path(version).open("rb") as file:
                file.seek(index * self._chunk_bytes)
                return file.read(self._chunk_bytes) or None
        except FileNotFoundError:
            return None

    def _publishable(self, version: int, vector: Vector, layout: Layout) -> VersionInfo:
        payload = encode(DOWN_CODEC, vector)
        replace_file(self.payload_path(version), payload)
        return VersionInfo(version, DOWN_CODEC, manifest_of(payload, self._chunk_bytes), layout)

    def _state_path(self, version: int) -> Path:
        return self._folder / f"{version:06}.step.safetensors"

    def _read(self, path: Path) -> dict[str, Vector]:
        try:
            return dict(load_file(path))
        except (OSError, SafetensorError) as error:
            raise _damaged(path, str(error)) from None


def _version(path: Path) -> int:
    return int(path.name.partition(".")[0])


def write_model(path: Path, vector: Vector, layout: Layout) -> None:
    """Write a model Float32[d] as a checkpoint that anyone can load."""
    replace_file(path, save(_cut(vector, layout)))


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
