"""What the rows come to: medians over seeds, spread, and what each attack costs, in points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from experiments.attacks.catalogue import ATTACKS, NONE
from experiments.attacks.rows import Row
from experiments.attacks.rules import MEAN


@dataclass(frozen=True, slots=True)
class Cell:
    """One rule under one attack.

    Attributes:
        accuracy, least, most: median and extremes over the seeds.
        cost: points lost against the same rule, seed by seed, without an attack; the median.
        cost_to_mean: the same against the mean without an attack.
        success: of the backdoor, the median.
    """

    attack: str
    rule: str
    seeds: int
    accuracy: float
    least: float
    most: float
    cost: float | None
    cost_to_mean: float | None
    success: float | None


def cells(rows: Iterable[Row]) -> list[Cell]:
    """A cell for each attack and rule that there are rows of, in the order of the rows."""
    by_key = {row.key: row for row in rows}
    seeds: dict[tuple[str, str], list[int]] = {}
    for attack, rule, seed in by_key:
        seeds.setdefault((rule, attack), []).append(seed)
    made = []
    for (rule, attack), own in seeds.items():
        accuracies = [by_key[attack, rule, seed].accuracy for seed in own]
        told = [by_key[attack, rule, seed].success for seed in own]
        successes = [success for success in told if success is not None]
        made.append(
            Cell(
                attack=attack,
                rule=rule,
                seeds=len(own),
                accuracy=median(accuracies),
                least=min(accuracies),
                most=max(accuracies),
                cost=_cost(by_key, own, attack, rule, rule),
                cost_to_mean=_cost(by_key, own, attack, rule, MEAN),
                success=median(successes) if successes else None,
            )
        )
    return made


def table(found: Sequence[Cell]) -> str:
    """Rules by attacks in Markdown, which people can read as it is: accuracy, spread and cost."""
    rules = list(dict.fromkeys(cell.rule for cell in found))
    attacks = [name for name in ATTACKS if any(cell.attack == name for cell in found)]
    by_place = {(cell.rule, cell.attack): cell for cell in found}
    head = ["attack", *rules]
    lines = [_line(head), _line(["---"] * len(head))]
    for attack in attacks:
        lines.append(_line([attack, *(_text(by_place.get((rule, attack))) for rule in rules)]))
    for name, measure in _SUMMARY.items():
        lines.append(_line([name, *(measure(found, rule) for rule in rules)]))
    return "\n".join(lines)


def legend() -> str:
    """What the figures of the table are."""
    return (
        "accuracy at the end in %: median over the seeds [least, most]; in brackets the points that"
        " it costs against the same rule without an attack, and how often the backdoor opens"
    )


def _cost(
    by_key: dict[tuple[str, str, int], Row], seeds: list[int], attack: str, rule: str, base: str
) -> float | None:
    losses = [
        100 * (by_key[NONE, base, seed].accuracy - by_key[attack, rule, seed].accuracy)
        for seed in seeds
        if (NONE, base, seed) in by_key
    ]
    return median(losses) if losses else None


def _text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    text = f"{cell.accuracy:.1%} [{cell.least:.1%}, {cell.most:.1%}]".replace("%", "")
    if cell.attack != NONE and cell.cost is not None:
        text += f" ({-cell.cost:+.1f})"
    if cell.success is not None:
        text += f" opens {cell.success:.0%}"
    return text


def _worst(found: Sequence[Cell], rule: str) -> str:
    """Of the untargeted attacks by devices that are as fast as the others."""
    costs = [(cell.cost, cell.attack) for cell in _attacked(found, rule) if cell.cost is not None]
    return f"{-max(costs)[0]:+.1f} ({max(costs)[1]})" if costs else ""


def _worst_to_mean(found: Sequence[Cell], rule: str) -> str:
    costs = [cell.cost_to_mean for cell in _attacked(found, rule) if cell.cost_to_mean is not None]
    return f"{-max(costs):+.1f}" if costs else ""


def _price(found: Sequence[Cell], rule: str) -> str:
    """What the rule costs where nobody attacks."""
    cell = next((cell for cell in found if (cell.rule, cell.attack) == (rule, NONE)), None)
    return f"{-cell.cost_to_mean:+.1f}" if cell and cell.cost_to_mean is not None else ""


def _attacked(found: Sequence[Cell], rule: str) -> list[Cell]:
    return [
        cell
        for cell in found
        if cell.rule == rule
        and cell.attack != NONE
        and not ATTACKS[cell.attack].targeted
        and ATTACKS[cell.attack].speed is None
    ]


_SUMMARY: dict[str, Callable[[Sequence[Cell], str], str]] = {
    "worst untargeted": _worst,
    "the same, to the mean unattacked": _worst_to_mean,
    "no attack, to the mean": _price,
}


def _line(words: Sequence[str]) -> str:
    return "| " + " | ".join(words) + " |"
