"""A fixture for tests that train: torch as the worker sets it up, with one thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from learning.runtime import prepare_torch


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread and no denormals for a test, and afterwards what was before."""
    threads = torch.get_num_threads()
    prepare_torch(1)
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
