"""What was not audited is never told as clean."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.audit import FOUND, NOT_AUDITED, PATIENCE_S, main


def audited(*packages: dict[str, Any], code: int = 0) -> int:
    report = json.dumps({"dependencies": list(packages), "fixes": []})
    return main(lambda: subprocess.CompletedProcess([], code, report, ""))


def package(name: str, *faults: str) -> dict[str, Any]:
    vulns = [{"id": fault, "fix_versions": ["2.0"]} for fault in faults]
    return {"name": name, "version": "1.0", "vulns": vulns}


def skipped(name: str) -> dict[str, Any]:
    return {"name": name, "skip_reason": "Dependency not found on PyPI and could not be audited"}


def test_an_audit_that_finds_nothing_says_how_much_it_looked_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert audited(package("a"), package("b"), skipped("c"), skipped("flockwise")) == 0
    assert capsys.readouterr().out == "audit: 2 packages looked up\naudit: not looked up: c\n"


def test_a_vulnerability_is_told_with_what_mends_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert audited(package("a", "PYSEC-1"), package("b"), code=1) == FOUND
    assert "a 1.0: PYSEC-1, mended in 2.0" in capsys.readouterr().out


def test_where_nothing_could_be_looked_up_that_is_no_clean_audit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert audited(skipped("a"), skipped("b")) == NOT_AUDITED
    assert "NOT DONE: none of 2 packages" in capsys.readouterr().out


@pytest.mark.parametrize("output", ["", "no JSON", "[]", "{}"])
def test_an_audit_that_fails_gives_its_last_word(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = subprocess.CompletedProcess([], 1, output, "ERROR: no route\nConnection refused\n")
    assert main(lambda: failed) == NOT_AUDITED
    assert "NOT DONE: Connection refused" in capsys.readouterr().out


def test_an_audit_that_does_not_end_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    def hangs() -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired("pip-audit", PATIENCE_S)

    assert main(hangs) == NOT_AUDITED
    assert "no answer" in capsys.readouterr().out
