"""Commands that generate synthetic text from a user's own file and measure its quality."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.data.text_source import dataset_name
from pipeline.recipes.plan import LEARNED

PROJECT = "synth"
LM, NVAE = "LM", "NVIB"
CANDIDATES = (LM, NVAE)  # in the order of their training
LM_NAME, T_NAME = "-lm", "-t"  # behind the name of the data: names of experiments beside the NVAE's
LONGEST_NAME = 100 - len(LM_NAME)
STEPS, STEPS_AROUND = 1500, 400  # most steps of each training, from scratch and around a pretrained model
ROW_STEPS = 3000  # of a language model of a table's rows, whose steps are short
# The language model of a table. Few rows are learned by heart within minutes, which takes dropout and a low learning
# rate; very few within some 300 steps, before which the learning rate must fall. Many are seen a few times, and a
# narrow model with a high learning rate learns most from them.
VERY_FEW, VERY_FEW_STEPS = 2000, 600  # training rows, and steps
VERY_FEW_ROWS = ("--NUM_HEADS", "4", "--BATCH_SIZE", "64", "--DROPOUT", "0.1", "--COOLDOWN", "0.9")
FEW_ROWS = ("--NUM_HEADS", "4", "--BATCH_SIZE", "64", "--DROPOUT", "0.1", "--COOLDOWN", "0.3")
MANY_ROWS = ("--NUM_HEADS", "4", "--BATCH_SIZE", "64", "--DROPOUT", "0", "--COOLDOWN", "0.5")
MANY_ROWS += ("--DIM_H", "128", "--LEARNING_RATE", "0.003", "--WARMUP_STEPS", "100")
MANY = 10_000  # training rows
# The figure that decides: the perplexity of validation texts without a look at them.
GENERATES = {LM: "validation/perplexity", NVAE: "validation/perplexity_prior_latent"}
# The decoder learns what to write for draws of the prior, beside texts that it reconstructs. From scratch, the NVAE
# starts from a Transformer that already reconstructs; around a pretrained model, whose decoder reads a latent of 30
# nats a vector before any training, from the language model, which already writes. So it is done before it knows the
# texts by heart.
FROM_SCRATCH = ("--TARGET_RATE", "30", "--COOLDOWN", "0.2", "--BOTTLENECK", "plain")
DRAWS = ("--PRIOR_TEXTS", "0.5")  # not for a learned prior, which needs none: with them short texts are lost
AROUND = ("--TARGET_RATE", "30", "--VECTOR_DROPOUT", "1", "--DROPPED_VECTORS", "prior", "--PRIOR_TEXTS", "0.4")
STOPPING = ("--PATIENCE", "2")  # epochs; few texts are repeated word for word after some ten


@dataclass(frozen=True)
class Order:
    """A file and the synthetic text wanted from it.

    Args:
        data: path of the file, or a dataset on the hub.
        text_column: column of a table that holds the text, or None.
        label_column: column of a table that holds labels, or None.
        row_template: template that makes a text of a row, empty for the default one, or None.
        samples: sentences to generate.
        max_steps: most optimizer steps of each training; None for the recipe's own.
        known_as: name that the user gives to the data, or None.
        delimiter: character between two columns of a CSV file; None finds it.
        preparation: further flags of the preparation.
        pretrained: pretrained model that the models are built around; None for models from scratch.
        model: model that samples, a key of `GENERATES`; None to choose by `better`.
        learned_prior: True if the NVAE samples with a learned prior, which is the language model.
    """

    data: str
    text_column: str | None
    label_column: str | None
    row_template: str | None
    samples: int
    max_steps: int | None = None
    known_as: str | None = None
    delimiter: str | None = None
    preparation: tuple[str, ...] = ()
    pretrained: str | None = None
    model: str | None = None
    learned_prior: bool = False

    @property
    def as_rows(self) -> bool:
        """True for rows of a table with tokens of their own, where a language model is the default."""
        return self.row_template is not None and self.pretrained is None

    @property
    def sampler(self) -> str | None:
        """Model that samples; None if the better one is chosen after the training."""
        return self.model or (LM if self.as_rows else None)

    @property
    def name(self) -> str:
        """Name of the prepared data and of the NVAE's experiment."""
        return dataset_name(self.data, self.known_as)

    @property
    def experiments(self) -> tuple[str, ...]:
        """Names of all experiments that any order of these data may train."""
        return (self.experiment(NVAE), self.experiment(LM), self.name + T_NAME)

    def experiment(self, model: str) -> str:
        """Name of a model's experiment."""
        return self.name + {LM: LM_NAME, NVAE: ""}[model]


def of_rows(rows: int) -> tuple[str, ...]:
    """Flags of train.py for the language model of a table with so many training rows."""
    return MANY_ROWS if rows >= MANY else FEW_ROWS if rows >= VERY_FEW else VERY_FEW_ROWS


def most_steps(rows: int) -> int:
    """Optimizer steps at most of the language model of a table with so many training rows."""
    return ROW_STEPS if rows >= VERY_FEW else VERY_FEW_STEPS


def training(order: Order, rows: int = 0) -> list[list[str]]:
    """Return the commands up to the trained models, each a script with its flags.

    Args:
        order: the file and what is wanted from it.
        rows: training rows of a table, which are known after the preparation, the first command.
    """
    flags: list[str] = []
    for flag, value in (
        ("--NAME", order.known_as),
        ("--DELIMITER", order.delimiter),
        ("--TEXT_COLUMN", order.text_column),
        ("--LABEL_COLUMN", order.label_column),
    ):
        flags += [] if value is None else _flag(flag, value)
    if order.row_template is not None:
        flags += _flag("--ROW_TEMPLATE", order.row_template) if order.row_template else ["--ROW_TEMPLATE"]
    base = order.pretrained
    tokenizer = [] if base is None else _flag("--TOKENIZER", base)
    commands = [["prepareDatasets.py", *_flag("--DATA", order.data), *flags, *tokenizer, *order.preparation]]
    steps = order.max_steps or (STEPS if base is None else STEPS_AROUND)
    limit = ["--DATA", order.name, "--MAX_STEPS", str(steps)]
    if order.sampler == LM and order.as_rows:
        limit[-1] = str(order.max_steps or most_steps(rows))
        return [*commands, ["train.py", *_experiment(order.experiment(LM)), "--MODEL", LM, *of_rows(rows), *limit]]
    # The NVAE around a base starts from the language model, and from scratch that judges texts of either. Rows from
    # scratch need none.
    for model in [one for one in CANDIDATES if order.model in (None, one) or (one == LM and not order.as_rows)]:
        name, kind = order.experiment(model), ["--MODEL", model]
        if base is not None:
            own = [*_flag("--PRETRAINED", base), *STOPPING]
            own += [*AROUND, "--START_FROM", order.experiment(LM)] if model == NVAE else []
            commands.append(["train.py", *_experiment(name), *kind, *own, *limit])
            continue
        size = ["--NUM_HEADS", "4", "--BATCH_SIZE", "32"]
        if model == LM:
            commands.append(["train.py", *_experiment(name), *kind, *size, *STOPPING, *limit])
            continue
        size = [*size, "--DROPOUT", "0"]
        source = order.name + T_NAME
        commands.append(["train.py", *_experiment(source), "--MODEL", "T", *size, *limit])
        start = ["--START_FROM", source, *FROM_SCRATCH, *(() if order.learned_prior else DRAWS)]
        commands.append(["train.py", *_experiment(name), *kind, *size, *start, *limit])
    return commands


def better(figures: Mapping[str, float]) -> tuple[str, str]:
    """Choose the model that gives validation texts the lower perplexity without a look at them.

    That of the NVAE is taken with draws of its prior, an upper bound.

    Args:
        figures: the figure in `GENERATES` of each candidate, by model.

    Returns:
        The model, and the reason in words.
    """
    chosen = min(figures, key=lambda model: figures[model])
    found = ", ".join(f"{model} {value:.1f}" for model, value in sorted(figures.items()))
    return chosen, f"validation perplexity without a look at the text: {found}; {chosen} samples"


def sampling(order: Order, model: str) -> list[list[str]]:
    """Return the commands that sample with a trained model and measure the samples."""
    name = order.experiment(model)
    judge = ["--LANGUAGE_MODEL", order.pretrained or order.experiment(LM)]
    samples = ["--NUMBER_SAMPLES", str(order.samples), "--DECODING", "sample"]
    if order.as_rows:  # rows have the whole distribution, and no text to be judged
        evaluated = [["quality.py", *_experiment(name)]]
        return [["sample.py", *_experiment(name), *samples, "--GENERATION_BATCH_SIZE", "250"], *evaluated]
    samples += ["--TOP_P", "0.95", "--NOVEL", "True"]  # models of few texts repeat some, which nobody wants back
    first = []
    if model == NVAE and order.learned_prior:
        first = [["train_prior.py", *_experiment(name), "--FROM", order.experiment(LM), "--RESTART", "True"]]
        samples += LEARNED
    if order.pretrained is not None:
        measured = [["forwardSampleEvaluation.py", *_experiment(name), *judge]]
    else:  # the quality report reads R-PPL from its summary
        measured = [["reverseSampleEvaluation.py", *_experiment(name), *judge]]
    return [*first, ["sample.py", *_experiment(name), *samples], *measured, ["quality.py", *_experiment(name), *judge]]


def _experiment(name: str) -> list[str]:
    return ["--PROJECT_NAME", PROJECT, "--EXPERIMENT_NAME", name]


def _flag(flag: str, value: str) -> list[str]:
    """Return a flag and its value; as one word if the value would be read as a flag itself."""
    return [f"{flag}={value}"] if value.startswith("-") else [flag, value]
