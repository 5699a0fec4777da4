"""The privacy budget of a device: how many more updates it may make with noise, and what is told.

A device whose budget is spent makes no more updates until its settings change; what waits in its
outbox is delivered all the same, as it is counted already.
"""

from __future__ import annotations

from dataclasses import replace

from config.sections import Privacy
from device_agent.past import Past
from device_agent.vocabulary import TrainingEnded
from federation.machine import Level, Log
from learning.accountant import Account

SPENT = "privacy budget spent"


class Budget:
    """What is left of it. Without noise it is never spent, and nothing is told.

    Attributes:
        account: what was told so far; None without noise.
    """

    def __init__(self, account: Account | None = None) -> None:
        self.account = account

    @property
    def paused(self) -> str:
        """Why no update may be made, or nothing."""
        return SPENT if self.account is not None and self.account.is_spent else ""

    def made(self) -> list[Log]:
        """An update is in the outbox: it will be told, whatever happens."""
        if self.account is None:
            return []
        self.account = self.account.after_one_more()
        return self.warnings()

    def warnings(self) -> list[Log]:
        """What is to be logged if the budget is spent."""
        if self.account is None or not self.account.is_spent:
            return []
        facts = {
            "updates": self.account.participations,
            "epsilon": self.account.epsilon,
            "hint": "more with a greater privacy.max_participations",
        }
        return [Log(Level.WARNING, SPENT, facts)]

    def entered(self, outcome: TrainingEnded) -> TrainingEnded:
        """What a training gave, as it may leave the device: with the account that then holds.

        Raises:
            ValueError: it has not the noise that the settings ask for.
        """
        if self.account is None:
            return outcome
        rule = self.account.rule
        if outcome.noised != (rule.clip, rule.noise_multiplier):
            raise ValueError("it was not made with the noise that the settings ask for")
        figures = self.account.after_one_more().figures()
        return replace(outcome, metrics={**outcome.metrics, **figures})


def account_of(rule: Privacy, past: Past) -> Account | None:
    """What an outbox's updates have told by now; None if the settings ask for no noise."""
    return Account(rule, past.noised, past.mu_squared, past.bare) if rule.is_on else None
