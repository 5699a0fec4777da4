"""How figures look, and how one becomes SVG within a page.

Colours are drawn as those of a light page and then handed to the page as CSS variables, so that a
dark one may have its own. The same figure gives the same bytes: no clock, no random ids, nobody's
own matplotlibrc.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

from experiments.compare.comparison import Compared

INK, QUIET, LINE = "#1d2833", "#5a6875", "#d3dae0"
PAPER = "#fefefe"


@dataclass(frozen=True, slots=True)
class Pen:
    """How one method is drawn; colour, mark and dashes each tell it from the others.

    Attributes:
        colour: on a light page; the colours are Okabe and Ito's, darkened where they are too pale.
        night: on a dark one.
    """

    colour: str
    night: str
    mark: str
    dashes: Any


_PENS = {
    "central": Pen("#3b4652", "#c9d2da", "", "-"),
    "local": Pen("#77838f", "#93a0ac", "", (0, (1, 1.4))),
    "fedavg": Pen("#0072b2", "#5cb8ee", "o", "-"),
    "fedasync": Pen("#c4540a", "#f59a55", "^", (0, (5, 1.6))),
    "fedbuff": Pen("#00805e", "#3fd0a4", "s", (0, (6, 1.4, 1.4, 1.4))),
    "memory": Pen("#a8327a", "#ee8fc6", "D", "-"),
}
_MORE = (
    Pen("#7a5c00", "#e3c04a", "v", (0, (3, 1.2))),
    Pen("#5348c7", "#a9a2ff", "P", (0, (8, 2))),
    Pen("#9c1f2e", "#ff8f96", "X", (0, (2, 1))),
    Pen("#226b78", "#6fd0de", "<", (0, (4, 1, 1, 1, 1, 1))),
    Pen("#61702a", "#bdd06b", ">", (0, (7, 1, 2, 1))),
    Pen("#6d4a8e", "#d0a6f5", "p", "-"),
)
_STYLE = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "svg.fonttype": "none",
    "svg.hashsalt": "flockwise",
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": QUIET,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "legend.handlelength": 3.0,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}
_FONTS = re.compile(r"'DejaVu Sans'(?:, '[^']+')*(?:, sans-serif)?")
_IDLE = re.compile(r' transform="rotate\(-0 [^"]*\)"')
_STYLED = re.compile(r' style="([^"]*)"')
_ID = re.compile(r'(\bid="|url\(#|href="#)([^")]+)')
_ANY_ID = re.compile(r' id="([^"]+)"')
_REFERRED = re.compile(r'(?:url\(|href=")#([^")]+)')
_LONG = re.compile(r"(-?\d+\.\d\d)\d+")
_PLACES = re.compile(r'\b(?:d|x|y|width|height|points)="[^"]*"')
_DESCRIBED = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_HEAD = re.compile(r'<svg [^>]*?(viewBox="[^"]+")[^>]*>')


def pens(methods: Iterable[Compared]) -> dict[str, Pen]:
    """How each method is drawn, by its name; the known ones always alike."""
    drawn: dict[str, Pen] = {}
    more = 0
    for method in methods:
        if method.name in _PENS:
            drawn[method.name] = _PENS[method.name]
        else:
            drawn[method.name] = _MORE[more % len(_MORE)]
            more += 1
    return drawn


def night_colours(drawn: Iterable[Pen]) -> dict[str, tuple[str, str]]:
    """The variables of the page for these pens: by name, the colour by day and by night."""
    return {_variable(pen.colour): (pen.colour, pen.night) for pen in drawn}


def as_svg(
    name: str,
    draw: Callable[[], Figure | None],
    alt: str,
    drawn: Iterable[Pen] = (),
    own_style: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """A figure as an element of a page; empty where there is nothing to draw.

    Args:
        name: goes before all ids in it, as a page may have no id twice.
        draw: makes it, in the style of all of them.
        alt: what it shows, for who does not see it.
        drawn: the pens that it may be drawn with.
        own_style: what it has in place of the style of all.
    """
    stream = io.StringIO()
    with style.context(["default", _STYLE, dict(own_style)]), warnings.catch_warnings():
        # A name in a script that the font lacks: the page has other fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = draw()
        if figure is None:
            return ""
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return _in_page(name, stream.getvalue(), alt, drawn)


def _in_page(name: str, text: str, alt: str, drawn: Iterable[Pen]) -> str:
    """An SVG of matplotlib as an element of a page."""
    text = _DESCRIBED.sub("", text[text.index("<svg") :])
    text = _ID.sub(lambda found: f"{found[1]}{name}-{found[2]}", text)
    text = _PLACES.sub(lambda found: _LONG.sub(r"\1", found[0]), text)
    text = _IDLE.sub("", _FONTS.sub("var(--sans)", text))
    for colour in (INK, QUIET, LINE, PAPER, *dict.fromkeys(pen.colour for pen in drawn)):
        text = text.replace(colour, f"var({_variable(colour)})")
    text = _with_classes(name, _without_idle_ids(text))
    label = escape(alt, quote=True)
    return _HEAD.sub(
        lambda found: (
            f'<svg {found[1]} xmlns="http://www.w3.org/2000/svg"'
            f' xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{label}">'
        ),
        text,
        count=1,
    ).strip()


def _without_idle_ids(text: str) -> str:
    """Without the ids that nothing refers to, which are most."""
    wanted = set(_REFERRED.findall(text))
    return _ANY_ID.sub(lambda found: found[0] if found[1] in wanted else "", text)


def _with_classes(name: str, text: str) -> str:
    """Styles that come again and again as classes: a third of the bytes, and as easy to read."""
    counts = Counter(_STYLED.findall(text))
    often = [one for one, count in counts.items() if count > 2]
    classes = {one: f"{name}-{index}" for index, one in enumerate(often)}

    def named(found: re.Match[str]) -> str:
        return f' class="{classes[found[1]]}"' if found[1] in classes else found[0]

    rules = "".join(f".{classes[one]}{{{one}}}" for one in often)
    text = _STYLED.sub(named, text)
    return text.replace(">", f">\n<style>{rules}</style>", 1) if rules else text


def _variable(colour: str) -> str:
    named = {INK: "--ink", QUIET: "--quiet", LINE: "--line", PAPER: "--paper"}
    return named.get(colour, f"--pen-{colour[1:]}")
