"""An update is in the outbox whole or not at all, and its number is never used again."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.failures import ExitCode, Failure
from device_agent.outbox import Outbox
from device_agent.vocabulary import TrainingEnded
from federation.messages import Offer
from federation.transfer import manifest_of
from tests.specimens import LEDGER, a_header, a_payload

HOUSE = Path(__file__).resolve().parent.parent
PAYLOAD = a_payload(2500)
HEADER = a_header(version=7)
OUTCOME = TrainingEnded(7, 10, 5, 1.5, {"loss": 0.5})


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path)
    yield opened
    opened.close()


def write(outbox: Outbox, residual: bytes | None = b"rest") -> None:
    """Do what the worker does: lay down the files of the next update."""
    payload_path, residual_path = outbox.next_paths()
    payload_path.write_bytes(PAYLOAD)
    if residual is not None:
        residual_path.write_bytes(residual)


def commit(outbox: Outbox, residual: bytes | None = b"rest") -> Offer:
    write(outbox, residual)
    return outbox.commit(HEADER, OUTCOME, 1024)


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("outbox.sqlite"))


def killed(folder: Path, code: str) -> None:
    """Run the code, with an outbox open, in a child that kills itself in the middle of it."""
    head = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from device_agent import outbox as module\n"
        "from tests.test_device_agent_outbox import *\n"
        "def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"folder = Path({str(folder)!r})\n"
    )
    child = subprocess.run([sys.executable, "-c", head + code], cwd=HOUSE, check=False)
    assert child.returncode == -signal.SIGKILL


def test_an_outbox_has_an_identity_and_counts_its_starts(tmp_path: Path) -> None:
    first = Outbox(tmp_path)
    first.close()
    second = Outbox(tmp_path)
    second.close()
    assert len(first.identity) == 8
    assert first.identity == second.identity
    assert (first.boots, second.boots) == (1, 2)


def test_two_outboxes_are_never_the_same(tmp_path: Path) -> None:
    identities = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        outbox = Outbox(tmp_path / name)
        identities.add(outbox.identity)
        outbox.close()
    assert len(identities) == 2


def test_an_offer_says_what_was_trained_on_and_what_came_of_it(outbox: Outbox) -> None:
    offer = commit(outbox)
    assert (offer.outbox, offer.sequence) == (outbox.identity, 0)
    assert (offer.ledger, offer.base_version, offer.codec) == (LEDGER, 7, "int8")
    assert (offer.examples, offer.steps, offer.train_s) == (10, 5, 1.5)
    assert offer.metrics == {"loss": 0.5}
    assert offer.payload == manifest_of(PAYLOAD, 1024)
    assert outbox.offers() == (offer,)
    assert outbox.trained() == (LEDGER, 7)


def test_chunks_are_those_of_the_manifest(outbox: Outbox) -> None:
    offer = commit(outbox)
    pieces = [outbox.chunk(offer, index) for index in range(3)]
    assert [len(piece) for piece in pieces] == [1024, 1024, 452]
    assert b"".join(pieces) == PAYLOAD


def test_a_new_outbox_knows_nothing(outbox: Outbox) -> None:
    assert outbox.offers() == ()
    assert outbox.trained() is None
    assert outbox.residual() is None


def test_offers_survive_a_restart_with_all_that_belongs_to_them(tmp_path: Path) -> None:
    before = Outbox(tmp_path)
    offers = (commit(before), commit(before))
    before.close()
    after = Outbox(tmp_path)
    assert after.offers() == offers
    assert after.chunk(offers[1], 2) == PAYLOAD[2048:]
    assert after.trained() == (LEDGER, 7)
    assert after.residual() == tmp_path / "1.residual"
    after.close()


def test_a_judged_update_is_gone_with_its_file_and_its_number(
    outbox: Outbox, tmp_path: Path
) -> None:
    commit(outbox)
    outbox.forget(0)
    assert outbox.offers() == ()
    assert files(tmp_path) == ["0.residual"]
    assert commit(outbox).sequence == 1


def test_what_was_trained_is_remembered_when_its_update_is_gone(outbox: Outbox) -> None:
    commit(outbox)
    outbox.forget(0)
    assert outbox.trained() == (LEDGER, 7)


def test_the_residual_is_replaced_with_each_update(outbox: Outbox, tmp_path: Path) -> None:
    commit(outbox, b"first")
    commit(outbox, b"second")
    residual = outbox.residual()
    assert residual is not None
    assert residual.read_bytes() == b"second"
    assert files(tmp_path) == ["0.update", "1.residual", "1.update"]


def test_a_codec_that_loses_nothing_leaves_no_residual(outbox: Outbox, tmp_path: Path) -> None:
    commit(outbox, b"first")
    commit(outbox, None)
    assert outbox.residual() is None
    assert files(tmp_path) == ["0.update", "1.update"]


def test_what_no_offer_holds_leaves_the_outbox_as_it_was(outbox: Outbox) -> None:
    commit(outbox, b"first")
    write(outbox)
    for bad in ({"Not A Name": 1.0}, {"loss": float("nan")}, {f"m{n}": 0.0 for n in range(33)}):
        with pytest.raises(ValueError, match="metrics"):
            outbox.commit(HEADER, TrainingEnded(7, 10, 5, 1.5, bad), 1024)
    assert len(outbox.offers()) == 1
    residual = outbox.residual()
    assert residual is not None
    assert residual.read_bytes() == b"first"
    assert commit(outbox).sequence == 1


# Kills


def test_a_kill_before_the_transaction_leaves_nothing_of_the_update(tmp_path: Path) -> None:
    killed(
        tmp_path,
        "outbox = Outbox(folder)\n"
        "commit(outbox, b'first')\n"
        "write(outbox)\n"
        "module.manifest_of_file = die\n"
        "outbox.commit(HEADER, OUTCOME, 1024)\n",
    )
    outbox = Outbox(tmp_path)
    assert [offer.sequence for offer in outbox.offers()] == [0]
    assert files(tmp_path) == ["0.residual", "0.update"]
    assert commit(outbox).sequence == 1
    outbox.close()


def test_a_kill_in_the_middle_of_the_transaction_leaves_nothing_of_the_update(
    tmp_path: Path,
) -> None:
    killed(
        tmp_path,
        "outbox = Outbox(folder)\n"
        "commit(outbox, b'first')\n"
        "write(outbox)\n"
        # The update is inserted by then; the number and the residual are not.
        "class Dying(type(folder)):\n"
        "    def exists(self): die()\n"
        "outbox._folder = Dying(folder)\n"
        "outbox.commit(HEADER, OUTCOME, 1024)\n",
    )
    outbox = Outbox(tmp_path)
    assert [offer.sequence for offer in outbox.offers()] == [0]
    residual = outbox.residual()
    assert residual is not None
    assert residual.read_bytes() == b"first"
    assert files(tmp_path) == ["0.residual", "0.update"]
    outbox.close()


def test_a_kill_after_the_transaction_leaves_the_update_whole(tmp_path: Path) -> None:
    killed(
        tmp_path,
        "outbox = Outbox(folder)\n"
        "commit(outbox, b'first')\n"
        "write(outbox, b'second')\n"
        "Path.unlink = die\n"  # the former residual would go now
        "outbox.commit(HEADER, OUTCOME, 1024)\n",
    )
    outbox = Outbox(tmp_path)
    offers = outbox.offers()
    assert [offer.sequence for offer in offers] == [0, 1]
    assert outbox.chunk(offers[1], 0) == PAYLOAD[:1024]
    residual = outbox.residual()
    assert residual is not None
    assert residual.read_bytes() == b"second"
    assert files(tmp_path) == ["0.update", "1.residual", "1.update"], "the former one is swept"
    assert commit(outbox).sequence == 2, "a number is never used again"
    outbox.close()


def test_a_kill_while_an_update_is_forgotten_leaves_it_forgotten(tmp_path: Path) -> None:
    killed(
        tmp_path,
        "outbox = Outbox(folder)\ncommit(outbox)\nPath.unlink = die\noutbox.forget(0)\n",
    )
    outbox = Outbox(tmp_path)
    assert outbox.offers() == ()
    assert files(tmp_path) == ["0.residual"]
    assert commit(outbox).sequence == 1
    outbox.close()


def test_a_kill_while_the_outbox_is_made_leaves_one_that_can_be_made(tmp_path: Path) -> None:
    killed(tmp_path, "module.urandom = die\nOutbox(folder)\n")
    outbox = Outbox(tmp_path)
    assert outbox.boots == 1
    outbox.close()


def test_files_that_nobody_names_are_swept_away(tmp_path: Path) -> None:
    before = Outbox(tmp_path)
    commit(before)
    before.close()
    for name in ("1.update", "1.residual", "0.residual.part", "0.update.part"):
        (tmp_path / name).touch()
    (tmp_path / "README").touch()
    Outbox(tmp_path).close()
    assert files(tmp_path) == ["0.residual", "0.update", "README"]


# What was given up, lost or altered


def test_a_residual_of_a_training_that_was_given_up_is_not_the_next_one_s(
    outbox: Outbox, tmp_path: Path
) -> None:
    _, abandoned = outbox.next_paths()
    abandoned.write_bytes(b"stale")
    commit(outbox, None)
    assert outbox.residual() is None
    assert files(tmp_path) == ["0.update"]


def flip_a_bit(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:1500] + bytes([data[1500] ^ 4]) + data[1501:])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, Path.unlink])
def test_an_update_that_is_lost_or_altered_is_dropped_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    caplog.set_level("ERROR", "device_agent.outbox")
    before = Outbox(tmp_path)
    commit(before)
    kept = commit(before)
    commit(before)
    before.close()
    for sequence in (0, 2):
        damage(tmp_path / f"{sequence}.update")
    after = Outbox(tmp_path)
    assert after.offers() == (kept,)
    assert files(tmp_path) == ["1.update", "2.residual"]
    assert commit(after).sequence == 3, "a number is never used again"
    after.close()
    Outbox(tmp_path).close()
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("ERROR", "device_agent.outbox")
    assert record.__dict__["facts"] == {"sequences": "0,2"}


# A full disk


def fill(outbox: Outbox) -> sqlite3.Connection:
    """Let each transaction find the disk full, as SQLite tells it, until the original is back."""
    original = outbox._db

    class Full:
        in_transaction = False

        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if statement == "COMMIT":
                original.execute("ROLLBACK")
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return original.execute(statement, *values)

    outbox._db = Full()  # type: ignore[assignment]
    return original


def test_what_a_full_disk_did_not_take_is_taken_at_the_next_attempt(
    outbox: Outbox, tmp_path: Path
) -> None:
    commit(outbox, b"first")
    write(outbox, b"second")
    original = fill(outbox)
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            outbox.commit(HEADER, OUTCOME, 1024)
    outbox._db = original
    assert [offer.sequence for offer in outbox.offers()] == [0]
    assert files(tmp_path) == ["0.residual", "0.update", "1.residual", "1.update"]
    offer = outbox.commit(HEADER, OUTCOME, 1024)
    assert offer.sequence == 1
    assert files(tmp_path) == ["0.update", "1.residual", "1.update"]


def test_a_verdict_that_a_full_disk_did_not_take_gives_the_payload_s_room_back(
    outbox: Outbox, tmp_path: Path
) -> None:
    kept = [commit(outbox), commit(outbox)][1]
    original = fill(outbox)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        outbox.forget(0)
    outbox._db = original
    assert (tmp_path / "0.update").stat().st_size == 0
    assert outbox.chunk(kept, 0) == PAYLOAD[:1024], "others are as they were"
    outbox.forget(0)
    assert outbox.offers() == (kept,)
    assert files(tmp_path) == ["1.residual", "1.update"]


def test_a_start_knows_an_update_that_was_judged_on_a_full_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "device_agent.outbox")
    before = Outbox(tmp_path)
    commit(before)
    kept = commit(before)
    fill(before)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        before.forget(0)
    after = Outbox(tmp_path)
    assert after.offers() == (kept,)
    assert files(tmp_path) == ["1.residual", "1.update"]
    assert caplog.records == [], "it is neither lost nor altered"
    after.close()


def test_room_for_what_a_training_gives_is_asked_for(outbox: Outbox) -> None:
    with pytest.raises(OSError, match="No space left"):
        outbox.next_paths(2**60)
    outbox.next_paths(10_000)


def test_a_start_that_a_full_disk_refuses_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[sqlite3.Connection] = []

    def fail(outbox: Outbox) -> None:
        opened.append(outbox._db)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "_sweep", fail)
        with pytest.raises(OSError, match="No space left"):
            Outbox(tmp_path)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")


# What is no outbox


def test_an_outbox_of_another_format_is_told_by_its_number(tmp_path: Path) -> None:
    Outbox(tmp_path).close()
    with sqlite3.connect(tmp_path / "outbox.sqlite") as db:
        db.execute("PRAGMA user_version=9")
    db.close()
    with pytest.raises(Failure, match="has format 9, this Flockwise knows 1") as caught:
        Outbox(tmp_path)
    assert caught.value.code == ExitCode.CONFIG


def test_a_file_that_is_no_outbox_is_told_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    path.write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(Failure, match=str(path)) as caught:
        Outbox(tmp_path)
    assert caught.value.code == ExitCode.CANNOT_WRITE
