"""`flockwise lab compare`: central, alone and federated in several ways, in one report."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from config.failures import ExitCode, Failure
from config.options import UsageParser
from experiments.compare.comparing import compared
from experiments.compare.methods import DEFAULT, PROG, methods_of
from experiments.compare.page import page
from experiments.compare.reading import Run, read_run, read_runs
from experiments.compare.running import Terms, run_all
from experiments.compare.table import in_words
from experiments.interruption import cleaned_up
from experiments.numbers import positive, whole
from federation.files import replace_file

REPORT, FIGURES = "report.html", "compare.json"
_DESCRIPTION = """\
Train the same model on the same images and devices in several ways, in virtual time, and write one
report of it: a single HTML file that needs no network.
"""
_EPILOG = """\
methods:
  central   all images in one place: what is lost by leaving them where they are?
  local     each device alone on its own images: what does a device gain by taking part?
  fedavg    in rounds: a version when all that were invited have delivered
  fedasync  a version for each update, as it comes
  fedbuff   a version for each buffer of updates
  memory    fedbuff, and devices remember what was taken of them

All have the same budget: so many passes over the training images (--passes), counted in updates
that were accepted. All are tested about as often for the same work (--tests).

Devices, images, partition, model and training are set as in `flockwise lab simulate`, by the same
options and files (see flockwise lab simulate --help); versions, target, evaluate_every and output
are decided here. All methods then have the defaults of their strategy. A method is given settings
of its own by a file of the same kind, which may set strategy, evaluate_every and what is in
[aggregation], [standing], [training] and [transfer]; the report says who was given what:

  $ cat small-buffer.toml
  strategy = "fedbuff"
  [aggregation]
  buffer_size = 5

What has been run lies in the output directory, a directory of `lab simulate` for each method and
seed. The same command goes on where it was broken off; more methods or seeds run what is missing.

examples:
  flockwise lab compare --data images --devices 100 --partition-kind dirichlet \\
    --partition-alpha 0.3 --fleet-speed lognormal --seeds 3 --output runs/compare
  flockwise lab compare --config fleet.toml --methods central,fedavg,fedbuff \\
    --method small-buffer=small-buffer.toml --target 0.5 --target 0.6 --output runs/buffers
  flockwise lab compare --from runs/fedbuff slow=runs/other --output runs/both
"""


_DECIDED = {
    "--versions": "how many there are follows from --passes",
    "--evaluate-every": "how often is tested follows from --tests",
    "--strategy": "choose methods with --methods",
}


def main(argv: Sequence[str]) -> int:
    """Run what is missing, and write the report; 0 also where no method reaches the target."""
    options, common = _parser().parse_known_args(argv)
    again = shlex.join(["flockwise", "lab", "compare", *argv])
    if options.drawn is not None:
        runs, place = _read(options, common), _file(options.output)
    else:
        with cleaned_up():
            runs, place = _run(options, common), _in_directory(options.output)
    found = compared(runs, options.target or (), options.title, again)
    _write(place, page(found).encode())
    _write(
        place.with_name(FIGURES) if place.name == REPORT else place.with_suffix(".json"),
        found.as_json(),
    )
    if options.json:
        print(found.as_json().decode(), end="")
    else:
        print("\n".join(in_words(found)))
        print(f"report: {place}")
    return ExitCode.OK


def _run(options: argparse.Namespace, common: Sequence[str]) -> list[Run]:
    for word in common:
        option = word.partition("=")[0]
        if option in _DECIDED:
            raise Failure(ExitCode.USAGE, f"{option}: {_DECIDED[option]} (see {PROG} --help)")
    names = options.methods.split(",") if options.methods else [] if options.method else DEFAULT
    files = dict(options.method)
    methods = methods_of([name.strip() for name in names], files, common)
    first = methods[0].settings.seed
    terms = Terms(options.passes, options.tests, tuple(range(first, first + options.seeds)))
    try:
        directories = run_all(methods, terms, options.output)
    except KeyboardInterrupt:
        print("broken off; the same command goes on from here", file=sys.stderr)
        raise
    return [read_run(directory) for directory in directories]


def _read(options: argparse.Namespace, common: Sequence[str]) -> list[Run]:
    if common:
        message = f"with --from nothing is run: {common[0]} has no meaning (see {PROG} --help)"
        raise Failure(ExitCode.USAGE, message)
    return read_runs(options.drawn)


def _in_directory(output: Path) -> Path:
    return output / REPORT


def _file(output: Path) -> Path:
    return output if output.suffix == ".html" else output / REPORT


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
    except OSError as error:
        raise Failure(ExitCode.CANNOT_WRITE, f"cannot write {path}: {error.strerror}") from None


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE")
    return name, Path(path)


def _accuracy(text: str) -> float:
    number = positive(text)
    if number > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an accuracy from 0 to 1")
    return number


def _parser() -> UsageParser:
    parser = UsageParser(
        prog=PROG,
        usage=f"{PROG} [options] [settings of lab simulate]\n"
        f"       {PROG} --from DIR ... --output FILE",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--methods",
        metavar="NAMES",
        help=f"which, with commas between them (default: {','.join(DEFAULT)}; with --method, only"
        " those)",
    )
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        type=_named_file,
        metavar="NAME=FILE",
        help="a method with settings of its own, from a TOML file; may be given several times",
    )
    parser.add_argument(
        "--passes",
        type=positive,
        default=10.0,
        metavar="P",
        help="budget of each method: passes over the training images (default: 10)",
    )
    parser.add_argument(
        "--tests",
        type=positive,
        default=4.0,
        metavar="T",
        help="tests in a pass, about (default: 4); a round of FedAvg has one at most",
    )
    parser.add_argument(
        "--seeds",
        type=whole(1, 1000),
        default=1,
        metavar="N",
        help="runs of each method, with seeds from --seed on (default: 1)",
    )
    parser.add_argument(
        "--target",
        action="append",
        type=_accuracy,
        metavar="A",
        help="accuracy, 0 to 1, to which the time is told; may be given several times (default:"
        " two, by what was reached)",
    )
    parser.add_argument(
        "--from",
        dest="drawn",
        nargs="+",
        metavar="[NAME=]DIR",
        help="run nothing: draw finished runs, of this command, of lab simulate, or the state"
        " directory of a real coordinator",
    )
    parser.add_argument("--title", default="", metavar="TEXT", help="title of the report")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/compare"),
        metavar="PATH",
        help="directory for the runs, report.html and compare.json (default: runs/compare); with"
        " --from also a file that ends in .html",
    )
    parser.add_argument(
        "--json", action="store_true", help="print compare.json and nothing else on stdout"
    )
    return parser
