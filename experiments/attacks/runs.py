"""Many runs over several processes, which share the images on disk and the warmed-up models."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict
from multiprocessing import active_children
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from experiments.attacks.catalogue import ATTACKS
from experiments.attacks.rows import Row
from experiments.attacks.rules import rule_of
from experiments.attacks.scheme import Scheme
from experiments.attacks.world import run, warmed_up
from experiments.made_on import made_on
from experiments.processes import process_pool
from experiments.sharing import SharedImages, end_with_parent, share_images
from federation.compression import decode, encode
from federation.files import replace_file
from learning.data import ImageSet
from learning.runtime import prepare_torch


class Run(NamedTuple):
    """One run, named as `Row.key` names it."""

    attack: str
    rule: str
    seed: int


def made_with(scheme: Scheme, images: ImageSet) -> dict[str, Any]:
    """What is written beside the figures of a run: the scheme, the images, the machine."""
    described = {
        **asdict(scheme),
        "training": scheme.plan().model_dump(mode="json"),
        "images": [len(images.train_labels), len(images.test_labels)],
        "digest": _digest(images.train_images.data),
        "generated": images.generated,
    }
    return {
        "scheme": json.loads(json.dumps(described)),
        **made_on(),
    }


def done(
    scheme: Scheme, runs: Sequence[Run], images: ImageSet, jobs: int, starts: Path | None = None
) -> Iterator[Row]:
    """The rows of the runs, as they end: over so many processes, one thread each.

    Args:
        starts: where the models of the honest past are kept for another time, if anywhere.
    """
    if not runs:
        return
    with TemporaryDirectory(prefix="flockwise-attack-") as folder:
        share = Path(folder)
        shared = share_images(images, share)
        past = str((starts or share) / f"{_past_digest(scheme, images)}-seed-{{}}.float32")
        with process_pool(jobs, _begin, scheme, shared, past) as pool:
            try:
                if scheme.warm_up:
                    for _ in pool.map(_warm_up, sorted({run.seed for run in runs})):
                        pass
                for ended in as_completed([pool.submit(_run, one) for one in runs]):
                    yield ended.result()
            except BaseException:
                for process in active_children():
                    process.terminate()  # a run takes minutes, and nobody wants it now
                raise


def _past_digest(scheme: Scheme, images: ImageSet) -> str:
    """What the honest past depends on, but for the seed."""
    settings = scheme.past().model_dump_json()
    about = f"{scheme.devices} {scheme.alpha} {scheme.warm_up} {settings}"
    return _digest(about.encode() + images.train_images.tobytes())


def _digest(data: bytes | memoryview) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


class _Process:
    """What a process of the pool knows; `past` is the path of a seed's first model."""

    scheme: Scheme
    images: ImageSet
    past: str


def _begin(scheme: Scheme, shared: SharedImages, past: str) -> None:
    prepare_torch(1)
    end_with_parent()
    _Process.scheme, _Process.images, _Process.past = scheme, shared.load(), past


def _warm_up(seed: int) -> None:
    path = Path(_Process.past.format(seed))
    if path.exists():
        return
    model = warmed_up(_Process.scheme, seed, _Process.images)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, encode("float32", model))


def _run(one: Run) -> Row:
    start = None
    if _Process.scheme.warm_up:
        payload = Path(_Process.past.format(one.seed)).read_bytes()
        start = decode("float32", payload, len(payload) // 4)
    rule = rule_of(one.rule)
    gc.collect()  # a simulation's parties know each other: hundreds of megabytes lie about
    return run(_Process.scheme, ATTACKS[one.attack], rule, one.seed, _Process.images, start)
