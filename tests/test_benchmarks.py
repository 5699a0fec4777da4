"""The benchmarks as a whole: one after another, whatever becomes of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS, Benchmark, Outcome, attempt, main, summary
from config.failures import ExitCode

ANY = Benchmark("sealing", "anything", quick=True)
WITH_IMAGES = Benchmark("sealing", "anything", quick=True, images=True)


class Runs:
    """Notes what would be run, and says how it ended."""

    def __init__(self, code: int = 0) -> None:
        self.words: list[str] = []
        self._code = code

    def __call__(self, words: Sequence[str]) -> int:
        self.words += words[1:]
        return self._code


def test_a_benchmark_is_a_module_that_is_run() -> None:
    run = Runs()
    assert attempt(ANY, run) == Outcome("sealing", pytest.approx(0, abs=5))
    assert run.words == ["-m", "benchmarks.sealing"]


def test_a_quick_one_is_told_so() -> None:
    run = Runs()
    attempt(ANY, run, quick=True)
    assert run.words[-1] == "--quick"


def test_a_module_that_is_not_there_is_passed_over() -> None:
    run = Runs()
    outcome = attempt(Benchmark("nowhere", "nothing"), run)
    assert outcome.passed_over
    assert not run.words


def test_one_that_needs_images_is_passed_over_without() -> None:
    run = Runs()
    assert attempt(WITH_IMAGES, run).passed_over
    assert not run.words


def test_one_that_needs_images_is_told_where_they_are() -> None:
    run = Runs()
    attempt(WITH_IMAGES, run, data=Path("images"))
    assert run.words[-2:] == ["--data", "images"]


def test_a_quick_one_takes_made_up_images() -> None:
    run = Runs()
    attempt(WITH_IMAGES, run, quick=True)
    assert run.words[-1] == "--generated"


@pytest.mark.parametrize("code", [ExitCode.NO_INPUT, ExitCode.UNAVAILABLE, ExitCode.CONFIG])
def test_one_that_lacks_something_has_not_failed(code: ExitCode) -> None:
    outcome = attempt(ANY, Runs(code))
    assert outcome.passed_over
    assert not outcome.failed


@pytest.mark.parametrize("code", [1, -9])
def test_one_that_fails_is_told_with_its_code(code: int) -> None:
    assert str(code) in attempt(ANY, Runs(code)).failed


def test_the_summary_has_a_line_for_each() -> None:
    text = summary(
        [Outcome("one", 3.2), Outcome("two", passed_over="no"), Outcome("three", 1, "", "x")]
    )
    assert text.splitlines()[-3:] == [
        "| one | 3 | done |",
        "| two | 0 | no |",
        "| three | 1 | FAILED: x |",
    ]


def test_a_failure_shows_in_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = iter([1, 0])
    monkeypatch.setattr("benchmarks.__main__._run", lambda words: next(codes))
    assert main(["--only", "sealing", "--only", "robust_rules"]) == 1
    assert next(codes, None) is None, "the second one ran all the same"


def test_the_quick_ones_are_those_that_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr("benchmarks.__main__.find_spec", lambda name: name)
    monkeypatch.setattr("benchmarks.__main__._run", lambda words: ran.append(words[2]) or 0)
    assert main(["--quick"]) == 0
    assert ran == [f"benchmarks.{one.name}" for one in BENCHMARKS if one.quick]
