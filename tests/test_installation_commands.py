"""Installing, on a machine that is a directory: what is touched, what is said, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from broker import mosquitto
from config.failures import ExitCode, Failure
from config.settings import Link
from installation.commands import install, uninstall
from installation.machine import Machine
from tests.fake_machine import FakePrograms, fake_machine, make_wheel, tree

UNIT = "etc/systemd/system/flockwise-agent.service"


class Bench:
    """A device to install on, and a person's directory with what is installed."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.machine: Machine
        self.programs: FakePrograms
        self.machine, self.programs = fake_machine(self.root)
        self.config = directory / "agent.toml"
        self.chunk = directory / "camera-7.npz"
        self.chunk.write_bytes(b"images")
        self.config.write_text(f'device = "camera-7"\nchunk = "{self.chunk}"\n')
        self.wheel = make_wheel(directory, "1.0")

    def install(self, *more: str) -> int:
        argv = ["--config", str(self.config), "--from", str(self.wheel), *more]
        return install("agent", argv, self.machine)

    def text(self, path: str) -> str:
        return (self.root / path).read_text()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_an_agent_is_installed_enabled_and_started(bench: Bench) -> None:
    assert bench.install() == ExitCode.OK
    assert bench.text("etc/flockwise/agent.toml") == (
        'state_dir = "/var/lib/flockwise/agent"\n'
        'device = "camera-7"\nchunk = "/var/lib/flockwise/agent/chunk.npz"\n'
    )
    assert (bench.root / "var/lib/private/flockwise/agent/chunk.npz").read_bytes() == b"images"
    assert (bench.root / "opt/flockwise/current").readlink() == Path("/opt/flockwise/environment-1")
    assert "ExecStart=/opt/flockwise/current/bin/flockwise agent run" in bench.text(UNIT)
    assert bench.programs.enabled == {"flockwise-agent.service"}
    assert bench.programs.active == {"flockwise-agent.service"}


def test_pip_installs_the_wheel_with_what_the_role_needs(bench: Bench) -> None:
    bench.install()
    installs = [argv for argv in bench.programs.ran if "install" in argv]
    assert len(installs) == 1
    assert installs[0][-1].endswith("wheel/flockwise-1.0-py3-none-any.whl[agent]")


def test_each_thing_that_is_done_is_said_in_a_line(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.install()
    said = capsys.readouterr().out.splitlines()
    words = [line.partition(" ")[0] for line in said]
    assert words == [
        *("make", "made", "linked", "linked", "made"),  # environment, links, /etc/flockwise
        *("made", "made", "made", "copied"),  # state directories, chunk
        *("wrote", "wrote"),  # configuration, unit
        *("reloaded", "enabled", "started"),
    ]


def test_to_install_again_changes_nothing_and_says_so(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.install()
    before, commands = tree(bench.root), len(bench.programs.changing())
    capsys.readouterr()
    assert bench.install() == ExitCode.OK
    said = capsys.readouterr().out.splitlines()
    assert tree(bench.root) == before
    assert len(bench.programs.changing()) == commands
    assert "nothing was changed" in said
    assert all(line.startswith(("kept ", "nothing ", "note: ")) for line in said)


def test_changed_settings_are_installed_and_the_old_ones_kept(bench: Bench) -> None:
    bench.install()
    old = bench.text("etc/flockwise/agent.toml")
    bench.config.write_text(bench.config.read_text() + "threads = 2\n")
    bench.install()
    assert bench.text("etc/flockwise/agent.toml").endswith("threads = 2\n")
    assert bench.text("etc/flockwise/agent.toml.old") == old
    assert bench.programs.ran[-1] == ("systemctl", "restart", "flockwise-agent.service")


def test_settings_edited_in_place_are_taken_from_there(bench: Bench) -> None:
    bench.install()
    held = bench.root / "etc/flockwise/agent.toml"
    held.write_text(held.read_text() + "threads = 2\n")
    bench.chunk.unlink()  # what was copied serves
    assert install("agent", [], bench.machine) == ExitCode.OK
    assert held.read_text().endswith("threads = 2\n")


def test_a_new_chunk_takes_the_place_of_the_old(bench: Bench) -> None:
    bench.install()
    bench.chunk.write_bytes(b"more images")
    bench.install()
    assert (bench.root / "var/lib/private/flockwise/agent/chunk.npz").read_bytes() == b"more images"
    assert bench.programs.ran[-1][1] == "restart"


def test_agents_by_name_share_a_template(bench: Bench) -> None:
    bench.install("--name", "front")
    bench.install("--name", "back")
    units = bench.root / "etc/systemd/system"
    assert sorted(path.name for path in units.iterdir()) == [
        "flockwise-agent@.service",
        "flockwise-agent@back.service.d",
        "flockwise-agent@front.service.d",
    ]
    assert bench.programs.active == {
        "flockwise-agent@back.service",
        "flockwise-agent@front.service",
    }
    assert (bench.root / "etc/flockwise/agent-front.toml").exists()


def test_memory_that_was_chosen_stays_chosen(bench: Bench) -> None:
    bench.install("--memory-max", "700M")
    bench.install()
    assert "MemoryMax=700M" in bench.text(UNIT)


def test_a_further_role_adds_its_packages_to_the_environment(bench: Bench) -> None:
    bench.install()
    assert install("coordinator", [], bench.machine) == ExitCode.OK
    installs = [argv for argv in bench.programs.ran if "install" in argv]
    assert installs[-1][-1] == "flockwise[agent,coordinator]==1.0"
    assert not (bench.root / "opt/flockwise/environment-2").exists()


def test_an_environment_that_is_gone_is_made_anew_for_all_roles(bench: Bench) -> None:
    bench.install()
    install("coordinator", [], bench.machine)
    shutil.rmtree(bench.root / "opt/flockwise")
    bench.install()
    installs = [argv for argv in bench.programs.ran if "install" in argv]
    assert installs[-1][-1].endswith(".whl[agent,coordinator]")


def test_a_dry_run_touches_nothing(bench: Bench) -> None:
    before = tree(bench.root)
    assert bench.install("--dry-run") == ExitCode.OK
    assert tree(bench.root) == before
    assert bench.programs.changing() == []


def test_a_dry_run_shows_the_text_of_each_file(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.install("--dry-run")
    said = capsys.readouterr().out
    assert f"would write /{UNIT}\n" in said
    assert "\n    DynamicUser=yes\n" in said
    assert '\n    device = "camera-7"\n' in said


def test_a_dry_run_after_an_installation_finds_nothing_to_do(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.install()
    capsys.readouterr()
    bench.install("--dry-run")
    assert "would" not in capsys.readouterr().out


def test_an_unknown_setting_is_told_before_anything_is_touched(bench: Bench) -> None:
    bench.config.write_text(bench.config.read_text() + "thraeds = 2\n")
    with pytest.raises(Failure, match="unknown setting thraeds; did you mean threads") as caught:
        bench.install()
    assert caught.value.code is ExitCode.CONFIG
    assert not (bench.root / "opt").exists()


def test_a_chunk_that_is_not_there_is_told_before_anything_is_touched(bench: Bench) -> None:
    bench.chunk.unlink()
    with pytest.raises(Failure, match=r"camera-7\.npz: there is no such file") as caught:
        bench.install()
    assert caught.value.code is ExitCode.NO_INPUT
    assert not (bench.root / "opt").exists()


def test_a_machine_without_systemd_is_told(bench: Bench) -> None:
    (bench.root / "run/systemd/system").rmdir()
    with pytest.raises(Failure, match="not run by systemd") as caught:
        bench.install()
    assert caught.value.code is ExitCode.UNAVAILABLE


def test_who_is_not_root_is_told(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(Failure, match="only root") as caught:
        install("agent", ["--config", str(bench.config)], Machine(run=bench.programs))
    assert caught.value.code is ExitCode.CANNOT_WRITE


@pytest.mark.parametrize(
    ("python", "told"),
    [
        ("3 10 /usr/bin/python3.10", "is Python 3.10, and Flockwise needs 3.11"),
        ("3 12 /root/.pyenv/bin/python3.12", "in a home or temporary directory"),
    ],
)
def test_a_python_that_will_not_do_is_told(bench: Bench, python: str, told: str) -> None:
    bench.programs.python = python
    with pytest.raises(Failure, match=told) as caught:
        bench.install()
    assert caught.value.code is ExitCode.UNAVAILABLE


def test_what_pip_says_last_is_told_and_nothing_half_made_is_left(bench: Bench) -> None:
    bench.programs.failing["pip install"] = "Looking...\nERROR: No matching distribution for torch"
    with pytest.raises(Failure, match="pip install failed: ERROR: No matching distribution"):
        bench.install()
    assert list((bench.root / "opt/flockwise").iterdir()) == []


def test_a_service_that_does_not_start_gives_its_own_exit_code(bench: Bench) -> None:
    bench.programs.broken_since = 1
    with pytest.raises(Failure, match=r"flockwise-agent\.service did not become ready") as caught:
        bench.install()
    assert caught.value.code is ExitCode.CONFIG
    assert "\n" not in caught.value.message


def test_a_key_becomes_an_encrypted_credential(bench: Bench, tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").write_text(f"the {name}\n")
    with bench.config.open("a") as file:
        file.write("[link]\ntls = true\n")
        file.writelines(
            f'{name}_file = "{tmp_path}/{name}.pem"\n' for name in ("ca", "cert", "key")
        )
    bench.install()
    held = bench.root / "etc/flockwise/credentials/agent"
    assert held.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in held.iterdir()) == ["ca", "cert", "key.cred"]
    assert {path.stat().st_mode & 0o777 for path in held.iterdir()} == {0o600}
    unit = bench.text(UNIT)
    assert "LoadCredential=ca:/etc/flockwise/credentials/agent/ca\n" in unit
    assert "LoadCredentialEncrypted=key:/etc/flockwise/credentials/agent/key.cred\n" in unit
    assert "Environment=FLOCKWISE_LINK__KEY_FILE=%d/key\n" in unit
    before = tree(bench.root)
    bench.install()
    assert tree(bench.root) == before


def test_a_password_is_never_written_where_others_read_it(bench: Bench) -> None:
    with bench.config.open("a") as file:
        file.write('[link]\nusername = "u"\npassword = "hidden"\n')
    if "password_file" not in Link.model_fields:
        with pytest.raises(Failure, match="readable by all"):
            bench.install()
        return
    bench.install()
    readable = [path for path, (_, text) in tree(bench.root).items() if b"hidden" in text]
    assert readable == []
    unit = bench.text(UNIT)
    credential = "password:/etc/flockwise/credentials/agent/password.cred"
    assert f"LoadCredentialEncrypted={credential}\n" in unit
    before = tree(bench.root)
    bench.install()
    assert tree(bench.root) == before
    assert install("agent", [], bench.machine) == ExitCode.OK
    assert tree(bench.root) == before


def test_a_gateway_is_a_broker_and_a_coordinator(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mosquitto, "find", lambda: None)
    monkeypatch.setattr("installation.brokers.listening_address", lambda host, *_, **__: host)
    monkeypatch.setattr("installation.brokers._listening", lambda *_: "127.0.0.1")
    settings = tmp_path / "broker.toml"
    settings.write_text("insecure = true\n")
    argv = ["--broker-config", str(settings), "--from", str(bench.wheel)]
    assert install("gateway", argv, bench.machine) == ExitCode.OK
    started = [argv[-1] for argv in bench.programs.ran if argv[1] == "restart"]
    assert started == ["flockwise-broker.service", "flockwise-coordinator.service"]
    installs = [argv for argv in bench.programs.ran if "install" in argv]
    assert installs[0][-1].endswith("[broker,coordinator]")


def test_mosquitto_is_run_by_its_own_configuration(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "mosquitto"
    program.write_bytes(b"ELF sd_notify")
    monkeypatch.setattr(mosquitto, "find", lambda: program)
    settings = tmp_path / "broker.toml"
    settings.write_text("port = 18830\ninsecure = true\n")
    install("broker", ["--config", str(settings), "--from", str(bench.wheel)], bench.machine)
    unit = bench.text("etc/systemd/system/flockwise-broker.service")
    assert f"Type=notify\nExecStart={program} -c /etc/flockwise/mosquitto.conf\n" in unit
    assert "listener 18830 127.0.0.1" in bench.text("etc/flockwise/mosquitto.conf")


def test_a_broker_with_an_authority_is_run_by_our_own_process(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mosquitto, "find", lambda: tmp_path / "mosquitto")
    settings = tmp_path / "broker.toml"
    settings.write_text('authority = "authority"\nport = 18883\nhost = "127.0.0.1"\n')
    install("broker", ["--config", str(settings), "--from", str(bench.wheel)], bench.machine)
    unit = bench.text("etc/systemd/system/flockwise-broker.service")
    assert "flockwise broker run --config /etc/flockwise/broker.toml\n" in unit
    installs = [argv for argv in bench.programs.ran if "install" in argv]
    assert "[broker]" not in installs[0][-1]


def test_a_broker_that_would_ask_nobody_who_they_are_is_not_installed_unasked(
    bench: Bench,
) -> None:
    with pytest.raises(Failure, match="flockwise broker init") as caught:
        install("broker", ["--from", str(bench.wheel)], bench.machine)
    assert caught.value.code is ExitCode.CONFIG


def test_the_port_of_the_distributions_broker_is_not_taken_from_it(
    bench: Bench, tmp_path: Path
) -> None:
    bench.programs.enabled.add("mosquitto.service")
    settings = tmp_path / "broker.toml"
    settings.write_text("insecure = true\n")
    with pytest.raises(Failure, match=r"systemctl disable --now mosquitto\.service") as caught:
        install("broker", ["--config", str(settings), "--from", str(bench.wheel)], bench.machine)
    assert caught.value.code is ExitCode.PORT_TAKEN


def test_uninstall_keeps_settings_and_state(bench: Bench) -> None:
    bench.install()
    assert uninstall("agent", [], bench.machine) == ExitCode.OK
    assert sorted(tree(bench.root)) == [
        "etc/flockwise/agent.toml",
        "var/lib/private/flockwise/agent/chunk.npz",
    ]
    assert bench.programs.enabled == set()
    assert bench.programs.active == set()


@pytest.mark.parametrize("times", [(["--purge"],), ([], ["--purge"])])
def test_uninstall_with_purge_leaves_nothing(bench: Bench, times: tuple[list[str], ...]) -> None:
    bench.install()
    for argv in times:
        uninstall("agent", argv, bench.machine)
    assert tree(bench.root) == {}
    left = [path.name for path in bench.root.rglob("*flockwise*")]
    assert left == []


def test_uninstall_leaves_the_environment_to_others(bench: Bench) -> None:
    bench.install()
    bench.install("--name", "front")
    uninstall("agent", ["--purge"], bench.machine)
    assert (bench.root / "opt/flockwise/current/").is_symlink()
    assert not (bench.root / UNIT).exists()
    uninstall("agent", ["--name", "front", "--purge"], bench.machine)
    assert tree(bench.root) == {}


def test_to_uninstall_what_is_not_there_says_so(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert uninstall("agent", [], bench.machine) == ExitCode.OK
    assert "nothing of flockwise-agent.service is on this machine" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [["--name", "../x"], ["--memory-max", "a lot"], ["--from", "not/there.whl"], ["--nonsense"]],
)
def test_a_command_line_that_makes_no_sense_is_refused(bench: Bench, argv: list[str]) -> None:
    with pytest.raises(Failure) as caught:
        install("agent", ["--config", str(bench.config), *argv], bench.machine)
    assert caught.value.code in (ExitCode.USAGE, ExitCode.NO_INPUT)
    assert not (bench.root / "opt").exists()


def test_what_was_edited_with_systemctl_stays_until_a_purge(bench: Bench) -> None:
    bench.install("--name", "front")
    edited = bench.root / "etc/systemd/system/flockwise-agent@front.service.d/override.conf"
    edited.write_text("[Service]\nNice=5\n")
    uninstall("agent", ["--name", "front"], bench.machine)
    assert edited.exists()
    uninstall("agent", ["--name", "front", "--purge"], bench.machine)
    assert tree(bench.root) == {}
