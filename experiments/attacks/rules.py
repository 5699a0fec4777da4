"""A rule as a line: `trimmed_mean`, or `trimmed_mean hostile_fraction=0.3 cooldown=0`.

The first word is `aggregation.combine`; the others are further settings of that section.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from config.failures import ExitCode, Failure
from config.settings import Aggregation

COMBINE: tuple[str, ...] = get_args(Aggregation.model_fields["combine"].annotation)
MEAN = "mean"


@dataclass(frozen=True, slots=True)
class Rule:
    """How updates are combined: the line that says it, and the settings."""

    line: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def rule_of(line: str) -> Rule:
    """Read a rule.

    Raises:
        Failure: no such rule or setting.
    """
    words = line.split()
    if not words or words[0] not in COMBINE:
        known = ", ".join(COMBINE)
        raise Failure(ExitCode.USAGE, f"unknown rule {line!r}; known are: {known}")
    given = assignments(words[1:])
    for key in given:
        if key not in Aggregation.model_fields or key == "combine":
            raise Failure(ExitCode.USAGE, f"rule {line!r}: aggregation has no setting {key!r}")
    return Rule(" ".join(words), {"combine": words[0], **given})


def assignments(words: list[str]) -> dict[str, str]:
    """What words of the form KEY=VALUE say.

    Raises:
        Failure: a word is not of that form.
    """
    given = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key or not value:
            raise Failure(ExitCode.USAGE, f"{word!r} is not of the form KEY=VALUE")
        given[key] = value
    return given
