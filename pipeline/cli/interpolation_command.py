"""Command of interpolation_evaluation.py: interpolate pairs of sentences and score the results."""

import argparse
import sys

from pipeline.cli import types
from pipeline.cli.parser import (
    Parser,
    add_batch_option,
    add_experiment_options,
    add_judge_option,
    add_reading_option,
)


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a script with this description."""
    parser = Parser(description, together=True)
    add_experiment_options(parser)
    group = parser.add_argument_group("interpolation")
    group.add_argument(
        "--RUN_INTERPOLATIONS",
        type=types.boolean,
        default=True,
        help="True: interpolate; False: score the interpolations of an earlier run",
    )
    group.add_argument(
        "--NUMBER_PAIRS",
        type=types.integer(1),
        help="number of pairs of sentences, from the first (default: half the validation split, each sentence once)",
    )
    add_judge_option(group, required=False)
    add_reading_option(group)
    add_batch_option(group)
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Interpolate, or read earlier interpolations, write examples and print the scores."""
    from pipeline.evaluation.bleu import interpolation_figures
    from pipeline.evaluation.judge import figure_name, judged_by, load_judge, novel_perplexity, require_experiment
    from pipeline.experiments.config import other_reading, read_config, settings_from_json
    from pipeline.experiments.load import load_experiment
    from pipeline.experiments.metrics import under_reading
    from pipeline.experiments.paths import ExperimentFiles
    from pipeline.experiments.tracker import (
        Tracker,
        check_login,
        fingerprint,
        read_summary,
        tracking,
        warn_if_outdated,
    )
    from pipeline.generation.generate import interpolations, read_interpolations
    from pipeline.reporting.console import interpolation_blocks
    from pipeline.runtime.files import as_jsonl, write_text
    from pipeline.runtime.processes import is_first

    if arguments.LANGUAGE_MODEL is not None:
        reason = "interpolations are judged by the tokens of the data"
        require_experiment(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.LANGUAGE_MODEL, reason)
    check_login(arguments.WANDB_ENTITY)
    files = ExperimentFiles.of(arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.EXPERIMENT_NAME)
    config = read_config(files)
    settings = settings_from_json(config["model"], files.config)
    reading = other_reading(settings, arguments.EXPERIMENT_NAME, arguments.READING)
    files.claim()
    of_reading = "/reading_" if reading is None else f"/reading_{reading}/"
    keys = [key for key in read_summary(files) if key.startswith("interpolation/")]
    own = [key for key in keys if (of_reading in key) == (reading is not None)]
    earlier: list[str] = []  # keys of figures of other interpolations, or of another judge
    path = files.result("interpolations.jsonl", reading)
    examples = files.result("interpolation_examples.txt", reading)
    if arguments.RUN_INTERPOLATIONS:
        experiment = load_experiment(
            arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.EXPERIMENT_NAME, arguments.DATA_DIR, reading
        )
        rows = interpolations(experiment, arguments.NUMBER_PAIRS, arguments.GENERATION_BATCH_SIZE)
        if is_first() and not (path.exists() and path.read_bytes() == as_jsonl(rows).encode()):
            # The figures of the old ones are removed first, so that a killed process leaves no outdated figure.
            earlier = own
            if earlier:
                Tracker(files, run=None, offline=True).summarise({}, outdated=earlier)
            write_text(path, as_jsonl(rows))
    else:
        rows = read_interpolations(path)[: arguments.NUMBER_PAIRS]
        if is_first() and len(rows) < (arguments.NUMBER_PAIRS or 0):
            print(f"warning: {path} has {len(rows)} pairs alone; all are scored", file=sys.stderr)
        pairs, texts = under_reading({"interpolation/pairs": 0, "interpolation/rows_fingerprint": ""}, reading)
        known, now = read_summary(files), fingerprint([as_jsonl(rows)])
        # An earlier version did not record the fingerprint; then the rows count as the same.
        earlier = own if known.get(pairs) != len(rows) or known.get(texts, now) != now else []
        warn_if_outdated(files, path, pairs, "interpolation_evaluation.py --RUN_INTERPOLATIONS True")
    judged, judge_names = {}, {}
    if arguments.LANGUAGE_MODEL is not None:
        judge = load_judge(
            arguments.OUTPUT_DIR, arguments.PROJECT_NAME, arguments.LANGUAGE_MODEL, arguments.DATA_DIR, config
        )
        novel = figure_name(judge, "novel_forward_perplexity")
        earlier = [*earlier, *(key for key in own if key.rpartition("/")[2].startswith(novel))]
        judged = novel_perplexity(judge, rows, arguments.GENERATION_BATCH_SIZE)
        judge_names = judged_by(judge, f"interpolation/{novel}")
    if not is_first():
        return  # only rank 0 writes files and logs
    write_text(examples, interpolation_blocks(rows[:100]))
    figures = interpolation_figures(rows) | {"interpolation/rows_fingerprint": fingerprint([as_jsonl(rows)])}
    with tracking(files, config, arguments.WANDB_ENTITY) as tracker:
        tracker.summarise(under_reading(figures | judged | judge_names, reading), outdated=earlier)
    print(interpolation_blocks(rows[:3]))
    print("  tau   BLEU to source   BLEU to target   novel")
    for tau in rows[0]["outputs"]:
        bleu_source, bleu_target, novel = (
            figures[f"interpolation/tau_{tau}/{name}"] for name in ("bleu_source", "bleu_target", "novel_fraction")
        )
        print(f"  {tau:<5} {bleu_source:14.2f} {bleu_target:16.2f} {novel:7.1%}")
    for name, value in judged.items():
        print(f"  {name}: {value:.2f}")
    done = "written to" if arguments.RUN_INTERPOLATIONS else "scored as they are in"
    print(f"{len(rows)} pairs, {done} {path}; examples in {examples}")
