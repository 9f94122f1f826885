"""Runs that are kept as small files, and the same command where the outputs are lost."""

import gc
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipeline.experiments.config import read_config, write_config
from pipeline.experiments.paths import ExperimentFiles, names_in
from pipeline.experiments.tracker import read_summary
from pipeline.recipes import plan
from pipeline.recipes.kept_runs import KeptRuns
from pipeline.recipes.paper import RUNS
from pipeline.recipes.plan import Budget, Places, Run, reproduce, with_sources
from pipeline.recipes.runner import Step, StepRunner
from pipeline.recipes.step_commands import portable
from pipeline.reporting.results import from_outputs
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_json, write_record, write_records
from tests.helpers import call, one_line_of_error, prepare_tiny, run

BUDGET = Budget((1,), 20, 16, samples=10, importance_samples=2, pairs=3)
PLAIN = with_sources(RUNS, ["nvib-30-plain"])  # the Transformer, and an NVIB that starts from it
ONE = [each for each in PLAIN if each.name == "t"]


class Pretended(StepRunner):
    """A runner whose steps write what the report and later steps read, and fail as those do without weights."""

    begun: ClassVar[list[str]] = []
    failing: ClassVar[str] = ""
    interrupted: ClassVar[str] = ""

    def execute(self, step: Step, jobs: int = 1) -> tuple[int, Path]:
        script, *flags = step.command
        Pretended.begun.append(step.name + (" anew" if "--RESTART" in flags else ""))
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / "log"
        log.write_text("the reason\n")
        given = dict(zip(flags[::2], flags[1::2], strict=False))
        project = Path(given["--OUTPUT_DIR"]) / given["--PROJECT_NAME"]
        files = ExperimentFiles(project / given.get("--EXPERIMENT_NAME", ""))
        others = (given.get("--START_FROM"), given.get("--LANGUAGE_MODEL"))
        needed = [project / other / "best.safetensors" for other in others if other is not None]
        data: dict[str, Any] = {"name": "tiny"}
        if script in ("train.py", "tune.py"):
            data["fingerprint"] = fingerprint(Path(given["--DATA_DIR"]))
        if script == "train.py":
            if "--RESTART" in flags:
                files.remove()
            identity = f"{project.name} {len(Pretended.begun)}"
            if files.config.exists():
                identity = read_config(files)["wandb_id"]
            assert "--CONFIG" not in given or Path(given["--CONFIG"]).exists()
            model = {"name": given["--MODEL"], "dim_h": 8}
            settings = {"training": {"seed": int(given["--SEED"]), "start_from": given.get("--START_FROM")}}
            write_config(
                files, {"model": model, **settings, "data": data, "versions": {"torch": "2"}, "wandb_id": identity}
            )
            if step.name == Pretended.interrupted:
                return 130, log
            write_records(files.metrics, [{"step": 10 * n, "validation/cross_entropy": 3.0 / n} for n in (1, 2)])
            write_records(files.control, [{"step": 5, "rate": 9.5}, {"step": 9, "rate": 7.25, "target_rate": 30.0}])
            write_record(files.summary, {"step": 20, "best_epoch": len(Pretended.begun)})
            files.best.touch()
        elif script == "tune.py":
            study = project / f"best-{given['--MODEL']}-tiny.json"
            found = {"model": {"name": given["--MODEL"], "dim_h": 8}, "training": {"learning_rate": 0.01}}
            write_json(study, {**found, "found_by": {"data": data, "trial": len(Pretended.begun)}})
        elif script != "report.py":
            needed.append(files.best)
            write_record(files.summary, {**read_summary(files), step.name: len(Pretended.begun)})
        lacking = not all(path.exists() for path in needed)
        return (2 if lacking or step.name == Pretended.failing else 0), log


def fingerprint(data_dir: Path) -> str:
    return json.loads((data_dir / "tiny" / "statistics.json").read_text())["fingerprint"]


@pytest.fixture(autouse=True)
def pretended(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Pretend to run every step, but in the tests of processes."""
    Pretended.begun, Pretended.failing, Pretended.interrupted = [], "", ""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(plan, "StepRunner", Pretended)


def write_data(folder: Path, text: str = "a") -> None:
    """Write what the recipe reads of prepared data."""
    (folder / "data" / "tiny").mkdir(parents=True, exist_ok=True)
    (folder / "data" / "tiny" / "statistics.json").write_text(json.dumps({"fingerprint": text}))


def on(
    machine: Path, kept: Path, runs: list[Run] = PLAIN, budget: Budget = BUDGET, list_only: bool = False
) -> list[str]:
    """Run the recipe on a machine with folders of its own, and return the steps that it has begun."""
    if not (machine / "data").exists():
        write_data(machine)
    Pretended.begun = []
    places = Places(f"paper-{machine.name}", machine / "outputs", machine / "data")
    reproduce("tiny", places, runs, budget, list_only=list_only, kept=kept)
    return [name for name in Pretended.begun if name != "report"]


def project(machine: Path) -> Path:
    return machine / "outputs" / f"paper-{machine.name}"


def results(machine: Path) -> Any:
    """All that the report reads, of the looks of a controller what it shows."""
    found, failures = from_outputs(machine / "outputs", project(machine).name, names_in(project(machine)))
    assert not failures
    return [replace(each, control=[look for look in each.control if look.get("target_rate")]) for each in found]


def test_a_run_is_kept_once_its_last_step_is_done(tmp_path: Path):
    Pretended.failing = "reverse nvib-30-plain-s1"
    with pytest.raises(UserError, match="1 steps failed"):
        on(tmp_path / "a", tmp_path / "kept")
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["lm.json", "t-s1.json"]
    Pretended.failing = ""
    assert on(tmp_path / "a", tmp_path / "kept") == ["reverse nvib-30-plain-s1"]
    kept = json.loads((tmp_path / "kept" / "nvib-30-plain-s1.json").read_text())
    assert kept["summary"]["reverse nvib-30-plain-s1"] == 1
    assert next(iter(kept["steps"])) == "train nvib-30-plain-s1"
    assert str(tmp_path) not in json.dumps(kept)


def test_in_an_empty_project_nothing_is_done_again_and_the_report_has_the_same_rows(tmp_path: Path, capsys: Any):
    on(tmp_path / "a", tmp_path / "kept")
    before = results(tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "outputs")
    assert on(tmp_path / "b", tmp_path / "kept") == []
    assert results(tmp_path / "b") == before
    shown = capsys.readouterr().out
    assert "done before, with their figures in" in shown
    assert "trained again" not in shown
    assert on(tmp_path / "b", tmp_path / "kept") == []
    assert "done before" not in capsys.readouterr().out, "nothing is restored twice"


def test_runs_that_were_done_before_are_kept_too(tmp_path: Path):
    write_data(tmp_path / "a")
    places = Places("paper-a", tmp_path / "a" / "outputs", tmp_path / "a" / "data")
    reproduce("tiny", places, PLAIN, BUDGET)
    assert on(tmp_path / "a", tmp_path / "kept", list_only=True) == []
    assert not (tmp_path / "kept").exists()
    assert on(tmp_path / "a", tmp_path / "kept") == []
    assert len(list((tmp_path / "kept").iterdir())) == 3


def test_a_source_is_trained_again_only_where_a_step_that_is_left_needs_it(tmp_path: Path, capsys: Any):
    on(tmp_path / "a", tmp_path / "kept", ONE)
    kept = {name: (tmp_path / "kept" / name).read_text() for name in ("lm.json", "t-s1.json")}
    figures = results(tmp_path / "a")
    assert on(tmp_path / "b", tmp_path / "kept", ONE) == []
    begun = on(tmp_path / "b", tmp_path / "kept")
    own = ["train", "reconstruction-validation", "reconstruction-test", "sample", "forward", "reverse"]
    assert begun == ["train lm anew", "train t-s1 anew", *(f"{kind} nvib-30-plain-s1" for kind in own)]
    shown = capsys.readouterr().out
    assert "lm is trained again: its weights are not here, and nvib-30-plain-s1 needs them\n" in shown
    assert "t-s1 is trained again" in shown
    assert results(tmp_path / "b")[0] == figures[0], "the figures are those that were kept"
    assert {each.name: each for each in results(tmp_path / "b")}["t-s1"] == figures[1]
    assert {name: (tmp_path / "kept" / name).read_text() for name in kept} == kept
    (tmp_path / "kept" / "nvib-30-plain-s1.json").unlink()
    shutil.rmtree(project(tmp_path / "b") / "nvib-30-plain-s1")
    (project(tmp_path / "b") / "paper.json").write_text(
        json.dumps({n: r for n, r in state(tmp_path / "b").items() if "nvib" not in n})
    )
    capsys.readouterr()
    assert on(tmp_path / "b", tmp_path / "kept")[0] == "train nvib-30-plain-s1", "the weights are here now"
    assert "trained again" not in capsys.readouterr().out


def state(machine: Path) -> dict[str, Any]:
    return json.loads((project(machine) / "paper.json").read_text())


def test_a_training_that_is_interrupted_on_the_way_continues(tmp_path: Path):
    on(tmp_path / "a", tmp_path / "kept", ONE)
    Pretended.interrupted = "train t-s1"
    config = ExperimentFiles(project(tmp_path / "b") / "t-s1").config
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            on(tmp_path / "b", tmp_path / "kept")
    assert json.loads(config.read_text())["wandb_id"] == "paper-b 2", "its settings are its own until its end"
    Pretended.interrupted = ""
    begun = on(tmp_path / "b", tmp_path / "kept")
    assert begun[:2] == ["train t-s1", "train nvib-30-plain-s1"], "without a restart, and without measurements"
    assert config.read_text() == (project(tmp_path / "a") / "t-s1" / "config.json").read_text()


def test_an_attempt_that_failed_makes_room_and_its_weights_are_not_taken_for_those_of_the_run(tmp_path: Path):
    Pretended.failing = "train t-s1"
    with pytest.raises(UserError):
        on(tmp_path / "b", tmp_path / "other", ONE)
    Pretended.failing = ""
    files = ExperimentFiles(project(tmp_path / "b") / "t-s1")
    write_record(files.failure, {"reason": "the loss is not finite"})
    on(tmp_path / "a", tmp_path / "kept", ONE)
    assert on(tmp_path / "b", tmp_path / "kept", ONE) == []
    assert results(tmp_path / "b") == results(tmp_path / "a")
    assert files.best.exists()
    assert "train t-s1 anew" in on(tmp_path / "b", tmp_path / "kept")


def test_a_training_for_its_weights_that_fails_leaves_the_kept_figures_in_the_report(tmp_path: Path):
    on(tmp_path / "a", tmp_path / "kept", ONE)
    Pretended.failing = "train t-s1"
    with pytest.raises(UserError, match="train t-s1"):
        on(tmp_path / "b", tmp_path / "kept")
    assert results(tmp_path / "b") == results(tmp_path / "a")
    Pretended.failing = ""
    assert on(tmp_path / "b", tmp_path / "kept")[:2] == ["train t-s1", "train nvib-30-plain-s1"]


def test_a_process_that_died_before_it_restored_the_figures_restores_them_later(tmp_path: Path, monkeypatch: Any):
    on(tmp_path / "a", tmp_path / "kept", ONE)

    def die(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(KeptRuns, "_unpack", die)
        on(tmp_path / "b", tmp_path / "kept")
    gc.collect()  # as the end of a process, it gives up the claims
    assert state(tmp_path / "b")["train lm"]["status"] == "done"
    configs = [ExperimentFiles(project(tmp_path / machine) / "lm").config for machine in ("a", "b")]
    assert configs[0].read_text() != configs[1].read_text()
    on(tmp_path / "b", tmp_path / "kept")
    assert configs[0].read_text() == configs[1].read_text()


def test_a_project_that_was_moved_keeps_its_weights(tmp_path: Path):
    on(tmp_path / "a", tmp_path / "kept", ONE)
    shutil.move(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "outputs" / "paper-a").rename(project(tmp_path / "b"))
    assert on(tmp_path / "b", tmp_path / "kept")[0] == "train nvib-30-plain-s1"


def test_a_list_counts_what_is_kept_and_writes_nothing(tmp_path: Path, capsys: Any):
    on(tmp_path / "a", tmp_path / "kept", ONE)
    capsys.readouterr()
    assert on(tmp_path / "b", tmp_path / "kept", list_only=True) == []
    shown = capsys.readouterr().out
    assert [line.split()[1:] for line in shown.splitlines() if line.startswith("train ")] == [["0", "0", "3"]]
    assert [line.split()[1:] for line in shown.splitlines() if line.startswith("interp")] == [["1", "0", "0"]]
    assert on(tmp_path / "b", tmp_path / "kept", ONE, list_only=True) == []
    shown = capsys.readouterr().out
    assert [line.split()[1:] for line in shown.splitlines() if line.startswith("train ")] == [["2", "0", "0"]]
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["data"]
    on(tmp_path / "c", tmp_path / "empty", list_only=True)
    assert not (tmp_path / "empty").exists()


def test_runs_of_other_commands_are_done_again_and_replaced_at_their_end(tmp_path: Path, capsys: Any):
    on(tmp_path / "a", tmp_path / "kept")
    path = tmp_path / "kept" / "nvib-30-plain-s1.json"
    earlier = path.read_text()
    more = replace(BUDGET, samples=20)
    Pretended.failing = "reverse nvib-30-plain-s1"
    with pytest.raises(UserError, match="1 steps failed"):
        on(tmp_path / "b", tmp_path / "kept", budget=more)
    assert f"{path} is of other commands; its steps are run again\n" in capsys.readouterr().out
    assert "reconstruction-test nvib-30-plain-s1" in Pretended.begun
    assert "reconstruction-test t-s1" not in Pretended.begun
    assert path.read_text() == earlier
    Pretended.failing = ""
    on(tmp_path / "b", tmp_path / "kept", budget=more)
    assert path.read_text() != earlier
    assert on(tmp_path / "c", tmp_path / "kept", budget=more) == []


def test_a_run_is_not_used_where_its_source_has_other_commands(tmp_path: Path, capsys: Any):
    on(tmp_path / "a", tmp_path / "kept")
    other = [replace(each, flags=("--DIM_H", "64")) if each.name == "t" else each for each in PLAIN]
    begun = on(tmp_path / "b", tmp_path / "kept", other)
    assert "train nvib-30-plain-s1" in begun
    assert capsys.readouterr().out.count("is of other commands") == 2


def test_runs_of_other_data_are_not_used(tmp_path: Path, capsys: Any):
    on(tmp_path / "a", tmp_path / "kept", ONE)
    write_data(tmp_path / "b", "another text")
    assert len(on(tmp_path / "b", tmp_path / "kept", ONE)) == 5
    assert capsys.readouterr().out.count("is of other data (other text); its steps are run again") == 2
    assert on(tmp_path / "a", tmp_path / "kept", ONE) == [], "what is done here counts"


def test_a_study_is_kept_and_runs_of_the_settings_of_another_are_not_used(tmp_path: Path, capsys: Any):
    tuned = replace(BUDGET, trials=2)
    on(tmp_path / "a", tmp_path / "kept", ONE, tuned)
    assert on(tmp_path / "b", tmp_path / "kept", ONE, tuned) == []
    best = "outputs/paper-{0}-tuning/best-T-tiny.json"
    found = [(tmp_path / name / best.format(name)).read_text() for name in "ab"]
    assert found[0] == found[1]
    assert on(tmp_path / "b", tmp_path / "kept", PLAIN, tuned)[1] == "train t-s1 anew", "the study is not run again"
    kept = json.loads((tmp_path / "kept" / "tune-T.json").read_text())
    del kept["checksum"]
    kept["best"]["training"]["learning_rate"] = 0.02
    write_record(tmp_path / "kept" / "tune-T.json", kept)
    capsys.readouterr()
    assert "train t-s1" in on(tmp_path / "c", tmp_path / "kept", ONE, tuned)
    assert "t-s1.json is of the settings of another study" in capsys.readouterr().out


def test_an_experiment_of_other_settings_makes_room_for_the_one_that_is_kept(tmp_path: Path):
    on(tmp_path / "a", tmp_path / "kept", ONE)
    on(tmp_path / "b", tmp_path / "other", ONE, replace(BUDGET, max_steps=7))
    assert on(tmp_path / "b", tmp_path / "kept", ONE) == []
    assert not (project(tmp_path / "b") / "t-s1" / "best.safetensors").exists(), "weights of other settings"
    assert results(tmp_path / "b") == results(tmp_path / "a")
    assert on(tmp_path / "b", tmp_path / "kept")[:2] == ["train lm anew", "train t-s1 anew"]


@pytest.mark.parametrize("damage", ["{", "<<<<<<< HEAD\n{}\n", "[]", '{"steps": {}}'])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, damage: str):
    on(tmp_path / "a", tmp_path / "kept", ONE)
    (tmp_path / "kept" / "t-s1.json").write_text(damage)
    for list_only in (True, False):
        with pytest.raises(UserError, match=r"kept/t-s1\.json .*take it from git again, or remove it, and its steps"):
            on(tmp_path / "b", tmp_path / "kept", ONE, list_only=list_only)
    assert not (tmp_path / "b" / "outputs").exists()
    (tmp_path / "kept" / "t-s1.json").unlink()
    assert on(tmp_path / "b", tmp_path / "kept", ONE)[1] == "train t-s1"


@pytest.mark.parametrize("lacking", ["steps", "data", "config"])
def test_a_sound_file_of_another_kind_is_refused_in_one_line(tmp_path: Path, lacking: str):
    on(tmp_path / "a", tmp_path / "kept", ONE)
    path = tmp_path / "kept" / "t-s1.json"
    found = json.loads(path.read_text())
    write_record(path, {key: value for key, value in found.items() if key not in (lacking, "checksum")})
    for list_only in (True, False):
        with pytest.raises(UserError, match=rf"t-s1\.json is not a file of a kept run: it has no '{lacking}'; take it"):
            on(tmp_path / "b", tmp_path / "kept", ONE, list_only=list_only)
    assert not (tmp_path / "b" / "outputs").exists()


def test_a_command_without_its_places_is_the_same_on_every_machine():
    one, other = (Places(name, Path(name, "o"), Path(name, "d"), name) for name in ("x y", "z"))
    budget = replace(BUDGET, trials=2)
    steps = [plan.plan("tiny", places, RUNS, budget) for places in (one, other)]
    commands = [[portable(step.command) for step in each] for each in steps]
    assert commands[0] == commands[1]
    assert len(set(commands[0])) == len(commands[0])
    assert "--CONFIG best-NVIB-tiny.json" in " ".join(commands[0])


@pytest.mark.slow
@pytest.mark.timeout(900)  # a dozen scripts, which are slow on some machines
def test_one_command_goes_on_on_another_machine_and_its_report_is_the_same(tmp_path: Path):
    prepare_tiny(tmp_path / "data")
    flags = ("--DATA", "tiny", "--SEEDS", 1, "--MAX_STEPS", 20, "--NUMBER_PAIRS", 3, "--DATA_DIR", tmp_path / "data")
    flags += ("--NUMBER_SAMPLES", 10, "--KEPT", tmp_path / "kept")
    names = ("--EXPERIMENTS", "nvib-lambda10-delta0.05")
    run("paper", *flags, *names, "--OUTPUT_DIR", tmp_path / "a")
    shown = run("paper", *flags, *names, "--OUTPUT_DIR", tmp_path / "b").stdout
    assert " …" not in shown
    one, other = (tmp_path / machine / "paper" for machine in "ab")
    for path in sorted((one / "report").glob("*.[cmt]*")):
        assert path.read_text() == (other / "report" / path.name).read_text(), path
    for name in ("config.json", "summary.json", "metrics.jsonl"):
        assert (one / "lm" / name).read_bytes() == (other / "lm" / name).read_bytes()
    again = run("paper", *flags, "--EXPERIMENTS", "t", "--OUTPUT_DIR", tmp_path / "b").stdout
    assert "lm is trained again: its weights are not here, and t-s1 needs them" in again
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [
        *("lm.json", "nvib-lambda10-delta0.05-s1.json", "t-s1.json")
    ]
    assert all(path.stat().st_size < 50_000 for path in (tmp_path / "kept").iterdir())
    assert (one / "lm" / "config.json").read_bytes() == (other / "lm" / "config.json").read_bytes()
    (tmp_path / "kept" / "lm.json").write_text("{")
    refused = call("paper", *flags, *names, "--OUTPUT_DIR", tmp_path / "c", "--LIST", "True", expect=2)
    assert "lm.json cannot be read" in one_line_of_error(refused)
