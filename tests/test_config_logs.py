"""A record is one line that a person reads and nobody can forge."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from config.logs import RoleFormatter, configure, facts


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("coordinator")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    logging.captureWarnings(False)


def line(text: str, **values: object) -> str:
    record = logging.LogRecord("coordinator.core", logging.INFO, "", 0, text, None, None)
    record.__dict__.update(facts(**values))
    return RoleFormatter("coordinator").format(record)


def test_a_record_reads_time_level_role_text_and_facts() -> None:
    told = line("update applied", device="camera-7", staleness=3)
    pattern = r"\d\d:\d\d:\d\d INFO    coordinator  update applied device=camera-7 staleness=3"
    assert re.fullmatch(pattern, told)


def test_numbers_are_short_and_texts_with_spaces_quoted() -> None:
    assert line("x", loss=0.123456789, why="too old").endswith("x loss=0.1235 why='too old'")


def test_a_fact_may_bear_the_name_of_an_attribute_of_records() -> None:
    assert line("x", name="a", module="b").endswith("x name=a module=b")


def test_nobody_can_forge_a_line() -> None:
    told = line("from \n12:00:00 INFO\x1b[0m", device="a\nb")
    assert told.isprintable()
    assert told.endswith("from \\n12:00:00 INFO\\x1b[0m device='a\\nb'")


def test_logs_go_to_stderr_from_the_level_upwards(capsys: pytest.CaptureFixture[str]) -> None:
    configure("coordinator", "info")
    log = logging.getLogger("coordinator.service")
    log.debug("hidden")
    log.info("version published", extra=facts(version=4))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("INFO    coordinator  version published version=4\n")
    assert "hidden" not in err


def test_libraries_are_heard_from_warnings_upwards(capsys: pytest.CaptureFixture[str]) -> None:
    configure("coordinator", "debug")
    library = logging.getLogger("some_library")
    library.info("chatter")
    library.warning("trouble")
    err = capsys.readouterr().err
    assert "trouble" in err
    assert "chatter" not in err


def test_to_configure_twice_does_not_tell_twice(capsys: pytest.CaptureFixture[str]) -> None:
    configure("coordinator", "info")
    configure("agent", "info")
    logging.getLogger("coordinator").info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_a_traceback_follows_its_record(capsys: pytest.CaptureFixture[str]) -> None:
    configure("coordinator", "error")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("coordinator").exception("a defect")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("ERROR   coordinator  a defect")
    assert lines[-1] == "ValueError: broken"
