"""Figures of experiments: gathered from their files or from wandb, grouped and summarised across seeds."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas

from pipeline.experiments.config import flat_config, read_config
from pipeline.experiments.metric_types import CONTROLS
from pipeline.experiments.paths import ExperimentFiles
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_record, read_records

# Settings that do not tell groups apart, or that are compared by themselves.
APART = ("seed", "versions", "data_fingerprint")


@dataclass(frozen=True)
class Result:
    """An experiment with its figures.

    Args:
        name: name of the experiment.
        settings: settings of model and training and the name of the data, as `flat_config` returns them.
        figures: its `summary.json`.
        history: its `metrics.jsonl`, a row for each epoch.
        control: its `control.jsonl`, a row for each look of a controller.
    """

    name: str
    settings: dict[str, Any]
    figures: dict[str, Any]
    history: list[dict[str, Any]]
    control: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Failure:
    """An experiment without figures, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class Group:
    """Experiments that differ in their seed alone."""

    label: str
    results: list[Result]

    @property
    def model(self) -> str:
        """Name of the model in the registry; empty if the settings, such as those of a foreign run, have none."""
        return str(self.results[0].settings.get("model") or "")

    def values(self, key: str) -> list[float]:
        """Return a figure of each experiment that has it as a number."""
        return [float(r.figures[key]) for r in self.results if isinstance(r.figures.get(key), int | float)]


@dataclass(frozen=True)
class Spread:
    """A figure across the seeds of a group.

    Args:
        mean: mean of the values.
        deviation: standard deviation with n - 1 in the denominator, NaN for one value.
        count: number n of experiments that have the figure.
    """

    mean: float
    deviation: float
    count: int


def from_outputs(output_dir: Path, project: str, names: Iterable[str]) -> tuple[list[Result], list[Failure]]:
    """Read experiments of a project from their files.

    Returns:
        The experiments with figures, and those that failed or have not finished.
    """
    results, failures = [], []
    for name in names:
        files = ExperimentFiles.of(output_dir, project, name)
        try:
            config = read_config(files)
            if files.failure.exists():
                raise UserError(str(read_record(files.failure, "remove it").get("reason")))
            remedy = "remove it to report without its curves"
            history = read_records(files.metrics, remedy) if files.metrics.exists() else []
            control = read_records(files.control, remedy) if files.control.exists() else []
            remedy = "remove it, and run the steps that wrote it again"
            summary = read_record(files.summary, remedy) if files.summary.exists() else {}
            if "best_epoch" not in summary:  # measurements may have written figures of the epochs that are done
                raise UserError(f"training has not finished: {len(history)} epochs are done")
        except UserError as error:
            failures.append(Failure(name, str(error)))
            continue
        results.append(Result(name, flat_config(config), summary, history, control))
    return results, failures


def from_wandb(path: str, names: Sequence[str] | None, api: Any) -> tuple[list[Result], list[Failure]]:
    """Read experiments of a wandb project.

    Args:
        path: ENTITY/PROJECT.
        names: names of the experiments; all if None.
        api: a `wandb.Api`.

    Returns:
        The experiments with figures, and those whose run crashed.

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
    except Exception as error:  # network, rights or a wrong name
        raise UserError(
            f"wandb did not deliver --FROM_WANDB {path} ({' '.join(str(error).split())[:200]}); check the name, the "
            "connection and `wandb login`"
        ) from None
    return results, failures


def grouped(results: Sequence[Result]) -> list[Group]:
    """Group results that differ in their seed alone, in the order of each group's first result.

    A result that repeats another with the same seed is not a second seed: it starts a group of its own.
    """
    groups: dict[tuple[Any, ...], list[Result]] = {}
    seen: Counter[tuple[Any, ...]] = Counter()
    sources = _sources(results)
    keys = [
        tuple(
            sorted(
                (name, sources[str(value)] if name == "start_from" and value is not None else str(_plain(value)))
                for name, value in result.settings.items()
                if name not in APART
            )
        )
        for result in results
    ]
    of_data = [result.settings.get("data_fingerprint") for result in results]
    for result, key, data in zip(results, keys, of_data, strict=True):
        # Runs of an earlier version have no fingerprint: assume the one that runs with the same settings have.
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


def across_seeds(groups: Sequence[Group], keys: Sequence[str]) -> dict[tuple[str, str], Spread]:
    """Summarise figures of groups over their seeds.

    Returns:
        The spread by the group's label and the figure's key, where any experiment of the group has a number.
    """
    rows = [
        {"label": group.label, "key": key, "value": value}
        for group in groups
        for key in dict.fromkeys(keys)
        for value in group.values(key)
    ]
    if not rows:
        return {}
    table = pandas.DataFrame(rows).groupby(["label", "key"])["value"].agg(["mean", "std", "count"])
    return {
        (label, key): Spread(mean, deviation, count)
        for (label, key), mean, deviation, count in table.itertuples()
        if not math.isnan(mean)
    }


def controls_of(groups: Sequence[Group], keys: Sequence[str]) -> dict[str, dict[str, Spread]]:
    """Summarise figures of real text and of unigrams over all experiments that have them.

    The values differ only where the numbers of samples or the judges differ; equal ones have no deviation (NaN).

    Args:
        groups: groups of experiments.
        keys: keys of the samples' figures.

    Returns:
        The spread by the key of the samples' figure, for the name of each control that has any figure.
    """
    every = Group("", [result for group in groups for result in group.results])
    found = {}
    for suffix, name in CONTROLS.items():
        spreads = across_seeds([every], [key + suffix for key in keys])
        if spreads:
            found[name] = {
                key.removesuffix(suffix): spread if spread.deviation else replace(spread, deviation=math.nan)
                for (_, key), spread in spreads.items()
            }
    return found


def _sources(results: Iterable[Result]) -> dict[str, str]:
    """Return the names of experiments that others start from; without the seed if they are those of one seed alone."""
    seeds: dict[str, set[str]] = {}
    for result in results:
        if (source := result.settings.get("start_from")) is not None:
            seeds.setdefault(str(source), set()).add(str(_plain(result.settings.get("seed"))))
    return {
        source: re.sub(rf"(?<!\d){re.escape(next(iter(own)))}$", "", source) if len(own) == 1 else source
        for source, own in seeds.items()
    }


def _plain(value: Any) -> Any:
    """Return 1 for 1.0, because wandb may turn the one into the other."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _label(names: Sequence[str]) -> str:
    """Label of a group: the common beginning of its experiments' names, without the seed."""
    if len(names) == 1:
        return names[0]
    columns = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    common = "".join(letters[0] for letters in columns)
    return re.sub(r"([-_.]+(seed|s)?[-_.]*\d*|\d+)$", "", common) or names[0]
