"""Each promise of docs/guarantees.md names a test, and the test is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent
PAGE = HOUSE / "docs" / "guarantees.md"
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def promises() -> list[str]:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [row for row in rows if not row.startswith("| promise")]


@pytest.mark.parametrize("promise", promises())
def test_a_promise_is_shown_by_a_test(promise: str) -> None:
    named = NAMED.findall(promise)
    assert named, "it names no test"
    for module, test in named:
        assert f"\ndef {test}(" in (HOUSE / "tests" / module).read_text()


def test_the_page_promises_something() -> None:
    assert len(promises()) > 10
