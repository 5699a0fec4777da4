"""Replay and inspection: the past made again from a real ledger, spool and versions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from config.failures import ExitCode, Failure
from config.settings import Aggregation
from coordinator import inspection, replaying
from coordinator.combiner import combine
from coordinator.device_memory import HOLDERS, SUM
from coordinator.ledger import Ledger
from coordinator.replay import History
from coordinator.spool import Spool
from coordinator.trigger import contribution
from coordinator.versions import Versions
from coordinator.vocabulary import Accepted, Combine, Judge
from federation import snapshot
from federation.compression import Vector, encode
from federation.messages import Reason
from tests.specimens import OUTBOX, a_layout, an_id, an_offer


class Past:
    """A coordinator's state directory, filled by the functions that the service calls."""

    def __init__(
        self, folder: Path, rule: Aggregation, d: int = 2, *, memory: bool = False
    ) -> None:
        self.folder = folder
        for name in ("spool", "versions"):
            (folder / name).mkdir(parents=True)
        self.rule = rule
        self.layout = a_layout(d)
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.spool = Spool(folder / "spool")
        self.versions = Versions(folder / "versions", 1024)
        self.versions.save(0, np.zeros(d, dtype=np.float32), {}, self.layout)
        self.ledger.begin("task", "model", self.layout, memory=memory)
        self.memory = memory
        self.sequences: dict[str, int] = {}

    def version(self, **deltas: Vector) -> Vector:
        """Make the next version of one update of each device, all begun at the current one."""
        base = self.ledger.newest_version()
        assert base is not None
        parts = []
        for device, delta in deltas.items():
            sequence = self.sequences[device] = self.sequences.get(device, -1) + 1
            id, payload = an_id(device, sequence), encode("int8", delta)
            self.spool.path(id).write_bytes(payload)
            offer = an_offer(payload, sequence=sequence, base_version=base, codec="int8")
            self.ledger.judge(Judge(id, offer, 1.0))
            accepted = Accepted(id, base, offer.examples)
            known = (device, OUTBOX) in self.ledger.holders() if self.memory else None
            parts.append(contribution(self.rule, accepted, base, known=known))
        codecs = self.ledger.codecs(part.id for part in parts)
        order = Combine(base, tuple(parts))
        combine(self.rule, self.versions, self.spool, self.layout, codecs, order)
        self.ledger.add_version(base + 1, parts, self.rule)
        return self.versions.load(base + 1, self.layout)[0]

    @property
    def history(self) -> History:
        return History(self.ledger, self.versions, self.spool, self.layout)

    def close(self) -> None:
        self.ledger.close()


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    made = Past(tmp_path / "state", Aggregation())
    yield made
    made.close()


def vector(*numbers: float) -> Vector:
    return np.array(numbers, dtype=np.float32)


def command(past: Past, *words: str) -> int:
    past.close()
    try:
        return replaying.main(["--state-dir", str(past.folder), *words])
    finally:
        past.ledger = Ledger(past.folder / "ledger.sqlite")


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "yogi"])
def test_with_nobody_left_out_every_version_is_bit_for_bit_as_it_was(
    tmp_path: Path, name: str
) -> None:
    past = Past(tmp_path / "state", Aggregation(step=name, step_size=0.3), d=1000)
    chance = np.random.default_rng(1)
    for _ in range(4):
        past.version(**{d: chance.normal(size=1000).astype(np.float32) for d in ("a", "b", "c")})
    again = list(past.history.replay(0, 4, frozenset()))
    assert [r.version for r in again] == [1, 2, 3, 4]
    assert all(r.identical for r in again)
    past.close()


@pytest.mark.parametrize(
    "combine",
    ["mean", "clipped_mean", "trimmed_mean", "median", "geometric_median", "multi_krum"],
)
def test_each_way_of_combining_replays_bit_for_bit(tmp_path: Path, combine: str) -> None:
    rule = Aggregation(combine=combine, by_examples=True, step="momentum", step_size=0.3)
    d = 60_000  # more than one block of columns
    past = Past(tmp_path / "state", rule, d)
    chance = np.random.default_rng(1)
    for _ in range(3):
        past.version(**{name: chance.normal(size=d).astype(np.float32) for name in "abcdefg"})
    assert all(r.identical for r in past.history.replay(0, 3, frozenset()))
    # Fewer rows, and with one of them too few for multi-Krum to leave any out.
    for without in ("a", "abc", "abcde", "abcdef"):
        again = list(past.history.replay(0, 3, frozenset(without)))
        assert [(r.used, r.identical) for r in again] == [(7 - len(without), False)] * 3
        assert all(np.isfinite(r.model).all() for r in again)
    past.close()


def test_without_a_device_the_model_is_what_the_others_make_of_it(past: Past) -> None:
    past.version(a=vector(2, 0), b=vector(0, 4))
    past.version(a=vector(2, 0), b=vector(0, 4))
    assert past.versions.load(2, past.layout)[0].tolist() == pytest.approx([2, 4])
    *_, last = past.history.replay(0, 2, frozenset({"b"}))
    assert last.model.tolist() == pytest.approx([4, 0])
    assert (last.used, last.left_out, last.identical) == (1, 1, False)
    assert last.distance == pytest.approx(np.sqrt(20))


def test_a_version_of_nobody_else_changes_nothing(past: Past) -> None:
    past.version(a=vector(1, 1))
    past.version(b=vector(5, 5))
    *_, last = past.history.replay(0, 2, frozenset({"b"}))
    assert last.model.tolist() == pytest.approx([1, 1])


def test_each_version_is_replayed_by_the_rule_that_made_it(past: Past) -> None:
    past.version(a=vector(1, 0))
    past.rule = Aggregation(step="momentum", step_size=0.5)
    past.version(a=vector(1, 0))
    assert all(r.identical for r in past.history.replay(0, 2, frozenset()))


def test_replay_begins_where_what_is_on_disk_begins(past: Past) -> None:
    for n in range(1, 5):
        past.version(a=vector(n, 0))
    past.spool.drop(an_id("a", 1))  # the update that version 2 is made of
    assert past.history.oldest_start(4) == 2
    past.versions.keep(4)
    with pytest.raises(Failure, match="version 4 cannot be made again"):
        past.history.oldest_start(4)


def test_the_command_tells_and_writes_the_model_without_a_device(
    past: Past, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    past.version(a=vector(2, 0), b=vector(0, 4))
    output = tmp_path / "clean.safetensors"
    assert command(past, "--without", "b", "--output", str(output), "--json") == ExitCode.OK
    told = json.loads(capsys.readouterr().out)
    assert told["versions"][0]["left_out"] == 1
    assert told["adopted"] is None
    assert load_file(output)["w"].tolist() == pytest.approx([2, 0])
    assert past.ledger.newest_version() == 1


def test_an_adopted_model_is_the_current_version_and_later_ones_replay_from_it(
    past: Past, capsys: pytest.CaptureFixture[str]
) -> None:
    past.version(a=vector(2, 0), b=vector(0, 4))
    assert command(past, "--without", "b", "--adopt") == ExitCode.OK
    assert "adopted as version 2" in capsys.readouterr().out
    assert past.ledger.newest_version() == 2
    assert past.versions.load(2, past.layout)[0].tolist() == pytest.approx([2, 0])
    past.version(a=vector(2, 0))
    assert past.history.oldest_start(3) == 2
    assert all(r.identical for r in past.history.replay(2, 3, frozenset()))


def test_an_adopted_model_goes_down_as_the_newest_version_did(past: Past) -> None:
    past.versions = Versions(past.folder / "versions", 1024, "bf16")
    past.version(a=vector(2, 0), b=vector(0, 4))
    assert command(past, "--without", "b", "--adopt") == ExitCode.OK
    assert (past.folder / "versions" / "000002.bf16").read_bytes() == encode("bf16", vector(2, 0))


def test_the_command_says_when_the_past_does_not_come_out_as_it_was(past: Past) -> None:
    past.version(a=vector(2, 0))
    path = past.spool.path(an_id("a", 0))
    path.write_bytes(encode("int8", vector(3, 0)))
    with pytest.raises(Failure, match="did not come out as it was"):
        command(past)


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--to", "9"], ExitCode.USAGE), (["--to", "0"], ExitCode.NO_INPUT)],
)
def test_a_version_that_cannot_be_replayed_is_one_clear_line(
    past: Past, words: list[str], code: ExitCode
) -> None:
    past.version(a=vector(2, 0))
    with pytest.raises(Failure) as told:
        command(past, *words)
    assert told.value.code == code


@pytest.mark.parametrize("tool", [replaying.main, inspection.main])
def test_a_directory_without_a_ledger_is_one_clear_line(tmp_path: Path, tool: Any) -> None:
    with pytest.raises(Failure, match="there is no ledger in") as told:
        tool(["--state-dir", str(tmp_path)])
    assert told.value.code == ExitCode.NO_INPUT
    assert list(tmp_path.iterdir()) == [], "a question makes no files"


def test_inspection_tells_versions_devices_refusals_and_uploads_while_the_ledger_is_open(
    past: Past,
) -> None:
    past.version(a=vector(2, 0), b=vector(0, 4))
    past.ledger.add_metrics(1, {"accuracy": 0.5})
    past.ledger.judge(Judge(an_id("c"), an_offer(), refusal=Reason.STALE, detail="missed 9"))
    past.ledger.judge(Judge(an_id("a", 1), an_offer(sequence=1, base_version=1), 1.0))
    past.spool.open(an_id("d"), an_offer(bytes(5000)).payload)
    found = inspection.inspect(past.folder, 10)
    assert [row["version"] for row in found["versions"]] == [1, 0]
    assert found["versions"][0]["metrics"] == {"accuracy": 0.5}
    devices = {row["device"]: (row["accepted"], row["applied"]) for row in found["devices"]}
    assert devices == {"a": (2, 1), "b": (1, 1), "c": (0, 0)}
    assert found["refusals"][0]["reason"] == "stale"
    assert [row["sequence"] for row in found["waiting"]] == [1]
    (upload,) = found["uploads"]
    assert upload["file"] == f"d.{OUTBOX.hex()}.0"
    assert (upload["arrived_bytes"], upload["bytes"]) == (0, 5000)
    text = inspection.as_text(found)
    assert "accuracy=0.5" in text
    assert "missed 9" in text


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("running", [True, False])
def test_inspection_leaves_the_directory_as_it_was(past: Past, running: bool) -> None:
    past.version(a=vector(2, 0))
    if not running:
        past.close()
    before = tree(past.folder)
    assert any(name.endswith("-wal") for name in before) == running
    assert [row["version"] for row in inspection.inspect(past.folder, 10)["versions"]] == [1, 0]
    assert tree(past.folder) == before


@pytest.mark.parametrize("name", ["why?mode=rwc", "a#b", "100%41", "a b"])
def test_inspection_finds_the_ledger_whatever_its_directory_is_called(
    tmp_path: Path, name: str
) -> None:
    past = Past(tmp_path / name, Aggregation())
    past.version(a=vector(2, 0))
    past.close()
    assert len(inspection.inspect(past.folder, 10)["versions"]) == 2


def test_inspection_copies_again_when_the_log_was_begun_anew_meanwhile(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    past.version(a=vector(2, 0))
    copy, copied = snapshot.shutil.copyfile, []

    def copy_and_disturb(source: Path, target: Path) -> None:
        copy(source, target)
        copied.append(source.name)
        if len(copied) == 1:
            past.ledger._db.execute("PRAGMA wal_checkpoint(RESTART)")
            past.version(a=vector(0, 4))

    monkeypatch.setattr(snapshot.shutil, "copyfile", copy_and_disturb)
    found = inspection.inspect(past.folder, 10)
    assert [row["version"] for row in found["versions"]] == [2, 1, 0]
    assert copied == ["ledger.sqlite", "ledger.sqlite-wal"] * 2


def test_an_upload_that_ends_while_inspection_looks_is_left_out(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    for device in ("a", "b"):
        past.spool.open(an_id(device), an_offer().payload)
    gone, look = past.spool.path(an_id("a")), Path.stat

    def stat(path: Path, **options: Any) -> Any:
        if path == gone:
            gone.unlink()
        return look(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    (upload,) = inspection.inspect(past.folder, 10)["uploads"]
    assert upload["file"] == past.spool.path(an_id("b")).name


@pytest.mark.parametrize("output", ["nowhere/clean.safetensors", "."])
def test_an_output_that_cannot_be_written_is_one_clear_line(
    past: Past, tmp_path: Path, output: str
) -> None:
    past.version(a=vector(2, 0))
    with pytest.raises(Failure, match=r"--output .* cannot be written: ") as told:
        command(past, "--output", f"{tmp_path}/{output}")
    assert told.value.code == ExitCode.CANNOT_WRITE


@pytest.mark.parametrize("size", [0, 3])
def test_a_replay_of_an_update_that_was_cut_short_is_one_clear_line(past: Past, size: int) -> None:
    past.version(a=vector(2, 0))
    past.spool.path(an_id("a")).write_bytes(bytes(size))
    with pytest.raises(Failure, match="cannot be replayed") as told:
        command(past)
    assert told.value.code == ExitCode.NO_INPUT


def test_a_device_that_the_ledger_does_not_know_is_a_slip_of_the_pen(past: Past) -> None:
    past.version(a=vector(2, 0))
    with pytest.raises(Failure, match="the ledger knows no device zz"):
        command(past, "--without", "zz", "--adopt")
    assert past.ledger.newest_version() == 1


# Device-held memory


def remembering(folder: Path, d: int = 2) -> Past:
    return Past(folder, Aggregation(combine="mean", step="momentum", step_size=0.3), d, memory=True)


def test_versions_of_devices_with_a_memory_replay_bit_for_bit(tmp_path: Path) -> None:
    past = remembering(tmp_path / "state", d=1000)
    chance = np.random.default_rng(1)
    for names in ("abc", "ab", "bd", "abcd"):
        past.version(**{d: chance.normal(size=1000).astype(np.float32) for d in names})
    assert all(r.identical for r in past.history.replay(0, 4, frozenset()))
    *_, last = past.history.replay(2, 4, frozenset())
    assert last.identical
    as_it_was = past.versions.load(4, past.layout)[1]
    assert {name: array.tobytes() for name, array in last.state.items()} == {
        name: array.tobytes() for name, array in as_it_was.items()
    }
    past.close()


def test_a_device_that_is_left_out_is_in_no_memory(tmp_path: Path) -> None:
    both, alone = remembering(tmp_path / "both"), remembering(tmp_path / "alone")
    chance = np.random.default_rng(1)
    for _ in range(3):
        a, b, x = (chance.normal(size=2).astype(np.float32) for _ in range(3))
        both.version(a=a, b=b, x=x)
        alone.version(a=a, b=b)
    *_, last = both.history.replay(0, 3, frozenset("x"))
    model, state = alone.versions.load(3, alone.layout)
    assert last.model.tobytes() == model.tobytes()
    assert state[HOLDERS].tolist() == [2]
    np.testing.assert_array_equal(last.state[SUM], state[SUM])
    both.close()
    alone.close()


def test_the_ledger_tells_who_is_in_the_memory(tmp_path: Path) -> None:
    past = remembering(tmp_path / "state")
    assert past.ledger.holders() == frozenset()
    past.version(a=vector(1, 0))
    past.version(a=vector(1, 0), b=vector(1, 0))
    assert past.ledger.holders() == {("a", OUTBOX), ("b", OUTBOX)}
    recipe = past.ledger.recipe(2)
    assert recipe is not None
    assert [part.known for part in recipe[1]] == [True, False]
    past.close()


def test_without_a_memory_nobody_is_in_it(past: Past) -> None:
    past.version(a=vector(1, 0))
    assert past.ledger.holders() == frozenset()
    assert SUM not in past.versions.load(1, past.layout)[1]
