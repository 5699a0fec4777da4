"""The command line of a role: what it says, and how it reads."""

from __future__ import annotations

import shlex

import pytest

from config.catalogue import Kind, catalogue
from config.failures import ExitCode, Failure
from config.options import CommandLine, parse
from config.settings import ROLES, AgentSettings, CoordinatorSettings, DemoSettings, Settings

PROG = "flockwise agent run"


def parsed(line: str, role: type[Settings] = AgentSettings) -> CommandLine:
    return parse(catalogue(role), shlex.split(line), prog=PROG)


def refusal(line: str) -> str:
    with pytest.raises(Failure) as caught:
        parsed(line)
    assert caught.value.code is ExitCode.USAGE
    return caught.value.message


def help_of(role: type[Settings], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(catalogue(role), ["--help"], prog=PROG, examples=role.usage_examples)
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_only_what_was_given_is_reported() -> None:
    line = parsed("--device a --link-port=1884")
    assert line.values == {("device",): "a", ("link", "port"): "1884"}
    assert line.config is None


def test_a_switch_goes_both_ways() -> None:
    line = parsed("--no-training-augment --take-over", CoordinatorSettings)
    assert line.values == {("training", "augment"): False, ("take_over",): True}


def test_the_file_is_not_a_setting() -> None:
    line = parsed("--config agent.toml")
    assert (str(line.config), line.values) == ("agent.toml", {})


def test_a_negative_number_is_a_value() -> None:
    assert parsed("--threads -1").values == {("threads",): "-1"}


def test_an_unknown_option_suggests_the_nearest() -> None:
    assert refusal("--linkport 3").startswith("unknown option --linkport; did you mean --link-port")


def test_an_abbreviation_is_not_guessed() -> None:
    assert refusal("--dev a").startswith("unknown option --dev")


def test_an_argument_without_an_option_is_refused() -> None:
    assert refusal("camera-7").startswith("unexpected argument 'camera-7'")


def test_an_option_without_its_value_is_named() -> None:
    assert "--device" in refusal("--device")


@pytest.mark.parametrize("line", ["--link-password sesame", "--link-password=sesame"])
def test_a_secret_has_no_option_and_the_error_does_not_show_it(line: str) -> None:
    message = refusal(line)
    assert "FLOCKWISE_LINK__PASSWORD" in message
    assert "sesame" not in message


@pytest.mark.parametrize("role", ROLES)
def test_help_tells_every_setting_and_its_bounds(
    role: type[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    words = " ".join(help_of(role, capsys).split()).replace("- ", "-")
    for setting in catalogue(role).settings:
        if setting.kind is Kind.SECRET:
            assert setting.variable in words
            continue
        assert setting.option.removeprefix("--") in words
        assert setting.description.replace("- ", "-") in words
        assert setting.bounds.removeprefix("of ").replace("- ", "-") in words


@pytest.mark.parametrize("role", ROLES)
def test_help_fits_a_screen_of_a_hundred_columns(
    role: type[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    assert [line for line in help_of(role, capsys).splitlines() if len(line) > 100] == []


def test_help_reads_like_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(AgentSettings, capsys)
    assert text.startswith(f"usage: {PROG} [--config FILE] --device TEXT --chunk PATH [options]\n")
    assert "\nThe agent of a device: fetches versions" in text
    assert "\n[link]:\n  How to reach the broker" in text
    assert "port of the broker; from 1 to 65535 [1883]" in text
    assert f"\n  {PROG} --config agent.toml\n" in text


@pytest.mark.parametrize("role", ROLES)
def test_the_examples_of_help_parse(role: type[Settings]) -> None:
    assert role.usage_examples
    for example in role.usage_examples:
        assert parsed(example, role)


def test_the_options_of_the_demo_are_short(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(DemoSettings, capsys)
    options = ("--devices", "--data", "--versions", "--strategy", "--summary")
    assert all(f"\n  {option} " in text for option in options)
