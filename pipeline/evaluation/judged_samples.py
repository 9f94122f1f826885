"""Figures of samples under a pretrained judge, beside those of real text and of unigrams."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.declaration import text_problem
from pipeline.data.base_models import BUNDLED
from pipeline.data.dataset import PreparedData
from pipeline.evaluation.base_judge import FIGURE_NAMES, BaseJudge, same_family
from pipeline.evaluation.controls import unigram_sentences, unigrams_are_texts
from pipeline.experiments.metric_types import REAL_TEXT, UNIGRAMS
from pipeline.experiments.paths import names_in
from pipeline.runtime.errors import UserError

MOST = 1000  # real texts, and unigrams, that are scored at most


def load_base_judge(output_dir: Path, project: str, name: str) -> BaseJudge:
    """Load a pretrained judge, where the project has no experiment of this name.

    Args:
        output_dir: folder of all projects.
        project: project of the judged experiment.
        name: `bundled`, a folder, or a name on the hub.

    Raises:
        UserError: there is no such model, or it cannot judge. If the name may be that of an experiment, the message
            lists the project's experiments.
    """
    try:
        return BaseJudge.load(name)
    except UserError as error:
        if name == BUNDLED or text_problem(name, "name") is not None or Path(name).is_dir():
            raise
        known = ", ".join(names_in(Path(output_dir) / project)) or "none"
        raise UserError(
            f"no experiment {name!r} in {Path(output_dir) / project} (there are: {known}); {error}"
        ) from None


def judged_samples(
    judge: BaseJudge, rows: Sequence[Mapping[str, Any]], data: PreparedData, subset: str, batch_size: int
) -> tuple[dict[str, float | int | str | None], list[str]]:
    """Score samples as they are, and as many real texts and unigrams, at most `MOST` of each; rows have no unigrams.

    Args:
        judge: the judge.
        rows: samples.
        data: prepared data that the samples are compared with.
        subset: split of the real texts, which are chosen at random with a fixed seed.
        batch_size: texts that go through the judge together.

    Returns:
        Figures by their keys in `summary.json`, and lines that say them.
    """
    split = data.splits[subset]
    count = min(len(rows), MOST)
    chosen = np.sort(np.random.default_rng(0).permutation(len(split))[:count])
    decode = data.tokenizer.decode_batch
    texts = {
        "": [row["text"] for row in rows],
        REAL_TEXT: decode(split.select(chosen)["input_ids"]),
    }
    if unigrams_are_texts(data):
        texts[UNIGRAMS] = decode(unigram_sentences(data, count)["input_ids"])
    kinds = {"": "samples", REAL_TEXT: f"real texts ({subset})", UNIGRAMS: "unigrams"}
    scores = {suffix: judge.score(text, batch_size, f"judge {kinds[suffix]}") for suffix, text in texts.items()}
    figures: dict[str, float | int | str | None] = {
        f"samples/{name}{suffix}": value for suffix, score in scores.items() for name, value in score.figures().items()
    }
    figures["samples/pretrained_judge"] = judge.name
    figures["samples/pretrained_subset"] = subset
    figures["samples/pretrained_unscored"] = scores[""].empty + scores[""].too_long
    lines = [
        f"samples/{name}: "
        + ", ".join(
            f"{_number(figures[f'samples/{name}{suffix}'])} of {scores[suffix].texts:,} {kinds[suffix]}"
            for suffix in texts
        )
        + f", under {judge.name}"
        for name in FIGURE_NAMES
    ]
    lines += [
        f"not scored: of {len(texts[suffix]):,} {kinds[suffix]} {said}"
        for suffix, score in scores.items()
        if (said := score.left_out())
    ]
    return figures, lines


def family_warning(config: Mapping[str, Any], judge: BaseJudge) -> str:
    """Warn of a judge that is of the same family as the generator; empty if it is not.

    Args:
        config: `config.json` of the experiment whose samples are judged.
        judge: the judge.
    """
    base = config["model"].get("pretrained")
    if not same_family(base, judge):
        return ""
    return (
        f"warning: the judge {judge.name} and the generator, which is built on {base}, are of one family: its "
        "perplexity favours these samples; take a judge of another family where there is one"
    )


def _number(value: Any) -> str:
    """Format a figure that may be absent."""
    return "–" if value is None else f"{value:.2f}"
