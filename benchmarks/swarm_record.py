"""What a swarm has lived through: updates, and how long each was on its way to its receipt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from federation.machine import Received


@dataclass(slots=True)
class Record:
    """Counts and times since the last `begin`, of all devices of a swarm.

    Attributes:
        online: the devices that were linked.
        troubles: why connections were lost, or devices stopped.
        counts: updates accepted, refused, offered (and again), put off for a reason; chunks sent,
            messages heard, and the bytes of both.
        latencies_s: from the first offer of an update to its receipt.
        waits_s: what the coordinator asked for, by `Pace`.
    """

    online: set[str] = field(default_factory=set)
    troubles: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    _offered: dict[str, tuple[int, float]] = field(default_factory=dict)

    def begin(self) -> None:
        """Count from now on; updates that are on their way remain so."""
        self.counts.clear()
        self.latencies_s.clear()
        self.waits_s.clear()

    def linked(self, device: str) -> None:
        """A device is connected, and its subscriptions are granted."""
        self.online.add(device)

    def lost(self, reason: str) -> None:
        """A device has lost its connection: no measurement counts on from here."""
        self.troubles[reason] += 1

    def heard(self, message: Received) -> None:
        """Something came."""
        self.counts["heard"] += 1
        self.counts["heard_bytes"] += len(message.payload)

    def offered(self, device: str, sequence: int, now_s: float) -> None:
        """A device offered its update of this number."""
        known = self._offered.get(device)
        if known is not None and known[0] == sequence:
            self.counts["offered_again"] += 1
            return
        self.counts["offers"] += 1
        self._offered[device] = sequence, now_s

    def chunk(self, size: int) -> None:
        """A chunk of an update was sent."""
        self.counts["chunks"] += 1
        self.counts["chunk_bytes"] += size

    def put_off(self, wait_s: float, reason: str) -> None:
        """A device is to offer its update again later."""
        self.counts[f"put off: {reason}"] += 1
        self.waits_s.append(wait_s)

    def judged(self, device: str, sequence: int, now_s: float, *, accepted: bool) -> None:
        """A receipt came."""
        self.counts["accepted" if accepted else "refused"] += 1
        known = self._offered.get(device)
        if known is not None and known[0] == sequence:
            self.latencies_s.append(now_s - known[1])

    def facts(self) -> dict[str, Any]:
        """All that, as plain values; times in seconds."""
        latencies = sorted(self.latencies_s)
        return {
            "online": len(self.online),
            "troubles": dict(self.troubles),
            "counts": dict(self.counts),
            "latency_s": {
                name: round(quantile(latencies, share), 4)
                for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
            },
            "longest_put_off_s": round(max(self.waits_s, default=0.0), 2),
        }


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which that share of the sorted values lie; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
