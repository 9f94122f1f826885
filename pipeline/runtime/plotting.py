"""Matplotlib figures, written whole or not at all."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.runtime.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@contextmanager
def figure(path: Path, width: float = 7.0, height: float = 4.0, also: Sequence[str] = ()) -> "Iterator[Axes]":
    """Yield the axes of a figure, and write it to `path` when the context ends.

    Args:
        path: file to write; its suffix is the format (PNG, PDF or SVG).
        width: in inches.
        height: in inches.
        also: further suffixes to write, such as `.pdf`.
    """
    with panels(path, 1, 1, width, height, also) as (axes,):
        yield axes


@contextmanager
def panels(
    path: Path, rows: int, columns: int, width: float, height: float, also: Sequence[str] = ()
) -> "Iterator[list[Axes]]":
    """Yield the axes of a figure with `rows` x `columns` panels, row by row. See `figure`."""
    # Heavy, and most scripts draw nothing.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    every = [drawn.add_subplot(rows, columns, number + 1) for number in range(rows * columns)]
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
    yield every
    for suffix in (path.suffix, *also):
        # Without its date, the same figure is the same file.
        dated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(suffix)
        with replacing(path.with_suffix(suffix)) as temporary:
            drawn.savefig(temporary, dpi=150, metadata=dated)


def inline_svg(draw: "Callable[[Axes], None]", width: float = 7.0, height: float = 3.0) -> str:
    """Draw a figure and return it as an `<svg>` element for a page. Its text stays text, with its dollar signs.

    Args:
        draw: draws onto the figure's axes.
        width: in inches.
        height: in inches.
    """
    import matplotlib  # heavy, see `panels`

    with (
        tempfile.TemporaryDirectory() as folder,
        matplotlib.rc_context(
            {"svg.fonttype": "none", "svg.hashsalt": "", "font.family": "sans-serif", "text.parse_math": False}
        ),
    ):
        path = Path(folder) / "figure.svg"
        with figure(path, width, height) as axes:
            draw(axes)
        text = path.read_text(encoding="utf-8")
    return text[text.index("<svg") :]
