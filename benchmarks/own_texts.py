"""Compare models around a pretrained base with one from scratch on own texts: the NVAE, and the base without a latent.

    python -m benchmarks.own_texts --FILES facts.csv news.csv --FOLDER own --SEEDS 1 2 3

Each file has a column `text`. Half of its texts are for training, a tenth for validation, the rest for testing; the
seed divides, trains and draws. All samples are judged by the untouched base, and train one language model more, whose
perplexity on the test texts is R-PPL. Each model's figures are written whole or not at all, and the same command
resumes after them; the minutes are those of its own process. Writes benchmarks/own_texts.json, from which
`benchmarks.doc_tables` writes the table of docs/pretrained.md.
"""

import argparse
import json
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.machine import processor
from benchmarks.script_runs import ROOT, run_script
from pipeline.cli import types
from pipeline.cli.entry import run
from pipeline.cli.parser import Parser
from pipeline.data.base_models import BUNDLED
from pipeline.data.text_source import dataset_name
from pipeline.experiments.paths import ExperimentFiles
from pipeline.recipes.synth import AROUND, FROM_SCRATCH, STEPS_AROUND, STOPPING
from pipeline.runtime.files import read_json, write_json

RESULTS = ROOT / "benchmarks" / "own_texts.json"
SHARES = ("--VALIDATION_FRACTION", "0.1", "--TEST_FRACTION", "0.4")
LM, NVAE, LEARNED, SCRATCH = "lm", "nvae", "learned", "scratch"
MODELS = (LM, NVAE, LEARNED, SCRATCH)  # in the order in which each needs the one before
SMALL = ("--NUM_HEADS", "4", "--BATCH_SIZE", "32", "--DROPOUT", "0")  # from scratch, as in `make synth`
DRAWN = ("--DECODING", "sample", "--TOP_P", "0.95")
FIGURES = {  # names in the table, and those in an experiment's summary
    "bits_per_character": "samples/pretrained_bits_per_character",
    "token_perplexity": "samples/pretrained_forward_perplexity",
    "mauve": "samples/semantic_mauve",
    "distinct_2": "samples/distinct_2",
    "self_bleu": "samples/self_bleu",
    "copies": "samples/exact_training_fraction",
    "runs": "samples/training_run_fraction",
}
OWN = {  # figures that real text does not have
    "bleu": "test/reconstruction_bleu",
    "rate": "validation/rate",
    "same_draw": "samples/same_draw_bleu",
    "different_draws": "samples/different_draws_bleu",
    "membership": "quality/membership_auc",
}
EXAMPLES = 3  # first samples that are kept


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(__doc__ or "")
    group = parser.add_argument_group("runs")
    group.add_argument("--FILES", type=Path, nargs="+", required=True, help="CSV files with a column text")
    group.add_argument("--FOLDER", type=types.folder, default=Path("own_texts"), help="data and experiments")
    group.add_argument("--SEEDS", type=types.integer(0, 10**6), nargs="+", default=[1, 2, 3], help="seeds of the runs")
    group.add_argument("--COUNT", type=types.integer(50), default=256, help="samples of each model")
    group.add_argument("--STEPS", type=types.integer(1), default=STEPS_AROUND, help="most steps around the base")
    group.add_argument("--SCRATCH_STEPS", type=types.integer(1), default=1500, help="steps of T and NVAE from scratch")
    group.add_argument("--JUDGE_STEPS", type=types.integer(1), default=32, help="most steps of the model behind R-PPL")
    group.add_argument("--PRETRAINED", type=types.base, default=BUNDLED, help="base, which also judges")
    group.add_argument("--RESULTS", type=Path, default=RESULTS, help="file of the results")
    return parser.parse_args()


@dataclass(frozen=True)
class Case:
    """One file with one seed.

    Args:
        file: CSV file.
        seed: seed of splits, training and samples.
        arguments: the command line.
    """

    file: Path
    seed: int
    arguments: argparse.Namespace

    @property
    def project(self) -> str:
        """Name of the project, and of the data for the base's tokenizer."""
        return f"{dataset_name(str(self.file), None)}-s{self.seed}"

    @property
    def data(self) -> Path:
        """Folder of the prepared data."""
        return self.arguments.FOLDER / "data"

    @property
    def outputs(self) -> Path:
        """Folder of the experiments."""
        return self.arguments.FOLDER / "outputs"

    def files(self, model: str) -> ExperimentFiles:
        """Files of a model's experiment."""
        return ExperimentFiles.of(self.outputs, self.project, model)

    def script(self, name: str, *flags: str) -> None:
        """Run a script on the data of this case."""
        run_script(name, *flags, "--DATA_DIR", self.data)

    def on(self, model: str, name: str, *flags: str) -> None:
        """Run a script on a model's experiment."""
        place = ("--OUTPUT_DIR", str(self.outputs), "--PROJECT_NAME", self.project, "--EXPERIMENT_NAME", model)
        self.script(name, *place, *flags)

    def prepare(self) -> None:
        """Prepare the data, for the base's tokenizer and for one of their own."""
        base = self.arguments.PRETRAINED
        for name, tokenizer in ((self.project, ("--TOKENIZER", base)), (f"{self.project}-{SCRATCH}", ())):
            if not (self.data / name).exists():
                split = (*SHARES, "--SEED", str(self.seed))
                source = ("--DATA", str(self.file), "--TEXT_COLUMN", "text", "--NAME", name)
                self.script("prepareDatasets.py", *source, *split, *tokenizer)

    def train(self, model: str) -> None:
        """Train a model; one around the base stops by its validation loss."""
        seed, base = ("--SEED", str(self.seed)), ("--PRETRAINED", self.arguments.PRETRAINED)
        around = (*base, *STOPPING, "--DATA", self.project, "--MAX_STEPS", str(self.arguments.STEPS), *seed)
        if model == LM:
            self.on(LM, "train.py", "--MODEL", "LM", *around)
        elif model == NVAE:
            self.on(NVAE, "train.py", "--MODEL", "NVIB", *around, *AROUND, "--START_FROM", LM)
        elif model == SCRATCH:
            data = ("--DATA", f"{self.project}-{SCRATCH}", *SMALL, *seed)
            steps = ("--MAX_STEPS", str(self.arguments.SCRATCH_STEPS))
            self.on("t", "train.py", "--MODEL", "T", *data, *steps)
            self.on(SCRATCH, "train.py", "--MODEL", "NVIB", *data, *steps, "--START_FROM", "t", *FROM_SCRATCH)
        else:
            self.on(NVAE, "train_prior.py", "--FROM", LM, "--RESTART", "True")

    def measure(self, model: str) -> dict[str, Any]:
        """Train a model, sample, and return the figures."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.train(model)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        minutes = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60
        name = NVAE if model == LEARNED else model
        learned = (
            ("--PRIOR", "learned", "--PRIOR_TOP_P", "0.95", "--LATENT_TEMPERATURE", "0.5") if model == LEARNED else ()
        )
        size = ("--GENERATION_BATCH_SIZE", "64")
        drawn = ("--NUMBER_SAMPLES", str(self.arguments.COUNT), "--SEED", str(self.seed))
        self.on(name, "sample.py", *drawn, *DRAWN, *learned, *size)
        test, judge = ("--DATA_SUBSET", "test"), ("--LANGUAGE_MODEL", self.arguments.PRETRAINED)
        self.on(name, "forwardSampleEvaluation.py", *judge, *test)
        if model in (NVAE, SCRATCH):
            self.on(name, "reconstruction.py", *test, *size)
        if model != LEARNED:  # the attack is on the model, not on its samples
            self.on(name, "quality.py", *test)
        summary = read_json(self.files(name).summary, "measure the model anew")
        found = {key: summary.get(of) for key, of in {**FIGURES, **OWN}.items()}
        real = {key: summary.get(f"{of}_of_real_text") for key, of in FIGURES.items()}
        texts = [row["text"] for row in _samples(self.files(name))]
        found |= {"minutes": minutes, "examples": texts[:EXAMPLES]}
        return {"own": found | {"reverse": self.reverse(texts)}, "real": real}

    def reverse(self, texts: Sequence[str]) -> float:
        """Train the language model around the base on texts, and return its perplexity on the test split."""
        from pipeline.evaluation.judge import judge_settings, perplexity, tokenized, train_judge
        from pipeline.experiments.load import load_experiment

        judge = load_experiment(self.outputs, self.project, LM, self.data)
        settings = judge_settings(judge, self.arguments.JUDGE_STEPS, 2, self.seed)
        model = train_judge(judge, tokenized(texts, judge.data), settings)
        return perplexity(model, judge.data.splits["test"], judge.data, 16, "test")

    def real_reverse(self) -> float:
        """R-PPL of the training texts themselves."""
        from pipeline.experiments.load import load_experiment

        data = load_experiment(self.outputs, self.project, LM, self.data).data
        rows = [list(ids) for ids in data.splits["train"]["input_ids"]][: self.arguments.COUNT]
        return self.reverse([data.tokenizer.decode(ids) for ids in rows])


def _samples(files: ExperimentFiles) -> list[dict[str, Any]]:
    from pipeline.generation.generate import read_samples

    return read_samples(files)


def main() -> None:
    """Measure each file with each seed, and write the results after each model."""
    arguments = parse()
    for seed in arguments.SEEDS:
        for file in arguments.FILES:
            case = Case(file, seed, arguments)
            done = _read(arguments.RESULTS)["cases"].get(case.project, {"models": {}})
            case.prepare()
            for model in MODELS:
                if model in done["models"]:
                    continue
                measured = case.measure(model)
                reverse = done.get("real_reverse") or case.real_reverse()
                done["real_reverse"] = reverse
                # Another process may have measured other files meanwhile.
                results = _read(arguments.RESULTS)
                rows = results["cases"].setdefault(case.project, {"file": file.stem, "seed": seed, "models": {}})
                rows["models"][model] = measured
                rows.setdefault("real_reverse", reverse)
                results |= {
                    "machine": processor(),
                    "threads": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())),
                    "date": date.today().isoformat(),
                    "count": arguments.COUNT,
                    "judge_steps": arguments.JUDGE_STEPS,
                }
                write_json(arguments.RESULTS, results)


def _read(path: Path) -> dict[str, Any]:
    """Read the results, which have no cases at the first call."""
    return json.loads(path.read_text()) if path.exists() else {"cases": {}}


if __name__ == "__main__":
    run(main)
