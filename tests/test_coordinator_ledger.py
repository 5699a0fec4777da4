"""What is in the ledger has happened, once, whatever kills its process."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

from config.failures import ExitCode, Failure
from config.settings import Aggregation
from coordinator.ledger import Ledger
from coordinator.trigger import contribution
from coordinator.vocabulary import Accepted, Contribution, Judge, Mark
from federation.messages import Reason
from tests.specimens import OUTBOX, a_layout, accepted, an_id, an_offer

HOUSE = Path(__file__).resolve().parent.parent
RULE = Aggregation()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Any:
    opened = Ledger(path)
    opened.begin("task", "model", a_layout(2))
    yield opened
    opened.close()


def part(update: Accepted, staleness: int = 0) -> Contribution:
    return Contribution(update.id, update.base_version, staleness, 1.0, 1.0)


def reopened(path: Path) -> Ledger:
    ledger = Ledger(path)
    ledger.close()
    return Ledger(path)


def killed(path: Path, code: str) -> None:
    """Run the code in a child that kills itself in the middle of it."""
    head = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from coordinator import ledger as module\n"
        "from coordinator.vocabulary import Judge\n"
        "from tests.specimens import *\n"
        "from tests.test_coordinator_ledger import RULE, part\n"
        "def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"path = Path({str(path)!r})\n"
    )
    child = subprocess.run([sys.executable, "-c", head + code], cwd=HOUSE, check=False)
    assert child.returncode == -signal.SIGKILL


def test_a_ledger_has_an_identity_and_counts_its_starts(path: Path) -> None:
    first = Ledger(path)
    first.close()
    second = Ledger(path)
    second.close()
    assert len(first.identity) == 8
    assert first.identity == second.identity
    assert (first.boots, second.boots) == (1, 2)


def test_two_ledgers_are_never_the_same(tmp_path: Path) -> None:
    one, two = Ledger(tmp_path / "one"), Ledger(tmp_path / "two")
    assert one.identity != two.identity
    one.close()
    two.close()


def test_a_new_ledger_is_about_no_model_and_holds_no_version(path: Path) -> None:
    ledger = Ledger(path)
    assert ledger.model() is None
    assert ledger.newest_version() is None
    assert ledger.buffer() == ()
    assert ledger.settled() == {}
    ledger.close()


def test_a_ledger_is_about_one_model_from_version_zero_on(ledger: Ledger) -> None:
    assert ledger.model() == ("task", "model", a_layout(2))
    assert ledger.newest_version() == 0
    assert ledger.contributors(0) == ()
    with pytest.raises(sqlite3.IntegrityError):
        ledger.begin("task", "another", a_layout(3))
    assert ledger.model() == ("task", "model", a_layout(2))


def test_accepted_updates_wait_in_order_until_a_version_contains_them(ledger: Ledger) -> None:
    updates = [accepted("b", 0), accepted("a", 0, examples=20), accepted("a", 1)]
    for update in updates:
        ledger.judge(Judge(update.id, an_offer(sequence=0, examples=update.examples), 1.0))
    assert ledger.buffer() == tuple(updates)
    ledger.add_version(1, [part(updates[2]), part(updates[0])], RULE)
    assert ledger.buffer() == (updates[1],)
    assert ledger.contributors(1) == (updates[2].id, updates[0].id), "in the order of the sum"
    assert ledger.newest_version() == 1


def test_refused_updates_never_wait_and_settle_nothing(ledger: Ledger) -> None:
    ledger.judge(Judge(an_id("a", 3), an_offer(), refusal=Reason.STALE, detail="too old"))
    assert ledger.buffer() == ()
    assert ledger.settled() == {}


def test_an_update_that_was_refused_may_be_judged_again(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.judge(Judge(an_id("a", 3), an_offer(), refusal=Reason.STALE, detail="too old"))
    ledger.judge(Judge(an_id("a", 3), an_offer(), 1.0))
    assert ledger.settled() == {("a", OUTBOX): 3}
    with pytest.raises(sqlite3.IntegrityError):
        ledger.judge(Judge(an_id("a", 3), an_offer(), 1.0))


def test_settled_is_the_greatest_sequence_of_each_outbox_of_each_device(ledger: Ledger) -> None:
    ledger.judge(Judge(an_id("a", 0), an_offer(), 1.0))
    ledger.judge(Judge(an_id("a", 1), an_offer(), refusal=Reason.STALE, detail=""))
    ledger.judge(Judge(an_id("a", 0, b"outbox-2"), an_offer(), 1.0))
    ledger.judge(Judge(an_id("b", 7), an_offer(), 1.0))
    assert ledger.settled() == {("a", OUTBOX): 0, ("a", b"outbox-2"): 0, ("b", OUTBOX): 7}


def test_each_update_keeps_its_codec(ledger: Ledger) -> None:
    ledger.judge(Judge(an_id("a"), an_offer(codec="int8"), 1.0))
    ledger.judge(Judge(an_id("b"), an_offer(codec="float32"), 1.0))
    found = ledger.codecs([an_id("b"), an_id("a")])
    assert found == {an_id("a"): "int8", an_id("b"): "float32"}


def test_metrics_of_a_version_are_kept(ledger: Ledger, path: Path) -> None:
    ledger.add_metrics(0, {"accuracy": 0.5})
    with sqlite3.connect(path) as looked_at:
        (metrics,) = looked_at.execute("SELECT metrics FROM versions").fetchone()
    looked_at.close()
    assert b"accuracy" in metrics


def test_an_update_is_judged_once(ledger: Ledger) -> None:
    ledger.judge(Judge(an_id("a"), an_offer(), 1.0))
    with pytest.raises(sqlite3.IntegrityError):
        ledger.judge(Judge(an_id("a"), an_offer(), 1.0))
    with pytest.raises(sqlite3.IntegrityError):
        ledger.judge(Judge(an_id("a"), an_offer(), refusal=Reason.STALE, detail=""))
    assert ledger.buffer() == (accepted("a"),)


def test_an_update_enters_one_version(ledger: Ledger) -> None:
    update = accepted("a")
    ledger.judge(Judge(update.id, an_offer(), 1.0))
    ledger.add_version(1, [part(update)], RULE)
    with pytest.raises(sqlite3.IntegrityError):
        ledger.add_version(2, [part(update)], RULE)
    assert ledger.newest_version() == 1, "the second version is not there either"


def test_a_version_contains_an_update_once(ledger: Ledger) -> None:
    update = accepted("a")
    ledger.judge(Judge(update.id, an_offer(), 1.0))
    with pytest.raises(sqlite3.IntegrityError):
        ledger.add_version(1, [part(update), part(update)], RULE)
    assert ledger.newest_version() == 0
    assert ledger.buffer() == (update,)


@pytest.mark.parametrize("known", ["nobody's", "refused"])
def test_a_version_is_made_of_accepted_updates_only(ledger: Ledger, known: str) -> None:
    if known == "refused":
        ledger.judge(Judge(an_id("a"), an_offer(), refusal=Reason.STALE, detail=""))
    with pytest.raises(sqlite3.IntegrityError, match="is not an accepted update"):
        ledger.add_version(1, [part(accepted("a"))], RULE)
    assert ledger.newest_version() == 0


def test_a_version_is_entered_once(ledger: Ledger) -> None:
    ledger.add_version(1, [], RULE)
    with pytest.raises(sqlite3.IntegrityError):
        ledger.add_version(1, [], RULE)


def test_what_is_remembered_survives_a_restart(path: Path) -> None:
    ledger = Ledger(path)
    ledger.begin("task", "model", a_layout(2))
    ledger.judge(Judge(an_id("a"), an_offer(), 1.0))
    ledger.judge(Judge(an_id("b"), an_offer(), 1.0))
    ledger.add_version(1, [part(accepted("a"))], RULE)
    ledger.close()
    again = reopened(path)
    assert again.model() == ("task", "model", a_layout(2))
    assert again.buffer() == (accepted("b"),)
    assert again.contributors(1) == (an_id("a"),)
    assert again.settled() == {("a", OUTBOX): 0, ("b", OUTBOX): 0}
    again.close()


def test_a_kill_in_the_middle_of_a_version_leaves_none_of_it(path: Path) -> None:
    killed(
        path,
        "ledger = module.Ledger(path)\n"
        "ledger.begin('task', 'model', a_layout(2))\n"
        "updates = [accepted('a'), accepted('b')]\n"
        "for update in updates: ledger.judge(Judge(update.id, an_offer(), 1.0))\n"
        "def parts():\n"
        "    yield part(updates[0])\n"
        "    die()\n"
        "ledger.add_version(1, parts(), RULE)\n",
    )
    ledger = Ledger(path)
    assert ledger.newest_version() == 0
    assert ledger.buffer() == (accepted("a"), accepted("b"))
    ledger.add_version(1, [part(accepted("a")), part(accepted("b"))], RULE)
    assert ledger.buffer() == ()
    ledger.close()


def test_a_kill_right_after_an_entry_leaves_it_whole(path: Path) -> None:
    killed(path, "module.Ledger(path).judge(Judge(an_id('a'), an_offer(), 1.0))\ndie()\n")
    ledger = Ledger(path)
    assert ledger.buffer() == (accepted("a"),)
    assert ledger.settled() == {("a", OUTBOX): 0}
    ledger.close()


def test_a_kill_while_the_ledger_is_made_leaves_one_that_can_be_made(path: Path) -> None:
    killed(path, "module.urandom = die\nmodule.Ledger(path)\n")
    ledger = Ledger(path)
    assert ledger.boots == 1
    ledger.close()


def test_a_ledger_of_another_format_is_told_by_its_number(path: Path) -> None:
    Ledger(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=9")
    db.close()
    with pytest.raises(Failure, match="has format 9, this Flockwise knows 3") as caught:
        Ledger(path)
    assert caught.value.code == ExitCode.CONFIG


def test_a_file_that_is_no_ledger_is_told_by_its_name(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(Failure, match=str(path)) as caught:
        Ledger(path)
    assert caught.value.code == ExitCode.CANNOT_WRITE


def test_a_ledger_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="unable to open"):
        Ledger(tmp_path / "missing" / "ledger.sqlite")


def test_contributions_keep_how_they_were_counted(ledger: Ledger, path: Path) -> None:
    update = accepted("a", base=0, examples=30)
    ledger.judge(Judge(update.id, an_offer(examples=30), 1.0))
    ledger.add_version(4, [contribution(Aggregation(by_examples=True), update, 3)], RULE)
    with sqlite3.connect(path) as looked_at:
        row = looked_at.execute("SELECT staleness, scale, weight FROM contributions").fetchone()
    looked_at.close()
    assert row == (3, 0.5, 30.0)


def test_the_norms_are_those_of_the_last_devices_one_each_oldest_first(ledger: Ledger) -> None:
    for device, sequence, norm in (("a", 0, 1.0), ("b", 0, 2.0), ("c", 0, 3.0), ("a", 1, 4.0)):
        ledger.judge(Judge(an_id(device, sequence), an_offer(), norm))
    ledger.judge(Judge(an_id("b", 1), an_offer(), 0.0))
    ledger.judge(Judge(an_id("d"), an_offer(), 9.0, Reason.STALE, "too old"))
    assert ledger.norms(10) == (("b", 2.0), ("c", 3.0), ("a", 4.0))
    assert ledger.norms(2) == (("c", 3.0), ("a", 4.0))


def test_the_last_version_of_each_device_and_its_marks_are_remembered(ledger: Ledger) -> None:
    for version, device in ((1, "a"), (2, "b"), (3, "a")):
        update = accepted(device, version)
        ledger.judge(Judge(update.id, an_offer(), 1.0))
        clipped = replace(part(update), clip=1 / version)
        outliers = {update.id} if version == 2 else ()
        ledger.add_version(version, [clipped], RULE, outliers)
    assert ledger.contributed() == {"a": 3, "b": 2}
    assert list(ledger.marks(2)) == [Mark("b", 2, 0.5, True), Mark("a", 3, 1 / 3, False)]


def test_what_is_set_aside_waits_no_more_and_is_still_on_record(ledger: Ledger) -> None:
    updates = [accepted("a", 0), accepted("a", 1), accepted("b", 0)]
    for update in updates:
        ledger.judge(Judge(update.id, an_offer(), 1.0))
    ledger.add_version(1, [part(updates[0])], RULE)
    ledger.set_aside([updates[0].id, updates[1].id])
    assert ledger.buffer() == (updates[2],)
    assert not ledger.is_accepted(updates[1].id), "its file may go"
    assert ledger.is_accepted(updates[0].id), "it is in a version"
    assert ledger.settled()["a", OUTBOX] == 1


def test_of_refused_offers_the_last_thousand_of_a_device_are_kept_and_all_are_counted(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.ledger.REFUSED_KEPT", 10)
    ledger.judge(Judge(an_id("a", 5), an_offer(), 1.0))
    ledger.judge(Judge(an_id("b", 0), an_offer(), refusal=Reason.STALE, detail=""))
    for sequence in range(100, 150):
        refused = Judge(an_id("a", sequence), an_offer(), 0.0, Reason.STALE, f"no {sequence}")
        ledger.judge(refused)
    with sqlite3.connect(path) as looked_at:
        kept = looked_at.execute(
            "SELECT sequence FROM updates WHERE device = 'a' AND refusal IS NOT NULL"
        ).fetchall()
        counted = looked_at.execute("SELECT * FROM refusals ORDER BY device").fetchall()
    looked_at.close()
    assert [n for (n,) in kept] == list(range(140, 150))
    assert counted == [("a", "stale", 50, "no 149"), ("b", "stale", 1, "")]
    assert ledger.buffer() == (accepted("a", 5),)


# A ledger that an earlier Flockwise made


OLD_SCHEMA = """
CREATE TABLE identity (ledger BLOB NOT NULL, boots INTEGER NOT NULL);
CREATE TABLE model (task TEXT NOT NULL, name TEXT NOT NULL, layout BLOB NOT NULL);
CREATE TABLE updates (
    entry INTEGER PRIMARY KEY,
    device TEXT NOT NULL, outbox BLOB NOT NULL, sequence INTEGER NOT NULL,
    base_version INTEGER NOT NULL, examples INTEGER NOT NULL, steps INTEGER NOT NULL,
    train_s REAL NOT NULL, codec TEXT NOT NULL, bytes INTEGER NOT NULL,
    refusal TEXT, detail TEXT, norm REAL, metrics BLOB NOT NULL, judged_at REAL NOT NULL,
    UNIQUE (device, outbox, sequence)
);
CREATE TABLE versions (
    version INTEGER PRIMARY KEY, made_at REAL NOT NULL, rule TEXT, note TEXT, metrics BLOB
);
CREATE TABLE contributions (
    entry INTEGER PRIMARY KEY REFERENCES updates,
    version INTEGER NOT NULL REFERENCES versions, position INTEGER NOT NULL,
    staleness INTEGER NOT NULL, scale REAL NOT NULL, weight REAL NOT NULL,
    UNIQUE (version, position)
);
INSERT INTO identity VALUES (x'0102030405060708', 7);
PRAGMA user_version=1;
"""


@pytest.fixture
def old(path: Path) -> Path:
    """Three updates of version-1 days: one in a version, one that waits, one refused twice."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(OLD_SCHEMA)
        layout = msgpack.packb(a_layout(2).to_wire())
        db.execute("INSERT INTO model VALUES ('task', 'model', ?)", (layout,))
        nothing = msgpack.packb({})
        for entry, device, refusal in ((1, "a", None), (2, "b", None), (3, "c", "stale")):
            row = (entry, device, OUTBOX, 0, 0, 10, 5, 1.0, "float32", 8, refusal, refusal)
            db.execute(f"INSERT INTO updates VALUES ({'?, ' * 12}1.0, ?, 1e9)", (*row, nothing))
        row = (4, "c", OUTBOX, 1, 0, 10, 5, 1.0, "float32", 8, "stale", "very")
        db.execute(f"INSERT INTO updates VALUES ({'?, ' * 12}NULL, ?, 1e9)", (*row, nothing))
        db.execute("INSERT INTO versions VALUES (0, 1e9, NULL, 'the first version', NULL)")
        old_rule = '{"trigger": "immediate", "buffer_size": 3}'
        db.execute("INSERT INTO versions VALUES (1, 1e9, ?, NULL, NULL)", (old_rule,))
        db.execute("INSERT INTO contributions VALUES (1, 1, 0, 0, 0.5, 1.0)")
        db.commit()
    return path


def test_a_ledger_of_an_earlier_flockwise_is_brought_up_to_date_and_loses_nothing(
    old: Path,
) -> None:
    with closing(Ledger(old)) as ledger:
        assert (ledger.identity, ledger.boots) == (bytes(range(1, 9)), 8)
        assert ledger.model() == ("task", "model", a_layout(2))
        assert ledger.newest_version() == 1
        assert ledger.buffer() == (accepted("b"),)
        assert ledger.settled() == {("a", OUTBOX): 0, ("b", OUTBOX): 0}
        assert ledger.norms(10) == (("a", 1.0), ("b", 1.0))
        recipe = ledger.recipe(1)
        assert recipe is not None
        rule, parts = recipe
        assert (rule.combine, rule.trigger, rule.buffer_size) == ("mean", "immediate", 3)
        assert parts == (Contribution(an_id("a"), 0, 0, 0.5, 1.0, clip=1.0),)
        ledger.add_version(2, [part(accepted("b"))], RULE)
    with closing(sqlite3.connect(old)) as db:
        assert db.execute("SELECT * FROM refusals").fetchall() == [("c", "stale", 2, "very")]
        assert db.execute("SELECT count(*) FROM updates").fetchone() == (4,)


def test_a_ledger_that_was_brought_up_to_date_has_the_tables_of_a_new_one(
    old: Path, tmp_path: Path
) -> None:
    def columns(path: Path) -> dict[str, set[tuple[Any, ...]]]:
        Ledger(path).close()
        with closing(sqlite3.connect(path)) as db:
            names = [n for (n,) in db.execute("SELECT name FROM sqlite_master ORDER BY name")]
            told = {name: db.execute(f"PRAGMA table_xinfo({name})").fetchall() for name in names}
        return {name: {row[1:] for row in rows} for name, rows in told.items()}

    assert columns(old) == columns(tmp_path / "new.sqlite")


def test_a_kill_while_a_ledger_is_brought_up_to_date_leaves_the_old_one(old: Path) -> None:
    killed(
        old,
        "from coordinator import schema\n"
        "import sqlite3\n"
        "import federation.database as database\n"
        "module.MIGRATIONS[1] += 'SELECT die();'\n"
        "connect = sqlite3.connect\n"
        "def connected(*args, **kwargs):\n"
        "    db = connect(*args, **kwargs)\n"
        "    db.create_function('die', 0, die)\n"
        "    return db\n"
        "sqlite3.connect = connected\n"
        "module.Ledger(path)\n",
    )
    with closing(sqlite3.connect(old)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert "refusals" not in {n for (n,) in db.execute("SELECT name FROM sqlite_master")}
    with closing(Ledger(old)) as ledger:
        assert ledger.buffer() == (accepted("b"),)


def test_a_ledger_of_earlier_days_has_no_memory(old: Path) -> None:
    with closing(Ledger(old)) as ledger:
        assert not ledger.has_memory()
        assert ledger.holders() == frozenset()


def test_a_ledger_says_for_ever_whether_devices_have_a_memory(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        assert not ledger.has_memory()
        ledger.begin("task", "model", a_layout(2), memory=True)
    with closing(Ledger(path)) as ledger:
        assert ledger.has_memory()
