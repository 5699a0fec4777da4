"""How fast bytes get through: beside a plain publisher and subscriber on the same broker.

python -m benchmarks.goodput [--quick] [--sealed] [--chunk-bytes N ...] [--devices N ...] [--json]

A mosquitto, a coordinator and agents as processes (`goodput_house`), and two pairs of plain
processes (`goodput_plain`), QoS 0 and QoS 1, take turns: each moves payloads of 25 MB in chunks of
the same size. Up is from the first offer to the last receipt: offered, spooled, verified, screened,
in the ledger. Down is from the header to the last chunk. The table goes to stdout, a row for each
run of a part to benchmarks/results/goodput.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.entry import as_command
from benchmarks.gauges import busy_s
from benchmarks.goodput_house import BROKER, Moved, a_house
from benchmarks.goodput_plain import PlainPair, plain_pair
from benchmarks.machine import machine
from broker.start import RunningBroker, start
from config.settings import BrokerSettings, Transfer
from experiments.json_lines import append_line

RESULTS = Path(__file__).with_name("results") / "goodput.jsonl"
CHUNK_BYTES: int = Transfer.model_fields["chunk_bytes"].default
MB = 1e6
GOAL = 0.7


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to move, and how often."""

    size: int
    devices: tuple[int, ...]
    rounds: Mapping[int, int]


WHOLE = Effort(25_000_000, (1, 20), {1: 15, 20: 5})
QUICK = Effort(25_000_000, (1, 4), {1: 4, 4: 2})


@dataclass(frozen=True, slots=True)
class Rate:
    """What was moved in one go."""

    way: str
    seconds: float
    moved_bytes: int
    busy_s: Mapping[str, float]
    lost_bytes: int = 0

    @property
    def mb_s(self) -> float:
        """Millions of bytes a second."""
        return self.moved_bytes / self.seconds / MB


def part(
    broker: RunningBroker, devices: int, effort: Effort, chunk_bytes: int, *, sealed: bool
) -> list[Rate]:
    """So many rounds of a federation with so many devices, taking turns with the plain pairs."""
    rates: list[Rate] = []
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="goodput-")))
        pairs = {
            f"plain, QoS {qos}": closing.enter_context(plain_pair(broker.host, broker.port, qos))
            for qos in (0, 1)
        }
        # In the first round everything is loaded; nor is it one of those that are shown.
        with a_house(broker, folder, devices, effort.size, chunk_bytes, sealed=sealed) as house:
            for turn in range(effort.rounds[devices] + 1):
                found = [_house_rate("down", house.down())]
                house.rest()
                for way, pair in pairs.items():
                    found.append(_plain_rate(way, broker, pair, effort.size, chunk_bytes))
                found.append(_house_rate("up", house.up()))
                rates += found if turn else []
    return rates


def _house_rate(way: str, moved: Moved) -> Rate:
    return Rate(way, moved.seconds, moved.moved_bytes, moved.busy_s)


def _plain_rate(
    way: str, broker: RunningBroker, pair: PlainPair, size: int, chunk_bytes: int
) -> Rate:
    def busy() -> dict[str, float]:
        names = (BROKER, "publisher", "subscriber")
        return dict(zip(names, map(busy_s, (broker.pid, *pair.pids)), strict=True))

    before = busy()
    lot = pair.move(size, chunk_bytes)
    after = busy()
    spent = {name: after[name] - before[name] for name in after}
    return Rate(way, lot.seconds, lot.moved_bytes, spent, lot.lost_bytes)


def table(rates: Sequence[Rate]) -> Iterator[str]:
    """A line for each way: median and spread, the ratio to the plain pairs, processor seconds."""
    by_way: dict[str, list[Rate]] = {}
    for rate in rates:
        by_way.setdefault(rate.way, []).append(rate)
    plain = [median(one.mb_s for one in by_way[f"plain, QoS {qos}"]) for qos in (0, 1)]
    yield f"{'':<14}{'MB/s':>7}{'from':>7}{'to':>7}{'/ QoS 0':>9}{'/ QoS 1':>9}  busy s per GB"
    for way, found in by_way.items():
        speeds = sorted(one.mb_s for one in found)
        middle = median(speeds)
        ratios = "".join(f"{middle / one:>9.2f}" for one in plain)
        lost = sum(one.lost_bytes for one in found)
        yield (
            f"{way:<14}{middle:>7.0f}{speeds[0]:>7.0f}{speeds[-1]:>7.0f}{ratios}  {_busy(found)}"
            + (f"; {lost} bytes lost" if lost else "")
        )


def _busy(found: Sequence[Rate]) -> str:
    gigabytes = sum(one.moved_bytes for one in found) / 1e9
    names = found[0].busy_s
    return ", ".join(f"{n} {sum(one.busy_s[n] for one in found) / gigabytes:.1f}" for n in names)


def main(argv: Sequence[str]) -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.goodput")
    parser.add_argument("--quick", action="store_true", help="half a minute: to see that it works")
    parser.add_argument("--sealed", action="store_true", help="members that sign and seal")
    parser.add_argument("--devices", type=int, action="append", help="may be repeated")
    parser.add_argument("--rounds", type=int, help="of each part")
    parser.add_argument("--chunk-bytes", type=int, action="append", help="may be repeated")
    parser.add_argument("--json", action="store_true", help="print the rows, not the tables")
    options = parser.parse_args(argv)
    effort = QUICK if options.quick else WHOLE
    about = machine()
    if not options.json:
        print(f"{about['cpu']}, Python {about['python']}, paho-mqtt {about['paho-mqtt']}")
    for chunk_bytes in options.chunk_bytes or [CHUNK_BYTES]:
        for devices in options.devices or effort.devices:
            rounds = options.rounds or effort.rounds.get(devices, 5)
            own = Effort(effort.size, (devices,), {devices: rounds})
            title, rates = _on_own_broker(devices, own, chunk_bytes, sealed=options.sealed)
            row = {
                "devices": devices,
                "size": own.size,
                "chunk_bytes": chunk_bytes,
                "sealed": options.sealed,
                "quick": options.quick,
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "load": round(os.getloadavg()[1], 1),
                "broker": title,
                "machine": about,
                "rates": [asdict(rate) for rate in rates],
            }
            if not options.quick:
                append_line(RESULTS, row)
            if options.json:
                print(json.dumps(row), flush=True)
                continue
            how = " sealed," if options.sealed else ""
            what = f"{devices} x {own.size / MB:g} MB,{how} in chunks of {chunk_bytes} bytes"
            print(f"\n{what}, {title}")
            print("\n".join(table(rates)), flush=True)
    return 0


def _on_own_broker(
    devices: int, effort: Effort, chunk_bytes: int, *, sealed: bool
) -> tuple[str, list[Rate]]:
    with tempfile.TemporaryDirectory(prefix="goodput-broker-") as folder:
        settings = BrokerSettings(kind="mosquitto", port=0, insecure=True)
        with start(settings, Path(folder)) as broker:
            return broker.title, part(broker, devices, effort, chunk_bytes, sealed=sealed)


if __name__ == "__main__":
    as_command(main)
