"""A certificate is renewed when that is due, and the role hears nothing of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from broker.authority import Authority, open_authority
from broker.enrolment import bundle_for, renewed
from federation.certificate_upkeep import CertificateUpkeep
from federation.machine import Linked, Publish, Received
from federation.membership_files import write_membership
from federation.session import SessionEvent
from federation.topics import Topics
from tests.authorities import an_authority, now

TOPICS = Topics("flockwise", "default")
ANSWERS = TOPICS.certificate("a")


class Wire:
    """A session that keeps what it is asked for."""

    alive = True
    backlog_bytes = 0
    traffic = (0, 0)
    disbelieved: Mapping[str, int] = {}

    def __init__(self) -> None:
        self.published: list[Publish] = []
        self.subscribed: list[str] = []

    def start(self) -> None: ...

    def stop(self, farewell: Publish | None = None) -> None: ...

    def publish(self, message: Publish) -> bool:
        self.published.append(message)
        return True

    def subscribe(self, topics: Sequence[str]) -> None:
        self.subscribed += topics

    def unsubscribe(self, topics: Sequence[str]) -> None: ...


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    with open_authority(an_authority(tmp_path / "authority")) as opened:
        yield opened


def a_member(authority: Authority, folder: Path, *, days_ago: float) -> Path:
    """Enrolled for 90 days, so long ago."""
    begun = now() - dt.timedelta(days=days_ago)
    write_membership(folder, bundle_for(authority, "a", begun, days=90).files)
    return folder


def upkeep_of(folder: Path) -> tuple[CertificateUpkeep, Wire, list[SessionEvent]]:
    wire, heard = Wire(), list[SessionEvent]()
    upkeep = CertificateUpkeep(folder, TOPICS.csr("a"), ANSWERS, heard.append)
    upkeep.session = wire
    return upkeep, wire, heard


def test_while_a_certificate_has_time_nothing_is_asked(
    authority: Authority, tmp_path: Path
) -> None:
    upkeep, wire, heard = upkeep_of(a_member(authority, tmp_path / "m", days_ago=50))
    upkeep.receive(Linked(1))
    assert (wire.published, wire.subscribed) == ([], [])
    assert heard == [Linked(1)]


def test_a_due_certificate_is_renewed_and_the_role_hears_nothing_of_it(
    authority: Authority, tmp_path: Path
) -> None:
    folder = a_member(authority, tmp_path / "m", days_ago=70)
    upkeep, wire, heard = upkeep_of(folder)
    upkeep.receive(Linked(1))
    (asked,) = wire.published
    assert (asked.topic, asked.qos, asked.retain) == (TOPICS.csr("a"), 1, False)
    assert wire.subscribed == [ANSWERS]
    answer = renewed(authority, asked.payload, "a", now())
    upkeep.receive(Received(ANSWERS, answer, True))
    assert (folder / "certificate.pem").read_bytes() == answer
    assert heard == [Linked(1)]
    upkeep.receive(Linked(2))
    assert len(wire.published) == 1


def test_an_answer_that_is_none_leaves_the_old_certificate_and_is_asked_for_again(
    authority: Authority, tmp_path: Path
) -> None:
    folder = a_member(authority, tmp_path / "m", days_ago=70)
    before = (folder / "certificate.pem").read_bytes()
    upkeep, wire, _ = upkeep_of(folder)
    upkeep.receive(Linked(1))
    upkeep.receive(Received(ANSWERS, b"hello", True))
    assert (folder / "certificate.pem").read_bytes() == before
    upkeep.receive(Linked(2))
    assert len(wire.published) == 2


def test_a_membership_without_a_certificate_asks_for_nothing(tmp_path: Path) -> None:
    upkeep, wire, heard = upkeep_of(tmp_path)
    upkeep.receive(Linked(1))
    assert (wire.published, heard) == ([], [Linked(1)])


def test_what_others_send_is_handed_on(authority: Authority, tmp_path: Path) -> None:
    upkeep, _, heard = upkeep_of(a_member(authority, tmp_path / "m", days_ago=70))
    upkeep.receive(Linked(1))
    message = Received(TOPICS.down("a"), b"want", False)
    upkeep.receive(message)
    assert heard == [Linked(1), message]
