"""The page of sentences shaded by their pseudo-counts."""

from html.parser import HTMLParser

import numpy as np

from pipeline.evaluation.bottleneck import Bottleneck
from pipeline.reporting.bottleneck_page import shaded_page


def test_the_page_shows_markup_as_text_and_crosses_out_dropped_tokens():
    shown = Bottleneck(np.array([3]), np.array([2]), np.array([7, 8, 9]), np.array([2.0, -np.inf, 1.0]))
    page = shaded_page(shown, ["<b>", "of", "[SEP]"], threshold=0.1, title="a < b")
    texts, tags = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append((tag, dict(attributes).get("class")))

        def handle_data(self, data):
            texts.append(data)

    Reader().feed(page)
    assert [tag for tag in tags if tag[0] in ("b", "span")] == [("span", None), ("span", "dropped"), ("span", None)]
    assert {"<b>", "of", "a < b", "2 of 4 vectors"} <= set(texts)
