"""How torch runs in a process of ours; to be set before its first computation."""

from __future__ import annotations

import torch


def prepare_torch(threads: int) -> None:
    """Bound torch's threads, and have it treat denormal numbers as zero.

    Chunks with few labels lead to denormals, which made steps up to forty times slower.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
