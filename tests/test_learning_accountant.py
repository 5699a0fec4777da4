"""Epsilon by the closed form is what Google's accountant finds, and never less than the truth."""

from __future__ import annotations

from math import erfc, exp, sqrt
from pathlib import Path

import dp_accounting
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.rdp import RdpAccountant
from hypothesis import given
from hypothesis import strategies as st

from config.sections import Privacy
from learning.accountant import Account, epsilon_of

DELTAS = (1e-3, 1e-5, 1e-8)
RULE = Privacy(noise=4.0, clip=2.0, delta=1e-5, max_participations=100)


def delta_of(epsilon: float, mu: float) -> float:
    """Balle and Wang 2018, theorem 8, as it stands there."""

    def phi(x: float) -> float:
        return erfc(-x / sqrt(2)) / 2

    return phi(mu / 2 - epsilon / mu) - exp(epsilon) * phi(-mu / 2 - epsilon / mu)


def after(updates: int) -> Account:
    account = Account(RULE)
    for _ in range(updates):
        account = account.after_one_more()
    return account


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("noise", [0.3, 0.5, 1.0, 2.0, 4.0, 10.0, 100.0])
@pytest.mark.parametrize("times", [1, 10, 100, 1000])
def test_epsilon_is_that_of_dp_accounting(noise: float, times: int, delta: float) -> None:
    expected = dp_accounting.get_epsilon_gaussian(noise / sqrt(times), delta)
    assert epsilon_of(sqrt(times) / noise, delta) == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize(("noise", "times"), [(1.0, 1), (2.0, 5), (4.0, 100), (20.0, 1000)])
def test_epsilon_is_just_below_that_of_a_composed_privacy_loss_distribution(
    noise: float, times: int, delta: float
) -> None:
    one = pld.from_gaussian_mechanism(noise, value_discretization_interval=1e-3)
    composed = one.self_compose(times).get_epsilon_for_delta(delta)
    found = epsilon_of(sqrt(times) / noise, delta)
    assert found <= composed + 1e-6
    assert found == pytest.approx(composed, rel=0.01, abs=2e-3)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize(("noise", "times"), [(1.0, 1), (2.0, 5), (4.0, 100), (20.0, 1000)])
def test_epsilon_is_no_more_than_renyi_accounting_allows(
    noise: float, times: int, delta: float
) -> None:
    accountant = RdpAccountant()
    accountant.compose(dp_accounting.GaussianDpEvent(noise), times)
    loose = accountant.get_epsilon(delta)
    assert 0.7 * loose < epsilon_of(sqrt(times) / noise, delta) <= loose


def test_noise_that_changed_on_the_way_composes_as_dp_accounting_has_it() -> None:
    account = Account(Privacy(noise=2.0, max_participations=50), 30, after(30).mu_squared)
    for _ in range(20):
        account = account.after_one_more()
    first = pld.from_gaussian_mechanism(4.0, value_discretization_interval=1e-3)
    second = pld.from_gaussian_mechanism(2.0, value_discretization_interval=1e-3)
    composed = first.self_compose(30).compose(second.self_compose(20))
    assert account.participations == 50
    assert account.epsilon == pytest.approx(composed.get_epsilon_for_delta(1e-5), rel=0.01)


@given(st.floats(1e-3, 30), st.floats(1e-9, 0.1))
def test_at_the_epsilon_told_delta_is_kept_and_with_less_it_is_not(mu: float, delta: float) -> None:
    epsilon = epsilon_of(mu, delta)
    assert delta_of(epsilon, mu) <= delta * (1 + 1e-6)
    if epsilon > 0:
        assert delta_of(epsilon * (1 - 1e-3) - 1e-6, mu) > delta * (1 - 1e-6)


@pytest.mark.parametrize(("mu", "least"), [(100.0, 5_000.0), (31_623.0, 5e8), (1e5, 5e9)])
def test_very_much_told_is_a_number_still(mu: float, least: float) -> None:
    assert least < epsilon_of(mu, 1e-5) < 1.1 * least


def test_nothing_told_is_epsilon_zero() -> None:
    assert after(0).epsilon == 0.0
    assert epsilon_of(1e-9, 1e-5) == 0.0


def test_an_account_counts_up_to_what_was_known_beforehand() -> None:
    whole = after(100)
    assert not after(99).is_spent
    assert whole.is_spent
    assert after(0).epsilon_at_most == pytest.approx(whole.epsilon, rel=1e-6)
    assert after(40).epsilon_at_most == pytest.approx(whole.epsilon, rel=1e-6)
    assert after(40).epsilon < after(41).epsilon < whole.epsilon


def test_an_account_that_is_overdrawn_says_what_was_told() -> None:
    overdrawn = Account(RULE, 200, 200 / 16)
    assert overdrawn.is_spent
    assert overdrawn.epsilon_at_most == overdrawn.epsilon > after(100).epsilon


def test_an_account_is_told_with_its_unit_adjacency_and_bounds() -> None:
    told = str(Account(RULE, 3, 3 / 16, unprotected=12))
    assert told == (
        "epsilon at most 13.3 at delta 1e-05 (unit: the whole chunk; zero-out; clip 2, noise 4,"
        " at most 100 updates); 12 earlier updates had no noise"
    )


def test_an_epsilon_is_rounded_up_for_people() -> None:
    assert after(100).epsilon == pytest.approx(13.207, abs=0.001)
    assert "epsilon at most 13.3 " in str(after(100))
    sure = Privacy(noise=10_000.0, delta=0.1, max_participations=1)
    assert "epsilon at most 0 " in str(Account(sure))


def test_the_figures_of_an_update_fit_among_its_metrics() -> None:
    figures = after(3).figures()
    assert figures["privacy_participations"] == 3.0
    assert figures["privacy_epsilon"] < figures["privacy_epsilon_at_most"]
    assert all(isinstance(value, float) for value in figures.values())
    assert all(len(name) <= 40 for name in figures)


def tables() -> list[list[list[float]]]:
    """The tables of figures in the documentation: rows of numbers, a header first."""
    page = (Path(__file__).parents[1] / "docs" / "privacy.md").read_text()
    found = []
    for name in ("noise", "epsilon"):
        _, _, rest = page.partition(f"| {name} | T = 1 ")
        rows = f"| 0 | 1 {rest}".partition("\n\n")[0].splitlines()
        cells = [row.strip("|").replace(",", "").split("|") for row in rows if "---" not in row]
        found.append([[float(cell) for cell in row] for row in cells])
    return found


def test_the_documented_tables_are_what_the_formula_gives_rounded_up() -> None:
    by_noise, by_epsilon = tables()
    assert (len(by_noise), len(by_epsilon)) == (8, 4)
    for noise, *epsilons in by_noise[1:]:
        for times, told in zip(by_noise[0][1:], epsilons, strict=True):
            exact = epsilon_of(sqrt(times) / noise, 1e-5)
            assert exact <= told < 1.1 * exact, (noise, times)
    for epsilon, *noises in by_epsilon[1:]:
        for times, told in zip(by_epsilon[0][1:], noises, strict=True):
            assert epsilon_of(sqrt(times) / told, 1e-5) <= epsilon, (epsilon, times)
            assert epsilon_of(sqrt(times) / (0.9 * told), 1e-5) > epsilon, (epsilon, times)
