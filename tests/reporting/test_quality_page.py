"""The page of quality.py."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.evaluation.sample_quality import Material, measure
from pipeline.experiments.load import load_experiment
from pipeline.reporting.quality_page import page
from pipeline.runtime.plotting import inline_svg

MARKUP = "<script>alert(1)</script> & <b>"


def test_dollar_signs_in_a_plot_stay_text():
    """Matplotlib reads text between two of them as a formula, and fails on other text there."""
    names = ["$", "$$", "$5%-$9%", "$10-$20"]

    def draw(axes):
        axes.bar(range(len(names)), 1.0)
        axes.set_xticks(range(len(names)), names)
        axes.set_title("$ to £ ($)")

    shown = inline_svg(draw)
    assert all(f">{name}<" in shown for name in [*names, "$ to £ ($)"])


@pytest.mark.slow
def test_the_page_is_self_contained_and_shows_markup_as_text(trained: Path):
    known = load_experiment(trained / "outputs", "nvib", "nvib", trained / "data")
    texts = known.data.tokenizer.decode_batch(known.data.splits["train"]["input_ids"][:3])
    material = Material(known, [{"text": text} for text in texts], "test", None, 0.2, None, 32)
    quality = measure(material)
    quality.worst["synthetic"][0] |= {"text": MARKUP, "nearest": f"{MARKUP} x"}
    quality.notes["usefulness"] = MARKUP
    shown = page(material, quality, MARKUP, MARKUP)
    tags, links = set(), []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.add(tag)
            links.extend(value for name, value in attributes if name in ("src", "href", "xlink:href"))

    Reader().feed(shown)
    assert "svg" in tags
    assert not tags & {"script", "b", "link", "img", "iframe"}
    assert all(link.startswith("#") for link in links)
    assert shown.count("alert(1)") == 6  # title twice, a sentence, its neighbour, a note, what was dropped
    assert not re.search(r"url\((?!#)", shown)
    assert "a copy check" in shown
    assert shown.lower().count("guarantee") == shown.count("No figure here is a privacy guarantee") == 1
