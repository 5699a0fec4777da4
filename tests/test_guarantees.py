"""Each promise of docs/guarantees.md and docs/security.md names a test, and the test is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent
PAGES = (HOUSE / "docs" / "guarantees.md", HOUSE / "docs" / "security.md")
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def promises() -> list[str]:
    """The rows of the tables of promises; other tables promise nothing."""
    found, is_promise = [], False
    for line in "\n".join(page.read_text() for page in PAGES).splitlines():
        if not line.startswith("|"):
            is_promise = False
        elif line.startswith("| promise |"):
            is_promise = True
        elif is_promise and not line.startswith("|---"):
            found.append(line)
    return found


@pytest.mark.parametrize("promise", promises())
def test_a_promise_is_shown_by_a_test(promise: str) -> None:
    named = NAMED.findall(promise)
    assert named, "it names no test"
    for module, test in named:
        assert f"\ndef {test}(" in (HOUSE / "tests" / module).read_text()


def test_the_pages_promise_something() -> None:
    assert len(promises()) > 50
