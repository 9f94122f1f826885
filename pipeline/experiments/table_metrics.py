"""Declarations of the figures of synthetic tables, which the quality report alone has."""

from pipeline.experiments.metric_types import Metric, QualityRow

SECTION = "table"


def _table(name: str, label: str, better: str) -> Metric:
    return Metric(name, of="samples", quality=QualityRow(SECTION, label, better))


# In the order of `pipeline.evaluation.table_fidelity`.
TABLE_METRICS = (
    _table("table_shapes", "column shapes (SDMetrics)", "higher"),
    _table("table_trends", "column pair trends (SDMetrics)", "higher"),
    _table("table_detection", "hides from boosted trees (1: cannot tell)", "higher"),
    _table("table_efficacy", "trees trained on this, tested on real rows", "higher"),
    _table("table_f1", "weighted F1 of these trees, for classes", "higher"),
    _table("table_coverage", "categories and ranges that it has", "higher"),
    _table("table_boundaries", "numbers and dates within the training range", "higher"),
    _table("table_copies", "rows that are training rows, text apart", "no more than held-out text"),
    _table("table_near_copies", "rows with one column unlike a training row's, at most", "no more than held-out text"),
    _table("table_membership", "attack by distance to the nearest row (AUC)", "0.5"),
)
