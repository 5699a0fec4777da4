"""`flockwise agent doctor`: what this device lacks to take part, one line each with what to do.

It asks with the settings that the agent uses, changes nothing, and can be run beside the agent.
"""

from __future__ import annotations

import dataclasses
import json
import queue
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import psutil

from config.failures import ExitCode, Failure
from config.loading import load
from config.settings import AgentSettings, Link
from device_agent.budget import SPENT, account_of
from device_agent.eligibility import MIB, Probe, hindrance
from device_agent.past import past_of
from federation.certificates import read_certificate
from federation.machine import Linked, Publish, Unlinked
from federation.membership import FOLDER, read_membership
from federation.paho_session import PahoSession
from federation.session import Identity
from federation.tls import tls_context
from federation.topics import Topics
from learning.process import Worker

PATIENCE_S = 10.0
TRAINING_PATIENCE_S = 180.0
LITTLE_DISK_MIB = 256
LITTLE_MEMORY_MIB = 512
FIRST_YEAR = 2025
LARGE_EPSILON = 10.0  # beyond it a bound says little (Ponomareva et al. 2023, arXiv:2303.00654)

Verdict: TypeAlias = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, whether it is as it should be, what was seen, and what to do."""

    what: str
    verdict: Verdict
    seen: str
    advice: str = ""


def main(argv: Sequence[str]) -> int:
    """Look at everything; the exit code is that of an agent that would not work."""
    words = [word for word in argv if word != "--json"]
    settings = load(AgentSettings, words, prog="flockwise agent doctor")
    finding, settings = membership(settings)
    found: list[Finding] = []
    for check in (lambda _: finding, *CHECKS):
        found.append(check(settings))
        if "--json" not in argv:
            print(as_line(found[-1]), flush=True)
    if "--json" in argv:
        print(json.dumps([dataclasses.asdict(finding) for finding in found]))
    well = all(finding.verdict != "fault" for finding in found)
    return ExitCode.OK if well else ExitCode.FAILURE


def as_line(finding: Finding) -> str:
    """A finding for people."""
    advice = f"; {finding.advice}" if finding.advice else ""
    return f"{finding.verdict:<8} {finding.what:<14} {finding.seen}{advice}"


def membership(settings: AgentSettings) -> tuple[Finding, AgentSettings]:
    """Whether it is a member of a federation; and its settings, completed by that."""
    folder = settings.state_dir / FOLDER if settings.membership is None else settings.membership
    if settings.insecure and not (folder / "member.json").exists():
        advice = "flockwise agent join, for any other network than this machine"
        return Finding(
            "membership", "warning", "none: nothing is signed or sealed", advice
        ), settings
    try:
        found = read_membership(folder)
        settings = found.completed(settings)
    except Failure as failure:
        return Finding("membership", "fault", failure.message, "flockwise agent join"), settings
    seen = f"{found.member.device} of {found.topics.root.rstrip('/')}"
    certificate = folder / "certificate.pem"
    if certificate.exists():
        end = read_certificate(certificate.read_bytes()).not_valid_after_utc
        seen += f", certificate until {end:%Y-%m-%d}"
        if end.timestamp() < time.time():
            advice = "check the clock; or have it enrolled again, and join"
            return Finding("membership", "fault", f"{seen}: it is over", advice), settings
    return Finding("membership", "ok", seen), settings


def configuration(settings: AgentSettings) -> Finding:
    """That the settings can be read is known by now."""
    where = f"{settings.federation.prefix}/{settings.federation.name}"
    return Finding("configuration", "ok", f"device {settings.device} of the federation {where}")


def clock(_settings: AgentSettings) -> Finding:
    """Only certificates care for the clock; and people who read logs."""
    year = time.gmtime().tm_year
    if year < FIRST_YEAR:
        advice = "set it, or install an NTP client: certificates are judged by it"
        return Finding("clock", "warning", f"it is the year {year}", advice)
    if (synchronized := _is_synchronized()) is False:
        advice = "enable NTP (timedatectl set-ntp true) if TLS is used"
        return Finding("clock", "warning", "not synchronized", advice)
    return Finding("clock", "ok", "synchronized" if synchronized else f"it is the year {year}")


def disk(settings: AgentSettings) -> Finding:
    """The state directory can be written, and there is room."""
    place = settings.state_dir
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free // MIB
    probe = place / f".doctor-{time.monotonic_ns()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        advice = f"let the agent's user write to {settings.state_dir}"
        return Finding("disk", "fault", f"cannot write to {place}: {error.strerror}", advice)
    if free < LITTLE_DISK_MIB:
        return Finding("disk", "warning", f"{free} MiB free", f"make room in {place}")
    return Finding("disk", "ok", f"{free:,} MiB free in {place}")


def memory(_settings: AgentSettings) -> Finding:
    """A worker with torch needs some hundreds of MiB."""
    free = psutil.virtual_memory().available // MIB
    if free < LITTLE_MEMORY_MIB:
        advice = "training takes about 300 MiB and more: end other programs, or add swap"
        return Finding("memory", "warning", f"{free} MiB free", advice)
    return Finding("memory", "ok", f"{free:,} MiB free")


def training(settings: AgentSettings) -> Finding:
    """Torch can be had, and the chunk can be read by the task."""
    if not settings.chunk.exists():
        advice = "make one with `flockwise lab partition` and carry it over"
        return Finding("training", "fault", f"there is no chunk {settings.chunk}", advice)
    answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    worker = Worker(answers.put, threads=settings.threads)
    order = {"do": "check", "job": "doctor", "task": settings.task, "chunk": str(settings.chunk)}
    try:
        worker.submit(order)
        answer = answers.get(timeout=TRAINING_PATIENCE_S)
    except queue.Empty:
        return Finding("training", "fault", f"no answer in {TRAINING_PATIENCE_S:g} s")
    finally:
        worker.stop()
    if answer["event"] == "failed":
        return Finding("training", "fault", answer["reason"], "see `flockwise agent run --help`")
    made_up = " (made-up data)" if answer["generated"] else ""
    seen = f"torch {answer['torch']} can be had, {settings.chunk} can be read{made_up}"
    return Finding("training", "ok", seen)


def eligibility(settings: AgentSettings) -> Finding:
    """The device may train now."""
    probe = Probe(settings.state_dir if settings.state_dir.exists() else settings.chunk.parent)
    time.sleep(0.2)  # a load is told for a span of time
    reason = hindrance(settings.eligibility, probe.look(), was_hindered=False)
    if reason:
        advice = "it trains when that is over; the settings are in [eligibility]"
        return Finding("eligibility", "warning", reason, advice)
    return Finding("eligibility", "ok", "may train now")


def privacy(settings: AgentSettings) -> Finding:
    """What the device's updates tell at most of its data."""
    try:
        account = account_of(settings.privacy, past_of(settings.state_dir / "outbox"))
    except Failure as failure:
        return Finding("privacy", "fault", failure.message)
    if account is None:
        return Finding("privacy", "ok", "off: updates leave without noise")
    if account.is_spent:
        seen = f"{SPENT}: {account.participations:,} updates, epsilon {account.epsilon:.3g}"
        return Finding("privacy", "warning", seen, "raise privacy.max_participations to go on")
    if account.epsilon_at_most > LARGE_EPSILON:
        advice = "raise privacy.noise or lower privacy.max_participations"
        return Finding("privacy", "warning", str(account), advice)
    return Finding("privacy", "ok", str(account))


def broker(settings: AgentSettings) -> Finding:
    """Something listens at the broker's address."""
    link = settings.link
    try:
        socket.create_connection((link.host, link.port), PATIENCE_S).close()
    except OSError as error:
        seen = f"{link.host}:{link.port} cannot be reached: {error.strerror or error}"
        return Finding("broker", "fault", seen, "is the broker running, and the address right?")
    return Finding("broker", "ok", f"{link.host}:{link.port} answers")


def encryption(settings: AgentSettings) -> Finding:
    """The broker shows a certificate that we trust."""
    link = settings.link
    if not link.tls:
        loopback = link.host in ("localhost", "::1") or link.host.startswith("127.")
        verdict: Verdict = "ok" if loopback else "warning"
        return Finding("TLS", verdict, "off", "" if loopback else "flockwise agent join")
    try:
        context = tls_context(link)
        assert context is not None
        with (
            socket.create_connection((link.host, link.port), PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname=link.host) as wrapped,
        ):
            certificate, version = wrapped.getpeercert() or {}, wrapped.version()
    except Failure as failure:
        return Finding("TLS", "fault", failure.message)
    except ssl.SSLCertVerificationError as error:
        return Finding("TLS", "fault", error.verify_message, "check link.ca_file and the clock")
    except OSError as error:
        return Finding("TLS", "fault", str(error), "does the broker speak TLS on this port?")
    return Finding("TLS", "ok", f"{version}, valid until {certificate.get('notAfter', '?')}")


def rights(settings: AgentSettings) -> Finding:
    """The broker lets this device in, and lets it read what it has to."""
    topics = Topics(settings.federation.prefix, settings.federation.name)
    filters = topics.standing_filters(settings.device)
    outcome = _connect(settings.link, topics.device(settings.device), filters)
    if outcome:
        advice = "check name, password or certificate, and the broker's rights for this device"
        return Finding("rights", "fault", outcome, advice)
    return Finding("rights", "ok", f"may log in and read {', '.join(filters)}")


def _connect(link: Link, name: str, filters: tuple[str, ...]) -> str:
    """Why no link came about; empty if one did."""
    events: queue.SimpleQueue[object] = queue.SimpleQueue()
    # With an id of its own, lest the broker end the link of the agent that runs beside.
    nothing = Publish(f"{name}/up", b"", qos=0)
    identity = Identity(f"{name}/doctor", filters, lambda _: nothing, 0)
    try:
        session = PahoSession(link, identity, events.put)
    except Failure as failure:
        return failure.message
    session.start()
    end_s = time.monotonic() + PATIENCE_S
    try:
        while True:
            event = events.get(timeout=max(0.0, end_s - time.monotonic()))
            if isinstance(event, Linked):
                return ""
            if isinstance(event, Unlinked):
                return event.reason.partition("; trying again")[0]
    except queue.Empty:
        return f"no answer in {PATIENCE_S:g} s"
    finally:
        session.stop()


def _is_synchronized() -> bool | None:
    """What systemd says of the clock; None if it says nothing."""
    try:
        told = subprocess.run(
            ["timedatectl", "show", "--property=NTPSynchronized", "--value"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"yes": True, "no": False}.get(told.stdout.strip())


CHECKS: tuple[Callable[[AgentSettings], Finding], ...] = (
    configuration,
    clock,
    disk,
    memory,
    training,
    eligibility,
    privacy,
    broker,
    encryption,
    rights,
)
