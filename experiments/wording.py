"""How figures are written for people: bytes, shares, times, and a small curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"


def bytes_text(count: float) -> str:
    """A number of bytes in three figures or so: `431 B`, `62.4 kB`, `1.25 MB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * size:
            value = count / size
            return (
                f"{value:.2f} {unit}"
                if value < 10
                else f"{value:.{1 if value < 100 else 0}f} {unit}"
            )
    return f"{count:.0f} B"


def accuracy_text(accuracy: float | None, *, generated: bool) -> str:
    """An accuracy in percent; one that was measured on made-up images says so."""
    if accuracy is None:
        return "not tested"
    return f"{100 * accuracy:.1f} %" + (" (generated images)" if generated else "")


def seconds_text(seconds: float) -> str:
    """A time: `48 s`, `3 min 05 s`, `1 h 02 min`."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count_text(count: int, noun: str) -> str:
    """A number and its noun, in the plural where it has to be: `1 device`, `5 devices`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def facts_text(facts: Mapping[str, object]) -> str:
    """The facts of a log line, on one line: `version=3 loss=1.234`; no control characters."""
    pairs = (f"{key}={_fact(value)}" for key, value in facts.items() if key != "role")
    return on_one_line(" ".join(pairs))


def on_one_line(text: str) -> str:
    """A text without control characters: what devices say must not move a cursor."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def sparkline(values: Sequence[float], width: int) -> str:
    """The curve of the values in one line of at most `width` blocks, from least to greatest."""
    if not values or width < 1:
        return ""
    count = min(width, len(values))
    # The last value of each part, so that the end of the line is the newest value.
    shown = [values[(index + 1) * len(values) // count - 1] for index in range(count)]
    low, high = min(values), max(values)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((value - low) * scale)] for value in shown)


def _fact(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
