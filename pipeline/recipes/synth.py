"""Commands that generate synthetic text from a user's own file and measure its quality."""

from dataclasses import dataclass

from pipeline.data.text_source import dataset_name
from pipeline.recipes.paper import flags_of

PROJECT = "synth"


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
    """

    data: str
    text_column: str | None
    label_column: str | None
    row_template: str | None
    samples: int
    max_steps: int

    @property
    def name(self) -> str:
        """Name of the prepared data and of the experiment."""
        return dataset_name(self.data)


def steps(order: Order) -> list[list[str]]:
    """Return the commands in order, each a script with its flags."""
    name, columns = order.name, []
    for flag, column in (("--TEXT_COLUMN", order.text_column), ("--LABEL_COLUMN", order.label_column)):
        columns += [] if column is None else [flag, column]
    if order.row_template is not None:
        columns += ["--ROW_TEMPLATE", *([order.row_template] if order.row_template else [])]
    experiment, judge = (["--PROJECT_NAME", PROJECT, "--EXPERIMENT_NAME", own] for own in (name, f"{name}-lm"))
    judged = [*experiment, "--LANGUAGE_MODEL", f"{name}-lm"]
    budget = ["--DATA", name, "--BATCH_SIZE", "32", "--MAX_STEPS", str(order.max_steps)]
    return [
        ["prepareDatasets.py", "--DATA", order.data, *columns],
        ["train.py", *judge, *flags_of("lm"), *budget],
        ["train.py", *experiment, *flags_of("nvib"), *budget],
        ["sample.py", *experiment, "--NUMBER_SAMPLES", str(order.samples), "--DECODING", "sample"],
        ["reverseSampleEvaluation.py", *judged],  # the quality report reads R-PPL from its summary
        ["quality.py", *judged],
    ]
