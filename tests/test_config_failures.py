"""An expected failure is one line and a code."""

import pickle

import pytest

from config.failures import ExitCode, Failure, first_line


def test_a_failure_reads_as_its_message_alone() -> None:
    assert str(Failure(ExitCode.PORT_TAKEN, "port 1883 is taken")) == "port 1883 is taken"


def test_a_failure_keeps_its_facts_across_processes() -> None:
    copy = pickle.loads(pickle.dumps(Failure(ExitCode.LOCKED, "state is in use")))
    assert (copy.code, copy.message) == (ExitCode.LOCKED, "state is in use")


@pytest.mark.parametrize(
    ("name", "number"),
    [("USAGE", 64), ("CONFIG", 78), ("DUPLICATE", 79)],
)
def test_exit_codes_that_units_rely_on_do_not_move(name: str, number: int) -> None:
    assert ExitCode[name] == number


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no such key\nhint: look"), "no such key"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_of_somebody_elses_error_one_line_is_told(error: Exception, line: str) -> None:
    assert first_line(error) == line
