"""Train every model of the paper, measure everything, and write the report: `make paper`.

    python -m pipeline paper --DATA wikipedia-sample
    python -m pipeline paper --DATA wikitext2 --SEEDS 1
    python -m pipeline paper --LIST True                   what is done and what is left, and nothing else

The same command goes on where it was stopped. A step that fails is told of, what rests on it is left out, and the
others go on. Writes outputs/<PROJECT_NAME>/: an experiment a model and seed, paper.json (what is done, and how long it
took), logs/ (what every step said) and report/. The experiments themselves stand in pipeline/recipes/paper.py.
"""

import argparse

from pipeline.cli import types
from pipeline.cli.parser import Parser, add_project_options
from pipeline.data.corpora import NAMES
from pipeline.recipes.paper import RUNS, Budget, describe, plan
from pipeline.recipes.runner import Paper, Step
from pipeline.runtime.errors import UserError


def parse(description: str) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description)
    group = parser.add_argument_group("what is done")
    group.add_argument("--DATA", type=types.name, default="wikipedia-sample", help="dataset, prepared if it is not yet")
    group.add_argument(
        "--SEEDS",
        type=types.integer(0, 2**32 - 1),
        nargs="+",
        action=types.Distinct,
        default=[1, 2, 3],
        help="seeds of every experiment",
    )
    group.add_argument(
        "--EXPERIMENTS",
        nargs="+",
        action=types.Distinct,
        choices=[run.name for run in RUNS],
        metavar="NAME",
        help=f"of {', '.join(run.name for run in RUNS)} (default: all)",
    )
    group.add_argument(
        "--MAX_STEPS", type=types.integer(1), help="optimizer steps of every training (default: train.py's)"
    )
    group.add_argument(
        "--BATCH_SIZE", type=types.integer(1), help="sentences of every training's batches (default: train.py's)"
    )
    group.add_argument(
        "--NUMBER_SAMPLES", type=types.integer(1, 10**7), default=5000, help="sentences that each model generates"
    )
    group.add_argument(
        "--IMPORTANCE_SAMPLES", type=types.integer(1), default=16, help="draws a sentence for the likelihood's bounds"
    )
    group.add_argument("--NUMBER_PAIRS", type=types.integer(1), help="pairs that are interpolated (default: all)")
    group.add_argument(
        "--JOBS",
        type=types.integer(1),
        default=1,
        help="steps that run beside each other, each with its share of the processors' threads",
    )
    group.add_argument("--LIST", type=types.boolean, default=False, help="True: show what is done and left, and stop")
    add_project_options(parser, project="paper")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Parse, plan, run, report."""
    places = [
        *("--PROJECT_NAME", arguments.PROJECT_NAME),
        *("--OUTPUT_DIR", str(arguments.OUTPUT_DIR)),
        *("--DATA_DIR", str(arguments.DATA_DIR)),
        *("--WANDB_ENTITY", arguments.WANDB_ENTITY or "None"),
    ]
    runs = [run for run in RUNS if arguments.EXPERIMENTS is None or run.name in arguments.EXPERIMENTS]
    budget = Budget(
        arguments.SEEDS,
        arguments.MAX_STEPS,
        arguments.BATCH_SIZE,
        arguments.NUMBER_SAMPLES,
        arguments.IMPORTANCE_SAMPLES,
        arguments.NUMBER_PAIRS,
    )
    project = arguments.OUTPUT_DIR / arguments.PROJECT_NAME
    steps = plan(arguments.DATA, places, runs, budget)
    prepared = (arguments.DATA_DIR / arguments.DATA / "statistics.json").exists()  # however it was
    if not prepared and arguments.DATA not in NAMES:
        raise UserError(
            f"--DATA {arguments.DATA} is none of {', '.join(NAMES)}, and {arguments.DATA_DIR} holds no such prepared "
            "dataset; prepare your own text with prepareDatasets.py first"
        )
    if prepared:
        steps = [Step(s.name, s.command, tuple(n for n in s.needs if n != "prepare")) for s in steps[1:]]
    paper = Paper(steps, project / "paper.json", project / "logs")
    print(paper.table(), flush=True)
    if arguments.LIST:
        return
    from pipeline.runtime.files import write_text

    write_text(project / "settings.json", describe(runs, budget) + "\n")
    failed = paper.run(arguments.JOBS)
    # The report is written whatever is missing: that is told in it.
    names = [step.name.removeprefix("train ") for step in steps if step.name.startswith("train ")]
    begun = [name for name in names if (project / name / "config.json").exists()]
    command = ("report.py", "--PROJECT_NAME", arguments.PROJECT_NAME, "--OUTPUT_DIR", str(arguments.OUTPUT_DIR))
    report = Step("report", (*command, "--EXPERIMENTS", *begun))
    failed += [report] if paper.execute(report)[0] else []
    minutes = paper.seconds() / 60
    print(f"\n{paper.table()}\n\nthe steps that are done took {minutes:.1f} minutes, each by itself, together")
    if failed:
        raise UserError(
            f"{len(failed)} steps failed or rest on one that did: {', '.join(step.name for step in failed)}; what they "
            f"said is in {paper.logs}, and the same command tries them again"
        )
    print(f"the report: {project / 'report' / 'report.md'}")
