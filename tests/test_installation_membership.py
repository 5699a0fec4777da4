"""A service gets its membership: copied, private, and renewed ones left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.failures import ExitCode, Failure
from federation.membership import read_membership
from federation.topics import Topics
from tests.members import Authority
from tests.test_installation_commands import Bench

AUTHORITY = Authority(Topics("flockwise", "default"))
STATE = "var/lib/private/flockwise/agent/membership"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    AUTHORITY.membership(tmp_path / "joined", "camera-7")
    made.config.write_text(f'membership = "{tmp_path / "joined"}"\n' + made.config.read_text())
    return made


def test_the_keys_go_to_the_state_of_the_service_alone(bench: Bench) -> None:
    assert bench.install() == ExitCode.OK
    there = bench.root / STATE
    assert read_membership(there).member.device == "camera-7"
    assert there.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in there.iterdir()} == {0o600}
    told = bench.text("etc/flockwise/agent.toml")
    assert 'membership = "/var/lib/flockwise/agent/membership"' in told


def test_what_the_service_renewed_stays(bench: Bench) -> None:
    bench.install()
    renewed = bench.root / STATE / "certificate.pem"
    renewed.write_text("a later one")
    bench.install()
    assert renewed.read_text() == "a later one"


def test_another_membership_takes_its_place(bench: Bench, tmp_path: Path) -> None:
    bench.install()
    AUTHORITY.membership(tmp_path / "joined", "camera-7", epoch=2)
    bench.install()
    assert read_membership(bench.root / STATE).epoch == 2


def test_a_membership_that_was_copied_need_not_stay(bench: Bench, tmp_path: Path) -> None:
    bench.install()
    for path in (tmp_path / "joined").iterdir():
        path.unlink()
    assert bench.install() == ExitCode.OK
    assert read_membership(bench.root / STATE).member.device == "camera-7"


def test_one_that_was_joined_in_the_state_directory_is_found(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    AUTHORITY.membership(tmp_path / "state" / "membership", "camera-7")
    bench.config.write_text(f'state_dir = "{tmp_path / "state"}"\n' + bench.config.read_text())
    assert bench.install() == ExitCode.OK
    assert (bench.root / STATE / "signing.key").is_file()


def test_one_that_is_not_there_is_told(bench: Bench, tmp_path: Path) -> None:
    bench.config.write_text(bench.config.read_text().replace("joined", "missing"))
    with pytest.raises(Failure, match=r"missing/member\.json: there is no such file"):
        bench.install()


def test_who_was_revoked_since_is_told_to_the_service(bench: Bench, tmp_path: Path) -> None:
    bench.install()
    (tmp_path / "joined" / "least.json").write_text('{"camera-8": 2}')
    bench.install()
    assert (bench.root / STATE / "least.json").read_text() == '{"camera-8": 2}'
