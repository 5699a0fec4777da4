"""A little of `make fuzz` each time; and that a decoder which breaks its word is found."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import fuzz as module
from tests.fuzz import Meter, fuzz, main, reproducer
from tests.fuzz_cases import any_json
from tests.fuzz_targets import Target, targets

WORDS = b"some words that are taken"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return targets(tmp_path_factory.mktemp("fuzz"))


def test_no_decoder_breaks_its_word(known: dict[str, Target]) -> None:
    outcomes = [
        fuzz(name, target, 1, seconds=0, cases=60, small=5) for name, target in known.items()
    ]
    assert [reproducer(outcome) for outcome in outcomes if outcome.failure] == []
    assert all(outcome.cases >= 60 for outcome in outcomes)


def test_every_specimen_is_good(known: dict[str, Target]) -> None:
    for name, target in known.items():
        meter = Meter(name, target)
        for specimen in target.specimens:
            meter.check(specimen)
        assert meter.outcome.refused == 0, name


def test_every_decoder_takes_what_it_is_given_into_its_deeper_parts(
    known: dict[str, Target],
) -> None:
    """Cases that all fail at the first check would show nothing."""
    target = known["message"]
    outcome = fuzz("message", target, 2, seconds=0, cases=400, small=1)
    assert outcome.answers > 50


def breaks(data: bytes) -> None:
    if b"words" not in data:
        raise KeyError("what nobody expects")


def hoards(data: bytes) -> None:
    if len(data) > 5 and data[0] != WORDS[0]:
        bytearray(2**24)


def dawdles(data: bytes) -> None:
    time.sleep(0.02)


@pytest.mark.parametrize(
    ("decoder", "told", "smallest"),
    [
        (breaks, "KeyError: 'what nobody expects'", b""),
        (hoards, "FuzzError: 16,7", None),
        (dawdles, "FuzzError: 0.0 s", b""),
    ],
)
def test_a_decoder_that_breaks_its_word_is_found_and_its_case_made_small(
    monkeypatch: pytest.MonkeyPatch,
    decoder: Callable[[bytes], None],
    told: str,
    smallest: bytes | None,
) -> None:
    monkeypatch.setattr(module, "SLOWEST_S", 0.01)
    outcome = fuzz("planted", Target(decoder, (), (WORDS,)), 0, seconds=0, cases=500)
    assert outcome.failure.startswith(told)
    case = bytes.fromhex(outcome.case)
    assert case == smallest if smallest is not None else len(case) == 6
    assert '--target "planted" --case' in reproducer(outcome)


def test_hypothesis_finds_it_too() -> None:
    target = Target(breaks, (), (WORDS,), more=(any_json,))
    meter = Meter("planted", target)
    with pytest.raises(KeyError):
        module._with_hypothesis(meter, target, 0, 50)


def test_a_refusal_is_no_failure() -> None:
    outcome = fuzz("planted", Target(breaks, (KeyError,), (WORDS,)), 0, seconds=0, cases=50)
    assert (outcome.failure, outcome.refused > 0, outcome.answers) == ("", True, 2)


def test_the_same_seed_makes_the_same_cases() -> None:
    seen: list[list[bytes]] = [[], []]
    for run in seen:
        fuzz("planted", Target(run.append, (), (WORDS,)), 7, seconds=0, cases=50, small=5)
    assert seen[0] == seen[1]


def test_the_command_tells_each_target_and_ends_with_one_if_any_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {"good": Target(len, (), (WORDS,)), "bad": Target(breaks, (), (WORDS,))}
    monkeypatch.setattr(module, "targets", lambda folder: made)
    monkeypatch.setattr(module, "_guard", lambda: None)
    assert main(["--minutes", "0", "--json"]) == 1
    rows = {row["target"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["good"]["failure"], rows["bad"]["case"]) == ("", "")
    assert main(["--minutes", "0", "--target", "good"]) == 0
    assert "good " in capsys.readouterr().out
    assert main(["--target", "none"]) == 2


def test_a_case_is_done_again_from_its_hex_or_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "targets", lambda folder: {"bad": Target(breaks, (), (WORDS,))})
    monkeypatch.setattr(module, "_guard", lambda: None)
    (tmp_path / "case.hex").write_text(WORDS.hex())
    assert main(["--target", "bad", "--case", f"@{tmp_path / 'case.hex'}"]) == 0
    with pytest.raises(KeyError):
        main(["--target", "bad", "--case", "00"])


# What fuzzing has found, each once

DEEP = b"[" * 99_999
FOUND = {
    "a key whose kind does not fit its length": (
        "key",
        b"-----BEGIN PRIVATE KEY-----MC4CAQAwBQYDK2VvBCIEINR3DGkv/B1QyCVfnb4lXAChdwtAqkz0zA"
        b"ekMPkPpOIh+-----END PRIVATE KEY-----",
    ),
    "a request of a version that there is not": (
        "certificate signing request",
        bytes.fromhex(
            "3081c83070020102300e310c300a06035504030c036f6e653059301306072a8648ce3d020106082a86"
            "48ce3d03010703420004306b64e6e85d7f40522892f36d2d5c07cbb63aea74e5cbb2eaa96bc4aca379"
            "89dfa56c904d3ac1efda17a159cd6b2fdf4f01dc98406ae0decd264f13cfc857d0a000300a06082a86"
            "48ce3d0403020348003045022100994620f4351251d73d1f38528ab71e5ab62a66f2e5ef330fecb51c"
            "56a11d2d5b0220237a77990ad1d6cfcf56c2bf82c2b450ffe71f8c1af16b790c167ac59b2dd1bf"
        ),
    ),
    "a status without a summary": ("status.json", b'{"pid": 1, "told_at": 1}'),
    "a status of the far future": (
        "status.json",
        b'{"pid": 1, "told_at": 1e300, "summary": "linked"}',
    ),
    "a status that is nested deeply": ("status.json", DEEP),
    "a report that is nested deeply": ("reports.jsonl", DEEP),
    "a quarantine that is nested deeply": ("quarantine.json", DEEP),
    "a quarantine since version infinity": (
        "quarantine.json",
        b'{"format": 1, "devices": {"one": {"quarantined": true, "by": "rule", "reason": "",'
        b' "version": 1e999, "at": 0}}}',
    ),
}


@pytest.mark.parametrize(("name", "case"), FOUND.values(), ids=FOUND)
def test_what_once_broke_a_decoder_does_not_break_it_again(
    known: dict[str, Target], name: str, case: bytes
) -> None:
    Meter(name, known[name]).check(case)


def damaged_archives(archive: bytes) -> list[bytes]:
    """An archive with each byte of its list of contents altered, one at a time."""
    start = archive.index(b"PK\x01\x02")
    return [
        archive[:at] + bytes([archive[at] ^ 0x81]) + archive[at + 1 :]
        for at in range(start, len(archive))
    ]


@pytest.mark.parametrize("name", ["chunk file", "training under way"])
def test_no_byte_of_the_contents_of_an_archive_breaks_its_reader(
    known: dict[str, Target], name: str
) -> None:
    target = known[name]
    meter = Meter(name, target)
    for case in damaged_archives(target.specimens[0]):
        meter.check(case)


@pytest.mark.parametrize(
    "name", ["certificate", "renewed certificate", "certificate signing request"]
)
def test_no_bit_of_a_certificate_breaks_its_reader(known: dict[str, Target], name: str) -> None:
    target = known[name]
    meter = Meter(name, target)
    (specimen,) = target.specimens
    for at in range(len(specimen)):
        meter.check(specimen[:at] + bytes([specimen[at] ^ 1]) + specimen[at + 1 :])
