"""Metrics and figures: the declaration of a metric, and the keys, labels and formats that follow from it."""

from dataclasses import dataclass
from typing import Literal

SPLITS = ("validation", "test")
EVERY_SPLIT = ("train", *SPLITS)
REAL_TEXT = "_of_real_text"  # suffix: the same figure of real text
UNIGRAMS = "_of_unigrams"  # suffix: the same figure of text without coherence, of tokens drawn independently
CONTROLS = {REAL_TEXT: "real text", UNIGRAMS: "unigrams"}  # names of the texts beside samples, by suffix
AUTOENCODER = "autoencoder_"  # prefix: the judge is an autoencoder, which has seen the text that it scores


@dataclass(frozen=True)
class QualityRow:
    """Section, label and direction of a metric in the quality report.

    Args:
        section: section of the report.
        label: name of the row. `{near}` is the share of tokens that may be edited in a near copy, `{rest}` is 1 - near,
            `{similar}` the smallest cosine similarity of texts that are alike in meaning.
        better: when the value is good.
        judged: False if the report measures a judged metric without the judge, and so under the plain name alone.
    """

    section: str
    label: str
    better: str
    judged: bool = True


@dataclass(frozen=True)
class Metric:
    """A metric of an experiment.

    Labels are format strings: `{split}` is the split, `{of_split}` is ", " and the split where a table shows several of
    them, `{tau}` is the position between the ends of an interpolation, and `{unit}` is the unit.

    Args:
        name: last part of its keys.
        label: name of the metric in plots; empty if the quality report alone shows it.
        groups: first parts of its keys; its only key is the name if there are none.
        of: "weights" if the value holds for the model, "samples" if it is outdated once the samples change.
        unit: unit of the value, empty if it has none.
        decimals: digits after the point, of the value itself; None if the value is text.
        percent: True if the value is a share that prose shows as a percentage. Tables show the share.
        table: header of its column, the label if None.
        console: its name in the console and in the model card, the label if None.
        controlled: True if there are figures of the texts in `CONTROLS`, under the keys with their suffixes.
        judged: True if a model judges the text, whose kind may prefix the name with `AUTOENCODER`.
        quality: its row in the quality report, under `quality/<name>` with a figure of held-out text, or None.
    """

    name: str
    label: str = ""
    groups: tuple[str, ...] = ()
    of: Literal["weights", "samples"] = "weights"
    unit: str = ""
    decimals: int | None = 3
    percent: bool = False
    table: str | None = None
    console: str | None = None
    controlled: bool = False
    judged: bool = False
    quality: QualityRow | None = None

    @property
    def form(self) -> str:
        """Format specification of a value in prose: as many digits as in a table."""
        if self.decimals is None:
            return ""
        return f".{self.decimals - 2}%" if self.percent else f".{self.decimals}f"


@dataclass(frozen=True)
class Figure:
    """A key of a metric.

    Args:
        metric: its declaration.
        group: first part of the key, empty if it has none.
        name: last part of the key, with prefix and suffix.
    """

    metric: Metric
    group: str
    name: str

    @property
    def key(self) -> str:
        """Key in `summary.json` or `metrics.jsonl`."""
        return f"{self.group}/{self.name}" if self.group else self.name

    @property
    def split(self) -> str | None:
        """Split of the data that it is measured on, if the key names one."""
        return self.group if self.group in EVERY_SPLIT else None

    @property
    def label(self) -> str:
        """Label of a plot's axis."""
        return self._filled(self.metric.label, True)

    @property
    def console_label(self) -> str:
        """Name in the console and in the model card."""
        return self._filled(self.metric.console or self.metric.label, True)

    def column(self, with_split: bool) -> str:
        """Header of a table's column; the split is part of it if `with_split` is True."""
        return self._filled(self.metric.table or self.metric.label, with_split)

    def _filled(self, template: str, with_split: bool) -> str:
        of_split = f", {self.split}" if self.split and with_split else ""
        tau = self.group.rpartition("tau_")[2]
        return template.format(split=self.split, of_split=of_split, tau=tau, unit=self.metric.unit)
