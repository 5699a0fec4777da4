"""Where the password of a link comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from config.failures import ExitCode, Failure
from config.settings import Link
from federation.password import password_of


def test_a_password_stands_in_the_settings_or_in_a_file_or_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("secret\n")
    assert password_of(Link(username="one", password="plain")) == "plain"
    assert password_of(Link(username="one", password_file=file)) == "secret"
    assert password_of(Link(username="one")) is None


def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"password_file .*missing cannot be read") as caught:
        password_of(Link(username="one", password_file=tmp_path / "missing"))
    assert caught.value.code == ExitCode.CONFIG


@pytest.mark.parametrize(
    "given",
    [{"password_file": "x"}, {"username": "one", "password": "a", "password_file": "x"}],
)
def test_a_file_needs_a_name_and_no_other_password(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Link(**given)
