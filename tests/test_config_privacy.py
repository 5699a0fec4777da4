"""The settings of [privacy]: off unless said, and what makes no sense is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.failures import ExitCode, Failure
from config.loading import load
from config.settings import AgentSettings

NEEDED = ["--device", "one", "--chunk", "one.npz"]


def agent(*words: str, **environ: str) -> AgentSettings:
    return load(AgentSettings, [*NEEDED, *words], prog="test", environ=environ)


def test_there_is_no_noise_unless_it_is_asked_for() -> None:
    assert not agent().privacy.is_on


def test_noise_is_set_in_a_file_the_environment_or_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("[privacy]\nnoise = 4\nmax_participations = 30\n")
    rule = agent("--config", str(file), "--privacy-clip", "0.5", FLOCKWISE_PRIVACY__DELTA="1e-6")
    privacy = rule.privacy
    assert privacy.is_on
    assert (privacy.noise, privacy.max_participations) == (4.0, 30)
    assert (privacy.clip, privacy.delta) == (0.5, 1e-6)
    assert not privacy.tell_figures


def test_noise_is_turned_off_again_by_a_word() -> None:
    assert not agent("--privacy-noise", "none", FLOCKWISE_PRIVACY__NOISE="4").privacy.is_on


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--privacy-noise", "0"),
        ("--privacy-noise", "-1"),
        ("--privacy-noise", "nan"),
        ("--privacy-noise", "inf"),
        ("--privacy-noise", "0.001"),
        ("--privacy-clip", "0"),
        ("--privacy-clip", "1e9"),
        ("--privacy-delta", "0"),
        ("--privacy-delta", "0.5"),
        ("--privacy-max-participations", "0"),
        ("--privacy-max-participations", "none"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_is_allowed(option: str, value: str) -> None:
    with pytest.raises(Failure, match=f"{option} is .*, but must be ") as told:
        agent(f"{option}={value}")
    assert told.value.code == ExitCode.CONFIG
    assert "\n" not in str(told.value)
