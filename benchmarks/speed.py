"""Measure training, generation, memory, preparation and start-up, in units of this machine.

    python -m benchmarks.speed

A unit is one float32 product `left @ right` of [3200, 256] and [256, 30522], in a separate process with torch's default
allocation: memory is requested for each result and returned. `unit_into_kept_memory_seconds` is the same product in a
process that keeps freed memory, as the scripts do. The model has width 256, 1 layer, 1 head and BERT's vocabulary; its
batches hold 128 sentences with the lengths of WikiText-2. Compared actions alternate, so that a machine that slows down
slows all of them. Each figure is a ratio of medians; its spread is half the distance between the quartiles. `plain_`
marks the textbook implementation of `benchmarks/plain.py`, which runs in the unit's process.
Writes benchmarks/results.json.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import processor
from benchmarks.plain import plain_generate, plain_loss
from models import MODELS, build
from models.decoding import generate
from models.layered_autoencoder import LayeredAutoencoder
from models.settings import ModelSettings
from models.text_model import TextModel
from pipeline.cli.parser import Parser
from pipeline.data.batches import Batch, collate
from pipeline.runtime.devices import bfloat16_speedup, keep_freed_memory
from pipeline.runtime.files import write_json

HERE = Path(__file__).parent
VOCABULARY, WIDTH, SENTENCES = 30_522, 256, 128
START, NO_END = 101, -1
ROUNDS, PLAIN_ROUNDS = 13, 5
WIKITEXT = HERE.parent.parent / "shared" / "data" / "wikitext-2"
TOKENIZER = HERE.parent.parent / "shared" / "tokenizers" / "bert-base-uncased"


def corpus(count: int) -> list[list[int]]:
    """Return sentences of random tokens with the lengths of WikiText-2's training sentences (6 to 49, mean 25)."""
    random = np.random.default_rng(0)
    lengths = np.clip(np.round(random.gamma(4.6, 5.6, count)), 6, 49).astype(int)
    return [[START, *random.integers(1000, VOCABULARY, length - 2).tolist(), 102] for length in lengths]


def batches(count: int) -> list[Batch]:
    """Return batches of sentences, in order."""
    sentences = corpus(count * SENTENCES)
    return [collate(sentences[start : start + SENTENCES], 0) for start in range(0, len(sentences), SENTENCES)]


class Steps:
    """Training steps of one model, by this project's code or by the plain one."""

    def __init__(self, name: str, plain: bool = False, precision: str = "fp32") -> None:
        torch.manual_seed(0)
        self.model = build(MODELS[name](vocabulary_size=VOCABULARY, dim_h=WIDTH))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=not plain)
        self.plain, self.bf16 = plain, precision == "bf16"
        self.batches, self.number = batches(8), 0

    def __call__(self) -> None:
        """Take the next training step."""
        batch = self.batches[self.number % len(self.batches)]
        self.number += 1
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            if self.plain:
                loss = plain_loss(autoencoder(self.model), batch)
            else:
                encoding, tokens = self.model(batch.source, batch.key_padding_mask, batch.target_input)
                loss = tokens.mean + self.model.penalty(encoding, 1.0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)
        self.optimizer.step()
        self.optimizer.zero_grad()


def autoencoder(model: TextModel) -> LayeredAutoencoder[ModelSettings]:
    """Return the model, which must be an autoencoder."""
    if not isinstance(model, LayeredAutoencoder):
        raise TypeError(f"{model.settings.name} is not an autoencoder")
    return model


def generation(model: TextModel, length: int, plain: bool) -> Callable[[], object]:
    """Return an action that generates 32 sentences of `length` tokens from the latents of 32 others."""
    batch = batches(1)[0]
    with torch.inference_mode():
        latent = model.encode(batch.source[:32], batch.key_padding_mask[:32]).latent
    if plain:
        return lambda: plain_generate(autoencoder(model), latent, 32, START, length)
    return lambda: generate(model, latent, 32, START, NO_END, length)


def unit() -> Callable[[], object]:
    """Return the matrix product that is the unit of all times."""
    left, right = torch.randn(3200, WIDTH), torch.randn(WIDTH, VOCABULARY)
    return lambda: left @ right


def timed(action: Callable[[], object]) -> Callable[[], float]:
    """Wrap an action so that it returns its duration in seconds."""

    def run() -> float:
        started = time.perf_counter()
        action()
        return time.perf_counter() - started

    return run


class ByDefault:
    """A process with the default memory allocator, which times actions by name.

    The benchmark's own process calls `keep_freed_memory`, as the scripts do, and cannot undo that setting.
    """

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.speed", "--by-default"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE.parent,
        )

    def __call__(self, name: str) -> float:
        """Return the seconds of one run of `unit`, `step` or `generate 30`."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the process has no pipes")
        print(name, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    @staticmethod
    def serve() -> None:
        """Read names from standard input and print seconds: the loop of the process."""
        actions: dict[str, Callable[[], object]] = {}
        for line in sys.stdin:
            name, _, length = line.strip().partition(" ")
            if line not in actions:
                if name == "unit":
                    actions[line] = unit()
                elif name == "step":
                    actions[line] = Steps("NVIB", plain=True)
                else:
                    actions[line] = generation(Steps("NVIB").model.eval(), int(length), plain=True)
            print(timed(actions[line])(), flush=True)


def in_turn(actions: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure the seconds of each action, all of them once a round, after one round of warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name, action in actions.items():
            taken = action()
            if number:
                seconds[name].append(taken)
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, reference: str = "unit") -> tuple[float, float]:
    """Return the ratio of medians, and half the interquartile range of the action's times in the same unit."""
    middle = statistics.median(seconds[reference])
    lower, median, upper = statistics.quantiles(seconds[name], n=4)
    return median / middle, (upper - lower) / 2 / middle


def peak_memory(kind: str) -> float:
    """Return the peak gigabytes of a process that trains, by `ours` or `plain`."""
    return float(_python("-m", "benchmarks.speed", "--memory", kind))


def prepare_seconds(runs: int = 3) -> float | None:
    """Return the median seconds to prepare WikiText-2 with the script, start included, if the text is available."""
    if not (WIKITEXT.exists() and TOKENIZER.exists()):
        return None
    seconds = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            _python(
                *("prepareDatasets.py", "--DATA", "wikitext2", "--LOCAL_PATH", str(WIKITEXT)),
                *("--TOKENIZER", str(TOKENIZER), "--DATA_DIR", folder),
            )
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def help_seconds() -> float:
    """Return the seconds of the slowest `--help`, as the median of three runs of each script."""
    slowest = 0.0
    for script in sorted(HERE.parent.glob("*.py")):
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            _python(script.name, "--help")
            seconds.append(time.perf_counter() - started)
        slowest = max(slowest, statistics.median(seconds))
    return slowest


def peak_gigabytes() -> float:
    """Return the peak memory of this process. The system's own figure at its end includes its parent's share."""
    try:
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e6
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE.parent).stdout


def measure() -> dict[str, object]:
    """Measure all figures."""
    results: dict[str, object] = {}

    def record(name: str, seconds: Mapping[str, list[float]], action: str, reference: str = "unit") -> None:
        results[name], results[f"{name}_spread"] = ratio(seconds, action, reference)
        print(f"{name:<32} {results[name]:8.2f} ± {results[f'{name}_spread']:.2f}", flush=True)

    keep_freed_memory()
    by_default, nvae = ByDefault(), Steps("NVIB")

    def theirs(name: str) -> Callable[[], float]:
        return lambda: by_default(name)

    training = {
        "unit": theirs("unit"),
        "product": timed(unit()),
        "step": timed(nvae),
        "t_step": timed(Steps("T")),
        "bf16_step": timed(Steps("NVIB", precision="bf16")),
    }
    seconds = in_turn(training, ROUNDS)
    results["unit_seconds"] = statistics.median(seconds["unit"])
    results["unit_into_kept_memory_seconds"] = statistics.median(seconds["product"])
    record("train_step_float32_units", seconds, "step")
    record("train_step_float32_t_units", seconds, "t_step")
    record("nvib_step_over_t", seconds, "step", "t_step")
    record("train_step_bf16_units", seconds, "bf16_step")
    results["bf16_product_speedup"] = bfloat16_speedup()
    seconds = in_turn({"unit": theirs("unit"), "plain_step": theirs("step")}, PLAIN_ROUNDS)
    record("plain_train_step_float32_units", seconds, "plain_step")
    model = nvae.model.eval()
    for length, plain_rounds in ((30, PLAIN_ROUNDS), (100, 2)):
        ours = timed(generation(model, length, plain=False))
        seconds = in_turn({"unit": theirs("unit"), "generate": ours}, ROUNDS)
        record(f"generate_32x{length}_units", seconds, "generate")
        seconds = in_turn({"unit": theirs("unit"), "plain_generate": theirs(f"generate {length}")}, plain_rounds)
        record(f"plain_generate_32x{length}_units", seconds, "plain_generate")
    by_default.process.kill()
    results["train_peak_memory_gb"] = peak_memory("ours")
    results["plain_train_peak_memory_gb"] = peak_memory("plain")
    results["prepare_seconds"] = prepare_seconds()
    results["help_seconds"] = help_seconds()
    return results


def main() -> None:
    """Measure, print and write the results."""
    if "--by-default" in sys.argv:
        ByDefault.serve()
        return
    if "--memory" in sys.argv:
        plain = sys.argv[-1] == "plain"
        if not plain:
            keep_freed_memory()
        step = Steps("NVIB", plain=plain)
        for _ in step.batches:
            step()
        print(peak_gigabytes())
        return
    Parser(__doc__ or "").parse_args()
    results = measure()
    capabilities = torch.cpu.get_capabilities()
    results |= {
        "machine": f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "bf16_in_hardware": bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    write_json(HERE / "results.json", results)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
