"""The commands of an authority, as people give them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import flockwise
from broker.authority import open_authority
from config.failures import ExitCode
from federation.bundle import read_bundle
from federation.membership import read_membership
from tests.authorities import now


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> int:
    return flockwise.main(words)


def init(*words: str) -> None:
    assert run("broker", "init", "--host", "gateway.example", *words) == ExitCode.OK


def test_from_init_to_join_each_command_says_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init()
    told = capsys.readouterr().out
    assert "next: flockwise broker run --authority authority\n" in told
    assert "next: flockwise coordinator run --membership authority/coordinator\n" in told
    assert run("broker", "enroll", "camera-7") == ExitCode.OK
    assert "flockwise agent join camera-7.flockwise\n" in capsys.readouterr().out
    assert run("agent", "join", "camera-7.flockwise") == ExitCode.OK
    told = capsys.readouterr().out
    assert (
        "camera-7 is a member of flockwise/default, by the broker at gateway.example:8883" in told
    )
    assert "next: flockwise agent run --device camera-7" in told
    assert read_membership(tmp_path / "agent-state/membership").member.device == "camera-7"


def test_a_bundle_is_for_nobody_else_to_read_and_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init()
    run("broker", "enroll", "a", "--output", "a.bundle")
    assert (tmp_path / "a.bundle").stat().st_mode & 0o777 == 0o600
    capsys.readouterr()
    assert run("broker", "enroll", "a", "--output", "a.bundle") == ExitCode.CONFIG
    assert "is there already" in capsys.readouterr().err
    with open_authority(Path("authority")) as authority:
        held = authority.registry.find("a")
        assert held is not None
        assert held.epoch == 1


def test_nobody_is_enrolled_where_the_bundle_cannot_be_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    init()
    assert run("broker", "enroll", "a", "--output", "none/a") == ExitCode.CANNOT_WRITE
    assert capsys.readouterr().err.count("\n") == 1
    with open_authority(Path("authority")) as authority:
        assert authority.registry.find("a") is None


def test_the_list_tells_people_and_programs_who_is_enrolled(
    capsys: pytest.CaptureFixture[str],
) -> None:
    init()
    for device in ("a", "b"):
        run("broker", "enroll", device, "--days", "30")
    run("broker", "revoke", "b")
    capsys.readouterr()
    assert run("broker", "list") == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "flockwise/default: 2 enrolled, 1 revoked"
    assert [line.split()[:2] for line in lines[1:]] == [
        ["(coordinator)", "until"],
        ["a", "until"],
        ["b", "revoked"],
    ]
    assert run("broker", "list", "--json") == ExitCode.OK
    told = json.loads(capsys.readouterr().out)
    assert [(one["device"], one["revoked_at"] is None) for one in told["members"]] == [
        (None, True),
        ("a", True),
        ("b", False),
    ]
    assert told["members"][1]["not_after"] > now().timestamp() + 29 * 86400


def test_revoking_says_that_no_broker_runs(capsys: pytest.CaptureFixture[str]) -> None:
    init()
    run("broker", "enroll", "a")
    assert run("broker", "revoke", "a") == ExitCode.OK
    assert "no broker runs from this authority" in capsys.readouterr().out


def test_the_coordinators_keys_are_made_anew(tmp_path: Path) -> None:
    init()
    assert run("broker", "enroll", "--coordinator") == ExitCode.OK
    assert read_membership(tmp_path / "authority/coordinator").epoch == 2


def test_with_passwords_enrolling_makes_one(tmp_path: Path) -> None:
    init("--clients", "passwords")
    assert run("broker", "enroll", "a", "--password") == ExitCode.OK
    assert read_bundle((tmp_path / "a.flockwise").read_bytes()).password


def test_what_is_rendered_for_elsewhere_is_whole(tmp_path: Path) -> None:
    init()
    run("broker", "enroll", "a")
    assert run("broker", "render", "--output", "out", "--at", "/etc/mosquitto/f") == ExitCode.OK
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "mosquitto.conf",
        "acl",
        "ca.pem",
        "crl.pem",
        "server.pem",
    }
    text = (tmp_path / "out/mosquitto.conf").read_text()
    named = [line.split()[1] for line in text.splitlines() if "/etc/mosquitto/f" in line]
    assert {Path(name).name for name in named} == {"acl", "ca.pem", "crl.pem", "server.pem"}
    for line in (
        "listener 8883",
        "allow_anonymous false",
        "require_certificate true",
        "use_identity_as_username true",
        "tls_version tlsv1.2",
        "#log_type debug",
    ):
        assert f"\n{line}\n" in text


def test_what_is_rendered_with_passwords_holds_no_password(tmp_path: Path) -> None:
    init("--clients", "passwords")
    for device in ("a", "b"):
        run("broker", "enroll", device)
    run("broker", "revoke", "b")
    run("broker", "render", "--output", "out", "--log-denials")
    lines = (tmp_path / "out/passwords").read_text().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["_coordinator", "a"]
    assert all(line.partition(":")[2].startswith("$7$101$") for line in lines)
    text = (tmp_path / "out/mosquitto.conf").read_text()
    assert "\nlog_type debug\n" in text
    assert "require_certificate" not in text


def test_for_a_broker_that_others_run_nothing_is_rendered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init("--federation-name", "other")
    theirs = str(tmp_path / "authority/ca.pem")
    words = ("--authority", "hosted", "--clients", "passwords", "--broker-ca", theirs)
    init(*words)
    assert "flockwise broker run" not in capsys.readouterr().out.splitlines()[-1]
    assert run("broker", "render", "--authority", "hosted") == ExitCode.CONFIG
    assert "others run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("broker", "enroll"), ExitCode.USAGE, "DEVICE"),
        (("broker", "enroll", "Camera"), ExitCode.USAGE, "a-z, 0-9"),
        (("broker", "enroll", "a", "--days", "0"), ExitCode.USAGE, "no number above 0"),
        (("broker", "enroll", "a", "--password"), ExitCode.CONFIG, "--clients passwords"),
        (("broker", "revoke", "a"), ExitCode.CONFIG, "a is not enrolled"),
        (("broker", "list", "--authority", "none"), ExitCode.CONFIG, "flockwise broker init"),
        (("broker", "init", "--host", "x"), ExitCode.CONFIG, "never overwritten"),
        (("broker", "init", "--ca-cert", "x"), ExitCode.USAGE, "go together"),
        (("broker", "init", "--federation-name", "#"), ExitCode.USAGE, "name"),
        (("agent", "join", "none"), ExitCode.NO_INPUT, "none cannot be read"),
        (("agent", "join", "authority/ca.pem"), ExitCode.CONFIG, "is no bundle"),
        (("agent", "join", "flockwise1.AAAA"), ExitCode.CONFIG, "the token is damaged"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    words: tuple[str, ...], code: ExitCode, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    init()
    capsys.readouterr()
    assert run(*words) == code
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "name",
    ["broker init", "broker enroll", "broker revoke", "broker list", "broker render", "agent join"],
)
def test_each_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*name.split(), "--help") == ExitCode.OK
    assert f"usage: flockwise {name}" in capsys.readouterr().out
