"""Generate synthetic text in the form of a file of your own, with a report of its quality: `make synth`.

    python -m pipeline synth --DATA my_reviews.csv --TEXT_COLUMN text --NUMBER_SAMPLES 1000
    python -m pipeline synth --DATA my_reviews.csv --TEXT_COLUMN text --LABEL_COLUMN stars
    python -m pipeline synth --DATA people.csv --ROW_TEMPLATE

Runs prepareDatasets.py, train.py (the NVAE and a language model), sample.py with the better of the two, and the
evaluations, each as you would type it. The better one gives validation texts the lower perplexity; --MODEL overrules.
The rows of a table are sampled by a language model of rows, which no NVAE has beaten.
Both are built around the bundled pretrained model where make pretrained has installed it, and otherwise trained from
scratch. Writes outputs/synth/<name>/ or <name>-lm/: synthetic.<format>, quality.html and the other files of an
experiment.
"""

import argparse
import sys
from pathlib import Path

from pipeline.cli import types
from pipeline.cli.parser import (
    Parser,
    add_column_options,
    add_limit_options,
    check_column_types,
    preparation_flags,
)
from pipeline.data.base_models import BUNDLED, bundled_installed
from pipeline.data.documents import Split
from pipeline.data.formats import listed_formats
from pipeline.data.text_source import TextSource, check_source, dataset_name
from pipeline.recipes.runner import run_in_order
from pipeline.recipes.synth import (
    CANDIDATES,
    GENERATES,
    LONGEST_NAME,
    NVAE,
    PROJECT,
    ROW_STEPS,
    STEPS,
    STEPS_AROUND,
    VERY_FEW,
    VERY_FEW_STEPS,
    Order,
    better,
    sampling,
    training,
)
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_json

NONE = "none"  # of --PRETRAINED: models from scratch

FROM_SCRATCH = (
    "trained from scratch: on a few hundred texts such a model mostly repeats them, see the copies in quality.html; "
    "after make pretrained, models are built around SmolLM2-135M"
)


def parse(description: str) -> argparse.Namespace:
    """Parse the command line of a recipe with this description."""
    parser = Parser(description)
    group = parser.add_argument_group("text")
    group.add_argument(
        "--DATA",
        type=types.Checked(check_source),
        required=True,
        help=f"path of a {listed_formats()} file, also compressed with .gz behind its name, or a dataset on the hub as "
        "owner/name",
    )
    add_column_options(group)
    add_limit_options(group)
    group = parser.add_argument_group("amount")
    group.add_argument("--NUMBER_SAMPLES", type=types.integer(1, 10**7), default=1000, help="sentences to generate")
    group.add_argument(
        "--MAX_STEPS",
        type=types.integer(1),
        help=f"most optimizer steps of each training (default: {STEPS_AROUND} around a pretrained model, {STEPS} from "
        f"scratch; for the language model of rows {ROW_STEPS}, below {VERY_FEW:,} training rows {VERY_FEW_STEPS})",
    )
    group = parser.add_argument_group("model")
    group.add_argument(
        "--PRETRAINED",
        type=types.base,
        help="pretrained model that the models are built around: its name on the hub, a folder, bundled, or none for "
        "models from scratch (default: bundled where make pretrained has installed it, none otherwise and for rows)",
    )
    group.add_argument("--MODEL", choices=CANDIDATES, help="model that samples (default: the better one; LM for rows)")
    group.add_argument(
        "--PRIOR",
        choices=("plain", "learned"),
        default="plain",
        help="prior that the NVAE samples with: plain, or learned, the language model of the texts, with whose draws "
        "the latent decides the text; learned needs --MODEL NVIB, and texts (default: plain)",
    )
    arguments = parser.parse_args()
    if arguments.PRIOR == "learned" and (arguments.MODEL != NVAE or arguments.ROW_TEMPLATE is not None):
        what = "the rows of a table have none" if arguments.MODEL == NVAE else "name it, or leave --PRIOR out"
        raise UserError(f"--PRIOR learned is for texts that --MODEL {NVAE} samples; {what}")
    check_column_types(arguments.COLUMN_TYPES)
    columns = (arguments.TEXT_COLUMN, arguments.LABEL_COLUMN, arguments.ROW_TEMPLATE)
    TextSource(arguments.DATA, Split(0.05, 0.05, 42), None, *columns, arguments.DELIMITER)  # checks the flags
    if arguments.PRETRAINED is None:
        # Rows of a table have tokens of their own, which no pretrained model knows.
        arguments.PRETRAINED = BUNDLED if bundled_installed() and arguments.ROW_TEMPLATE is None else NONE
    if len(name := dataset_name(arguments.DATA, arguments.NAME)) > LONGEST_NAME:
        raise UserError(f"{name} leaves no room for the names of two experiments; take a shorter --NAME")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Run the steps in order. The first step that fails ends the recipe with its exit status."""
    from pipeline.experiments.paths import ExperimentFiles
    from pipeline.experiments.tracker import read_summary

    columns = (arguments.TEXT_COLUMN, arguments.LABEL_COLUMN, arguments.ROW_TEMPLATE)
    order = Order(
        arguments.DATA,
        *columns,
        arguments.NUMBER_SAMPLES,
        arguments.MAX_STEPS,
        arguments.NAME,
        arguments.DELIMITER,
        tuple(preparation_flags(arguments)),
        None if arguments.PRETRAINED == NONE else arguments.PRETRAINED,
        arguments.MODEL,
        arguments.PRIOR == "learned",
    )
    commands, output = training(order), Path("outputs")
    to_come = len(commands) + len(sampling(order, order.sampler or CANDIDATES[0]))
    trained = any(ExperimentFiles.of(output, PROJECT, name).config.exists() for name in order.experiments)
    keep = ["--REPLACE", "False"] if trained else []  # the data that earlier models were trained on
    try:
        minutes = run_in_order([[*commands[0], *keep]], of=to_come)
        if order.as_rows:
            known = read_json(Path("data") / order.name / "statistics.json", "prepare it again")
            commands = training(order, known["train"]["sentences"])
        minutes += run_in_order(commands[1:], first=2, of=to_come)
    except SystemExit as ended:
        if ended.code == 2 and trained:  # a step refused its input, in a line of its own
            print(
                f"synth: if {arguments.DATA} or the flags have changed since an earlier run, give another --NAME, or "
                f"remove the folders {order.name}* in {output / PROJECT}",
                file=sys.stderr,
            )
        raise
    model, reason = order.sampler, ""
    if model is None:
        folders = {one: ExperimentFiles.of(output, PROJECT, order.experiment(one)) for one in CANDIDATES}
        figures = {one: read_summary(files)[GENERATES[one]] for one, files in folders.items()}
        model, reason = better(figures)
        print(f"\n{reason} (--MODEL or MODEL= overrules)", flush=True)
    minutes += run_in_order(sampling(order, model), first=len(commands) + 1, of=to_come)
    folder = output / PROJECT / order.experiment(model)
    print(f"\nsynthetic text of {model} and its quality are in {folder}; it took {minutes:.1f} minutes")
    if reason:
        print(reason)
    if order.pretrained is None and not order.as_rows and not bundled_installed():
        print(FROM_SCRATCH)
