"""The demo: the main job of the suite on the embedded Wikipedia sample, from text to the final screen."""

from collections.abc import Mapping

from pipeline.recipes.plan import JUDGE, JUDGE_RUN, LEARNED, Run, training_flags

PROJECT = "demo"
DATA = "wikipedia-sample"
TRANSFORMER, NVAE = "vanillaTransformer", "nvib"
RUNS: Mapping[str, Run] = {
    TRANSFORMER: Run("t", "T", (), steps=1000),
    JUDGE: JUDGE_RUN,
    NVAE: Run(
        "nvib",
        "NVIB",
        (),
        # No draws of the plain prior in training (`--PRIOR_TEXTS`): the learned prior needs none, and with them the
        # decoder gives short texts back as others.
        ("--TARGET_RATE", "30", "--COOLDOWN", "0.2", "--BOTTLENECK", "plain"),
        start_from=TRANSFORMER,
        steps=1500,
    ),
}
SAMPLED = {NVAE: "New sentences of the NVAE, with its learned prior", JUDGE: "New sentences of the language model"}
SAMPLING = ("--NUMBER_SAMPLES", "500", "--DECODING", "sample", "--TOP_P", "0.95")
EXPECTATION = (
    "Trained from scratch for minutes on 16,000 sentences, the NVAE gives back nearly all of a text, "
    "and what it writes anew has the vocabulary of the corpus but no sense yet, like the samples of the language "
    "model; a low F-PPL tells of frequent words, not of good text, and the language model judges its own samples "
    "too kindly. The learned prior is that language model: it imagines a text, and the latent is drawn from the "
    "posterior of it. So the latent decides on a sample, as the last two figures say. Draws of the plain prior, which "
    "this decoder has never seen, give no text."
)


def steps() -> list[list[str]]:
    """Return the demo's commands in order, each a script with its flags."""
    commands = [["prepareDatasets.py", "--DATA", DATA]]
    for name, run in RUNS.items():
        start = () if run.start_from is None else ("--START_FROM", run.start_from)
        limit = ("--BATCH_SIZE", "32", "--MAX_STEPS", str(run.steps or 1000))
        commands.append(["train.py", *_experiment(name), *training_flags(run), *start, "--DATA", DATA, *limit])
    for name in SAMPLED:
        if name == NVAE:
            commands.append(["train_prior.py", *_experiment(name), "--FROM", JUDGE, "--RESTART", "True"])
        prior = LEARNED if name == NVAE else ()
        commands.append(["sample.py", *_experiment(name), *prior, *SAMPLING])
        commands.append(["forwardSampleEvaluation.py", *_experiment(name), "--LANGUAGE_MODEL", JUDGE])
    for name in (TRANSFORMER, NVAE):
        commands.append(["reconstruction.py", *_experiment(name)])
        commands.append(["interpolation_evaluation.py", "--RUN_INTERPOLATIONS", "True", *_experiment(name)])
    commands.append(["report.py", "--PROJECT_NAME", PROJECT, "--EXPERIMENTS", *RUNS])
    return commands


def _experiment(name: str) -> list[str]:
    return ["--PROJECT_NAME", PROJECT, "--EXPERIMENT_NAME", name]
