"""Commands that generate synthetic text from a user's own file and measure its quality."""

from dataclasses import dataclass

from pipeline.data.text_source import dataset_name
from pipeline.recipes.paper import flags_of

PROJECT = "synth"
JUDGE = "-lm"  # behind the name of the data: the name of the judge's experiment
LONGEST_NAME = 100 - len(JUDGE)


@dataclass(frozen=True)
class Order:
    """A file and the synthetic text wanted from it.

    Args:
        data: path of the file, or a dataset on the hub.
        text_column: column of a table that holds the text, or None.
        label_column: column of a table that holds labels, or None.
        row_template: template that makes a text of a row, empty for the default one, or None.
        samples: sentences to generate.
        max_steps: optimizer steps of each training.
        known_as: name that the user gives to the data, or None.
        delimiter: character between two columns of a CSV file; None finds it.
        preparation: further flags of the preparation.
    """

    data: str
    text_column: str | None
    label_column: str | None
    row_template: str | None
    samples: int
    max_steps: int
    known_as: str | None = None
    delimiter: str | None = None
    preparation: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the prepared data and of the experiment."""
        return dataset_name(self.data, self.known_as)


def steps(order: Order) -> list[list[str]]:
    """Return the commands in order, each a script with its flags."""
    name, flags = order.name, []
    for flag, value in (
        ("--NAME", order.known_as),
        ("--DELIMITER", order.delimiter),
        ("--TEXT_COLUMN", order.text_column),
        ("--LABEL_COLUMN", order.label_column),
    ):
        flags += [] if value is None else _flag(flag, value)
    if order.row_template is not None:
        flags += _flag("--ROW_TEMPLATE", order.row_template) if order.row_template else ["--ROW_TEMPLATE"]
    experiment, judge = (["--PROJECT_NAME", PROJECT, "--EXPERIMENT_NAME", own] for own in (name, f"{name}{JUDGE}"))
    judged = [*experiment, "--LANGUAGE_MODEL", f"{name}{JUDGE}"]
    budget = ["--DATA", name, "--BATCH_SIZE", "32", "--MAX_STEPS", str(order.max_steps)]
    return [
        ["prepareDatasets.py", *_flag("--DATA", order.data), *flags, *order.preparation],
        ["train.py", *judge, *flags_of("lm"), *budget],
        ["train.py", *experiment, *flags_of("nvib"), *budget],
        ["sample.py", *experiment, "--NUMBER_SAMPLES", str(order.samples), "--DECODING", "sample"],
        ["reverseSampleEvaluation.py", *judged],  # the quality report reads R-PPL from its summary
        ["quality.py", *judged],
    ]


def _flag(flag: str, value: str) -> list[str]:
    """Return a flag and its value; as one word if the value would be read as a flag itself."""
    return [f"{flag}={value}"] if value.startswith("-") else [flag, value]
