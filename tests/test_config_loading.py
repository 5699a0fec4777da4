"""Every source has its place, and every error its address."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from config.catalogue import catalogue
from config.failures import ExitCode, Failure
from config.loading import load, to_environment
from config.settings import (
    AgentSettings,
    BrokerSettings,
    CoordinatorSettings,
    FederationName,
    Link,
    Settings,
    Transfer,
)

BARE = {"FLOCKWISE_DEVICE": "camera-7", "FLOCKWISE_CHUNK": "chunk.npz"}
patiently = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def agent(*argv: str, **environ: str) -> AgentSettings:
    return load(AgentSettings, argv, prog="flockwise agent run", environ={**BARE, **environ})


def coordinator(*argv: str, environ: Mapping[str, str] | None = None) -> CoordinatorSettings:
    return load(CoordinatorSettings, argv, prog="flockwise coordinator run", environ=environ or {})


def refusal(*argv: str, **environ: str) -> str:
    with pytest.raises(Failure) as caught:
        agent(*argv, **environ)
    assert caught.value.code is ExitCode.CONFIG
    return caught.value.message


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.toml"


def test_without_any_source_the_defaults_hold() -> None:
    assert coordinator() == CoordinatorSettings()


def test_the_file_prevails_over_the_defaults(file: Path) -> None:
    file.write_text('threads = 3\n[link]\nhost = "broker"\n')
    loaded = agent("--config", str(file))
    assert (loaded.threads, loaded.link) == (3, Link(host="broker"))


def test_the_environment_prevails_over_the_file(file: Path) -> None:
    file.write_text("[link]\nport = 1\nkeepalive_s = 60\n")
    loaded = agent("--config", str(file), FLOCKWISE_LINK__PORT="2")
    assert loaded.link == Link(port=2, keepalive_s=60)


def test_the_command_line_prevails_over_the_environment() -> None:
    loaded = agent("--link-port", "3", FLOCKWISE_LINK__PORT="2", FLOCKWISE_LINK__HOST="b")
    assert loaded.link == Link(port=3, host="b")


def test_the_file_may_be_named_by_the_environment(file: Path) -> None:
    file.write_text("threads = 3\n")
    assert agent(FLOCKWISE_CONFIG=str(file)).threads == 3


def test_the_preset_lies_under_the_file_wherever_the_strategy_was_named(file: Path) -> None:
    file.write_text("[aggregation]\nstep_size = 0.3\n")
    loaded = coordinator("--config", str(file), environ={"FLOCKWISE_STRATEGY": "fedasync"})
    assert (loaded.aggregation.trigger, loaded.aggregation.step_size) == ("immediate", 0.3)


def test_every_source_can_say_none(file: Path) -> None:
    file.write_text('[aggregation]\ndeadline_s = "none"\n')
    by_variable = {"FLOCKWISE_AGGREGATION__DEADLINE_S": "none"}
    assert coordinator("--config", str(file)).aggregation.deadline_s is None
    assert coordinator(environ=by_variable).aggregation.deadline_s is None
    assert coordinator("--aggregation-deadline-s", "none").aggregation.deadline_s is None


def test_an_empty_variable_is_not_set() -> None:
    assert agent(FLOCKWISE_LINK__USERNAME="").link.username is None


def test_variables_of_other_roles_and_other_programs_are_passed_over() -> None:
    loaded = load(BrokerSettings, [], prog="x", environ={**BARE, "LINK__PORT": "x", "PORT": "y"})
    assert loaded == BrokerSettings()


def test_an_error_in_the_file_names_file_key_value_and_what_is_allowed(file: Path) -> None:
    file.write_text("[link]\nport = 70000\n")
    expected = f"{file}: link.port is 70000, but must be an integer from 1 to 65535"
    assert refusal("--config", str(file)) == expected


def test_an_error_in_the_environment_names_the_variable() -> None:
    expected = "FLOCKWISE_LINK__TLS is 'perhaps', but must be true or false"
    assert refusal(FLOCKWISE_LINK__TLS="perhaps") == expected


def test_an_error_in_the_command_line_names_the_option() -> None:
    expected = "--transfer-slots is '1', but must be an integer from 2 to 16"
    assert refusal("--transfer-slots", "1") == expected


def test_a_wrong_choice_suggests_the_nearest() -> None:
    with pytest.raises(Failure, match=r"one of fedbuff, .* did you mean fedavg"):
        coordinator("--strategy", "fedavgg")


def test_an_unknown_key_suggests_the_nearest(file: Path) -> None:
    file.write_text("[link]\nprt = 3\n")
    expected = f"{file}: unknown setting link.prt; did you mean link.port?"
    assert refusal("--config", str(file)) == expected


def test_an_unknown_section_suggests_the_nearest(file: Path) -> None:
    file.write_text("[links]\nport = 3\n")
    assert refusal("--config", str(file)) == f"{file}: unknown setting links; did you mean link?"


def test_a_value_where_a_section_belongs_is_told(file: Path) -> None:
    file.write_text("link = 3\n")
    expected = f"{file}: link must be a section: [link]"
    assert refusal("--config", str(file)) == expected


@pytest.mark.parametrize("name", ["FLOCKWISE_LINK__PRT", "FLOCKWISE_LINK_PORT"])
def test_an_unknown_variable_suggests_the_nearest(name: str) -> None:
    expected = f"unknown variable {name}; did you mean FLOCKWISE_LINK__PORT?"
    assert refusal(**{name: "3"}) == expected


def test_a_whole_section_in_one_variable_is_unknown() -> None:
    assert refusal(FLOCKWISE_LINK='{"port": 3}').startswith("unknown variable FLOCKWISE_LINK")


def test_what_is_missing_is_told_with_all_ways_to_give_it() -> None:
    with pytest.raises(Failure) as caught:
        load(AgentSettings, ["--chunk", "a.npz"], prog="x", environ={})
    expected = "device is required: give --device, FLOCKWISE_DEVICE, or device in the file"
    assert caught.value.message == expected


def test_several_errors_are_a_line_each(file: Path) -> None:
    file.write_text("threds = 1\nthreads = -1\n")
    lines = refusal("--config", str(file), "--slowdown", "0").splitlines()
    assert [line.split(" is ")[0] for line in lines] == [
        f"{file}: unknown setting threds; did you mean threads?",
        f"{file}: threads",
        "--slowdown",
    ]


def test_settings_that_do_not_go_together_are_told_with_their_origins(file: Path) -> None:
    file.write_text("[link]\nbackoff_base_s = 5\n")
    message = refusal("--config", str(file), "--link-backoff-cap-s", "1")
    assert message == (
        "[link] backoff_cap_s must not be less than backoff_base_s"
        f" ({file}: link.backoff_base_s is 5, --link-backoff-cap-s is '1')"
    )


@pytest.mark.parametrize("text", ["[link]\nport = \n", "[link]\nport = ", "[link]\nport port"])
def test_a_syntax_error_names_file_and_line(file: Path, text: str) -> None:
    file.write_text(text)
    message = refusal("--config", str(file))
    assert message.startswith(f"{file}: not TOML: ")
    assert "line 2" in message


def test_a_file_in_another_encoding_is_told_by_its_line(file: Path) -> None:
    file.write_bytes(b'threads = 1\ntask = "caf\xe9"\n')
    assert refusal("--config", str(file)) == f"{file}: not UTF-8 (at line 2)"


def test_a_file_nested_without_end_is_refused(file: Path) -> None:
    file.write_text("a = " + "[" * 100_000)
    assert refusal("--config", str(file)).startswith(f"{file}: not TOML: ")


def test_a_file_that_is_not_there_is_told(file: Path) -> None:
    assert refusal("--config", str(file)) == f"{file}: cannot be read: No such file or directory"


@pytest.mark.parametrize("text", ["password = 7", 'password = ""', 'password = ["sesame"]'])
def test_a_secret_is_in_no_message(file: Path, text: str) -> None:
    file.write_text(f'[link]\nusername = "flock"\n{text}\n')
    message = refusal("--config", str(file))
    assert message.startswith(f"{file}: link.password is (not shown), but must be a text")
    assert "sesame" not in message


def test_a_secret_that_lacks_its_name_is_in_no_message() -> None:
    message = refusal(FLOCKWISE_LINK__PASSWORD="sesame")
    assert "needs a username" in message
    assert "sesame" not in message


def test_a_value_that_would_break_the_line_is_escaped_and_cut(file: Path) -> None:
    message = refusal("--task", "a\nb" * 100)
    assert message.isprintable()
    assert len(message) < 160


def test_a_child_process_loads_the_same_settings_whatever_its_parent_was_told() -> None:
    original = AgentSettings(
        device="camera-7",
        chunk=Path("my chunks/7.npz"),
        slowdown=1.5,
        federation=FederationName(prefix="site/a", name="b"),
        link=Link(username="flock", password=SecretStr("sesame"), give_up_after_s=3),
        transfer=Transfer(chunk_bytes=2048),
    )
    parent = {"PATH": "/bin", "FLOCKWISE_CONFIG": "demo.toml", "FLOCKWISE_THREADS": "7"}
    environ = to_environment(original, parent)
    assert environ["PATH"] == "/bin"
    assert load(AgentSettings, [], prog="x", environ=environ) == original


@pytest.mark.parametrize("strategy", ["fedbuff", "fedavg", "fedasync"])
def test_a_child_coordinator_loads_the_same_settings(strategy: str) -> None:
    original = coordinator("--strategy", strategy, "--aggregation-deadline-s", "none")
    assert coordinator(environ=to_environment(original, {})) == original


def toml(value: object) -> str:
    """Write a value as TOML: inline tables, and strings as JSON writes them."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower()


SETTINGS = catalogue(CoordinatorSettings).settings
NAMES = sorted({name for setting in SETTINGS for name in setting.path})
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = st.sampled_from(NAMES) | TEXTS
SCALARS = st.none().map(lambda _: "none") | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
)


def loads_or_fails_in_lines(role: type[Settings], argv: list[str], environ: dict[str, str]) -> None:
    try:
        message = repr(load(role, argv, prog="x", environ=environ))
    except Failure as failure:
        message = failure.message
    assert message
    assert all(line.isprintable() for line in message.split("\n"))


@patiently
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_no_file_causes_anything_but_a_failure(tmp_path: Path, tables: dict[str, Any]) -> None:
    file = tmp_path / "garbage.toml"
    lines = [f"{toml(key)} = {toml(value)}\n" for key, value in tables.items()]
    file.write_text("".join(lines), encoding="utf-8")
    loads_or_fails_in_lines(CoordinatorSettings, ["--config", str(file)], {})


@patiently
@given(st.binary(max_size=60))
def test_no_bytes_cause_anything_but_a_failure(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "garbage.toml"
    file.write_bytes(content)
    loads_or_fails_in_lines(CoordinatorSettings, ["--config", str(file)], {})


@patiently
@given(
    st.dictionaries(
        st.sampled_from([setting.variable for setting in SETTINGS])
        | TEXTS.map(lambda text: f"FLOCKWISE_{text}"),
        st.text(max_size=20),
        max_size=6,
    )
)
def test_no_environment_causes_anything_but_a_failure(environ: dict[str, str]) -> None:
    assume(not environ.get("FLOCKWISE_CONFIG"))
    loads_or_fails_in_lines(CoordinatorSettings, [], environ)


@patiently
@given(st.lists(st.sampled_from([setting.option for setting in SETTINGS]) | st.text(), max_size=6))
def test_no_command_line_causes_anything_but_a_failure(argv: list[str]) -> None:
    assume(not any(word.startswith(("-h", "--help", "--config")) for word in argv))
    loads_or_fails_in_lines(CoordinatorSettings, argv, {})
