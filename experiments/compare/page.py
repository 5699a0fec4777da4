"""The report as one HTML file: no scripts, nothing from elsewhere, the plots within.

It is made of a comparison alone, and the same comparison gives the same bytes. All text in it is
escaped, as names of devices and classes, titles and paths are whatever somebody wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from experiments.compare.comparison import Compared, Comparison
from experiments.compare.ink import Pen, night_colours, pens
from experiments.compare.page_figures import figures
from experiments.compare.page_style import style_sheet
from experiments.compare.table import Cell, Column, columns, sentences, totals

_WHAT = {
    "central": "All images in one place, trained on by one device as fast as the typical one.",
    "local": "Each device trains alone on its own images; nobody learns from anybody.",
    "fedavg": "In rounds: a version when all that were invited have delivered.",
    "fedasync": "A version for each update, as soon as it comes.",
    "fedbuff": "A version for each buffer of updates, from whoever comes first.",
    "memory": "FedBuff, and who is away is stood in for by what it last sent.",
}
_MARKS = {
    "o": '<circle cx="16" cy="6" r="4"/>',
    "^": '<path d="M16 1.5l4.6 8.6h-9.2z"/>',
    "s": '<path d="M12.4 2.4h7.2v7.2h-7.2z"/>',
    "D": '<path d="M16 1l5 5-5 5-5-5z"/>',
    "v": '<path d="M16 10.5l4.6-8.6h-9.2z"/>',
    "": "",
}
_BOUND = "\N{NO-BREAK SPACE}"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(made: Comparison) -> str:
    """The whole file."""
    drawn = pens(made.methods)
    title = escape(made.title)
    body = "\n".join(part for part in _parts(made, drawn) if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n"
        f"<style>\n{style_sheet(night_colours(drawn.values()))}</style>\n"
        f"</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _parts(made: Comparison, drawn: dict[str, Pen]) -> Iterator[str]:
    yield from _opening(made, drawn)
    yield from _answer(made, drawn)
    yield from figures(made, drawn)
    yield "<h2>What each method did in all</h2>"
    yield f'<div class="wide">{_table(made, totals(made), drawn)}</div>'
    yield from _closing(made)


def _opening(made: Comparison, drawn: dict[str, Pen]) -> Iterator[str]:
    yield '<p class="kicker">Flockwise · a comparison of ways to train one model</p>'
    yield f"<h1>{escape(made.title)}</h1>"
    if made.generated:
        yield (
            '<p class="alarm" role="note">GENERATED IMAGES. The images were made up by a program;'
            " the figures below say nothing about real images.</p>"
        )
    yield f'<p class="lead">{_asked(made)}</p>'
    rows = "".join(
        f"<dt>{_swatch(drawn[one.name])}{escape(one.label)}</dt><dd>{_what(one)}</dd>"
        for one in made.methods
    )
    yield f"<dl>{rows}</dl>"


def _asked(made: Comparison) -> str:
    images = sum(device.images for device in made.devices)
    text = "The same model was trained"
    if images:
        text += (
            f" on the same {images:,} images, cut {escape(made.cut)} over"
            f" {len(made.devices):,} devices,"
        )
    text += " in each of these ways"
    if made.passes:
        text += f", for {made.passes:g} passes over the images"
    return (
        f"{text}. How soon does each reach a given accuracy, how much is sent for it, and is anyone"
        " forgotten on the way?"
    )


def _what(method: Compared) -> str:
    text = escape(_WHAT.get(method.name, "A variant."))
    return f'{text} <span class="quiet">Settings: {escape(method.tuned)}.</span>'


def _swatch(pen: Pen) -> str:
    colour = f"var(--pen-{pen.colour[1:]})"
    dashes = "" if pen.dashes == "-" else f' stroke-dasharray="{_dashes(pen)}"'
    return (
        f'<svg class="swatch" viewBox="0 0 32 12" aria-hidden="true" fill="{colour}">'
        f'<path d="M0 6h32" stroke="{colour}" stroke-width="2" fill="none"{dashes}/>'
        f"{_MARKS.get(pen.mark, _MARKS['o'])}</svg>"
    )


def _dashes(pen: Pen) -> str:
    return " ".join(f"{2 * length:g}" for length in pen.dashes[1])


def _answer(made: Comparison, drawn: dict[str, Pen]) -> Iterator[str]:
    yield "<h2>The answer</h2>"
    told = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences(made))
    yield f'<ul class="answer">{told}</ul>' if told else ""
    yield f'<div class="wide">{_table(made, columns(made), drawn)}</div>'
    seeds = max((len(one.outcomes) for one in made.methods), default=1)
    chosen = (
        ""
        if made.targets_given
        else (
            " The targets were chosen afterwards: the highest multiples of five points that all"
            " federated methods reached, and that any did."
        )
    )
    several = f" Medians of {seeds} seeds, and between what they lie." if seeds > 1 else ""
    yield (
        '<p class="quiet">Shaded is the best of the federated methods. The worst class is the'
        " one with the lowest share of right answers in the version tested last; updates of a"
        f" device are the median, and least to most.{several}{chosen}</p>"
    )
    if made.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in made.notes)
        yield f"<p><strong>Before you believe it</strong></p><ul>{notes}</ul>"


def _table(made: Comparison, table: Sequence[Column], drawn: dict[str, Pen]) -> str:
    groups = ["<td></td>"]
    for column in dict.fromkeys(one.group for one in table):
        span = sum(one.group == column for one in table)
        groups.append(f'<th class="from" colspan="{span}" scope="colgroup">{escape(column)}</th>')
    first = {next(i for i, one in enumerate(table) if one.group == c.group) for c in table}
    heads = "".join(
        f'<th{_class(i in first, False)} scope="col">{escape(one.heading)}</th>'
        for i, one in enumerate(table)
    )
    lines = []
    for row, method in enumerate(made.methods):
        cells = "".join(
            f"<td{_class(i in first, row in one.best)}>{_cell(one.cells[row])}</td>"
            for i, one in enumerate(table)
        )
        name = f"{_swatch(drawn[method.name])}{escape(method.label)}"
        lines.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    grouped = any(column.group for column in table)
    over = f'<tr class="groups">{"".join(groups)}</tr>' if grouped else ""
    return (
        f'<table class="answers"><thead>{over}'
        f"<tr><th>method</th>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _class(begins: bool, best: bool) -> str:
    names = [name for name, there in (("from", begins), ("best", best)) if there]
    return f' class="{" ".join(names)}"' if names else ""


def _cell(cell: Cell) -> str:
    below = "".join(f"<small>{escape(_bound(line))}</small>" for line in cell.below)
    return escape(_bound(cell.main)) + below


def _bound(text: str) -> str:
    """A line of a cell, to be broken between its figures only."""
    bound = text.replace(" ", _BOUND)
    for word in ("to", "and", "from"):
        bound = bound.replace(f"{_BOUND}{word}{_BOUND}", f" {word}{_BOUND}")
    return bound.replace(f",{_BOUND}", ", ")


def _differences(made: Comparison) -> str:
    names = list(next(iter(made.different.values())))
    labels = {method.name: method.label for method in made.methods}
    heads = "".join(f"<th>{escape(labels.get(name, name))}</th>" for name in names)
    lines = "".join(
        f"<tr><th><code>{escape(key)}</code></th>"
        + "".join(f"<td>{escape(values.get(name, ''))}</td>" for name in names)
        + "</tr>"
        for key, values in made.different.items()
    )
    return (
        f'<table class="plain"><thead><tr><th>setting</th>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table>"
    )


def _closing(made: Comparison) -> Iterator[str]:
    yield "<h2>What it was run on</h2>"
    facts = "".join(f"<dt>{escape(n)}</dt><dd>{escape(text)}</dd>" for n, text in made.facts)
    yield f"<dl>{facts}</dl>"
    if made.given:
        given = "".join(
            f"<tr><th><code>{escape(key)}</code></th><td>{escape(value)}</td></tr>"
            for key, value in made.given.items()
        )
        yield "<p>Settings of all methods that are not the defaults:</p>"
        yield f'<div class="wide"><table class="plain"><tbody>{given}</tbody></table></div>'
    yield "<h2>In what the methods differ</h2>"
    yield f"<p>{escape(made.tuning)}</p>"
    if made.different:
        yield f'<div class="wide">{_differences(made)}</div>'
    if made.command:
        yield "<h2>How to run it again</h2>"
        yield f"<pre>{escape(made.command)}</pre>"
        yield (
            '<p class="quiet">What is in the output directory is not run again. The directory of a'
            " federated run has a <code>settings.toml</code>, by which <code>flockwise lab simulate"
            " --config</code> gives the same model, to the byte.</p>"
        )
    yield "<h2>How to read it</h2>"
    yield (
        "<dl><dt>Virtual time</dt><dd>The coordinator and the devices are the programs that run in"
        " a real federation; their clock is a simulated one, and how long a training takes follows"
        " from the model of the device. The training is real.</dd>"
        "<dt>Update</dt><dd>What a device sends after a training: how it changed the model.</dd>"
        "<dt>Version</dt><dd>A state of the common model, made of the one before and of"
        " updates.</dd>"
        "<dt>Pass</dt><dd>As many images trained on as there are training images.</dd></dl>"
    )
    yield (
        "<footer>Made by <code>flockwise lab compare</code>. All figures stand in"
        " <code>compare.json</code>, of which alone this page is made.</footer>"
    )
