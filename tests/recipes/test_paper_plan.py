"""The steps of the paper recipe: their order and their flags."""

import re
from dataclasses import replace
from pathlib import Path

from pipeline.recipes.paper import RUNS
from pipeline.recipes.plan import Budget, Places, plan, with_sources
from tests.helpers import call, one_line_of_error, prepare_tiny

BUDGET = Budget(seeds=(1, 2, 3), max_steps=None, batch_size=16, samples=10, importance_samples=2, pairs=None)
PLACES = Places("p", Path("o"), Path("d"))


def test_every_step_comes_after_what_it_needs_and_every_model_has_every_seed():
    steps = plan("tiny", PLACES, RUNS, BUDGET)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    for number, step in enumerate(steps):
        assert set(step.needs) <= set(names[:number])
    trained = [step.command for step in steps if step.command[0] == "train.py"]
    for model in {each.model for each in RUNS} | {"LM"}:
        seeds = {c[c.index("--SEED") + 1] for c in trained if c[c.index("--MODEL") + 1] == model}
        assert seeds == ({"0", "1", "2", "3"} if model == "LM" else {"1", "2", "3"})  # the judge's seed is no run's


def test_samples_of_the_language_model_and_of_models_that_write_alone_are_drawn_in_one_way():
    """Without a latent that decides, greedy decoding repeats one sentence; other draws would not compare."""
    steps = {step.name: step.command for step in plan("tiny", PLACES, RUNS, BUDGET)}
    assert {"sample lm-s1", "forward lm-s1", "reverse lm-s1"} <= steps.keys()
    drawn = steps["sample lm-s1"]
    for name in ("nvib-30-s1", "nvib-30-plain-s1"):
        other = steps[f"sample {name}"]
        for flag in ("--DECODING", "--TOP_P"):
            assert drawn[drawn.index(flag) + 1] == other[other.index(flag) + 1]
    assert drawn[drawn.index("--DECODING") + 1] == "sample"
    assert "--DECODING" not in steps["sample nvib-s1"]
    chosen = plan("tiny", PLACES, RUNS, replace(BUDGET, sampling=("--DECODING", "sample", "--TOP_P", "0.9")))
    assert all(step.command.count("--DECODING") == 1 for step in chosen if step.name.startswith("sample "))


def test_every_training_has_the_budget():
    trained = [step.command for step in plan("tiny", PLACES, RUNS, BUDGET) if step.command[0] == "train.py"]
    assert all(c[c.index("--BATCH_SIZE") + 1] == "16" and "--MAX_STEPS" not in c for c in trained)
    assert all(c[-8:] == PLACES.flags for c in trained)
    assert PLACES.flags == ("--PROJECT_NAME", "p", "--OUTPUT_DIR", "o", "--DATA_DIR", "d", "--WANDB_ENTITY", "None")


def test_passes_trials_and_the_vocabulary_reach_the_commands():
    budget = replace(BUDGET, epochs=5, trials=8, vocabulary=8000)
    steps = {step.name: step for step in plan("tiny", PLACES, RUNS, budget)}
    assert steps["prepare"].command[3:7] == ("--TOKENIZER", "wordpiece", "--VOCAB_SIZE", "8000")
    models = {run.model for run in RUNS}
    assert {name for name in steps if name.startswith("tune ")} == {f"tune {model}" for model in models}
    for model in models:
        command = steps[f"tune {model}"].command
        assert [command[command.index(flag) + 1] for flag in ("--TRIALS", "--SEEDS", "--EPOCHS")] == ["8", "0", "1"]
        assert command[command.index("--PROJECT_NAME") + 1] == "p-tuning"
        assert command.count("--PROJECT_NAME") == 1
    assert [name for name in steps if name.startswith("tune ")] == [
        f"tune {m}" for m in ("T", "LM", "VTV", "VTP", "VTS", "NVIB")
    ]
    nvib = steps["train nvib-s2"]
    assert nvib.command[nvib.command.index("--CONFIG") + 1] == "o/p-tuning/best-NVIB-tiny.json"
    assert "--KL_WARMUP" not in nvib.command
    assert nvib.needs == ("prepare", "tune NVIB")
    assert nvib.command[nvib.command.index("--EPOCHS") + 1] == "5"
    assert "--MAX_STEPS" not in nvib.command
    usual = {step.name: step.command for step in plan("tiny", PLACES, RUNS, replace(BUDGET, trials=8))}
    part = usual["tune T"]
    assert part[part.index("--MAX_STEPS") + 1] == "300", "a fifth of the default of train.py"
    whole = usual["train t-s1"]
    assert whole[whole.index("--MAX_STEPS") + 1] == "1500", "the file of the study has the steps of a trial"
    assert "--MAX_STEPS" not in usual["train nvib-30-s1"], "train.py's default, without a study"
    swept = steps["train nvib-lambda3-delta0.1-s1"].command
    assert "--CONFIG" not in swept
    assert not any(step.startswith("tune ") for step in (s.name for s in plan("tiny", PLACES, RUNS, BUDGET)))


def test_a_study_keeps_the_flags_of_its_run_and_weighs_the_divergences_as_the_loss_does():
    steps = {step.name: step.command for step in plan("tiny", PLACES, RUNS, replace(BUDGET, trials=8))}

    def value(name: str, flag: str) -> str | None:
        return steps[name][steps[name].index(flag) + 1] if flag in steps[name] else None

    for name, wanted in {
        "tune T": (None, None, None, None),
        "tune VTS": ("1", "1", None, None),
        "tune NVIB": ("1", "1", "1", "1"),
    }.items():
        weights = ("KL_GAUSSIAN_LAMBDA", "KL_GAUSSIAN_WEIGHT", "KL_DIRICHLET_LAMBDA", "KL_DIRICHLET_WEIGHT")
        assert tuple(value(name, f"--{weight}") for weight in weights) == wanted
    assert value("tune NVIB", "--ALPHA_ACTIVATION") == "relu"
    assert value("tune NVIB", "--KL_WARMUP") == "0.4"


def test_the_learned_prior_is_the_language_model_of_the_same_seed():
    steps = {step.name: step for step in plan("tiny", PLACES, RUNS, BUDGET)}
    assert steps["train nvib-30-s3"].needs == ("prepare", "train t-s3")
    prior = steps["prior nvib-30-s3"]
    assert prior.command[:5] == ("train_prior.py", "--EXPERIMENT_NAME", "nvib-30-s3", "--FROM", "lm-s3")
    assert set(prior.needs) == {"train nvib-30-s3", "train lm-s3"}
    drawn = steps["sample nvib-30-s3"]
    assert "prior nvib-30-s3" in drawn.needs
    assert drawn.command[drawn.command.index("--PRIOR") + 1] == "learned"
    assert "--PRIOR" not in steps["sample nvib-s3"].command
    assert {run.name for run in with_sources(RUNS, ["nvib-30"])} == {"t", "lm", "nvib-30"}


def test_draws_of_the_prior_are_in_training_where_the_plain_prior_is_sampled_alone():
    steps = {step.name: step for step in plan("tiny", PLACES, RUNS, BUDGET)}
    learned, plain = (steps[f"train {name}-s1"].command for name in ("nvib-30", "nvib-30-plain"))
    assert set(plain) - set(learned) == {"nvib-30-plain-s1", "--PRIOR_TEXTS", "0.5"}
    assert "prior nvib-30-plain-s1" not in steps
    assert "--PRIOR" not in steps["sample nvib-30-plain-s1"].command


def test_data_with_another_vocabulary_are_refused(tmp_path: Path):
    prepare_tiny(tmp_path / "data")
    flags = ("--DATA", "tiny", "--DATA_DIR", tmp_path / "data", "--OUTPUT_DIR", tmp_path / "outputs")
    refused = one_line_of_error(call("paper", *flags, "--VOCAB_SIZE", 8000, "--LIST", "True", expect=2))
    assert "prepared with the tokenizer wordpiece, --VOCAB_SIZE 200" in refused
    listed = call("paper", *flags, "--VOCAB_SIZE", 200, "--EPOCHS", 1, "--TRIALS", 1, "--LIST", "True").stdout
    assert re.search(r"^tune +0 +0 +6$", listed, re.MULTILINE)
    both = one_line_of_error(call("paper", *flags, "--EPOCHS", 1, "--MAX_STEPS", 5, expect=2))
    assert "--EPOCHS and --MAX_STEPS both set the amount" in both


def test_the_sweep_of_the_regulariser_has_at_least_four_settings():
    swept = [run for run in RUNS if "--KL_DIRICHLET_LAMBDA" in run.flags and "--DELTA" in run.flags]
    assert len({run.flags for run in swept}) >= 4
    assert all({"reconstruction-validation", "regularisation"} <= set(run.measures) for run in swept)
