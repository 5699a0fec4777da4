"""`flockwise lab attack`: what attacks cost, under each rule, in a federation in virtual time."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

from config.failures import ExitCode, Failure
from config.options import UsageParser
from experiments.attacks.catalogue import ATTACKS, NONE
from experiments.attacks.rows import Row, append_row, read_rows
from experiments.attacks.rules import COMBINE, Rule, assignments, rule_of
from experiments.attacks.runs import Run, done, made_with
from experiments.attacks.scheme import Scheme
from experiments.attacks.table import cells, legend, table
from experiments.images import add_image_options, chosen_images
from experiments.interruption import cleaned_up
from experiments.numbers import positive, whole
from learning.data import ImageSet

ALL = "all"
_DEFAULTS = Scheme()


def main(argv: Sequence[str]) -> int:
    """Run the attacks against the rules and show what they cost."""
    options = _parser().parse_args(argv)
    scheme = Scheme(
        devices=options.devices,
        alpha=options.dirichlet,
        buffer_size=options.buffer_size,
        warm_up=options.warm_up,
        versions=options.versions,
        training=assignments(options.training) or _DEFAULTS.training,
        aggregation=assignments(options.aggregation) or _DEFAULTS.aggregation,
    )
    rules = _rules(options.rule)
    for rule in rules:
        scheme.coordinator(rule)  # what does not hold together is told at once
    seeds = range(options.seed, options.seed + options.seeds)
    wanted = [
        Run(attack, rule.line, seed)
        for seed, attack, rule in product(seeds, _attacks(options.attack), rules)
    ]
    images = chosen_images(options)
    with cleaned_up():
        rows = run_all(scheme, wanted, images, options.output, options.jobs)
    found = cells(rows)
    if options.json:
        print(json.dumps([asdict(cell) for cell in found], indent=2))
    else:
        print(table(found))
        print(legend())
    return ExitCode.OK


def run_all(
    scheme: Scheme, wanted: Sequence[Run], images: ImageSet, output: Path | None, jobs: int
) -> list[Row]:
    """The rows of the runs that are wanted; those that the output has already are not run."""
    about = made_with(scheme, images)
    there = {} if output is None else {row.key: row for row in read_rows(output, about["scheme"])}
    missing = [run for run in wanted if run not in there]
    starts = None if output is None else output.with_suffix(".starts")
    if there:
        print(f"{len(wanted) - len(missing)} of {len(wanted)} runs are done", file=sys.stderr)
    for count, row in enumerate(done(scheme, missing, images, jobs, starts), 1):
        there[row.key] = row
        if output is not None:
            append_row(output, row, about)
        _show(row, count, len(missing), images.generated)
    return [there[run] for run in wanted]


def _show(row: Row, count: int, total: int, generated: bool) -> None:
    note = " GENERATED, NOT REAL" if generated else ""
    backdoor = "" if row.success is None else f"  opens {row.success:.0%}"
    print(
        f"{count}/{total}  {row.attack} against {row.rule}, seed {row.seed}:"
        f" {row.accuracy:.2%}{note}{backdoor}  {row.cpu_s:.0f} s",
        file=sys.stderr,
        flush=True,
    )


def _attacks(given: Sequence[str]) -> list[str]:
    if ALL in given:
        return list(ATTACKS)
    for name in given:
        if name not in ATTACKS:
            known = ", ".join([*ATTACKS, ALL])
            raise Failure(ExitCode.USAGE, f"unknown attack {name!r}; known are: {known}")
    # What it costs is told against the same without an attack.
    return list(dict.fromkeys([NONE, *given]))


def _rules(given: Sequence[str]) -> list[Rule]:
    lines = [line for text in given for line in (COMBINE if text == ALL else (text,))]
    return list({rule.line: rule for rule in map(rule_of, lines)}.values())


def _parser() -> argparse.ArgumentParser:
    parser = UsageParser(
        prog="flockwise lab attack",
        description="Let some devices of a federation in virtual time attack it, and tell what that"
        " costs. Coordinator and devices are the real ones; the training is real.",
        epilog="attacks:\n"
        + "".join(f"  {attack.name:<15} {attack.summary}\n" for attack in ATTACKS.values())
        + "\na rule is a value of aggregation.combine, and may set more of that section:\n"
        + "".join(f"  {name}\n" for name in COMBINE)
        + "\nexamples:\n"
        "  flockwise lab attack --attack sign-flip --rule mean --rule clipped_mean --data images\n"
        '  flockwise lab attack --attack alie --rule "trimmed_mean hostile_fraction=0.3"\n'
        "  flockwise lab attack --attack all --rule all --jobs 2 --output rows.jsonl\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--attack", action="append", required=True, metavar="NAME", help="which one, or all"
    )
    parser.add_argument(
        "--rule", action="append", required=True, metavar="RULE", help="against which, or all"
    )
    parser.add_argument(
        "--seeds",
        type=whole(1, 1000),
        default=3,
        metavar="N",
        help="runs of each, with seeds from --seed on (default: 3)",
    )
    parser.add_argument(
        "--jobs", type=whole(1, 256), default=1, metavar="N", help="processes (default: 1)"
    )
    report = parser.add_argument_group("report")
    report.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write a line of JSON for each run as it ends; what is there is not run again;"
        " the models of the honest past are kept beside it",
    )
    report.add_argument("--json", action="store_true", help="print the table as JSON")
    federation = parser.add_argument_group("federation")
    for name, kind, text in _FEDERATION:
        federation.add_argument(
            "--" + name.replace("_", "-"),
            type=kind,
            default=getattr(_DEFAULTS, name if name != "dirichlet" else "alpha"),
            metavar="ALPHA" if name == "dirichlet" else "N",
            help=f"{text} (default: %(default)s)",
        )
    for section in ("training", "aggregation"):
        federation.add_argument(
            "--" + section,
            nargs="+",
            default=[],
            metavar="KEY=VALUE",
            help=f"settings of [{section}] in all runs, in place of"
            f" {' '.join(f'{key}={value}' for key, value in getattr(_DEFAULTS, section).items())}",
        )
    add_image_options(parser)
    return parser


_FEDERATION = (
    ("devices", whole(2, 10_000), "devices; a fifth of them attack, of the fast ones a tenth"),
    ("dirichlet", positive, "spread of labels over the devices"),
    ("buffer_size", whole(1, 10_000), "updates in a version"),
    ("warm_up", whole(0, 100_000), "versions of an honest past, FedAvg, before anyone attacks"),
    ("versions", whole(1, 100_000), "versions made under attack"),
)
