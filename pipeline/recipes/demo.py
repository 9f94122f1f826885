"""The demo: the main job of the suite on the embedded Wikipedia sample, from text to the final table."""

from pipeline.recipes.paper import flags_of

PROJECT = "demo"
DATA = "wikipedia-sample"
EXPERIMENTS = {"vanillaTransformer": "t", "nvib": "nvib"}  # experiment name: run of the paper
TRAINING = ("--BATCH_SIZE", "32", "--MAX_STEPS", "1000")


def steps() -> list[list[str]]:
    """Return the demo's commands in order, each a script with its flags."""
    commands = [["prepareDatasets.py", "--DATA", DATA]]
    for name, run in EXPERIMENTS.items():
        commands.append(["train.py", *_experiment(name), *flags_of(run), "--DATA", DATA, *TRAINING])
    commands.append(["sample.py", *_experiment("nvib")])
    for name in EXPERIMENTS:
        commands.append(["reconstruction.py", *_experiment(name)])
        commands.append(["interpolation_evaluation.py", "--RUN_INTERPOLATIONS", "True", *_experiment(name)])
    commands.append(["report.py", "--PROJECT_NAME", PROJECT, "--EXPERIMENTS", *EXPERIMENTS])
    return commands


def _experiment(name: str) -> list[str]:
    return ["--PROJECT_NAME", PROJECT, "--EXPERIMENT_NAME", name]
