"""The password of a link: from the settings, or from a file that only the role can read."""

from __future__ import annotations

from config.failures import ExitCode, Failure
from config.settings import Link


def password_of(link: Link) -> str | None:
    """What to log in with; None if there is no password.

    Raises:
        Failure: the file that it should stand in cannot be read.
    """
    if link.password is not None:
        return link.password.get_secret_value()
    if link.password_file is None:
        return None
    try:
        return link.password_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        path = link.password_file
        raise Failure(
            ExitCode.CONFIG, f"link.password_file {path} cannot be read: {error}"
        ) from None
