"""Settings that change while a role runs: taken up, or told why not."""

from __future__ import annotations

import logging

import pytest

from config.failures import ExitCode, Failure
from config.settings import AgentSettings
from federation.machine import Stop
from federation.role import Reload, run_role

END = Stop(ExitCode.OK, "the end")


def some(threads: int = 1) -> AgentSettings:
    return AgentSettings(device="one", chunk="one.npz", threads=threads)


def test_a_role_begins_anew_with_settings_that_have_changed() -> None:
    threads = iter((1, 2))
    seen: list[int] = []

    def run(settings: AgentSettings, reload: Reload[AgentSettings]) -> Stop:
        seen.append(settings.threads)
        return (reload() or END) if len(seen) == 1 else END

    assert run_role(lambda: some(next(threads)), run) == ExitCode.OK
    assert seen == [1, 2]


def test_settings_that_have_not_changed_disturb_nothing() -> None:
    assert Reload(some)() is None


def test_settings_with_a_fault_are_told_and_the_old_ones_stay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fine = iter([some()])

    def read() -> AgentSettings:
        for settings in fine:
            return settings
        raise Failure(ExitCode.CONFIG, "agent.toml: threads: -1 is too small")

    reload = Reload(read)
    with caplog.at_level(logging.ERROR):
        assert reload() is None
    assert "settings not taken up: agent.toml: threads" in caplog.text
    assert reload.settings == some()


def test_the_exit_code_is_that_of_the_stop() -> None:
    assert run_role(some, lambda *_: Stop(ExitCode.DUPLICATE, "another")) == ExitCode.DUPLICATE


def test_settings_that_are_wrong_at_the_start_are_a_failure() -> None:
    def read() -> AgentSettings:
        raise Failure(ExitCode.CONFIG, "device: missing")

    with pytest.raises(Failure, match="device: missing"):
        run_role(read, lambda *_: END)
