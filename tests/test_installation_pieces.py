"""The pieces that installation is made of: what `--from` names, passwords, files, a machine."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from config.failures import ExitCode, Failure
from installation.configuration import Credential
from installation.distribution import copy_source, read_source, read_wheel, running_source
from installation.keys import EncryptKey, KeepKey
from installation.machine import NOT_FOUND, Machine, Result, look, run_program
from installation.settings_text import with_values
from installation.steps import CopyFile, Link, Remove, WriteFile
from tests.fake_machine import fake_machine, make_wheel

FILE = "/etc/flockwise/credentials/agent/password"


@pytest.mark.parametrize("text", ["flockwise", "flockwise==1.2", "flockwise @ https://x/y.whl"])
def test_what_pip_finds_by_itself_is_a_requirement(text: str) -> None:
    assert read_source(text).kind == "requirement"


def test_a_wheel_and_a_checkout_are_known_by_what_they_are(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "1.0")
    (tmp_path / "pyproject.toml").touch()
    assert read_source(str(wheel)).kind == "wheel"
    assert read_source(str(tmp_path)).kind == "directory"


@pytest.mark.parametrize("text", ["no/such.whl", "no-such.whl", ".", "some/where"])
def test_a_path_with_nothing_to_install_is_told(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Failure, match="no wheel, nor a directory") as caught:
        read_source(text)
    assert caught.value.code is ExitCode.NO_INPUT


def test_a_checkout_installs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert running_source().kind == "directory"
    monkeypatch.setattr(sys, "prefix", "/opt/flockwise/environment-3")
    assert running_source().text == "flockwise"


def test_a_build_sees_the_source_and_not_what_lies_about(tmp_path: Path) -> None:
    house = tmp_path / "house"
    for name in ("pyproject.toml", "config/a.py", ".venv/x", "build/lib/old.py", "data/images"):
        (house / name).parent.mkdir(parents=True, exist_ok=True)
        (house / name).touch()
    copy_source(read_source(str(house)), tmp_path / "copy")
    copied = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert sorted(path.name for path in copied) == ["a.py", "pyproject.toml"]


def test_two_wheels_of_the_same_content_have_one_digest(tmp_path: Path) -> None:
    one = read_wheel(make_wheel(tmp_path / "a", "1.0", "x = 1"))
    same = read_wheel(make_wheel(tmp_path / "b", "1.0", "x = 1"))
    other = read_wheel(make_wheel(tmp_path / "c", "1.0", "x = 2"))
    assert one.digest == same.digest != other.digest
    assert (one.name, one.version) == ("flockwise", "1.0")


def test_a_file_that_only_calls_itself_a_wheel_is_told(tmp_path: Path) -> None:
    path = tmp_path / "flockwise-1.0-py3-none-any.whl"
    path.write_text("not a zip")
    with pytest.raises(Failure, match="not a wheel"):
        read_wheel(path)


def test_values_are_replaced_and_all_else_stays() -> None:
    text = '# mine\nthreads = 2\n\n[link]\nusername = "u"  # me\npassword = "secret"\n'
    values = {
        "state_dir": ("state_dir", "/var/lib/x"),
        "link.password": ("link.password_file", FILE),
    }
    assert with_values(text, values, "agent.toml") == (
        'state_dir = "/var/lib/x"\n# mine\nthreads = 2\n\n[link]\nusername = "u"  # me\n'
        f'password_file = "{FILE}"\n'
    )


def test_a_value_of_another_section_is_not_taken_for_it() -> None:
    text = 'chunk = "a"\n[other]\nchunk = "b"\n'
    made = with_values(text, {"chunk": ("chunk", "c")}, "agent.toml")
    assert tomllib.loads(made) == {"chunk": "c", "other": {"chunk": "b"}}


@pytest.mark.parametrize(
    "text",
    ['link = { username = "u", password = "secret" }\n', '[link]\npassword = """\nsecret"""\n'],
)
def test_a_value_that_cannot_be_replaced_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(Failure, match="must stand on a line of its own") as caught:
        with_values(text, {"link.password": ("link.password_file", FILE)}, "agent.toml")
    assert caught.value.code is ExitCode.CONFIG
    assert "secret" not in caught.value.message


def test_a_key_is_for_root_alone_from_its_first_byte_on(tmp_path: Path) -> None:
    machine, _ = fake_machine(tmp_path / "root")
    step = KeepKey(Credential("password", None, "secret"), "/key")
    assert not step.is_done(machine, False)
    step.do(machine)
    assert machine.at("/key").stat().st_mode & 0o777 == 0o600
    assert step.is_done(machine, False)
    assert not KeepKey(Credential("password", None, "another"), "/key").is_done(machine, False)


def test_no_step_tells_a_secret(tmp_path: Path) -> None:
    credential = Credential("password", None, "secret")
    for step in (KeepKey(credential, "/key"), EncryptKey(credential, "/key.cred")):
        assert "secret" not in step.what + step.shown


def test_a_key_that_cannot_be_encrypted_is_told(tmp_path: Path) -> None:
    machine, programs = fake_machine(tmp_path / "root")
    programs.failing["systemd-creds encrypt"] = "No TPM2 device found."
    with pytest.raises(Failure, match="cannot encrypt key: No TPM2 device found"):
        EncryptKey(Credential("key", tmp_path / "k"), "/key.cred").do(machine)


def test_a_file_is_replaced_with_its_mode_and_the_old_kept(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    WriteFile("/etc/f/a.toml", "old\n", 0o600).do(machine)
    WriteFile("/etc/f/a.toml", "new\n", keeps=True).do(machine)
    assert (tmp_path / "etc/f/a.toml").read_text() == "new\n"
    assert (tmp_path / "etc/f/a.toml").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "etc/f/a.toml.old").read_text() == "old\n"


def test_a_copy_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        CopyFile(tmp_path / "absent", "/copy").do(Machine(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_somebody_elses_command_of_our_name_stays(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "flockwise").write_text("mine")
    link = Link("/flockwise", "/opt/flockwise/current/bin/flockwise", ours=False)
    assert link.is_done(machine, False)
    assert Remove("/flockwise", if_link_to=link.target).is_done(machine, False)


def test_a_directory_that_others_use_is_not_removed(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "shared/other").mkdir(parents=True)
    assert Remove("/shared", if_empty=True).is_done(machine, False)
    (tmp_path / "shared/other").rmdir()
    Remove("/shared", if_empty=True).do(machine)
    assert not (tmp_path / "shared").exists()


def test_a_program_that_is_not_there_ends_as_in_a_shell() -> None:
    result = run_program(("no-such-program-here",))
    assert result.status == NOT_FOUND
    assert "No such file" in result.last_words


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ("WARNING: a\nERROR: b\n\n[notice] c\n", "ERROR: b"),
        ("first\nlast\n", "last"),
        ("", "it says nothing"),
    ],
)
def test_the_last_words_of_a_program_are_its_error(errors: str, told: str) -> None:
    assert Result(1, "", errors).last_words == told


def test_a_machine_is_asked_which_systemd_it_has(tmp_path: Path) -> None:
    _, programs = fake_machine(tmp_path)
    assert look(tmp_path, programs).systemd == 252
