"""The page of `explore.py`: controls, and what they change. It asks nothing of any other machine."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable

from pipeline.generation.trained_model import TrainedModel
from pipeline.reporting.explorer_html import CSS, drawn, listed, note, titled
from pipeline.reporting.explorer_view import largest_alpha, sampled, steps_for, threshold_of, view
from pipeline.runtime.errors import UserError
from pipeline.runtime.signals import Interrupted

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import, which would ask for news otherwise

import gradio as gr

SAMPLES = 5
SENTENCES = ("the old king left the town.", "a cat saw the river.")  # where the data has none at hand
# Fonts of the system: none is fetched.
FONT, MONO = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")


def explored(models: dict[str, TrainedModel], a: str, b: str, tau: float, threshold: float | None) -> list[str]:
    """Each model's part of the page for two texts; a model that cannot says so."""
    return _of_each(models, "", lambda model: drawn(view(model, a, b, tau, threshold), tau))


def samples(models: dict[str, TrainedModel], length: int | None, seed: int | None) -> list[str]:
    """Each model's samples from its prior; a model that has none says so."""

    def of_one(model: TrainedModel) -> str:
        if length is None or seed is None:
            raise UserError("name a length and a seed")
        return listed(sampled(model, SAMPLES, int(length), int(seed)))

    return _of_each(models, "samples of ", of_one)


def _of_each(models: dict[str, TrainedModel], title: str, show: Callable[[TrainedModel], str]) -> list[str]:
    shown = []
    for name, model in models.items():
        try:
            body = show(model)
        except UserError as error:
            body = note(str(error))
        shown.append(titled(title + name, type(model.model.settings).summary, body))
    return shown


def first_sentences(model: TrainedModel) -> tuple[str, str]:
    """Two of the validation split to begin with, short ones where there are."""
    split = getattr(model.experiment.data, "splits", {}).get("validation")
    lengths = [] if split is None else list(split["length"])
    short = [row for row, length in enumerate(lengths) if 8 <= length <= 14] or list(range(len(lengths)))
    if len(short) < 2:
        return SENTENCES
    return tuple(split[row]["text"] for row in short[:2])


def build(models: dict[str, TrainedModel]) -> gr.Blocks:
    """The page.

    Args:
        models: by name, one or two, which stand beside each other.
    """
    first = next(iter(models.values()))
    a, b = first_sentences(first)
    threshold = threshold_of(first)
    end, step = steps_for(max(threshold, *(largest_alpha(model, [a, b]) for model in models.values())))
    lengths = first.experiment.data.length_distribution
    length = max(lengths, key=lengths.get)
    with gr.Blocks(title="NVIB", analytics_enabled=False, fill_width=True) as page:
        with gr.Row():
            text_a = gr.Textbox(a, label="Sentence at τ = 0", elem_id="a", max_lines=3)
            text_b = gr.Textbox(b, label="Sentence at τ = 1", elem_id="b", max_lines=3)
        with gr.Row():
            tau = gr.Slider(0, 1, 0.5, step=0.01, label="τ, between the two", elem_id="tau", buttons=[])
            drop = gr.Slider(
                0, end, threshold, step=step, label="threshold of α: vectors below it are dropped", elem_id="threshold",
                buttons=[],
            )  # fmt: skip
        with gr.Row():
            views = [
                gr.HTML(html, elem_id=f"view-{number}")
                for number, html in enumerate(explored(models, a, b, 0.5, threshold))
            ]
        with gr.Row():
            asked = gr.Slider(
                1, max(lengths), length, step=1, label="length of samples from the prior (tokens)", elem_id="length",
                buttons=[],
            )  # fmt: skip
            seed = gr.Number(1, label="seed", precision=0, minimum=0, maximum=2**32 - 1, elem_id="seed")
        with gr.Row():
            drawn_samples = [
                gr.HTML(html, elem_id=f"samples-{number}") for number, html in enumerate(samples(models, length, 1))
            ]
        # While one answer is on its way only the last of what is typed or dragged is asked for.
        options = {"show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}
        gr.on(
            [text_a.change, text_b.change, tau.change, drop.change],
            lambda *values: _answers(explored(models, *values)),
            [text_a, text_b, tau, drop],
            views,
            **options,
        )
        gr.on(
            [asked.change, seed.change],
            lambda *values: _answers(samples(models, *values)),
            [asked, seed],
            drawn_samples,
            **options,
        )
    return page


def _answers(shown: list[str]) -> list[str] | str:
    return shown if len(shown) > 1 else shown[0]  # one output takes a value, several a list


def require_free(host: str, port: int) -> None:
    """Make sure that a port can be listened to, before any work is done.

    Raises:
        UserError: it cannot.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        raise UserError(
            f"port {port} of {host} cannot be had ({error.strerror}); name another with --PORT, or an address of this "
            "machine with --HOST"
        ) from None


def serve(page: gr.Blocks, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve a page until the process is asked to end.

    Args:
        page: what `build` made.
        host: address to listen on.
        port: of it.
        ready: is told the page's address once it answers.

    Raises:
        UserError: the address cannot be had.
    """
    theme = gr.themes.Base(font=FONT, font_mono=MONO)
    try:
        page.launch(
            server_name=host, server_port=port, theme=theme, css=CSS, prevent_thread_lock=True, quiet=True, share=False,
            ssr_mode=False, mcp_server=False, run_history=False, footer_links=[], pwa=False, num_workers=0,
            enable_monitoring=False, inbrowser=False, max_file_size=1,
        )  # fmt: skip
    except (OSError, ValueError) as error:  # somebody else was quicker, or a proxy stands before this very machine
        raise UserError(f"the page cannot be served at {host}:{port} ({' '.join(str(error).split())[:200]})") from None
    ready(page.local_url)
    try:
        threading.Event().wait()
    except Interrupted:
        with contextlib.suppress(Interrupted):
            page.close(verbose=False)
