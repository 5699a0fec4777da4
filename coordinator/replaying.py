"""`flockwise coordinator replay`: make versions again, without some devices if so asked."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from config.failures import ExitCode, Failure
from config.options import UsageParser
from config.settings import CoordinatorSettings
from coordinator.ledger import Ledger
from coordinator.record import existing_ledger, record_parser
from coordinator.replay import History, Replayed
from coordinator.spool import Spool
from coordinator.versions import Versions, write_model
from federation.layout import Layout
from federation.state_directory import in_state_directory

DESCRIPTION = """\
Make versions again from the ledger: bit for bit as they were, or as they would have been had some
devices never taken part. The coordinator must not be running on the state directory.

examples:
  flockwise coordinator replay
  flockwise coordinator replay --without camera-7 --output clean.safetensors
  flockwise coordinator replay --without camera-7 --adopt
"""


def main(argv: Sequence[str]) -> int:
    """Replay, and tell how each version compares with what it was."""
    options = _parser().parse_args(argv)
    ledger_path = existing_ledger(options.state_dir)
    if options.output is not None and not options.output.parent.is_dir():
        raise _unwritable(options.output, "its directory does not exist")
    with in_state_directory(options.state_dir) as (directory, stack):
        ledger = stack.enter_context(closing(Ledger(ledger_path)))
        known = ledger.model()
        if known is None:
            raise Failure(ExitCode.NO_INPUT, f"the ledger in {options.state_dir} is empty")
        chunk_bytes = CoordinatorSettings().transfer.chunk_bytes
        versions = _versions(directory.folder("versions"), chunk_bytes, ledger.newest_version())
        spool = Spool(directory.folder("spool"))
        try:
            told = _replay(options, ledger, versions, spool, known[2])
        except ValueError as error:  # a rule or an update that is not what was written
            reason = " ".join(str(error).split())[:300]
            raise Failure(
                ExitCode.NO_INPUT, f"the record in {options.state_dir} cannot be replayed: {reason}"
            ) from error
    if options.json:
        print(json.dumps(told))
    if not options.without and told["identical"] is False:
        raise Failure(ExitCode.FAILURE, "a version did not come out as it was; see above")
    return ExitCode.OK


def _versions(folder: Path, chunk_bytes: int, newest: int | None) -> Versions:
    """The versions there are; one that is adopted goes down to devices as the newest did."""
    versions = Versions(folder, chunk_bytes)
    return versions if newest is None else Versions(folder, chunk_bytes, versions.codec(newest))


def _replay(
    options: Namespace, ledger: Ledger, versions: Versions, spool: Spool, layout: Layout
) -> dict[str, Any]:
    newest = ledger.newest_version()
    assert newest is not None
    to = newest if options.to is None else options.to
    if not 0 <= to <= newest:
        raise Failure(ExitCode.USAGE, f"--to {to}: the ledger has versions 0 to {newest}")
    without = frozenset(options.without)
    if strangers := without - ledger.devices():
        raise Failure(
            ExitCode.USAGE, f"--without: the ledger knows no device {', '.join(sorted(strangers))}"
        )
    history = History(ledger, versions, spool, layout)
    start = history.oldest_start(to)
    rows: list[dict[str, Any]] = []
    last: Replayed | None = None
    stays = _what_stays(ledger, start, without)
    if not options.json:
        print(f"from version {start}, the oldest that is left to begin with, to {to}")
        for device, versions_of in stays.items():
            print(
                f"warning: what {device} did in {versions_of} versions up to {start} stays: these"
                " are not on disk any more (coordinator setting keep_versions)"
            )
    for last in history.replay(start, to, without):
        rows.append(_row(last))
        if not options.json:
            print(_line(last))
    if last is None:
        raise Failure(
            ExitCode.NO_INPUT,
            f"version {to} is not made of updates: nothing to replay; name another one by --to",
        )
    if options.output is not None:
        try:
            write_model(options.output, last.model, layout)
        except OSError as error:
            raise _unwritable(options.output, error.strerror or str(error)) from None
    adopted = _adopt(last, newest, without, ledger, versions, layout) if options.adopt else None
    if adopted is not None and not options.json:
        print(
            f"adopted as version {adopted}: the coordinator publishes it when it is started; of"
            " few devices that are left it may be worse (--output FILE gives it to be tested first)"
        )
    identical = all(row["identical"] is not False for row in rows)
    return {
        "from": start,
        "to": to,
        "without": sorted(without),
        "stays": stays,
        "identical": identical,
        "versions": rows,
        "adopted": adopted,
    }


def _what_stays(ledger: Ledger, start: int, without: frozenset[str]) -> dict[str, int]:
    """In how many versions that cannot be made again each of these devices is."""
    past = ({id.device for id in ledger.contributors(version)} for version in range(start + 1))
    counts = Counter(device for devices in past for device in devices & without)
    return dict(sorted(counts.items()))


def _adopt(
    last: Replayed,
    newest: int,
    without: frozenset[str],
    ledger: Ledger,
    versions: Versions,
    layout: Layout,
) -> int:
    left_out = f" without {', '.join(sorted(without))}" if without else ""
    versions.save(newest + 1, last.model, last.state, layout)
    ledger.adopt(newest + 1, f"version {last.version}{left_out}, replayed")
    return newest + 1


def _unwritable(output: Path, reason: str) -> Failure:
    return Failure(ExitCode.CANNOT_WRITE, f"--output {output} cannot be written: {reason}")


def _row(replayed: Replayed) -> dict[str, Any]:
    names = ("version", "used", "left_out", "distance", "identical")
    return {name: getattr(replayed, name) for name in names}


def _line(replayed: Replayed) -> str:
    if replayed.identical:
        compared = "bit for bit as it was"
    elif replayed.distance is None:
        compared = "what it was is no longer on disk"
    else:
        compared = f"differs by {replayed.distance:.4g} from what it was"
    left_out = f", {replayed.left_out} left out" if replayed.left_out else ""
    return f"version {replayed.version}  {replayed.used} updates{left_out}  {compared}"


def _parser() -> UsageParser:
    parser = record_parser("flockwise coordinator replay", DESCRIPTION)
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="DEVICE",
        help="leave a device's updates out; may be said several times",
    )
    parser.add_argument("--to", type=int, metavar="VERSION", help="last version to make [newest]")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the last one there")
    parser.add_argument(
        "--adopt", action="store_true", help="make the last one the current version"
    )
    return parser
