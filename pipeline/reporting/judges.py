"""Tell figures apart that different judges measured, or that stand beside different splits of real text."""

from collections.abc import Sequence

from pipeline.reporting.results import Result

# What a figure is measured with, by the last part of its key.
KINDS = {
    "judge": "judges",
    "subset": "splits of real text",
    "steps": "steps of learning from the samples",
    "sentences": "numbers of samples",
    "count": "numbers of sentences",
}
# The figures that a kind is told apart for; other keys with such an end count something else.
OF = {"steps": "reverse_perplexity", "sentences": "reverse_perplexity", "count": "mauve"}


def incomparable(results: Sequence[Result]) -> list[str]:
    """Describe the figures of these experiments that are not to be compared.

    A judge that was trained anew is another one. What an earlier version did not record counts as equal.

    Args:
        results: experiments that a report shows together.

    Returns:
        A line for each difference.
    """
    lines: dict[str, list[str]] = {}
    for key in sorted({key for result in results for key in result.figures}):
        figure, _, kind = key.rpartition("_")
        if kind not in KINDS or not figure.endswith(OF.get(kind, "")):
            continue
        of = {result.name: f"{result.figures[key]}" for result in results if result.figures.get(key)}
        if kind == "judge":
            of = _with_weights(of, {result.name: result.figures.get(f"{figure}_weights") for result in results})
        if len(set(of.values())) > 1:
            shown = "; ".join(
                f"{value} for {', '.join(name for name in of if of[name] == value)}"
                for value in dict.fromkeys(of.values())
            )
            lines.setdefault(f"has different {KINDS[kind]} ({shown}); measure it anew to compare it", []).append(figure)
    return [f"{', '.join(figures)} {line}" for line, figures in lines.items()]


def _with_weights(judges: dict[str, str], weights: dict[str, str | None]) -> dict[str, str]:
    """Add the first digits of the weights to judges of one name that differ in them."""
    known: dict[str, set[str]] = {judge: set() for judge in judges.values()}
    for name, judge in judges.items():
        if found := weights[name]:
            known[judge].add(found)
    return {
        name: f"{judge} (weights {found[:6]})" if (found := weights[name]) and len(known[judge]) > 1 else judge
        for name, judge in judges.items()
    }
