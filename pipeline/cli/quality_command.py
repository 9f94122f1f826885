"""Command of quality.py: compare samples with held-out real text."""

import argparse
import os
import sys

from pipeline.cli import types
from pipeline.cli.parser import Parser, add_batch_option, add_experiment_options, add_judge_option, add_subset_option


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a script with this description."""
    parser = Parser(description)
    add_experiment_options(parser)
    group = parser.add_argument_group("quality")
    add_judge_option(group, required=False, pretrained=True)
    add_subset_option(group, "split of real text that the samples are compared with")
    distance = types.number(0, 0.5)
    group.add_argument(
        "--NEAR_COPY_DISTANCE",
        type=distance,
        default=0.2,
        help="largest share of its tokens, in [0, 0.5], that is edited in a near copy of a training sentence; a "
        "sentence is also a near copy if one training sentence has all but this share of its 3-grams",
    )
    group.add_argument(
        "--DROP_COPIES",
        type=types.BooleanOr(distance),
        default=False,
        help="True: write the samples without exact and near copies into files of their own, and synthetic.<format> "
        "without copies; a number in [0, 0.5]: do so with this distance in place of --NEAR_COPY_DISTANCE",
    )
    group.add_argument(
        "--TARGET_COLUMN",
        type=types.label,
        help="column of a table that boosted trees predict after training on the samples; the default is the last "
        "column with 2 to 20 values, otherwise the last number",
    )
    add_batch_option(group)
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Measure the samples, write the report and print it."""
    # OpenMP reads it when PyTorch is imported. A thread that waits actively occupies a core, and the thread that it
    # waits for may need that core when other processes run.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from pipeline.data.writers import write_synthetic
    from pipeline.evaluation.judge import is_experiment, load_judge
    from pipeline.evaluation.judged_samples import family_warning, load_base_judge
    from pipeline.evaluation.sample_quality import Material, about_judge, measure, without_copies
    from pipeline.evaluation.sentence_encoder import load_encoder
    from pipeline.evaluation.table_comparison import check_target
    from pipeline.experiments.load import load_experiment
    from pipeline.experiments.tracker import check_login, check_samples, read_summary, tracking
    from pipeline.generation.generate import read_samples
    from pipeline.reporting.console import of_own_form, on_one_line
    from pipeline.reporting.quality_page import as_text, compared, page
    from pipeline.runtime.files import write_json, write_jsonl, write_text

    check_login(arguments.WANDB_ENTITY)
    places = arguments.OUTPUT_DIR, arguments.PROJECT_NAME
    experiment = load_experiment(*places, arguments.EXPERIMENT_NAME, arguments.DATA_DIR)
    if arguments.TARGET_COLUMN is not None:
        check_target(experiment.data, arguments.TARGET_COLUMN)
    experiment.files.claim()
    near, drop = arguments.NEAR_COPY_DISTANCE, arguments.DROP_COPIES
    rows = read_samples(experiment.files)
    name, judge = arguments.LANGUAGE_MODEL, None
    if name is not None and is_experiment(*places, name):
        judge = load_judge(*places, name, arguments.DATA_DIR, experiment.config)
    elif name is not None:
        judge = load_base_judge(*places, name)
        print(
            f"{name} is a pretrained judge: it scores fluency; the reverse perplexity and the calibrated attack need "
            "an experiment of --MODEL LM"
        )
        if warning := family_warning(experiment.config, judge):
            print(warning, file=sys.stderr)
    check_samples(experiment.files, rows)
    drop = {True: near, False: None}[drop] if isinstance(drop, bool) else drop
    size = arguments.GENERATION_BATCH_SIZE
    material = Material(
        experiment, rows, arguments.DATA_SUBSET, judge, near, drop, size, load_encoder(), arguments.TARGET_COLUMN
    )
    quality = measure(material)
    folder, dropped, written = experiment.files.folder, "", None
    title = f"Quality of the samples of {arguments.EXPERIMENT_NAME}"
    if drop is not None:
        kept, rows_file = without_copies(material, quality), experiment.files.samples_without_copies
        text_file = rows_file.with_suffix(".txt")
        write_jsonl(rows_file, kept)
        write_text(text_file, "".join(on_one_line(row["text"]) + "\n" for row in kept))
        dropped = (
            f"{len(rows) - len(kept)} of {len(rows)} samples dropped as copies (up to {drop:.0%}); the others are in "
            f"{rows_file.name} and {text_file.name}, all of them still in {experiment.files.samples.name}."
        )
        written = write_synthetic(kept, experiment.data.statistics.get("source") or {}, folder)
        if written.path is not None:
            dropped += f" {written.path.name} is without the copies, too; sample.py writes it with all."
    elif (earlier := experiment.files.samples_without_copies).exists():
        written = write_synthetic(rows, experiment.data.statistics.get("source") or {}, folder)
        for path in (earlier, earlier.with_suffix(".txt")):
            path.unlink(missing_ok=True)
        dropped = f"No copies are dropped: {earlier.name} and {earlier.stem}.txt of an earlier run are removed"
        dropped += f", and {written.path.name} is of all samples." if written.path is not None else "."
    report, html = experiment.files.quality, page(material, quality, title, dropped)
    write_json(report, {"compared": compared(material, quality), "dropped": dropped, **quality.as_json()})
    write_text(report.with_suffix(".html"), html)
    with tracking(experiment.files, experiment.config, arguments.WANDB_ENTITY) as tracker:
        outdated = [key for key in read_summary(experiment.files) if key.startswith("quality/")]
        tracker.summarise(quality.summary() | about_judge(material), outdated)
    print(as_text(quality.rows))
    print(f"{dropped}\n" if dropped else "", end="")
    if written is not None and written.rejected:
        print(of_own_form(written))
    print(f"{compared(material, quality)} Written to {report.with_suffix('.html')} and {report}")
