"""A record is one line that a person reads and nobody can forge."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import logging_journald
import pytest

from config.logs import JournalHandler, RoleFormatter, configure, facts


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


# The journal


class Journal:
    """Stands for journald's socket: one datagram an entry."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(5)

    def entry(self) -> dict[str, str]:
        lines = self._socket.recv(65536).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    """A journal, where records find it."""
    made = Journal(tmp_path / "journal")
    monkeypatch.setattr(logging_journald.JournaldTransport, "SOCKET_PATH", made.path)
    yield made
    made.close()


def test_in_the_journal_a_record_has_a_level_and_its_facts_are_fields(
    journal: Journal, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with capfd.disabled():
        stderr = os.fstat(sys.stderr.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{stderr.st_dev}:{stderr.st_ino}")
        configure("agent camera-7", "info")
        logging.getLogger("coordinator").warning("update refused", extra=facts(base_version=3))
        configure("agent camera-7", "info", "text")
    entry = journal.entry()
    assert entry == {
        "MESSAGE": "update refused base_version=3",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "flockwise",
        "FLOCKWISE_ROLE": "agent camera-7",
        "LOGGER": "coordinator",
        "FLOCKWISE_BASE_VERSION": "3",
    }


def test_nobody_forges_an_entry_or_a_field(journal: Journal) -> None:
    handler = JournalHandler("agent", logging_journald.JournaldTransport())
    record = logging.LogRecord("x", logging.INFO, "", 0, "a\nPRIORITY=0", None, None)
    record.__dict__.update(facts(**{"why=": "b\nPRIORITY=0"}))
    handler.emit(record)
    handler.close()
    raw = journal._socket.recv(65536)
    fields = raw.split(b"\n")
    assert fields.count(b"PRIORITY=6") == 1
    assert b"MESSAGE=a\\nPRIORITY=0" in raw
    assert b"FLOCKWISE_WHY_\n" + (12).to_bytes(8, "little") + b"b\nPRIORITY=0" in raw


def test_without_a_journal_the_log_is_text_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    configure("coordinator", "info")
    logging.getLogger("coordinator").info("link up")
    assert capsys.readouterr().err.endswith("INFO    coordinator  link up\n")
