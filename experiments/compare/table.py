"""The answer in one table, and in a few sentences; for the page and for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from experiments.compare.comparison import Comparison, Outcome
from experiments.compare.spread import Spread, over_seeds, worst_class
from experiments.wording import accuracy_text, bytes_text, count_text, on_one_line, seconds_text

NEVER = "not reached"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what matters, and smaller, below it, what belongs to it."""

    main: str
    below: tuple[str, ...] = ()


NOTHING = Cell("\N{EN DASH}")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: a heading, what is above several of them, a cell a method, and the best ones."""

    group: str
    heading: str
    cells: tuple[Cell, ...]
    best: frozenset[int] = frozenset()


def columns(made: Comparison) -> list[Column]:
    """The table, column by column; those in which nothing stands are left out."""
    devices = "on devices' images"
    found = [
        *(_to_target(made, index) for index in range(len(made.targets))),
        _column(made, "accuracy", "best", lambda one: one.best_accuracy, percent),
        _column(made, "accuracy", "in the end", lambda one: one.accuracy, percent),
        _worst_classes(made),
        _column(made, devices, "mean", lambda one: one.on_device.get("mean"), percent),
        _column(
            made, devices, "worst decile", lambda one: one.on_device.get("worst_decile"), percent
        ),
        _participation(made),
    ]
    return [column for column in found if any(cell != NOTHING for cell in column.cells)]


def totals(made: Comparison) -> list[Column]:
    """What each method did in all, column by column."""

    def number(figure: float) -> str:
        return f"{figure:,.0f}"

    found = [
        _column(made, "", "versions", lambda one: one.versions or None, number, None),
        _column(made, "", "updates", lambda one: one.updates or None, number, None),
        _column(made, "", "refused", lambda one: one.refused or None, number, None),
        _column(made, "", "crashes", lambda one: one.crashes or None, number, None),
        _column(made, "", "passes", lambda one: one.passes, lambda n: f"{n:.1f}", None),
        _column(made, "", "virtual time", lambda one: one.virtual_s, time_text, None),
        _column(made, "", "bytes up", lambda one: one.bytes_up or None, bytes_text, None),
        _column(made, "", "bytes down", lambda one: one.bytes_down or None, bytes_text, None),
    ]
    return [column for column in found if any(cell != NOTHING for cell in column.cells)]


def aim(target: float) -> str:
    """A target: `55 %`, `62.5 %`."""
    return f"{100 * target:g} %"


def percent(share: float) -> str:
    """`61.3 %`."""
    return f"{100 * share:.1f} %"


def time_text(seconds: float) -> str:
    """A time that may be days: `2 d 03 h`."""
    if seconds < 1e6 and seconds < 48 * 3600:
        return seconds_text(seconds)
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def sentences(made: Comparison) -> Iterator[str]:
    """What came of it, for who reads nothing else."""
    for index, target in enumerate(made.targets):
        yield _race(made, index, target)
    federated = [one for one in made.methods if one.kind == "federated"]
    ends = [(one.label, over_seeds(one, lambda o: o.accuracy).median) for one in federated]
    known = [(label, end) for label, end in ends if end is not None]
    if known:
        best = max(known, key=lambda pair: pair[1])
        text = f"{best[0]} ended highest of the federated methods, at {percent(best[1])}"
        for name, phrase in (("central", "central training at"), ("local", "devices alone at")):
            one = next((m for m in made.methods if m.kind == name), None)
            end = None if one is None else over_seeds(one, lambda o: o.accuracy).median
            if end is not None:
                mean = " on average" if name == "local" else ""
                text += f"; {phrase} {percent(end)}{mean}"
        yield text + "."
    floors = [(one.label, over_seeds(one, _floor).median) for one in federated]
    told = [(label, floor) for label, floor in floors if floor is not None]
    if len({floor for _, floor in told}) > 1:
        high, low = max(told, key=lambda p: p[1]), min(told, key=lambda p: p[1])
        yield (
            f"The class known worst is known best by {high[0]}, {percent(high[1])} of its images,"
            f" and worst by {low[0]}, {percent(low[1])}."
        )


def in_words(made: Comparison) -> Iterator[str]:
    """The table for a terminal: a line a figure."""
    on = " (ON GENERATED IMAGES)" if made.generated else ""
    yield f"{on_one_line(made.title)}{on}"
    table = columns(made)
    for index, method in enumerate(made.methods):
        yield f"  {on_one_line(method.label)}"
        for column in (*table, *totals(made)):
            if (cell := column.cells[index]) != NOTHING:
                told = f" ({'; '.join(cell.below)})" if cell.below else ""
                head = ": ".join(word for word in (column.group, column.heading) if word)
                yield on_one_line(f"    {head:<38} {cell.main}{told}")
    for sentence in sentences(made):
        yield on_one_line(sentence)
    for note in made.notes:
        yield f"note: {on_one_line(note)}"


def _to_target(made: Comparison, index: int) -> Column:
    """How long it takes, and below it how many updates and bytes."""
    column = _column(
        made, "time to", aim(made.targets[index]), lambda o: o.reached[index].time_s, time_text, min
    )
    cells = []
    for method, cell in zip(made.methods, column.cells, strict=True):
        updates = over_seeds(method, lambda o: o.reached[index].updates).median
        sent = over_seeds(method, lambda o: o.reached[index].bytes_up).median
        if method.kind == "federated" and cell == NOTHING:
            some = over_seeds(method, lambda o: o.reached[index].time_s)
            cells.append(Cell(NEVER, _told(some.between(time_text))))
        elif updates is None or sent is None:
            cells.append(cell)
        else:
            what = f"{count_text(round(updates), 'update')}, {bytes_text(sent)}"
            cells.append(Cell(cell.main, (*cell.below, what)))
    return Column(column.group, column.heading, tuple(cells), column.best)


def _column(
    made: Comparison,
    group: str,
    heading: str,
    figure: Callable[[Outcome], float | None],
    word: Callable[[float], str],
    best: Callable[..., float] | None = max,
) -> Column:
    spreads = [over_seeds(method, figure) for method in made.methods]
    cells = tuple(_cell(one, word) for one in spreads)
    rivals = {
        index: one.median
        for index, (one, method) in enumerate(zip(spreads, made.methods, strict=True))
        if method.kind == "federated" and one.median is not None
    }
    top = best(rivals.values()) if best is not None and rivals else None
    winners = frozenset(index for index, value in rivals.items() if value == top)
    # Where all are alike, none is better.
    federated = sum(method.kind == "federated" for method in made.methods)
    return Column(group, heading, cells, winners if len(winners) < federated else frozenset())


def _cell(one: Spread, word: Callable[[float], str]) -> Cell:
    return NOTHING if one.median is None else Cell(word(one.median), _told(one.between(word)))


def _told(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


def _worst_classes(made: Comparison) -> Column:
    column = _column(made, "accuracy", "worst class", _floor, percent)
    cells = []
    for method, cell in zip(made.methods, column.cells, strict=True):
        worst = [found[0] for o in method.outcomes if (found := worst_class(o)) is not None]
        names = [name for name, _ in Counter(worst).most_common()]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        name = f"{names[0][:20]}{more}" if names else ""
        cells.append(Cell(cell.main, (*cell.below, name)) if name else cell)
    return Column(column.group, column.heading, tuple(cells), column.best)


def _participation(made: Comparison) -> Column:
    cells = []
    for method in made.methods:
        counts = sorted(n for outcome in method.outcomes for n in outcome.device_updates)
        between = f"{counts[0]} to {counts[-1]}" if counts else ""
        cells.append(Cell(f"{median(counts):g}", (between,)) if counts else NOTHING)
    return Column("updates", "of a device", tuple(cells))


def _floor(outcome: Outcome) -> float | None:
    worst = worst_class(outcome)
    return None if worst is None else worst[1]


def _race(made: Comparison, index: int, target: float) -> str:
    federated = [one for one in made.methods if one.kind == "federated"]
    times = [
        (one.label, over_seeds(one, lambda o: o.reached[index].time_s).median) for one in federated
    ]
    arrived = sorted((time_s, label) for label, time_s in times if time_s is not None)
    goal = accuracy_text(target, generated=made.generated)
    if not arrived:
        return f"No federated method reached {goal}."
    first_s = arrived[0][0]
    first = " and ".join(label for time_s, label in arrived if time_s == first_s)
    text = f"{first} reached {goal} first, after {time_text(first_s)}"
    if not made.real:
        text += " of virtual time"
    later = [
        f"{label} after {time_text(time_s)} ({time_s / first_s:.1f} times that)"
        for time_s, label in arrived
        if time_s > first_s > 0
    ]
    never = " and ".join(label for label, time_s in times if time_s is None)
    ends = [*later, f"{never} never did"] if never else later
    return "; ".join([text, *ends]) + "."
