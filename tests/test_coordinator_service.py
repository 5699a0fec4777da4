"""What the coordinator's shell keeps on disk, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.failures import ExitCode, Failure
from config.settings import Aggregation, CoordinatorSettings
from coordinator import service
from coordinator.ledger import Ledger
from coordinator.recollection import remember
from coordinator.trigger import contribution
from coordinator.versions import Versions
from coordinator.vocabulary import (
    Clean,
    Combine,
    Combined,
    Judge,
    Judged,
    OpenUpload,
    Screen,
    Screened,
    UploadOpened,
    WriteChunk,
)
from federation.messages import Reason
from federation.state_directory import StateDirectory
from tests.specimens import a_layout, accepted, an_id, an_offer

TWO = a_layout(2)


@pytest.fixture
def settings(tmp_path: Path) -> CoordinatorSettings:
    return CoordinatorSettings(
        insecure=True,
        state_dir=tmp_path / "state",
        keep_versions=2,
        aggregation={
            "reanchor": True,
            "max_staleness": 1,
            "step_size": 1.0,
            "staleness": "constant",
        },
        reporting={"wandb": "off"},
    )


def begin(settings: CoordinatorSettings, newest: int = 0) -> None:
    """Lay a ledger down that is about a model of two numbers, with some versions of it."""
    directory = StateDirectory(settings.state_dir)
    ledger = Ledger(directory.path / "ledger.sqlite")
    versions = Versions(directory.folder("versions"), settings.transfer.chunk_bytes)
    ledger.begin(settings.task, settings.training.model, TWO)
    for version in range(newest + 1):
        versions.save(version, np.zeros(2, dtype=np.float32), {}, TWO)
        if version:
            ledger.add_version(version, [], Aggregation())
    ledger.close()
    directory.close()


@pytest.fixture
def idle(settings: CoordinatorSettings) -> Iterator[Any]:
    """A service that was made and not started."""
    begin(settings)
    with ExitStack() as closing:
        directory = StateDirectory(settings.state_dir)
        closing.callback(directory.close)
        yield service._Service(settings, directory, closing)


def event_of(idle: Any) -> Any:
    """The next event for the core, as the loop would find it."""
    event = None
    while event is None:
        item = idle._shell._items.get(timeout=60)
        event = item.function() if hasattr(item, "function") else item
    return event


def take_in(idle: Any, device: str, base: int, *numbers: float) -> None:
    """Let an accepted update lie in spool and ledger."""
    id = an_id(device, base)
    payload = np.array(numbers, dtype=np.float32).tobytes()
    offer = an_offer(payload, base_version=base, sequence=base)
    idle._carry_out(OpenUpload(id, offer.payload))
    assert event_of(idle) == UploadOpened(id, frozenset())
    idle._carry_out(WriteChunk(id, 0, payload))
    idle._carry_out(Screen(id, offer))
    assert event_of(idle).refusal is None
    verdict = Judge(id, offer, 1.0)
    idle._carry_out(verdict)
    assert event_of(idle) == Judged(verdict)


def make(idle: Any, version: int, *updates: tuple[str, int]) -> Combined:
    """Let a version be made of these updates: device and base version."""
    rule = idle._settings.aggregation
    parts = tuple(
        contribution(rule, accepted(device, base, base), version - 1) for device, base in updates
    )
    idle._carry_out(Combine(version - 1, parts))
    made = event_of(idle)
    assert isinstance(made, Combined)
    idle._carry_out(Clean(version - 1))  # as a core does that keeps two versions
    return made


def spooled(idle: Any) -> list[str]:
    return sorted(path.name.partition(".")[0] for path in idle._spool._folder.iterdir())


def test_a_version_is_checkpointed_and_in_the_ledger_before_the_core_hears_of_it(
    idle: Any,
) -> None:
    take_in(idle, "one", 0, 1.0, 2.0)
    assert make(idle, 1, ("one", 0)).info.version == 1
    assert idle._versions.load(1, TWO)[0].tolist() == [1, 2]
    assert idle._ledger.newest_version() == 1
    assert idle._ledger.buffer() == ()


def test_old_versions_go_with_the_updates_that_are_in_them(idle: Any) -> None:
    for version in range(1, 5):
        take_in(idle, f"device-{version}", version - 1, 1.0, 0.0)
        make(idle, version, (f"device-{version}", version - 1))
    assert idle._versions.stored() == (3, 4)
    assert spooled(idle) == ["device-3", "device-4"]


def test_a_refused_update_leaves_the_ledgers_word_and_no_bytes(idle: Any) -> None:
    id, offer = an_id("one", 0), an_offer()
    idle._carry_out(OpenUpload(id, offer.payload))
    assert isinstance(event_of(idle), UploadOpened)
    for detail in ("too old", "once more"):
        idle._carry_out(Judge(id, offer, refusal=Reason.STALE, detail=detail))
        assert isinstance(event_of(idle), Judged)
        assert spooled(idle) == []
        assert idle._ledger.settled() == {}


def test_a_screening_comes_back_as_an_event(idle: Any) -> None:
    id, payload = an_id("one", 0), np.array([np.nan, 1], dtype=np.float32).tobytes()
    offer = an_offer(payload)
    idle._carry_out(OpenUpload(id, offer.payload))
    assert isinstance(event_of(idle), UploadOpened)
    idle._carry_out(WriteChunk(id, 0, payload))
    idle._carry_out(Screen(id, offer))
    screened = event_of(idle)
    assert isinstance(screened, Screened)
    assert screened.refusal is Reason.NOT_FINITE


def test_what_the_ledger_knows_is_remembered_at_the_start(idle: Any) -> None:
    take_in(idle, "one", 0, 1.0, 2.0)
    state = idle._settings.state_dir
    memory = remember(state, idle._ledger, idle._versions, idle._layout, idle._keyring, 0)
    assert memory.current.version == 0
    assert memory.buffer == (accepted("one", 0, 0),)
    assert memory.settled == {("one", accepted().id.outbox): 0}


def test_a_state_directory_in_use_is_told(settings: CoordinatorSettings) -> None:
    holder = StateDirectory(settings.state_dir)
    with pytest.raises(Failure, match="is in use by process") as caught:
        service.run(settings)
    assert caught.value.code == ExitCode.LOCKED
    holder.close()


def test_a_coordinator_whose_versions_are_all_made_ends_at_once(
    settings: CoordinatorSettings,
) -> None:
    begin(settings, newest=3)
    stop = service.run(settings.model_copy(update={"versions": 3}))
    assert stop.exit_code == ExitCode.OK
    assert stop.text == "version 3 is the last one; nothing is left to do"
