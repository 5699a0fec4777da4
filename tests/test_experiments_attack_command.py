"""`flockwise lab attack`: what it takes, what it writes, and that nothing is run twice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from config.failures import ExitCode, Failure
from experiments.attacks import command
from experiments.attacks.command import main
from experiments.attacks.rows import Row, append_row, read_rows
from experiments.attacks.rules import rule_of
from experiments.attacks.runs import Run
from experiments.attacks.table import cells, table

GENERATED = ["--generated", "--examples", "200", "--test-examples", "50"]
TINY = [*GENERATED, "--devices", "4", "--buffer-size", "2", "--versions", "2", "--warm-up", "1"]


def row(
    attack: str, rule: str, seed: int, accuracy: float = 0.5, success: float | None = None
) -> Row:
    return Row(
        attack=attack,
        rule=rule,
        seed=seed,
        accuracy=accuracy,
        success=success,
        finite=True,
        versions=2,
        updates=4,
        hostile_updates=1,
        left_out=0,
        hostile_left_out=0,
        refused={},
        quarantined=0,
        hostile_quarantined=0,
        virtual_s=1.0,
        cpu_s=1.0,
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs that are made; each attack costs ten points."""
    made: list[Run] = []

    def done(scheme: object, runs: Sequence[Run], *rest: object) -> Iterator[Row]:
        for run in runs:
            made.append(run)
            yield row(*run, accuracy=0.6 if run.attack == "none" else 0.5)

    monkeypatch.setattr(command, "done", done)
    return made


def refusal(*argv: str) -> str:
    with pytest.raises(Failure) as refused:
        main(argv)
    assert refused.value.code == ExitCode.USAGE
    return refused.value.message


def test_what_is_unknown_is_told_with_what_is_known() -> None:
    assert "sign-flip" in refusal("--attack", "sing-flip", "--rule", "mean", *TINY)
    assert "clipped_mean" in refusal("--attack", "alie", "--rule", "meen", *TINY)
    assert "no setting 'tau'" in refusal("--attack", "alie", "--rule", "mean tau=3", *TINY)
    assert "KEY=VALUE" in refusal("--attack", "alie", "--rule", "mean tau", *TINY)
    assert "hostile_fraction" in refusal(
        "--attack", "alie", "--rule", "trimmed_mean hostile_fraction=2", *TINY
    )


def test_the_help_names_every_attack_and_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert "send what was learned times -5" in told
    assert "geometric_median" in told


def test_an_attack_is_run_beside_the_same_without_one(
    asked: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--attack", "alie", "--rule", "median", "--seeds", "2", *TINY]) == ExitCode.OK
    assert asked == [Run(attack, "median", seed) for seed in (0, 1) for attack in ("none", "alie")]
    told = capsys.readouterr()
    assert "| alie | 50.0 [50.0, 50.0] (-10.0) |" in told.out
    assert "GENERATED" in told.err


def test_what_the_file_has_is_not_run_again(asked: list[Run], tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    argv = ["--attack", "alie", "--rule", "mean", "--output", str(output), *TINY]
    main([*argv, "--seeds", "1"])
    assert len(asked) == 2
    main([*argv, "--seeds", "2"])
    assert asked[2:] == [Run("none", "mean", 1), Run("alie", "mean", 1)]
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(lines) == 4
    assert lines[0]["scheme"]["generated"] is True
    assert lines[0]["torch"]


def test_rows_of_another_scheme_are_left_alone(asked: list[Run], tmp_path: Path) -> None:
    argv = ["--attack", "none", "--rule", "mean", "--output", str(tmp_path / "rows.jsonl")]
    main([*argv, "--seeds", "1", *TINY])
    main([*argv, "--seeds", "1", *TINY, "--devices", "5"])
    assert len(asked) == 2


def test_a_line_that_was_broken_off_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_row(path, row("none", "mean", 0), {"scheme": {}})
    with path.open("a") as file:
        file.write('{"attack": "al')
    append_row(path, row("alie", "mean", 0), {"scheme": {}})
    assert [read.attack for read in read_rows(path, {})] == ["none", "alie"]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n")
    with pytest.raises(Failure, match=r"rows\.jsonl:1 is not a row"):
        read_rows(path, {})


def test_the_table_as_json_has_costs_against_the_rule_and_against_the_mean(
    asked: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--attack", "ipm-100", "--rule", "mean", "--rule", "median cooldown=0"]
    main([*argv, "--seeds", "1", "--json", *TINY])
    found = {(cell["rule"], cell["attack"]): cell for cell in json.loads(capsys.readouterr().out)}
    assert found["median cooldown=0", "ipm-100"]["cost"] == pytest.approx(10)
    assert found["median cooldown=0", "ipm-100"]["cost_to_mean"] == pytest.approx(10)
    assert found["mean", "none"]["cost"] == 0


def test_a_cost_is_the_median_of_the_seeds_own_and_the_worst_attack_is_named() -> None:
    honest, attacked = (0.70, 0.60, 0.50), (0.69, 0.55, 0.48)
    rows = [row("none", "mean", seed, accuracy) for seed, accuracy in enumerate(honest)]
    rows += [row("alie", "mean", seed, accuracy) for seed, accuracy in enumerate(attacked)]
    rows += [row("backdoor", "mean", seed, 0.1, success=0.9) for seed in range(3)]
    alie = next(cell for cell in cells(rows) if cell.attack == "alie")
    assert (alie.accuracy, alie.least, alie.most, alie.seeds) == (0.55, 0.48, 0.69, 3)
    assert alie.cost == pytest.approx(2)
    told = table(cells(rows))
    assert "opens 90%" in told
    assert "| worst untargeted | -2.0 (alie) |" in told


def test_all_is_every_rule_and_a_line_may_set_more() -> None:
    assert rule_of("trimmed_mean hostile_fraction=0.3").settings == {
        "combine": "trimmed_mean",
        "hostile_fraction": "0.3",
    }
    assert len(command._rules(["all", "mean"])) == 6


def test_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "rows.jsonl"
    argv = ["--attack", "ipm-100", "--rule", "clipped_mean", "--seeds", "1", *TINY]
    argv += ["--training", "model=tutorial-cnn", "epochs=0.2", "--output", str(output)]
    assert main(argv) == ExitCode.OK
    assert "| ipm-100 |" in capsys.readouterr().out
    assert len(output.read_text().splitlines()) == 2
    assert list((tmp_path / "rows.starts").iterdir())
