"""The page of `explore.py`: its controls and their effects. It sends no request to another machine."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from pipeline.data.row_tokenizer import RowTokenizer
from pipeline.generation.trained_model import TrainedModel
from pipeline.reporting.explorer_html import CSS, drawn, listed, note, titled
from pipeline.reporting.explorer_view import largest_alpha, sampled, steps_for, threshold_of, view
from pipeline.runtime.errors import UserError
from pipeline.runtime.signals import Interrupted

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import, which would look for updates

import gradio as gr
from gradio.themes import Base

SAMPLES = 5
SENTENCES = ("the old king left the town.", "a cat saw the river.")  # for a model without its data
# Fonts of the system, so that none is fetched.
FONT, MONO = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")


def explored(models: dict[str, TrainedModel], a: str, b: str, tau: float, threshold: float | None) -> list[str]:
    """Parts of the page for two texts, one for each model; an error of a model is shown in its part.

    Args:
        models: models by name.
        a: text at tau 0.
        b: text at tau 1.
        tau: position between the texts, in [0, 1].
        threshold: pseudo-count below which a vector is dropped; each model's own if None.
    """
    return _of_each(models, "", lambda model: drawn(view(model, a, b, tau, threshold), tau))


def samples(models: dict[str, TrainedModel], length: int | None, seed: int | None) -> list[str]:
    """Parts of the page with samples from the prior, one for each model; an error of a model is shown in its part.

    Args:
        models: models by name.
        length: length in tokens, end token included, at which the prior is sampled.
        seed: seed of the samples.
    """

    def of_one(model: TrainedModel) -> str:
        if length is None or seed is None:
            raise UserError("name a length and a seed")
        return listed(sampled(model, SAMPLES, int(length), int(seed)))

    return _of_each(models, "samples of ", of_one)


def _of_each(models: dict[str, TrainedModel], title: str, show: Callable[[TrainedModel], str]) -> list[str]:
    """Titled part of each model, with its error in place of a body that fails."""
    shown = []
    for name, model in models.items():
        try:
            body = show(model)
        except UserError as error:
            body = note(str(error))
        shown.append(titled(title + name, type(model.model.settings).summary, body))
    return shown


def first_sentences(model: TrainedModel) -> tuple[str, str]:
    """Two sentences of the validation split that the page starts with, of 8 to 14 tokens if there are any."""
    split = getattr(model.experiment.data, "splits", {}).get("validation")
    if split is None or len(split) < 2:
        return SENTENCES
    lengths = list(split["length"])
    short = [row for row, length in enumerate(lengths) if 8 <= length <= 14] or list(range(len(lengths)))
    if len(short) < 2:
        return SENTENCES
    first, second = (split[row]["text"] for row in short[:2])
    return first, second


def build(models: dict[str, TrainedModel]) -> gr.Blocks:
    """Build the page.

    Args:
        models: one or two models by name, shown side by side.
    """
    first = next(iter(models.values()))
    a, b = first_sentences(first)
    threshold = threshold_of(first)
    end, step = steps_for(max(threshold, *(largest_alpha(model, [a, b]) for model in models.values())))
    lengths = first.experiment.data.length_distribution
    length = max(lengths, key=lambda each: lengths[each])
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
                buttons=[], visible=not all(isinstance(each.tokenizer, RowTokenizer) for each in models.values()),
            )  # fmt: skip
            seed = gr.Number(1, label="seed", precision=0, minimum=0, maximum=2**32 - 1, elem_id="seed")
        with gr.Row():
            drawn_samples = [
                gr.HTML(html, elem_id=f"samples-{number}") for number, html in enumerate(samples(models, length, 1))
            ]
        _update([text_a, text_b, tau, drop], lambda *values: explored(models, *values), views)
        _update([asked, seed], lambda *values: samples(models, *values), drawn_samples)
    return page


def _update(controls: list[Any], show: Callable[..., list[str]], outputs: list[Any]) -> None:
    """Show new HTML in the outputs whenever a control changes."""

    def shown(*values: Any) -> list[str] | str:
        html = show(*values)
        return html if len(html) > 1 else html[0]  # several outputs take a list, one output a value

    gr.on(
        [control.change for control in controls],
        shown,
        controls,
        outputs,
        show_progress="hidden",
        trigger_mode="always_last",  # while an answer is under way, only the last change is kept
        api_visibility="private",
    )


def require_free(host: str, port: int) -> None:
    """Check before any work that this process can listen on a port.

    Raises:
        UserError: the port is taken, or the host is not an address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        raise UserError(
            f"port {port} of {host} is not available ({error.strerror}); name another with --PORT, or an address of "
            "this machine with --HOST"
        ) from None


def serve(page: gr.Blocks, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve a page until the process is asked to end.

    Args:
        page: page that `build` returns.
        host: address to listen on.
        port: port to listen on.
        ready: called with the page's address once the page answers.

    Raises:
        UserError: the address cannot be listened on.
    """
    theme = Base(font=FONT, font_mono=MONO)
    try:
        page.launch(
            server_name=host, server_port=port, theme=theme, css=CSS, prevent_thread_lock=True, quiet=True, share=False,
            ssr_mode=False, mcp_server=False, run_history=False, footer_links=[], pwa=False, num_workers=0,
            enable_monitoring=False, inbrowser=False, max_file_size=1,
        )  # fmt: skip
    except (OSError, ValueError) as error:  # the port was taken meanwhile, or a proxy intercepts this machine
        raise UserError(f"the page cannot be served at {host}:{port} ({' '.join(str(error).split())[:200]})") from None
    ready(page.local_url or f"http://{host}:{port}/")
    try:
        threading.Event().wait()
    except Interrupted:
        with contextlib.suppress(Interrupted):
            page.close(verbose=False)
