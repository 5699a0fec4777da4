"""The front door: one command, a sub-command for each role, each loaded when asked for."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from config.failures import ExitCode, Failure


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command lives (`module:function`, of `main(argv) -> int`), and what it does."""

    target: str
    summary: str


def _as_services(*roles: str) -> dict[str, Command]:
    what = {
        "install": "set up as a service of systemd",
        "upgrade": "renew the service, or go back by itself",
        "uninstall": "take the service off again",
    }
    return {
        f"{role} {verb}": Command(f"installation.commands:{role}_{verb}", summary)
        for role in roles
        for verb, summary in what.items()
    }


COMMANDS: dict[str, Command] = {
    "demo": Command("experiments.demo:main", "a whole federation on this machine, shown live"),
    "broker init": Command("broker.commands:init_main", "make the authority of a federation"),
    "broker run": Command("broker.run:main", "start an MQTT broker"),
    "broker enroll": Command("broker.enrolling:main", "let a device in"),
    "broker revoke": Command("broker.commands:revoke_main", "shut a device out"),
    "broker list": Command("broker.commands:list_main", "show who is enrolled"),
    "broker render": Command("broker.rendering:main", "write the configuration of a mosquitto"),
    "coordinator run": Command("coordinator.service:main", "make versions of the model"),
    "coordinator inspect": Command("coordinator.inspection:main", "show what is on record"),
    "coordinator replay": Command(
        "coordinator.replaying:main", "make versions again, without some devices if so asked"
    ),
    "coordinator rotate-key": Command(
        "coordinator.rotation:main", "make a new key to which updates are sealed"
    ),
    "coordinator quarantine": Command(
        "coordinator.quarantining:quarantine", "keep a device's updates out of the model"
    ),
    "coordinator release": Command(
        "coordinator.quarantining:release", "let a device out of quarantine"
    ),
    "coordinator status": Command("coordinator.status:main", "tell how a coordinator is doing"),
    "agent join": Command("device_agent.joining:main", "become a member of a federation"),
    "agent run": Command("device_agent.service:main", "train on this device's data"),
    "agent status": Command("device_agent.status:main", "tell how this device is doing"),
    "agent doctor": Command("device_agent.doctor:main", "tell what this device lacks"),
    **_as_services("broker", "coordinator", "gateway", "agent"),
    "lab partition": Command("experiments.partitioning:main", "cut a data set into chunks"),
    "lab simulate": Command(
        "experiments.simulation.command:main", "a whole federation in virtual time"
    ),
    "lab compare": Command(
        "experiments.compare.command:main", "central, alone and federated, in one report"
    ),
    "lab sweep": Command(
        "experiments.sweep.command:main", "many simulations, by a sweep definition of W&B"
    ),
    "lab attack": Command(
        "experiments.attacks.command:main", "what hostile devices cost, under each rule"
    ),
    "lab baseline": Command("experiments.baseline:main", "train the same model centrally"),
}

_INTERRUPTED = 130  # as shells report SIGINT
_PIPE_CLOSED = 141  # as shells report SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code of the process; failures are told on stderr."""
    try:
        code = run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except Failure as failure:
        for line in failure.message.splitlines() or [""]:
            print(f"flockwise: {line}", file=sys.stderr)
        return failure.code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Who read our output has seen enough; Python would complain once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED


def run(argv: Sequence[str]) -> int:
    """Find the command in the first one or two words, and hand it the rest."""
    words = list(argv)
    if not words or words[0] in ("-h", "--help"):
        return _show_help("")
    if words[0] == "--version":
        return _show_version()
    if words[0] in COMMANDS:
        return _call(words[0], words[1:])
    name = " ".join(words[:2])
    if name in COMMANDS:
        return _call(name, words[2:])
    if any(command.startswith(f"{words[0]} ") for command in COMMANDS):
        if len(words) == 1 or words[1] in ("-h", "--help"):
            return _show_help(words[0])
        raise _unknown(name)
    raise _unknown(words[0])


def _call(name: str, argv: Sequence[str]) -> int:
    module, _, function = COMMANDS[name].target.partition(":")
    try:
        target = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as missing:
        message = f"{name} needs the package {missing.name}, which is not installed here"
        raise Failure(ExitCode.FAILURE, message) from missing
    try:
        return cast("Callable[[Sequence[str]], int]", target)(argv)
    except SystemExit as end:  # argparse has shown its help
        if isinstance(end.code, str):
            raise
        return end.code or ExitCode.OK


def _unknown(name: str) -> Failure:
    known = [*COMMANDS, *(command.partition(" ")[0] for command in COMMANDS)]
    near = difflib.get_close_matches(name, known, n=1)
    guess = f"did you mean {near[0]}?" if near else "see flockwise --help"
    return Failure(ExitCode.USAGE, f"unknown command {name!r}; {guess}")


def _show_help(group: str) -> int:
    within = f"{group} " if group else ""
    shown = {name: command for name, command in COMMANDS.items() if name.startswith(within)}
    width = max(len(name) for name in shown)
    print(f"usage: flockwise {within}COMMAND ...")
    print("\nFederated learning over MQTT, for devices that come and go.\n\ncommands:")
    for name, command in shown.items():
        print(f"  {name:<{width}}  {command.summary}")
    print("\nflockwise COMMAND --help explains a command; flockwise --version tells the version.")
    return ExitCode.OK


def _show_version() -> int:
    try:
        print("flockwise", importlib.metadata.version("flockwise"))
    except importlib.metadata.PackageNotFoundError:
        print("flockwise (not installed)")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
