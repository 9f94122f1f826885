"""Measure training, generation, memory and preparation, in units of this machine.

    python -m benchmarks.speed

A unit is one float32 product of [3200, 256] and [256, 30522], measured in the same process. The model: width 256,
1 layer, 1 head, BERT's vocabulary; batches of 128 sentences of WikiText-2's lengths. Each figure is the median of
repeated runs after a warm-up, with its spread. Writes benchmarks/results.json and benchmarks/results.png.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.plain import plain_generate, plain_loss
from models import MODELS, build
from models.decoding import generate
from models.text_model import TextModel
from pipeline.batching import Batch, collate
from pipeline.files import write_json
from pipeline.plots import figure

HERE = Path(__file__).parent
VOCABULARY, WIDTH, SENTENCES = 30_522, 256, 128
START, NO_END = 101, -1
WIKITEXT = HERE.parent.parent / "shared" / "data" / "wikitext-2"
TOKENIZER = HERE.parent.parent / "shared" / "tokenizers" / "bert-base-uncased"


def median(action: Callable[[], object], repeats: int = 5) -> tuple[float, float]:
    """Median seconds of an action after a warm-up, and its spread: half the range over the median."""
    action()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    middle = statistics.median(seconds)
    return middle, (max(seconds) - min(seconds)) / 2 / middle


def corpus(count: int) -> list[list[int]]:
    """Sentences of random tokens with the lengths of WikiText-2's training sentences (mean 25, from 6 to 49)."""
    random = np.random.default_rng(0)
    lengths = np.clip(np.round(random.gamma(4.6, 5.6, count)), 6, 49).astype(int)
    return [[START, *random.integers(1000, VOCABULARY, length - 2).tolist(), 102] for length in lengths]


def batches() -> list[Batch]:
    """Eight batches of sentences as they come."""
    sentences = corpus(8 * SENTENCES)
    return [collate(sentences[start : start + SENTENCES], 0) for start in range(0, len(sentences), SENTENCES)]


class Steps:
    """Training steps of one model, batch after batch, ours or the plain way."""

    def __init__(self, name: str, plain: bool = False, precision: str = "fp32") -> None:
        torch.manual_seed(0)
        self.model = build(MODELS[name](vocabulary_size=VOCABULARY, dim_h=WIDTH))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=not plain)
        self.plain, self.bf16 = plain, precision == "bf16"
        self.batches, self.number = batches(), 0

    def __call__(self) -> None:
        """Eight steps, so that every length has its share."""
        for batch in self.batches:
            self._step(batch)

    def _step(self, batch: Batch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            if self.plain:
                loss = plain_loss(self.model, batch)
            else:
                encoding, tokens = self.model(batch.source, batch.key_padding_mask, batch.target_input)
                loss = tokens.mean + self.model.penalty(encoding, 1.0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)
        self.optimizer.step()
        self.optimizer.zero_grad()


def generation(model: TextModel, length: int, plain: bool) -> Callable[[], object]:
    """An action that generates 32 sentences of `length` tokens from the latents of 32 others."""
    batch = batches()[0]
    with torch.inference_mode():
        latent = model.encode(batch.source[:32], batch.key_padding_mask[:32]).latent
    if plain:
        return lambda: plain_generate(model, latent, 32, START, length)
    return lambda: generate(model, latent, 32, START, NO_END, length)


def peak_memory(plain: bool) -> float:
    """Gigabytes that a process holds at most while it trains."""
    command = [sys.executable, "-m", "benchmarks.speed", "--memory", "plain" if plain else "ours"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE.parent)
    return float(finished.stdout)


def prepare_seconds() -> float | None:
    """Seconds to prepare WikiText-2 by the script, start included, where the text is at hand."""
    if not (WIKITEXT.exists() and TOKENIZER.exists()):
        return None
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "prepareDatasets.py", "--DATA", "wikitext2", "--LOCAL_PATH", str(WIKITEXT)]
        command += ["--TOKENIZER", str(TOKENIZER), "--DATA_DIR", folder]
        started = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True, cwd=HERE.parent)
        return time.perf_counter() - started


def growth() -> dict[str, dict[int, float]]:
    """Seconds of a training step of NVIB against batch size, length, vocabulary and width."""

    def step(sentences: int = 32, length: int = 25, vocabulary: int = 8000, width: int = 256) -> float:
        torch.manual_seed(0)
        model = build(MODELS["NVIB"](vocabulary_size=vocabulary, dim_h=width))
        rows = torch.randint(5, vocabulary, (sentences, length + 1)).tolist()
        batch = collate(rows, 0)

        def action() -> None:
            encoding, tokens = model(batch.source, batch.key_padding_mask, batch.target_input)
            (tokens.mean + model.penalty(encoding, 1.0)).backward()
            model.zero_grad()

        return median(action, 3)[0]

    return {
        "sentences": {value: step(sentences=value) for value in (8, 32, 128)},
        "length": {value: step(length=value) for value in (10, 25, 50, 100)},
        "vocabulary": {value: step(vocabulary=value) for value in (2000, 8000, 30_522)},
        "width": {value: step(width=value) for value in (64, 128, 256, 512)},
    }


def plot(curves: dict[str, dict[int, float]], path: Path) -> None:
    """How a step's cost grows with each quantity, both on logarithmic axes."""
    with figure(path) as axes:
        for name, values in curves.items():
            axes.loglog(list(values), list(values.values()), marker="o", label=name)
        axes.set(xlabel="value of the quantity, others as usual", ylabel="seconds a training step (NVIB)")
        axes.legend(frameon=False)


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        rows = Path("/proc/cpuinfo").read_text().splitlines()
        return next(row.split(":")[1].strip() for row in rows if row.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    """Measure, print, write."""
    if "--memory" in sys.argv:
        Steps("NVIB", plain=sys.argv[-1] == "plain")()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
        return
    left, right = torch.randn(3200, WIDTH), torch.randn(WIDTH, VOCABULARY)
    unit, spread = median(lambda: left @ right, 15)
    results: dict[str, object] = {"unit_seconds": unit, "unit_spread": spread}

    def measure(name: str, action: Callable[[], object], parts: int = 1) -> float:
        seconds, spread = median(action)
        results[name], results[f"{name}_spread"] = seconds / parts / unit, spread
        print(f"{name:<32} {seconds / parts / unit:8.2f} units  ± {spread:.0%}", flush=True)
        return seconds / parts

    nvib = Steps("NVIB")
    step = measure("train_step_float32_units", nvib, len(nvib.batches))
    other = Steps("T")
    results["nvib_step_over_t"] = step / measure("train_step_float32_t_units", other, len(other.batches))
    plain = Steps("NVIB", plain=True)
    measure("plain_train_step_float32_units", plain, len(plain.batches))
    low = Steps("NVIB", precision="bf16")
    measure("train_step_bf16_units", low, len(low.batches))
    model = nvib.model.eval()
    for length in (30, 100):
        measure(f"generate_32x{length}_units", generation(model, length, plain=False))
        measure(f"plain_generate_32x{length}_units", generation(model, length, plain=True))
    results["train_peak_memory_gb"] = peak_memory(plain=False)
    results["plain_train_peak_memory_gb"] = peak_memory(plain=True)
    results["prepare_seconds"] = prepare_seconds()
    curves = growth()
    results |= {
        "growth": {name: {str(k): v for k, v in values.items()} for name, values in curves.items()},
        "machine": f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "bf16_in_hardware": "avx512_bf16" in Path("/proc/cpuinfo").read_text()
        if Path("/proc/cpuinfo").exists()
        else None,
        "date": time.strftime("%Y-%m-%d"),
    }
    write_json(HERE / "results.json", results)
    plot(curves, HERE / "results.png")
    print(json.dumps({name: value for name, value in results.items() if name != "growth"}, indent=2))


if __name__ == "__main__":
    main()
