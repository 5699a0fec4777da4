"""How torch runs in our processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tests.one_thread import one_thread  # noqa: F401


def policy(environment: dict[str, str]) -> str:
    run = subprocess.run(
        [sys.executable, "-c", "import learning, os; print(os.environ['OMP_WAIT_POLICY'])"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.strip()


def test_threads_that_wait_do_not_spin_unless_somebody_wants_it() -> None:
    plain = {name: text for name, text in os.environ.items() if name != "OMP_WAIT_POLICY"}
    assert policy(plain) == "PASSIVE"
    assert policy(plain | {"OMP_WAIT_POLICY": "ACTIVE"}) == "ACTIVE"


@pytest.mark.usefixtures("one_thread")
def test_denormal_numbers_are_zero_and_threads_are_bounded() -> None:
    assert float(torch.tensor([1e-39]) * 1.0) == 0.0
    assert torch.get_num_threads() == 1
