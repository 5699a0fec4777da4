"""A role from its settings to its exit code, and anew when the settings have changed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from config.failures import ExitCode, Failure
from config.settings import Settings
from federation.machine import Stop

S = TypeVar("S", bound=Settings)

log = logging.getLogger(__name__)


class Reload(Generic[S]):
    """The settings of a role, to be read again while it runs."""

    def __init__(self, read: Callable[[], S]) -> None:
        """Read them for the first time.

        Raises:
            Failure: they are not as they should be.
        """
        self._read = read
        self.settings = read()
        self.wanted = False

    def __call__(self) -> Stop | None:
        """Read them again; a `Stop` if they have changed, for the role to begin anew with them."""
        try:
            settings = self._read()
        except Failure as failure:
            log.error("settings not taken up: %s", failure.message)
            return None
        if settings == self.settings:
            log.info("settings have not changed")
            return None
        self.settings = settings
        self.wanted = True
        return Stop(ExitCode.OK, "settings have changed: beginning anew with them")


def run_role(read: Callable[[], S], run: Callable[[S, Reload[S]], Stop]) -> int:
    """Run a role with the settings that `read` gives until it ends; its exit code.

    Raises:
        Failure: from reading the settings the first time, or from the role.
    """
    reload = Reload(read)
    while True:
        stop = run(reload.settings, reload)
        if not reload.wanted:
            return stop.exit_code
        reload.wanted = False
