"""The shell: events in, effects out in their order, and every way in which the loop ends."""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any

import pytest

from config.failures import ExitCode, Failure
from config.settings import Link
from federation.machine import (
    Level,
    Linked,
    Log,
    Moment,
    Publish,
    Received,
    Stop,
    StorageFull,
    Subscribe,
    Tick,
    Unlinked,
    Unsubscribe,
)
from federation.session import Drained
from federation.shell import MESSAGE_BYTES, Shell
from federation.watch import Watch

LINK = Link(host="broker.example", port=1234)
END = Stop(ExitCode.OK, "the end")


class Session:
    """Writes down what it is asked for."""

    backlog_bytes = 0

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.traffic = (0, 0)

    def start(self) -> None:
        self.asked.append("start")

    def publish(self, message: Publish) -> bool:
        self.asked.append(message)
        return True

    def subscribe(self, topics: Sequence[str]) -> None:
        self.asked.append(("subscribe", topics))

    def unsubscribe(self, topics: Sequence[str]) -> None:
        self.asked.append(("unsubscribe", topics))

    def stop(self, farewell: Publish | None = None) -> None:
        self.asked.append("stop")


class Core:
    """Writes events down and gives, for each, the effects that a function names; `Stop` ends it."""

    def __init__(self, react: Callable[[Any], Sequence[Any]], next_tick_s: float = inf) -> None:
        self.react = react
        self.next_tick_s = next_tick_s
        self.events: list[object] = []
        self.moments: list[Moment] = []

    def handle(self, event: Any, at: Moment) -> Sequence[Any]:
        self.events.append(event)
        self.moments.append(at)
        return [event] if isinstance(event, Stop) else self.react(event)


@pytest.fixture(autouse=True)
def _signals_as_they_were() -> Iterator[None]:
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def refuse(effect: Any) -> None:
    raise AssertionError(f"{effect} is not of the role")


def run(core: Core, *items: object, session: Session | None = None, **options: Any) -> Stop:
    shell = Shell("agent")
    for item in items:
        shell.put(item)
    carry_out = options.pop("carry_out", refuse)
    link = options.pop("link", LINK)
    return shell.run(core, session or Session(), link, carry_out, **options)


def silent(_event: object) -> Sequence[Any]:
    return []


def test_effects_are_carried_out_in_order_up_to_the_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = Session()
    first, second, never = (Publish(topic, b"") for topic in ("first", "second", "never"))
    effects = [
        first,
        "of the role",
        Subscribe(("a", "b")),
        Log(Level.WARNING, "100 % done", {"version": 3}),
        second,
        Unsubscribe(("a",)),
        Stop(ExitCode.DUPLICATE, "there is another"),
        never,
        Log(Level.ERROR, "never"),
    ]
    ended = run(Core(lambda _: effects), Linked(1), session=session, carry_out=session.asked.append)
    assert ended == Stop(ExitCode.DUPLICATE, "there is another")
    assert session.asked == [
        "start",
        first,
        "of the role",
        ("subscribe", ("a", "b")),
        second,
        ("unsubscribe", ("a",)),
    ]
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
        ("agent", "WARNING", "100 % done")
    ]
    assert caplog.records[0].facts == {"version": 3}  # type: ignore[attr-defined]


def test_events_reach_the_core_in_the_order_in_which_they_came() -> None:
    core = Core(lambda event: [END] if isinstance(event, Unlinked) else [])
    events = [Linked(1), Received("t", b"1"), Received("t", b"2"), Unlinked("gone")]
    assert run(core, *events) == END
    assert core.events == events


def test_every_event_has_its_moment() -> None:
    core = Core(lambda event: [END] if isinstance(event, Unlinked) else [])
    run(core, *[Received("t", b"")] * 200, Unlinked("gone"))
    clock = [at.now_s for at in core.moments]
    assert clock == sorted(clock)
    assert all(0 <= at.chance < 1 for at in core.moments)
    assert len({at.chance for at in core.moments}) > 190


def test_a_stop_that_is_put_in_ends_the_loop_before_what_came_after_it() -> None:
    core = Core(silent)
    assert run(core, Linked(1), END, Received("t", b"")) == END
    assert core.events == [Linked(1)]


def test_events_may_come_from_any_thread() -> None:
    shell = Shell("agent")
    core = Core(lambda event: [END] if event == 99 else [])
    thread = threading.Thread(target=lambda: [shell.put(n) for n in range(100)])
    thread.start()
    assert shell.run(core, Session(), LINK, refuse) == END
    thread.join()
    assert core.events == list(range(100))


def test_a_call_is_run_by_the_loop_and_what_it_gives_is_an_event() -> None:
    shell = Shell("agent")
    threads: list[threading.Thread] = []
    core = Core(lambda event: [END] if event == "given" else [])
    shell.call(lambda: threads.append(threading.current_thread()))
    shell.call(lambda: "given")
    assert shell.run(core, Session(), LINK, refuse) == END
    assert core.events == ["given"]
    assert threads == [threading.current_thread()]


def test_a_call_may_end_the_loop() -> None:
    shell = Shell("agent")
    shell.call(lambda: END)
    assert shell.run(Core(silent), Session(), LINK, refuse) == END


def test_room_for_more_bulk_is_told_to_the_role_and_not_to_the_core() -> None:
    core = Core(silent)
    told: list[str] = []
    run(core, Drained(), END, when_drained=lambda: told.append("room"))
    assert told == ["room"]
    assert core.events == []


def test_a_core_that_wants_a_tick_gets_one() -> None:
    core = Core(lambda event: [END] if isinstance(event, Tick) else [], next_tick_s=0.0)
    assert run(core) == END
    assert core.events == [Tick()]


def test_what_waits_in_the_queue_comes_before_a_tick() -> None:
    core = Core(lambda event: [END] if isinstance(event, Tick) else [], next_tick_s=0.0)
    run(core, Linked(1), Received("t", b""))
    assert core.events == [Linked(1), Received("t", b""), Tick()]


def test_a_shell_that_never_reaches_a_broker_gives_up_when_it_is_told_to() -> None:
    session = Session()
    link = LINK.model_copy(update={"give_up_after_s": 0.05})
    expected = r"no broker answered at broker\.example:1234 in 0\.05 s; is one running there\?"
    with pytest.raises(Failure, match=expected) as caught:
        run(Core(silent), Unlinked("refused"), session=session, link=link)
    assert caught.value.code is ExitCode.UNAVAILABLE
    assert session.asked == ["start", "stop"]


def test_a_shell_that_was_linked_once_does_not_give_up() -> None:
    shell = Shell("agent")
    link = LINK.model_copy(update={"give_up_after_s": 0.01})
    core = Core(silent)
    timer = threading.Timer(0.2, lambda: shell.put(END))
    shell.put(Linked(1))
    shell.put(Unlinked("gone"))
    timer.start()
    assert shell.run(core, Session(), link, refuse) == END
    assert core.events == [Linked(1), Unlinked("gone")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_loop_in_good_order(number: signal.Signals) -> None:
    shell = Shell("agent")
    shell.call(lambda: os.kill(os.getpid(), number))
    ended = shell.run(Core(silent), Session(), LINK, refuse)
    assert ended == Stop(ExitCode.OK, f"stopped by {number.name}")


def test_a_signal_ends_a_loop_that_waits() -> None:
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    timer.start()
    assert run(Core(silent)).exit_code == ExitCode.OK
    timer.join()


def test_a_shell_in_another_thread_leaves_the_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    ended: list[Stop] = []
    thread = threading.Thread(target=lambda: ended.append(run(Core(silent), END)))
    thread.start()
    thread.join()
    assert ended == [END]
    assert signal.getsignal(signal.SIGTERM) is before


def told_traffic(caplog: pytest.LogCaptureFixture) -> list[object]:
    return [vars(r)["facts"] for r in caplog.records if r.getMessage() == "traffic"]


def traffic_run(caplog: pytest.LogCaptureFixture) -> list[object]:
    session = Session()
    sent = iter([(10, 0), (10, 0), (25, 7), (25, 7)])

    def react(event: object) -> Sequence[Any]:
        session.traffic = next(sent, session.traffic)
        return []

    with caplog.at_level(logging.DEBUG):
        run(Core(react), *[Linked(1)] * 5, END, session=session)
    return told_traffic(caplog)


def test_traffic_is_told_when_it_changed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.shell.TRAFFIC_EVERY_S", 0.0)
    assert traffic_run(caplog) == [
        {"sent_bytes": 10, "received_bytes": 0},
        {"sent_bytes": 25, "received_bytes": 7},
    ]


def test_traffic_is_not_told_too_often(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.shell.TRAFFIC_EVERY_S", 1e9)
    assert traffic_run(caplog) == [{"sent_bytes": 10, "received_bytes": 0}]


# Who watches from outside


def test_it_is_ready_once_it_has_begun_and_its_end_is_told() -> None:
    told: list[str] = []

    class Outside(Watch):
        def begin(self) -> None:
            told.append("begin")

        def look(self) -> None:
            told.append("look")

        def end(self) -> None:
            told.append("end")

    shell = Shell("agent", Outside())
    shell.put(END)
    shell.run(Core(silent), Session(), LINK, refuse)
    assert told == ["begin", "look", "end"]


def test_the_loop_wakes_for_the_next_sign_of_life() -> None:
    class Outside(Watch):
        looks = 0

        @property
        def due_s(self) -> float:
            return -inf if self.looks < 3 else inf

        def look(self) -> None:
            self.looks += 1

    outside = Outside()
    core = Core(silent)
    shell = Shell("agent", outside)
    threading.Timer(0.3, lambda: shell.put(END)).start()
    shell.run(core, Session(), LINK, refuse)
    assert outside.looks >= 3


def test_a_hangup_asks_for_changed_settings_and_may_end_the_loop() -> None:
    anew = Stop(ExitCode.OK, "settings have changed")
    shell = Shell("agent", Watch(reload=lambda: anew))
    shell.put(Tick())
    core = Core(lambda _: os.kill(os.getpid(), signal.SIGHUP) or [])
    assert shell.run(core, Session(), LINK, refuse) == anew


def test_a_hangup_that_brings_nothing_new_disturbs_nothing() -> None:
    asked: list[bool] = []

    def reload() -> None:
        asked.append(True)
        shell.put(END)

    shell = Shell("agent", Watch(reload=reload))
    shell.put(Tick())
    core = Core(lambda _: os.kill(os.getpid(), signal.SIGHUP) or [])
    assert shell.run(core, Session(), LINK, refuse) == END
    assert asked == [True]


# A disk without room


def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_an_effect_that_finds_no_room_is_told_to_the_core_and_the_next_are_carried_out() -> None:
    done: list[object] = []

    def carry_out(effect: Any) -> None:
        if effect == "large":
            full()
        done.append(effect)

    core = Core(lambda event: ["large", "small"] if isinstance(event, Tick) else [END])
    assert run(core, Tick(), carry_out=carry_out) == END
    assert done == ["small"]
    assert core.events[1] == StorageFull("large")


def test_a_call_that_finds_no_room_is_told_as_the_effect_that_it_finishes() -> None:
    shell = Shell("agent")
    shell.call(full, "the order")
    core = Core(lambda _: [END])
    shell.run(core, Session(), LINK, refuse)
    assert core.events == [StorageFull("the order")]


def test_any_other_error_of_a_disk_ends_the_loop() -> None:
    def broken(_effect: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        run(Core(lambda _: ["write"]), Tick(), carry_out=broken)


def test_what_was_received_and_waits_is_known_by_its_size() -> None:
    shell = Shell("agent")
    shell.put(Received("t", b"x" * 1000))
    shell.put(Tick())
    assert shell.waiting_bytes() == 1000 + MESSAGE_BYTES
    shell.put(END)
    shell.run(Core(silent), Session(), LINK, refuse)
    assert shell.waiting_bytes() == 0
