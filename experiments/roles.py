"""From the settings of the demo to those of its coordinator and its agents."""

from __future__ import annotations

from typing import Any

from config.settings import (
    AgentSettings,
    CoordinatorSettings,
    DemoSettings,
    FederationName,
    Link,
    LogFormat,
    LogLevel,
    Reporting,
)
from experiments import recipes
from experiments.run_directory import RunDirectory

# What the display is drawn from: progress is told at debug only.
_LEVEL: LogLevel = "debug"
_FORMAT: LogFormat = "json"
FEDERATION = FederationName(name="demo")


def coordinator_settings(
    settings: DemoSettings, link: Link, run: RunDirectory
) -> CoordinatorSettings:
    """The settings of the demo's coordinator; it ends by itself after the last version."""
    rule = recipes.aggregation(settings)
    kept: int = CoordinatorSettings.model_fields["keep_versions"].default
    return CoordinatorSettings(
        **_common(link),
        state_dir=run.coordinator,
        membership=run.membership,
        strategy=settings.strategy,
        test_set=run.test_set,
        evaluate_every=recipes.evaluate_every(settings),
        versions=recipes.versions(settings),
        threads=1,
        keep_versions=max(kept, rule.max_staleness + 1),
        aggregation=rule,
        training=recipes.training_plan(settings),
        reporting=Reporting(wandb=settings.wandb, group="demo", run_name=run.path.name),
    )


def agent_settings(
    settings: DemoSettings, link: Link, run: RunDirectory, device: str, *, slow: bool
) -> AgentSettings:
    """The settings of one of the demo's agents; a slow one is the straggler."""
    return AgentSettings(
        **_common(link),
        device=device,
        chunk=run.chunk(device),
        state_dir=run.device(device),
        threads=1,
        slowdown=settings.straggler if slow else 1.0,
    )


def link_to(host: str, port: int) -> Link:
    """How to reach the demo's broker: on loopback one that was away is back within a moment."""
    return Link(host=host, port=port, backoff_base_s=0.2, backoff_cap_s=2.0)


def _common(link: Link) -> dict[str, Any]:
    return {
        "log_level": _LEVEL,
        "log_format": _FORMAT,
        "federation": FEDERATION,
        "link": link,
    }
