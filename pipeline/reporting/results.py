"""Experiments as rows: gathered from their files or from wandb, and grouped across seeds."""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.experiments.config import flat_config, read_config
from pipeline.experiments.paths import ExperimentFiles
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_record, read_records

if TYPE_CHECKING:
    import pandas

APART = ("seed", "versions", "data_fingerprint")  # settings that are no difference, or one of their own


@dataclass(frozen=True)
class Result:
    """An experiment with its figures.

    Args:
        name: its own.
        settings: of model and training and the data's name, flat.
        figures: its summary.
        history: a row an epoch.
    """

    name: str
    settings: dict[str, Any]
    figures: dict[str, Any]
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class Failure:
    """An experiment without figures, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Group:
    """Experiments that differ in nothing but their seed."""

    label: str
    results: list[Result]

    def values(self, figure: str) -> list[float]:
        """A figure of those that have it."""
        return [float(r.figures[figure]) for r in self.results if isinstance(r.figures.get(figure), int | float)]


def from_outputs(output_dir: Path, project: str, names: Iterable[str]) -> tuple[list[Result], list[Failure]]:
    """Experiments of a project by their own files; those that failed, or have not finished, with the reason."""
    results, failures = [], []
    for name in names:
        files = ExperimentFiles.of(output_dir, project, name)
        try:
            config = read_config(files)
            if files.failure.exists():
                raise UserError(str(read_record(files.failure, "remove it").get("reason")))
            remedy = "remove it to report without its curves"
            history = read_records(files.metrics, remedy) if files.metrics.exists() else []
            if not files.summary.exists():
                raise UserError(f"training has not finished: {len(history)} epochs are done")
            summary = read_record(files.summary, "remove it, and run the steps that wrote it again")
        except UserError as error:
            failures.append(Failure(name, str(error)))
            continue
        results.append(Result(name, flat_config(config), summary, history))
    return results, failures


def from_wandb(path: str, names: Sequence[str] | None, api: Any) -> tuple[list[Result], list[Failure]]:
    """Experiments of a wandb project.

    Args:
        path: ENTITY/PROJECT.
        names: of the experiments; all if None.
        api: a `wandb.Api`.

    Raises:
        UserError: wandb does not deliver them.
    """
    results, failures = [], []
    try:
        for run in api.runs(path):
            if names is not None and run.name not in names:
                continue
            if run.state in ("crashed", "failed", "killed"):
                failures.append(Failure(run.name, f"wandb calls the run {run.state}"))
                continue
            settings = {key: value for key, value in run.config.items() if not key.startswith("_")}
            figures = {key: value for key, value in dict(run.summary).items() if not key.startswith("_")}
            history = [row for row in run.scan_history() if row.get("validation/cross_entropy") is not None]
            results.append(Result(run.name, settings, figures, history))
    except Exception as error:  # of the network, of rights, of a name: all mean that it did not come
        raise UserError(
            f"wandb did not deliver --FROM_WANDB {path} ({' '.join(str(error).split())[:200]}); check the name, the "
            "connection and `wandb login`"
        ) from None
    return results, failures


def grouped(results: Sequence[Result]) -> list[Group]:
    """Groups of results that differ in nothing but their seed, in the order of their first.

    One that repeats another with its seed is no second seed: it goes into a group of its own kind.
    """
    groups: dict[tuple, list[Result]] = {}
    seen: Counter[tuple] = Counter()
    keys = [
        tuple(sorted((name, str(_plain(value))) for name, value in result.settings.items() if name not in APART))
        for result in results
    ]
    of_data = [result.settings.get("data_fingerprint") for result in results]
    for result, key, data in zip(results, keys, of_data, strict=True):
        # Runs that an earlier version logged do not say which data it was: the one that the others of their kind say.
        known = {other for like, other in zip(keys, of_data, strict=True) if like == key and other is not None}
        key = (*key, str(next(iter(known)) if data is None and len(known) == 1 else data))
        run = (key, str(_plain(result.settings.get("seed"))))
        groups.setdefault((key, seen[run]), []).append(result)
        seen[run] += 1
    labels = [_label([result.name for result in members]) for members in groups.values()]
    labels = [
        label if labels.count(label) == 1 else "+".join(result.name for result in members)
        for label, members in zip(labels, groups.values(), strict=True)
    ]
    # In wandb, several runs may have one name.
    labels = [
        f"{label} ({labels[:n].count(label) + 1})" if label in labels[:n] else label for n, label in enumerate(labels)
    ]
    return [Group(label, members) for label, members in zip(labels, groups.values(), strict=True)]


def as_frame(groups: Sequence[Group], figures: Sequence[str]) -> "pandas.DataFrame":
    """Mean and standard deviation (n - 1) over seeds, and how many have it: a row a group.

    Columns `(figure, mean | sd | n)`; NaN is missing.
    """
    import pandas

    rows = [
        {"label": group.label, "figure": figure, "value": value}
        for group in groups
        for figure in figures
        for value in group.values(figure)
    ]
    labels = [group.label for group in groups]
    columns = pandas.MultiIndex.from_product([figures, ["mean", "sd", "n"]])
    if not rows:
        return pandas.DataFrame(index=labels, columns=columns, dtype=float)
    by = pandas.DataFrame(rows).groupby(["label", "figure"])["value"]
    table = pandas.DataFrame({"mean": by.mean(), "sd": by.std(), "n": by.count()}).unstack("figure").swaplevel(axis=1)
    return table.reindex(index=labels, columns=columns)


def _plain(value: Any) -> Any:
    """1.0 and 1 are one setting, whatever wandb made of it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _label(names: Sequence[str]) -> str:
    """What the names of a group's members begin with, without their seeds."""
    if len(names) == 1:
        return names[0]
    columns = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    common = "".join(letters[0] for letters in columns)
    return re.sub(r"([-_.]+(seed|s)?[-_.]*\d*|\d+)$", "", common) or names[0]
