"""Child processes that never outlive their parent, however it ends.

A child holds one end of a pipe whose other end only the parent has. When the parent is gone, even
by SIGKILL, the pipe closes and a guard beside the child kills it. This needs neither Linux's
parent-death signal, which is lost when a root process changes its user as mosquitto does, and
which also fires when merely the starting thread ends, nor any help of the child.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

# The guard is forked first and the child is exec'd in the place of the shell, so that there is no
# moment without a guard, and the pid is the child's own. A line on the pipe sends the guard home.
_SCRIPT = (
    'exec 3<&0 </dev/null; (read -r _ <&3 || kill -9 $$) >/dev/null 2>&1 & exec 3<&-; exec "$@"'
)


def launch(
    command: Sequence[str], *, output: IO[bytes] | None, directory: Path
) -> subprocess.Popen[bytes]:
    """Start a command, tied to this process, in a session of its own.

    A session of its own keeps a Ctrl-C at the terminal from reaching the child before the parent
    has put its affairs in order. `output` takes stdout and stderr (None: those of this process).
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", _SCRIPT, "tether", *command],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        cwd=directory,
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes], timeout_s: float = 5.0) -> int:
    """Ask a launched child to end, kill it if it does not, and return its exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    release(process)
    return process.returncode


def release(process: subprocess.Popen[bytes]) -> None:
    """Send the guard of a child that has ended home, before its pid can be another's."""
    if process.stdin is not None and not process.stdin.closed:
        with suppress(BrokenPipeError):
            process.stdin.write(b"\n")
            process.stdin.flush()
        with suppress(BrokenPipeError):
            process.stdin.close()
