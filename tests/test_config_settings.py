"""The models refuse what makes no sense, and lay the preset of the strategy underneath."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from config.presets import PRESETS, preset
from config.settings import (
    ROLES,
    AgentSettings,
    Aggregation,
    BrokerSettings,
    CoordinatorSettings,
    FederationName,
    Link,
    Section,
    Settings,
    TrainingPlan,
    Transfer,
)


def agent(**values: Any) -> AgentSettings:
    return AgentSettings.model_validate({"device": "camera-7", "chunk": "chunk.npz", **values})


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_of_every_role_is_described(role: type[Settings]) -> None:
    def undescribed(model: type[Section]) -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            annotation = field.annotation
            if isinstance(annotation, type) and issubclass(annotation, Section):
                found += undescribed(annotation)
            elif not field.description:
                found.append(name)
        return found

    assert undescribed(role) == []


@pytest.mark.parametrize("role", ROLES)
def test_every_number_of_every_role_has_a_lower_bound(role: type[Settings]) -> None:
    unbounded = []
    schema = role.model_json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        for name, field in part["properties"].items():
            for way in field.get("anyOf", [field]):
                numeric = way.get("type") in ("integer", "number")
                if numeric and not {"minimum", "exclusiveMinimum"} & set(way):
                    unbounded.append(name)
    assert unbounded == []


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        agent().link.port = 1884


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Link.model_validate({"prt": 1883})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        TrainingPlan(epochs=value)


@pytest.mark.parametrize("device", ["Camera", "a/b", "#", "a b", "", "x" * 41, "a\n"])
def test_a_device_that_would_break_a_topic_is_refused(device: str) -> None:
    with pytest.raises(ValidationError, match="device"):
        agent(device=device)


@pytest.mark.parametrize("prefix", ["a/b/c", "/a", "a/", "a/+", "#", "", "a b"])
def test_a_prefix_that_would_break_a_topic_is_refused(prefix: str) -> None:
    with pytest.raises(ValidationError, match="prefix"):
        FederationName(prefix=prefix)


def test_a_prefix_may_have_two_levels() -> None:
    assert FederationName(prefix="site/flockwise").prefix == "site/flockwise"


@pytest.mark.parametrize("size", [1023, 1_048_577])
def test_a_chunk_size_out_of_bounds_is_refused(size: int) -> None:
    with pytest.raises(ValidationError, match="chunk_bytes"):
        Transfer(chunk_bytes=size)


@pytest.mark.parametrize("task", ["cifar10", "my_tasks.images:make"])
def test_a_task_is_a_name_or_a_factory(task: str) -> None:
    assert agent(task=task).task == task


@pytest.mark.parametrize("task", ["my_tasks.images", ":make", "a:b:c", "os; rm"])
def test_what_is_neither_name_nor_factory_is_no_task(task: str) -> None:
    with pytest.raises(ValidationError, match="task"):
        agent(task=task)


def test_none_in_words_is_none_where_a_setting_may_be_absent() -> None:
    aggregation = Aggregation.model_validate({"deadline_s": "none"})
    assert aggregation.deadline_s is None


def test_none_in_words_is_a_word_where_a_setting_must_be_there() -> None:
    assert Link.model_validate({"host": "none"}).host == "none"


def test_a_home_directory_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/flock")
    assert agent(chunk="~/chunk.npz").chunk == Path("/home/flock/chunk.npz")


def test_a_path_with_a_zero_byte_is_refused() -> None:
    with pytest.raises(ValidationError, match="zero bytes"):
        agent(chunk="a\0b")


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ({"backoff_base_s": 5, "backoff_cap_s": 1}, "backoff_cap_s must not be less"),
        ({"tls": True, "cert_file": "a.pem"}, "go together"),
        ({"ca_file": "ca.pem"}, "need tls"),
        ({"password": "x"}, "needs a username"),
    ],
)
def test_settings_of_a_link_hold_together(link: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Link.model_validate(link)


def test_a_buffer_that_can_never_hold_the_fewest_updates_is_refused() -> None:
    with pytest.raises(ValidationError, match="min_updates"):
        Aggregation(buffer_size=3, min_updates=4)


def test_rounds_do_not_care_about_the_size_of_the_buffer() -> None:
    assert Aggregation(trigger="rounds", buffer_size=3, min_updates=4).min_updates == 4


def test_versions_that_updates_are_based_on_must_be_kept() -> None:
    with pytest.raises(ValidationError, match="keep_versions"):
        CoordinatorSettings.model_validate(
            {"keep_versions": 20, "aggregation": {"reanchor": True, "max_staleness": 20}}
        )


def test_versions_in_slots_must_be_kept() -> None:
    with pytest.raises(ValidationError, match="keep_versions"):
        CoordinatorSettings(keep_versions=3, transfer=Transfer(slots=4))


def test_a_password_shows_in_no_repr_and_no_dump() -> None:
    link = Link(username="flock", password=SecretStr("sesame"))
    assert "sesame" not in repr(link) + str(link) + link.model_dump_json()


def test_settings_survive_a_dump_to_json() -> None:
    settings = CoordinatorSettings(strategy="fedasync", threads=2)
    dumped = json.loads(json.dumps(settings.model_dump(mode="json")))
    assert CoordinatorSettings.model_validate(dumped) == settings


def test_the_preset_of_fedbuff_is_the_defaults() -> None:
    assert CoordinatorSettings(strategy="fedbuff").aggregation == Aggregation()


def test_fedavg_makes_rounds_and_weighs_by_examples() -> None:
    aggregation = CoordinatorSettings(strategy="fedavg").aggregation
    assert aggregation == Aggregation(
        trigger="rounds", by_examples=True, staleness="constant", max_staleness=0
    )


def test_fedasync_steps_towards_each_model_as_it_comes() -> None:
    aggregation = CoordinatorSettings(strategy="fedasync").aggregation
    assert aggregation == Aggregation(trigger="immediate", reanchor=True, step_size=0.6)


def test_what_is_set_lies_over_the_preset() -> None:
    settings = CoordinatorSettings.model_validate(
        {"strategy": "fedasync", "aggregation": {"step_size": 0.9}}
    )
    assert (settings.aggregation.step_size, settings.aggregation.trigger) == (0.9, "immediate")


def test_an_aggregation_given_whole_is_taken_whole() -> None:
    settings = CoordinatorSettings(strategy="fedavg", aggregation=Aggregation())
    assert settings.aggregation == Aggregation()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_names_only_settings_that_exist(name: str) -> None:
    assert CoordinatorSettings.model_validate({"strategy": name, **preset(name)})


def test_every_strategy_has_a_preset() -> None:
    choices = CoordinatorSettings.model_json_schema()["properties"]["strategy"]["enum"]
    assert tuple(choices) == PRESETS


def test_a_broker_may_take_any_free_port() -> None:
    assert BrokerSettings(port=0).port == 0


def test_importing_the_settings_is_light() -> None:
    heavy = "numpy torch rich paho wandb amqtt msgpack pydantic_settings"
    code = (
        "import sys, config.settings, config.failures, config.logs;"
        f"print([name for name in {heavy.split()} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Device-held memory


def test_the_strategy_memory_is_fedbuff_with_a_plain_mean_and_a_memory() -> None:
    settings = CoordinatorSettings(strategy="memory")
    assert settings.aggregation == Aggregation(combine="mean")
    assert settings.training.memory
    assert not CoordinatorSettings().training.memory


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ({"combine": "clipped_mean"}, "needs aggregation.combine mean, not clipped_mean"),
        ({"combine": "median"}, "needs aggregation.combine mean, not median"),
        ({"reanchor": True}, "aggregation.reanchor exclude each other"),
        ({"by_examples": True}, "aggregation.by_examples exclude each other"),
    ],
)
def test_a_memory_needs_a_rule_that_it_can_be_kept_with(rule: dict[str, Any], what: str) -> None:
    with pytest.raises(
        ValidationError, match=f"training.memory.*{what}|training.memory and {what}"
    ):
        CoordinatorSettings.model_validate({"strategy": "memory", "aggregation": rule})
