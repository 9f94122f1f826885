"""Measure denoising attention and the NVIB layer against the work that any attention of their size needs.

    python -m benchmarks.attention_speed

Batches of 128 sentences, 50 queries and 50 vectors of width 256, float32, 1 and 8 heads, in one process. Each figure
is a ratio of medians of processor time on one thread. Action and reference alternate, so that other load on the machine
has little effect. The spread is half the distance between the quartiles of the ratios of single runs. Memory is the
peak allocation of a run, without its inputs and parameters. Kernels run eagerly, as in training; nothing is compiled.
Writes benchmarks/attention_speed.json.

Two of the figures have a lower bound. The layer draws a normal number for each of its outputs, and torch draws them
sequentially on one thread: `layer_noise_alone` is their share, which grows with the number of threads. Over a Gaussian
mixture each of H heads weighs all D dimensions of a vector twice (mean and variance), because a diagonal variance in D
dimensions has no smaller form in the D / H dimensions of a head: `2 H` times the products of ordinary attention.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import nvib
from benchmarks.machine import processor
from pipeline.cli.parser import Parser
from pipeline.runtime.files import write_json

HERE = Path(__file__).parent
SENTENCES, LENGTH, WIDTH = 128, 50, 256
ROUNDS = 25


@dataclass(frozen=True)
class Comparison:
    """An action, its reference, and the largest allowed cost in units of the reference, or None."""

    action: Callable[[], object]
    reference: Callable[[], object]
    target: float | None


def seconds(action: Callable[[], object]) -> float:
    """Return the processor time of one run, in seconds."""
    started = time.process_time()
    action()
    return time.process_time() - started


def peak_megabytes(action: Callable[[], object]) -> float:
    """Return the peak memory that an action allocates, in megabytes, from the allocator's record."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    recorded = profiler.profiler
    if recorded is None or recorded.kineto_results is None:
        raise RuntimeError("the profiler recorded nothing")
    # torch's own annotations of its events lack `nbytes`.
    events: list[Any] = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 1e6


def measure(comparison: Comparison) -> dict[str, float | None]:
    """Time action and reference alternately, after two runs of warm-up each."""
    pair = comparison.action, comparison.reference
    for action in pair * 2:
        action()
    times = [tuple(seconds(action) for action in pair) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    lower, _, upper = statistics.quantiles([a / b for a, b in times], n=4)
    return {
        "ratio": ours / theirs,
        "spread": (upper - lower) / 2,
        "target": comparison.target,
        "milliseconds": 1e3 * ours,
        "reference_milliseconds": 1e3 * theirs,
        "peak_megabytes": peak_megabytes(comparison.action),
        "reference_peak_megabytes": peak_megabytes(comparison.reference),
    }


def training_run(output: Callable[[], Tensor], leaves: list[Tensor]) -> Callable[[], object]:
    """Return an action: a forward pass, and a backward pass to the leaves from a fixed gradient."""
    gradient = torch.randn_like(output())
    return lambda: torch.autograd.grad(output(), leaves, gradient)


def attention_comparisons(heads: int) -> dict[str, Comparison]:
    """Compare both denoising attentions with torch's attention over the same padded vectors."""
    torch.manual_seed(0)
    lengths = torch.randint(LENGTH // 2, LENGTH + 1, (SENTENCES,))
    mask = torch.arange(LENGTH + 1) > lengths.unsqueeze(1)  # [B, K], component 0 and the tokens
    query, vectors, logvar = (torch.randn(SENTENCES, count, WIDTH) for count in (LENGTH, LENGTH + 1, LENGTH + 1))
    log_pi = torch.randn(SENTENCES, LENGTH + 1).log_softmax(dim=-1)
    denoising = nvib.DenoisingMultiheadAttention(WIDTH, heads)
    ordinary = nn.MultiheadAttention(WIDTH, heads, bias=False, batch_first=True)
    inputs = [value.requires_grad_() for value in (query, vectors, log_pi)]

    def discrete() -> Tensor:
        return denoising(query, nvib.DiscreteMixture(vectors, log_pi, mask))[0]

    def multihead() -> Tensor:
        return ordinary(query, vectors, vectors, key_padding_mask=mask, need_weights=False)[0]

    @torch.no_grad()
    def gaussian() -> Tensor:
        return denoising(query, nvib.GaussianMixture(vectors, logvar, log_pi, mask))[0]

    return {
        "discrete_forward_backward": Comparison(
            training_run(discrete, [*inputs, *denoising.parameters()]),
            training_run(multihead, [*inputs[:2], *ordinary.parameters()]),
            target=1.15,
        ),
        "gaussian_forward": Comparison(gaussian, torch.no_grad()(multihead), target=2.0),
    }


def layer_comparison() -> Comparison:
    """Compare the layer in training with the two linear layers that it must contain."""
    torch.manual_seed(0)
    layer = nvib.NVIB(WIDTH)
    linear = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
    hidden = torch.randn(SENTENCES, LENGTH, WIDTH, requires_grad=True)
    lengths = torch.randint(LENGTH // 2, LENGTH + 1, (SENTENCES,))
    mask = torch.arange(LENGTH) >= lengths.unsqueeze(1)
    z_gradient, log_pi_gradient = torch.randn(SENTENCES, LENGTH + 1, WIDTH), torch.randn(SENTENCES, LENGTH + 1)
    padding = torch.cat([mask.new_zeros(SENTENCES, 1), mask], dim=1)
    z_gradient[padding], log_pi_gradient[padding] = 0.0, 0.0  # as attention leaves them
    gradients = [torch.randn(SENTENCES, LENGTH, WIDTH) for _ in linear]

    def ours() -> object:
        _, mixture = layer(hidden, mask)
        outputs, given = [mixture.z, mixture.log_pi], [z_gradient, log_pi_gradient]
        return torch.autograd.grad(outputs, [hidden, *layer.parameters()], given)

    def theirs() -> object:
        parameters = [parameter for part in linear for parameter in part.parameters()]
        return torch.autograd.grad([part(hidden) for part in linear], [hidden, *parameters], gradients)

    return Comparison(ours, theirs, target=1.5)


def main() -> None:
    """Measure, print and write the results."""
    Parser(__doc__ or "").parse_args()
    torch.set_num_threads(1)
    comparisons = {
        f"{name}_{heads}_heads": comparison
        for heads in (1, 8)
        for name, comparison in attention_comparisons(heads).items()
    }
    comparisons["layer_forward_backward"] = layer_comparison()
    noise = torch.empty(SENTENCES, LENGTH + 1, WIDTH)
    comparisons["layer_noise_alone"] = Comparison(noise.normal_, comparisons["layer_forward_backward"].reference, None)
    results: dict[str, object] = {}
    for name, comparison in comparisons.items():
        results[name] = figures = measure(comparison)
        print(
            f"{name:<36} {figures['ratio']:5.2f} ± {figures['spread']:.2f} (target {figures['target']}), "
            f"{figures['peak_megabytes']:.0f} MB against {figures['reference_peak_megabytes']:.0f}",
            flush=True,
        )
    results |= {
        "machine": f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread",
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    write_json(HERE / "attention_speed.json", results)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
