"""Files of JSON that others may have written, read as what they should be or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from config.failures import ExitCode, Failure

T = TypeVar("T")


def read_checked(path: Path, kind: type[T], what: str) -> T:
    """The value in a file.

    Args:
        what: it should be, for the message.

    Raises:
        Failure: it cannot be read, or is something else.
    """
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except OSError as error:
        raise Failure(ExitCode.NO_INPUT, f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        message = f"{path} is no {what}: {where}: {first['msg']}"
        raise Failure(ExitCode.NO_INPUT, message) from None
