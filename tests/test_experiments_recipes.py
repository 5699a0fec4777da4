"""The demo's defaults fit together for any number of devices, and give way to what is set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.failures import Failure
from config.loading import load
from config.presets import PRESETS
from config.settings import AgentSettings, CoordinatorSettings, DemoSettings, Settings
from experiments import recipes
from experiments.roles import agent_settings, coordinator_settings, link_to
from experiments.run_directory import RunDirectory
from experiments.settings_file import as_toml, write_settings

LINK = link_to("127.0.0.1", 4242)
RUN = RunDirectory(Path("/run/x"))


def demo(**values: Any) -> DemoSettings:
    return DemoSettings.model_validate(values)


@pytest.mark.parametrize("strategy", PRESETS)
@pytest.mark.parametrize("devices", [1, 2, 3, 5, 7, 64])
def test_every_strategy_can_fill_its_versions_with_any_number_of_devices(
    strategy: str, devices: int
) -> None:
    settings = demo(strategy=strategy, devices=devices)
    rule = recipes.aggregation(settings)
    each = recipes.updates_per_version(rule, devices)
    assert 1 <= each <= devices
    assert rule.wait_for == devices
    passes = recipes.RECIPES[settings.strategy].passes
    assert passes * devices <= recipes.versions(settings) * each < passes * devices + each
    assert 1 <= recipes.evaluate_every(settings) <= devices


def test_a_strategy_keeps_the_trigger_of_its_preset() -> None:
    triggers = [recipes.aggregation(demo(strategy=name)).trigger for name in PRESETS]
    assert triggers == ["buffer", "rounds", "immediate", "buffer"]


def test_what_is_set_prevails_over_the_recipe_even_if_it_is_a_default() -> None:
    settings = load(
        DemoSettings,
        ["--training-momentum", "0.0", "--aggregation-buffer-size", "5", "--versions", "3"],
        prog="demo",
        environ={},
    )
    assert recipes.training_plan(settings).momentum == 0.0
    assert recipes.aggregation(settings).buffer_size == 5
    assert recipes.versions(settings) == 3


def test_the_seed_is_that_of_the_training_too() -> None:
    assert recipes.training_plan(demo(seed=7)).seed == 7
    assert recipes.training_plan(demo(seed=7, training={"seed": 9})).seed == 9


@pytest.mark.parametrize("name", ["buffer_size", "wait_for", "min_updates"])
def test_what_waits_for_more_devices_than_there_are_is_refused(name: str) -> None:
    values = {"buffer_size": 10, name: 10}
    with pytest.raises(Failure, match="only 3 devices"):
        recipes.aggregation(demo(devices=3, aggregation=values))


def test_a_rule_that_does_not_hold_together_is_refused_in_one_line() -> None:
    with pytest.raises(Failure, match=r"^\[aggregation\] min_updates must not be greater"):
        recipes.aggregation(demo(devices=5, aggregation={"min_updates": 4}))


def test_the_coordinator_gets_what_the_demo_was_told() -> None:
    settings = demo(strategy="fedasync", wandb="off", aggregation={"max_staleness": 50})
    made = coordinator_settings(settings, LINK, RUN)
    assert (made.link.port, made.federation.name) == (4242, "demo")
    assert (made.state_dir, made.test_set) == (RUN.coordinator, RUN.test_set)
    assert (made.versions, made.evaluate_every) == (recipes.versions(settings), 5)
    assert made.aggregation == recipes.aggregation(settings)
    assert made.keep_versions > made.aggregation.max_staleness
    assert (made.reporting.wandb, made.threads) == ("off", 1)
    assert (made.log_level, made.log_format) == ("debug", "json")


def test_an_agent_gets_its_own_chunk_and_directory() -> None:
    made = agent_settings(demo(straggler=4), LINK, RUN, "device-001", slow=False)
    assert (made.device, made.chunk) == ("device-001", Path("/run/x/chunks/device-001.npz"))
    assert (made.state_dir, made.threads, made.slowdown) == (RUN.device("device-001"), 1, 1)
    assert agent_settings(demo(straggler=4), LINK, RUN, "device-001", slow=True).slowdown == 4


@pytest.mark.parametrize(
    "settings",
    [
        coordinator_settings(demo(strategy="fedasync"), LINK, RUN),
        coordinator_settings(demo(strategy="fedavg", dirichlet=0.5), LINK, RUN),
        agent_settings(demo(), LINK, RunDirectory(Path('/a "b"\\c\x7f ü')), "d", slow=True),
        demo(run_dir="x", training={"epochs": 0.5}),
    ],
)
def test_a_role_loads_the_settings_that_were_written(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "new" / "settings.toml"
    write_settings(file, settings, "a heading")
    assert load(type(settings), ["--config", str(file)], prog="x", environ={}) == settings


def test_a_secret_is_not_written() -> None:
    link = {"username": "u", "password": "sesame"}
    settings = AgentSettings.model_validate({"device": "d", "chunk": "c", "link": link})
    assert "sesame" not in as_toml(settings, "x")
    assert 'username = "u"' in as_toml(settings, "x")


def test_settings_that_cannot_be_written_are_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match="cannot write"):
        write_settings(tmp_path / "file" / "x.toml", CoordinatorSettings(), "x")


def test_a_run_can_be_made_again_from_the_settings_that_it_wrote(tmp_path: Path) -> None:
    first = DemoSettings(devices=3, training={"batch_size": 7}, summary=tmp_path / "s.json")
    file = tmp_path / "demo.toml"
    write_settings(file, recipes.resolved(first), "a heading")
    again = load(DemoSettings, ["--config", str(file)], prog="demo", environ={})
    assert recipes.training_plan(again) == recipes.training_plan(first)
    assert recipes.aggregation(again) == recipes.aggregation(first)
    assert recipes.versions(again) == recipes.versions(first)
    assert again.summary is None, "the first run's summary is not written over"


def test_the_recipe_of_memory_keeps_the_memory_of_its_preset() -> None:
    settings = demo(strategy="memory", training={"epochs": 2.0})
    assert recipes.training_plan(settings).memory
    assert coordinator_settings(settings, LINK, RUN).training.memory


def test_what_does_not_go_with_a_memory_is_said_before_anything_is_made() -> None:
    settings = demo(strategy="memory", aggregation={"combine": "median"})
    with pytest.raises(Failure, match=r"training\.memory needs aggregation\.combine mean"):
        recipes.aggregation(settings)
