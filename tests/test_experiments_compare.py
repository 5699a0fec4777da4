"""`flockwise lab compare`: equal work for all methods, nothing run twice, one report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from config.failures import ExitCode, Failure
from config.sections import TrainingPlan
from config.simulation import SimulationSettings
from experiments.compare import running
from experiments.compare.budget import Budget, evaluate_every, processed
from experiments.compare.command import main
from experiments.compare.comparison import read_comparison
from experiments.compare.methods import methods_of
from experiments.compare.reading import read_run, read_runs
from experiments.simulation.command import main as simulate_main
from experiments.simulation.summary import Summary
from tests.one_thread import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (
    *("--generated", "--examples", "240", "--test-examples", "60", "--devices", "4"),
    *("--training-model", "tutorial-cnn", "--training-batch-size", "12", "--engine", "inline"),
    *("--aggregation-buffer-size", "2", "--fleet-speed", "lognormal"),
    *("--partition-kind", "dirichlet", "--partition-alpha", "1"),
)


def compare(output: Path, *words: str) -> int:
    return main([*SMALL, "--passes", "2", "--output", str(output), *words])


def summaries(output: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(output.glob("*/seed-*/summary.json")):
        found[path.parent.parent.name] = json.loads(path.read_text())
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("compare") / "all"
    assert compare(output) == ExitCode.OK
    return output


def test_all_methods_are_run_and_told_in_one_report(made: Path) -> None:
    found = read_comparison(made / "compare.json")
    names = [method.name for method in found.methods]
    assert names == ["central", "local", "fedavg", "fedasync", "fedbuff", "memory"]
    assert found.generated
    assert found.class_names[0] == "wave-0"
    assert sorted(summaries(made)) == sorted(names)
    html = (made / "report.html").read_text()
    assert all(method.label in html for method in found.methods)
    assert "GENERATED IMAGES" in html
    for name in ("reports.jsonl", "settings.toml", "model.float32", "run.json"):
        assert (made / "fedbuff" / "seed-0" / name).exists()


def test_all_do_the_same_work_on_the_same_images(made: Path) -> None:
    found = read_comparison(made / "compare.json")
    for method in found.methods:
        passes = method.outcomes[0].passes
        if method.kind != "local":
            # A run ends with the first test at which the work is done.
            assert passes is not None
            assert 2 <= passes < 3
    parts = [{(p["device"], p["images"]) for p in one["parts"]} for one in summaries(made).values()]
    assert len({frozenset(part) for part in parts if part}) == 1
    alone = next(method for method in found.methods if method.kind == "local").outcomes[0]
    assert len(alone.alone) == 4
    assert alone.accuracy == pytest.approx(sum(alone.alone) / 4)


def test_the_figures_are_those_of_the_runs(made: Path) -> None:
    found = read_comparison(made / "compare.json")
    for method in found.methods:
        outcome = method.outcomes[0]
        summary = read_run(Path(outcome.where)).summary
        assert outcome.accuracy == summary.accuracy
        assert outcome.recall == summary.recall
        assert list(outcome.curve.time_s) == [point.time_s for point in summary.curve]
        story = (Path(outcome.where) / "reports.jsonl").read_text()
        rows = [json.loads(line) for line in story.splitlines()]
        made_rows = [row for row in rows if row["kind"] == "version"]
        assert sum(outcome.device_updates) == sum(row["updates"] for row in made_rows)
        missed = [n for row in made_rows for n in row["staleness"]]
        assert sum(outcome.staleness.values()) == len(missed)
        if outcome.curve.bytes_up and method.kind == "federated":
            tested = next(row for row in made_rows if row["version"] == summary.curve[-1].version)
            assert outcome.curve.bytes_up[-1] == tested["bytes_up"]


def test_the_same_again_runs_nothing_and_gives_the_same_bytes(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("run again")

    monkeypatch.setattr(running, "simulate", refuse)
    monkeypatch.setattr(running, "run_references", refuse)
    before = (made / "report.html").read_bytes()
    assert compare(made) == ExitCode.OK
    assert (made / "report.html").read_bytes() == before


def test_what_was_broken_off_is_run_again_and_nothing_else(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "broken"
    begun: list[str] = []
    real = running.simulate

    def break_off(settings: SimulationSettings, *rest: Any, **more: Any) -> Any:
        begun.append(settings.strategy)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return real(settings, *rest, **more)

    monkeypatch.setattr(running, "simulate", break_off)
    with pytest.raises(KeyboardInterrupt):
        compare(output, "--methods", "fedavg,fedbuff")
    assert begun == ["fedavg", "fedbuff"]
    assert list(summaries(output)) == ["fedavg"]
    assert compare(output, "--methods", "fedavg,fedbuff") == ExitCode.OK
    assert begun == ["fedavg", "fedbuff", "fedbuff"]
    whole, again = summaries(made), summaries(output)
    for name in ("fedavg", "fedbuff"):
        assert again[name]["model"] == whole[name]["model"]


def test_a_directory_with_other_settings_is_not_gone_on_with(made: Path) -> None:
    with pytest.raises(Failure, match=r"holds a run with another training.learning_rate") as caught:
        compare(made, "--training-learning-rate", "0.01")
    assert caught.value.code == ExitCode.CANNOT_WRITE
    with pytest.raises(Failure, match="another passes"):
        main([*SMALL, "--passes", "3", "--output", str(made)])


def test_settings_beside_a_run_give_the_same_model_by_lab_simulate(
    made: Path, tmp_path: Path
) -> None:
    config = str(made / "fedbuff" / "seed-0" / "settings.toml")
    assert simulate_main(["--config", config, "--output", str(tmp_path / "again")]) == ExitCode.OK
    again = json.loads((tmp_path / "again" / "summary.json").read_text())
    assert again["model"] == summaries(made)["fedbuff"]["model"]


def test_finished_simulations_are_drawn_without_running_anything(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "both.html"
    words = [f"quick={made / 'fedbuff'}", str(made / "fedavg" / "seed-0")]
    assert main(["--from", *words, "--output", str(report)]) == ExitCode.OK
    found = read_comparison(tmp_path / "both.json")
    assert [method.name for method in found.methods] == ["quick", "fedavg"]
    assert "quick" in report.read_text()
    assert f"report: {report}" in capsys.readouterr().out


def test_the_story_of_a_real_run_is_drawn_too(made: Path, tmp_path: Path) -> None:
    state = tmp_path / "coordinator-state"
    state.mkdir()
    story = (made / "fedbuff" / "seed-0" / "reports.jsonl").read_text()
    (state / "reports.jsonl").write_text(story + '{"kind": "torn')
    run, simulated = read_run(state), read_run(made / "fedbuff" / "seed-0")
    assert run.real
    assert run.summary.curve == simulated.summary.curve
    assert run.summary.updates == simulated.summary.updates
    assert [part.updates for part in run.summary.parts] == [
        part.updates for part in simulated.summary.parts
    ]
    assert main(["--from", str(state), "--output", str(tmp_path / "real")]) == ExitCode.OK
    assert "time of the clock" in (tmp_path / "real" / "report.html").read_text()


def test_a_method_has_settings_of_its_own_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "large.toml"
    file.write_text('strategy = "fedbuff"\n[aggregation]\nbuffer_size = 7\nreanchor = false\n')
    plain, large = methods_of(["fedbuff"], {"large": file}, ["--devices", "30"])
    assert (plain.settings.aggregation.buffer_size, large.settings.aggregation.buffer_size) == (
        10,
        7,
    )
    assert large.settings.devices == 30
    assert large.own == {
        "strategy": "fedbuff",
        "aggregation.buffer_size": "7",
        "aggregation.reanchor": "False",
    }


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("devices = 5", "devices is the same for all methods"),
        ('[training]\nmodel = "tutorial-cnn"', "training.model is the same for all methods"),
        ("[partition]\nalpha = 1", "partition.alpha is the same for all methods"),
        ("[aggregation]\nbuffer_size = 0", "own.toml: --aggregation-buffer-size is '0'"),
        ("[aggregation]\nbufer_size = 3", "did you mean --aggregation-buffer-size"),
        ("[aggregation", "not TOML"),
    ],
)
def test_what_a_file_of_a_method_may_not_say_is_told_in_a_line(
    tmp_path: Path, text: str, what: str
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(Failure) as caught:
        methods_of([], {"fedavg": file}, [])
    assert what in caught.value.message
    assert caught.value.message.startswith(str(file))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--methods", "fedavgg"], "unknown method 'fedavgg'"),
        (["--versions", "3"], "--versions: how many there are follows from --passes"),
        (["--passes", "0"], "is not a number above 0"),
        (["--target", "1.5"], "is not an accuracy"),
        (["--method", "large"], "is not NAME=FILE"),
        (["--devicse", "3"], "did you mean --devices"),
        (["--from", "nowhere"], "nowhere holds no run"),
        (["--from", "nowhere", "--devices", "3"], "with --from nothing is run"),
    ],
)
def test_what_is_wrong_with_a_command_is_told_in_a_line(words: list[str], what: str) -> None:
    with pytest.raises(Failure) as caught:
        main(words)
    assert what in caught.value.message
    assert "\n" not in caught.value.message


def test_a_summary_that_is_none_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"versions": "many"}')
    with pytest.raises(Failure, match=r"summary\.json is no summary of a run"):
        read_runs([str(tmp_path)])


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "central   all images in one place" in text
    assert "small-buffer.toml" in text
    assert "--from [NAME=]DIR" in text


# The budget


def test_the_work_of_an_update_is_what_went_through_its_training() -> None:
    row = {"kind": "update", "examples": 100, "steps": 14}
    assert processed(row, 16) == pytest.approx(200)  # two epochs of seven batches
    assert processed(row | {"examples": 43, "steps": 3}, 16) == pytest.approx(43)


def test_a_run_ends_with_the_test_of_a_version_for_which_its_work_is_done() -> None:
    budget = Budget(300, TrainingPlan(batch_size=10))
    update = {"kind": "update", "examples": 100, "steps": 10}
    for version in range(1, 4):
        assert not budget.is_over
        budget.take(update)
        budget.take({"kind": "version", "version": version})
    budget.take({"kind": "evaluation", "version": 2})
    assert not budget.is_over
    budget.take({"kind": "evaluation", "version": 3})
    assert budget.is_over


def test_a_run_whose_tests_fail_ends_all_the_same() -> None:
    budget = Budget(300, TrainingPlan(batch_size=10))
    for version in range(1, 6):
        budget.take({"kind": "update", "examples": 100, "steps": 10})
        budget.take({"kind": "version", "version": version})
    assert budget.is_over


@pytest.mark.parametrize(
    ("strategy", "every"), [("fedavg", 1), ("fedasync", 25), ("fedbuff", 2), ("memory", 2)]
)
def test_all_are_tested_about_as_often_for_the_same_work(strategy: str, every: int) -> None:
    settings = SimulationSettings.model_validate({"strategy": strategy, "devices": 100})
    assert evaluate_every(settings, 4) == every


def test_a_summary_is_read_back_as_it_was(made: Path) -> None:
    run = read_run(made / "fedasync" / "seed-0")
    assert isinstance(run.summary, Summary)
    there = (made / "fedasync" / "seed-0" / "summary.json").read_bytes()
    assert json.loads(run.summary.as_json()) == json.loads(there)
