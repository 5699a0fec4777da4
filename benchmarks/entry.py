"""How a benchmark is run from the command line: what fails as can be expected is told in a line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from config.failures import Failure

_INTERRUPTED = 130


def as_command(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """End the process with what `main` returns for the arguments, or with a failure's code."""
    try:
        code = main(sys.argv[1:])
    except Failure as failure:
        print(failure.message, file=sys.stderr)
        code = failure.code
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.exit(code)
