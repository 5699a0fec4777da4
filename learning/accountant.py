"""What noised updates tell at most of a device's data: epsilon for a delta, in closed form.

It needs nothing but `math`, so a device tells its epsilon without numpy or scipy. The unit is the
device's whole chunk and the adjacency zero-out: what is bounded is how far the updates can tell a
device that trained on its chunk from one that sent noise alone. No amplification by sampling is
claimed: updates come when devices are ready, and the coordinator knows who sent them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_UP, Context
from math import erfc, exp, pi, sqrt

from config.sections import Privacy

_FAR = 25.0
_PRECISION = 1e-9


@dataclass(frozen=True, slots=True)
class Account:
    """The updates that one device has made, and what they tell together.

    Attributes:
        rule: clip, noise and delta of the updates to come, and how many there may be in all.
        participations: updates made with noise.
        mu_squared: sum of (1 / noise)² over these; the noise may have changed on the way.
        unprotected: updates made without noise; what follows says nothing of them.
    """

    rule: Privacy
    participations: int = 0
    mu_squared: float = 0.0
    unprotected: int = 0

    @property
    def is_spent(self) -> bool:
        """Whether no update may be made any more."""
        return self.participations >= self.rule.max_participations

    @property
    def epsilon(self) -> float:
        """What the updates made so far tell at most."""
        return epsilon_of(sqrt(self.mu_squared), self.rule.delta)

    @property
    def epsilon_at_most(self) -> float:
        """What they will tell at most when no more may be made."""
        left = max(0, self.rule.max_participations - self.participations)
        return epsilon_of(sqrt(self.mu_squared + left * self._one), self.rule.delta)

    def after_one_more(self) -> Account:
        """The account once another update is made."""
        return replace(
            self,
            participations=self.participations + 1,
            mu_squared=self.mu_squared + self._one,
        )

    def figures(self) -> dict[str, float]:
        """What is told of it with an update, among its metrics."""
        return {
            "privacy_epsilon": self.epsilon,
            "privacy_epsilon_at_most": self.epsilon_at_most,
            "privacy_delta": self.rule.delta,
            "privacy_clip": self.rule.clip,
            "privacy_noise": self.rule.noise_multiplier,
            "privacy_participations": float(self.participations),
            "privacy_max_participations": float(self.rule.max_participations),
            "privacy_unprotected": float(self.unprotected),
        }

    def __str__(self) -> str:
        rule = self.rule
        bare = f"; {self.unprotected:,} earlier updates had no noise" if self.unprotected else ""
        return (
            f"epsilon at most {_rounded_up(self.epsilon_at_most)} at delta {rule.delta:g}"
            f" (unit: the whole chunk; zero-out; clip {rule.clip:g}, noise"
            f" {rule.noise_multiplier:g}, at most {rule.max_participations:,} updates){bare}"
        )

    @property
    def _one(self) -> float:
        return self.rule.noise_multiplier**-2


def epsilon_of(mu: float, delta: float) -> float:
    """The least epsilon for which Gaussian mechanisms are (epsilon, delta)-differentially private.

    Composed, each chosen in the light of those before, they tell what a single one tells whose mu
    is the root of the sum of their squares (Dong, Roth, Su 2022, arXiv:1905.02383, corollary 3.3);
    and what that one tells is known exactly (Balle, Wang 2018, arXiv:1805.06530, theorem 8).

    Args:
        mu: sensitivity over standard deviation of the noise: 1 / noise for one update.
        delta: between 0 and 1, both excluded.
    """
    if mu == 0 or _delta_of(0.0, mu) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while _delta_of(high, mu) > delta:
        low, high = high, 2 * high
    while high - low > _PRECISION * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _delta_of(middle, mu) > delta else (low, middle)
    return high


def _delta_of(epsilon: float, mu: float) -> float:
    """Phi(a) - exp(epsilon) Phi(-b), where exp(epsilon) phi(b) = phi(a): nothing overflows."""
    a, b = mu / 2 - epsilon / mu, mu / 2 + epsilon / mu
    return erfc(-a / sqrt(2)) / 2 - exp(-a * a / 2) / sqrt(2 * pi) * _mills(b)


def _mills(x: float) -> float:
    """Phi(-x) / phi(x) for x above 0."""
    if x < _FAR:
        return erfc(x / sqrt(2)) * exp(x * x / 2) * sqrt(pi / 2)
    return (1 - x**-2 + 3 * x**-4 - 15 * x**-6) / x


def _rounded_up(epsilon: float) -> str:
    """Three digits that promise no more than is so."""
    context = Context(prec=3, rounding=ROUND_UP)
    return f"{float(context.create_decimal_from_float(epsilon)):g}"
