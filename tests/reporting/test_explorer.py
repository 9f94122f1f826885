"""The page of explore.py: its data, its HTML, and its answers in a real browser."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models import MODELS, build
from pipeline import load_experiment
from pipeline.generation.trained_model import TrainedModel
from pipeline.reporting.explorer_html import drawn, heat_map, listed, note
from pipeline.reporting.explorer_view import PRIOR, Attention, sampled, steps_for, view
from pipeline.runtime.errors import UserError
from tests.helpers import ROOT, call, one_line_of_error

A, B = "the old king saw a river .", "a young cat left the house by the town ."
CHROMIUM = Path("/usr/bin/chromium")
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
QUIET += "--disable-component-update --disable-sync"


@pytest.fixture(scope="module")
def nvae(trained: Path) -> TrainedModel:
    return load_experiment(trained / "outputs" / "nvib" / "nvib", data_dir=trained / "data")


def untrained(nvae: TrainedModel, name: str) -> TrainedModel:
    """Another model for the same data."""
    torch.manual_seed(0)
    settings = MODELS[name](vocabulary_size=nvae.tokenizer.vocabulary_size, dim_h=16)
    return TrainedModel(replace(nvae.experiment, model=build(settings).eval()), {})


# What is found.


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4])
def test_what_lies_between_is_what_the_model_interpolates(nvae: TrainedModel, step: int):
    found = view(nvae, A, B, step / 4)
    between = nvae.interpolate(A, B, steps=5)
    assert found.text == between[step]
    assert found.ends == (between[0], between[-1])


def test_every_token_has_its_pseudo_count(nvae: TrainedModel):
    first, second = view(nvae, A, B, 0.5).vectors
    assert first.names == [PRIOR, "the", "old", "king", "saw", "a", "river", ".", "[SEP]"]
    assert second.names[:4] == [PRIOR, "a", "young", "cat"]
    torch.testing.assert_close(torch.tensor(first.alpha), nvae.encode([A]).posterior.alpha[0])


def integral(nvae: TrainedModel) -> TrainedModel:
    """The same model, whose decoder also reads the component of the prior."""
    return TrainedModel(nvae.experiment.with_settings(reading="integral"), {})


def test_a_higher_threshold_keeps_fewer_vectors_and_the_prior_s_always(nvae: TrainedModel):
    nvae = integral(nvae)
    alpha = nvae.encode([A]).posterior.alpha[0, 1:]
    for threshold in (0.0, *alpha.tolist(), 1e6):
        found = view(nvae, A, B, 0.5, threshold)
        first = found.vectors[0]
        assert first.kept == [True, *(alpha >= threshold).tolist()]
        assert first.count == (sum(first.kept), len(alpha) + 1)
        assert len(found.attention.vectors) == sum(sum(of_text.kept) for of_text in found.vectors)
    assert found.attention.vectors == [PRIOR, PRIOR]
    assert view(nvae, A, B, 0.0, 1e6).text != view(nvae, A, B, 0.0, 0.0).text, "the decoder does not see the threshold"


@pytest.mark.parametrize(
    "settings", [{"reading": "plug-in"}, {"reading": "draws-3"}, {"reading": "draws-2", "kappa": 2}]
)
def test_the_page_shows_what_the_reading_of_the_model_gives(nvae: TrainedModel, settings: dict):
    read = TrainedModel(nvae.experiment.with_settings(**settings), {})
    threshold = read.model.settings.alpha_threshold
    for tau, step in ((0.0, 0), (0.5, 1), (1.0, 2)):
        found = view(read, A, B, tau, threshold)
        assert found.text == read.interpolate(A, B, steps=3)[step]
        assert (len(found.vectors[0].kept), len(found.vectors[1].kept)) == (9, 12)
        of_text = [token for text in (found.vectors[0], found.vectors[1]) for token in text.names]
        assert set(found.attention.vectors) <= set(of_text)
        assert (PRIOR in found.attention.vectors) == (settings["reading"] != "plug-in")
        assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in found.attention.weights)
        assert drawn(found, tau)


def test_the_weights_are_those_that_each_token_was_generated_with(nvae: TrainedModel):
    nvae = integral(nvae)
    found = view(nvae, A, B, 0.25).attention
    a, b = (nvae.encode([text]).latent for text in (A, B))
    latent = nvae.model.interpolate(a, b, 0.25)
    hidden = [token for token in found.tokens if token != "[SEP]"]
    ids = [nvae.tokenizer.tokenizer.token_to_id(token) for token in hidden]
    before = torch.tensor([[nvae.tokenizer.cls_id, *ids]])[:, : len(found.tokens)]
    with torch.inference_mode():
        weights = nvae.model.attention_weights(before, latent)[0].mean(dim=(0, 1))
    torch.testing.assert_close(torch.tensor(found.weights), weights)
    torch.testing.assert_close(torch.tensor(found.weights).sum(dim=1), torch.ones(len(found.tokens)))
    assert found.sides == [0] * 9 + [1] * (len(found.vectors) - 9)
    assert set(view(nvae, A, B, 1.0).attention.sides) == {1}


def test_samples_are_those_of_generate(nvae: TrainedModel):
    texts = sampled(nvae, 5, 9, seed=1)
    assert texts == nvae.generate(5, 1, sampling_distribution="uniform", min_length=9, max_length=9)
    assert texts == sampled(nvae, 5, 9, seed=1) != sampled(nvae, 5, 9, seed=2)


@pytest.mark.parametrize(
    ("name", "vectors", "reported"),
    [
        ("T", 8, "8 of 8 vectors kept; the model has no pseudo-counts"),
        ("VTV", 8, "8 of 8 vectors kept; the model has no pseudo-counts"),
        ("VTS", 4, "4 of 8 vectors kept; the model has no pseudo-counts"),
        ("VTP", 1, "1 of 8 vectors kept; the model has no pseudo-counts"),
    ],
)
def test_a_model_shows_what_it_has(nvae: TrainedModel, name: str, vectors: int, reported: str):
    model = untrained(nvae, name)
    found = view(model, A, B, 0.5, threshold=3.0)
    assert len(found.vectors[0].names) == vectors
    assert found.vectors[0].alpha is None
    assert set(found.attention.sides) == {2}, "a vector between two is of both"
    assert reported in drawn(found, 0.5)


@pytest.mark.slow
def test_a_model_says_what_it_lacks(nvae: TrainedModel):
    from pipeline.reporting.explorer_page import explored, samples

    models = {"nvib": nvae, "vanilla": untrained(nvae, "T"), "lm": untrained(nvae, "LM")}
    shown = explored(models, A, B, 0.5, None)
    assert "LM has no latent: it cannot encode a text" in shown[2]
    assert "<svg" in shown[0]
    assert "<svg" in shown[1]
    assert "<svg" not in shown[2]
    shown = samples(models, 9, 1)
    assert shown[0].count("<li>") == 5
    assert "T has no prior to sample from" in shown[1]
    assert "name a length and a seed" in samples(models, 9, None)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "type two sentences"), ("   ", "type two sentences"), ("king " * 200, "up to 100 tokens")],
)
def test_what_cannot_be_shown_is_a_line(nvae: TrainedModel, text: str, message: str):
    from pipeline.reporting.explorer_page import explored

    with pytest.raises(UserError, match=message):
        view(nvae, A, text, 0.5)
    assert message in explored({"nvib": nvae}, text, B, 0.5, None)[0]


# How it is drawn.


def test_shades_follow_the_pseudo_counts_and_what_is_dropped_is_struck_out(nvae: TrainedModel):
    nvae = integral(nvae)
    found = view(nvae, A, B, 0.5, 0.0)
    first = found.vectors[0]
    shades = [float(shade) for shade in re.findall(r"--shade: ([\d.]+)", drawn(found, 0.5))][: len(first.names)]
    order = sorted(range(len(shades)), key=first.alpha.__getitem__)
    assert [shades[index] for index in order] == sorted(shades)
    assert shades[order[-1]] > shades[order[0]]
    assert 'class="token dropped"' not in drawn(found, 0.5)
    assert drawn(view(nvae, A, B, 0.5, 1e6), 0.5).count('class="token dropped"') == sum(
        len(of_text.names) - 1 for of_text in found.vectors
    )


def test_no_text_is_taken_for_markup():
    hostile = '<img src=x onerror="alert(1)">'
    attention = Attention([hostile], [hostile], [0], [[1.0]])
    for html in (heat_map(attention), listed([hostile]), note(hostile)):
        assert "<img" not in html
        assert "&lt;img" in html


def test_a_heat_map_has_a_cell_for_every_weight_that_can_be_seen():
    html = heat_map(Attention(["cat", "dog"], ["a", "b", "c"], [0, 1, 2], [[0.5, 0.5, 0.0], [0.001, 0.0, 0.999]]))
    assert html.count("<title>") == 3
    assert "cat ← b: 0.50" in html
    assert 'class="of-both"' in html
    assert "nothing was generated" in heat_map(Attention([], [], [], []))


@pytest.mark.parametrize(("largest", "end"), [(0.0, 1.0), (0.09, 0.1), (0.43, 0.5), (1.0, 2.0), (7.4, 10.0)])
def test_a_slider_reaches_beyond_the_largest_value(largest: float, end: float):
    found, step = steps_for(largest)
    assert found == pytest.approx(end)
    assert step == pytest.approx(end / 200)


# How it is served.


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


def test_a_port_that_is_taken_and_an_address_of_another_machine_are_one_line(trained: Path):
    where = ("--EXPERIMENT_NAME", "nvib", "--OUTPUT_DIR", trained / "outputs", "--DATA_DIR", trained / "data")
    with listening() as listener:
        port = listener.getsockname()[1]
        line = one_line_of_error(call("explore.py", *where, "--PORT", port, expect=2))
        assert f"port {port} of 127.0.0.1 is not available" in line
    line = one_line_of_error(call("explore.py", *where, "--HOST", "192.0.2.1", expect=2))
    assert "192.0.2.1 is not available" in line


def test_an_experiment_is_not_compared_with_itself():
    line = one_line_of_error(call("explore.py", "--EXPERIMENT_NAME", "a", "--COMPARE_WITH", "a", expect=2))
    assert "name another experiment" in line


@contextmanager
def served(trained: Path) -> Iterator[str]:
    """The page of both experiments as a process; its proxy is one that must not be asked."""
    with listening() as free:
        port = free.getsockname()[1]
    with listening() as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), address)
        command = [sys.executable, ROOT / "explore.py", "--EXPERIMENT_NAME", "nvib", "--COMPARE_WITH", "vanilla"]
        command += ["--OUTPUT_DIR", trained / "outputs", "--DATA_DIR", trained / "data", "--PORT", str(port)]
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            env={**os.environ, **proxies, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "OMP_NUM_THREADS": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            first = process.stdout.readline()
            assert f"at http://127.0.0.1:{port}" in first, first + process.stdout.read()
            yield f"http://127.0.0.1:{port}"
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=10)
            assert process.returncode == 0, rest
            assert rest == "", "it speaks of what is no news"
        finally:
            process.kill()
            process.wait()
        proxy.settimeout(0.0)
        with pytest.raises(BlockingIOError):  # nobody has come
            proxy.accept()


@pytest.mark.slow
def test_the_page_answers_a_person_in_a_browser(trained: Path, nvae: TrainedModel):
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM} (apt-get install chromium)")
    waited: dict[str, float] = {}
    with served(trained) as address, playwright.sync_playwright() as driver:
        with pytest.raises(ConnectionRefusedError):  # it listens on the one address alone
            socket.create_connection(("127.0.0.2", int(address.rpartition(":")[2])))
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        asked, failed = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.set_default_timeout(10_000)
        page.goto(address)
        shown = page.locator("#view-0")
        shown.locator("svg").wait_for()

        def answered(what: str, action: Callable[[], object], *texts: str, part: str = "#view-0") -> None:
            """Act, and wait until the page shows all the texts."""
            started = time.perf_counter()
            action()
            page.wait_for_function(
                "([part, texts]) => texts.every(text => document.querySelector(part).innerText.includes(text))",
                arg=[part, list(texts)],
                polling=10,
            )
            waited[what] = time.perf_counter() - started

        def drag(slider: str, share: float) -> None:
            box = page.locator(f"{slider} input[type=range]").bounding_box()
            left, y = box["x"] + 8, box["y"] + box["height"] / 2
            page.mouse.move(box["x"] + box["width"] * 0.5, y)
            page.mouse.down()
            page.mouse.move(box["x"] + box["width"] * 0.7, y)
            page.mouse.move(left + (box["width"] - 16) * share, y)
            page.mouse.up()

        # One types two sentences …
        answered("first sentence", lambda: page.locator("#a textarea").fill(A), nvae.reconstruct([A])[0], "king")
        answered("second sentence", lambda: page.locator("#b textarea").fill(B), nvae.reconstruct([B])[0], "young")
        # … drags tau to its end and back between the two …
        between = shown.locator(".line.between p")
        answered("tau", lambda: drag("#tau", 1.0), "τ = 1.00")
        assert between.inner_text() == nvae.interpolate(A, B)[-1]
        assert shown.locator("svg rect.of-b").count() > 0
        assert shown.locator("svg rect.of-a").count() == 0
        answered("tau back", lambda: drag("#tau", 0.0), "τ = 0.00")
        assert between.inner_text() == nvae.interpolate(A, B)[0] != nvae.interpolate(A, B)[-1]
        assert shown.locator("svg rect.of-a").count() > 0
        # … moves the threshold until nothing but the prior's vector is kept …
        assert (
            shown.locator(".token.dropped").count() == 2
        )  # the components of the prior, which are read where no other is
        answered("threshold", lambda: drag("#threshold", 1.0), "1 of 9 vectors kept")
        assert shown.locator(".a .token.dropped").count() == 8
        assert between.inner_text() == view(nvae, A, B, 0.0, 1e6).text
        assert "8 of 8 vectors kept; the model has no pseudo-counts" in page.locator("#view-1").inner_text()
        # … and samples at a length with a seed.
        page.locator("#length input[type=number]").fill("9")
        page.locator("#length input[type=number]").blur()
        texts = sampled(nvae, 5, 9, seed=7)
        answered("seed", lambda: page.locator("#seed input").fill("7"), *texts, part="#samples-0")
        assert page.locator("#samples-0 li").all_inner_texts() == texts
        assert "T has no prior to sample from" in page.locator("#samples-1").inner_text()
        browser.close()
    assert not failed
    assert {url.split("/")[2] for url in asked if not url.startswith(("data:", "blob:"))} == {address.split("/")[2]}
    # Each takes a tenth of a second here; one may wait for whatever else the machine does, all if others wait too.
    busy = max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))
    reported = f"seconds until an answer: {', '.join(f'{what} {seconds:.2f}' for what, seconds in waited.items())}"
    assert sorted(waited.values())[len(waited) // 2] < 1.0 * busy, reported
    assert max(waited.values()) < 5.0 * busy, reported
