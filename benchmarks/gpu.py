"""Measure training and generation on a GPU.

    python -m benchmarks.gpu

Training: tokens a second and peak memory of NVIB's optimizer step in float32 and bfloat16, and of T's in bfloat16, at
the scripts' default size and at larger ones; last, NVIB's default step with --COMPILE True. Generation: tokens a second
of greedy decoding. Times are medians; sentences have the lengths of WikiText-2. Writes benchmarks/gpu.json.
"""

import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed import NO_END, START, VOCABULARY, corpus
from models import MODELS, build
from models.decoding import generate
from pipeline.cli.parser import Parser
from pipeline.data.batches import collate
from pipeline.runtime.files import write_json

RESULTS = Path(__file__).parent / "gpu.json"
SIZES = {"default": (256, 1, 64), "256 wide, large batch": (256, 1, 1024), "1024 wide, 6 layers": (1024, 6, 256)}
STEPS = 12


def seconds(action: Callable[[], object], times: int) -> float:
    """Return the median seconds of one run, with the device synchronised."""
    taken = []
    for _ in range(times + 3):
        torch.cuda.synchronize()
        started = time.perf_counter()
        action()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[3:])


def training(name: str, size: str, precision: str, compiled: bool = False) -> dict[str, Any]:
    """Measure the time and the peak memory of a model's optimizer step."""
    width, layers, sentences = SIZES[size]
    torch.manual_seed(0)
    settings = MODELS[name](vocabulary_size=VOCABULARY, dim_h=width, num_layers=layers, num_heads=width // 64)
    model = build(settings).cuda()
    trained = torch.compile(model, dynamic=True) if compiled else model
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    texts = corpus(4 * sentences)
    batches = [collate(texts[n::4], 0).to(torch.device("cuda")) for n in range(4)]
    turn = iter(range(10**9))

    def step() -> None:
        batch = batches[next(turn) % len(batches)]
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            encoding, tokens = trained(batch.source, batch.key_padding_mask, batch.target_input)
            loss = tokens.mean + model.penalty(encoding, 1.0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()

    started = time.perf_counter()
    step()
    first = time.perf_counter() - started
    torch.cuda.reset_peak_memory_stats()
    taken = seconds(step, STEPS)
    tokens = statistics.mean(batch.tokens for batch in batches)
    return {
        "model": name,
        "size": size,
        "precision": precision,
        "compiled": compiled,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "step_seconds": taken,
        "first_step_seconds": first,
        "tokens_per_second": tokens / taken,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
    }


def generation(sentences: int, length: int) -> dict[str, Any]:
    """Measure the tokens per second of greedy decoding, for a number of sentences of `length` tokens."""
    torch.manual_seed(0)
    model = build(MODELS["NVIB"](vocabulary_size=VOCABULARY, dim_h=256)).cuda().eval()
    batch = collate(corpus(sentences), 0).to(torch.device("cuda"))
    with torch.inference_mode():
        latent = model.encode(batch.source, batch.key_padding_mask).latent
        taken = seconds(lambda: generate(model, latent, sentences, START, NO_END, length), 3)
    return {"sentences": sentences, "length": length, "tokens_per_second": sentences * length / taken}


def main() -> None:
    """Measure everything, print one line per figure, and write the results."""
    Parser(__doc__ or "").parse_args()
    rows = []
    for size in SIZES:
        for name, precision in (("NVIB", "fp32"), ("NVIB", "bf16"), ("T", "bf16")):
            rows.append(training(name, size, precision))
            print(rows[-1], flush=True)
            torch.cuda.empty_cache()
    generated = [generation(32, 30), generation(512, 30), generation(512, 100)]
    print(generated, flush=True)
    results = {
        "machine": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "training": rows,
        "generation": generated,
    }
    write_json(RESULTS, results)
    rows.append(training("NVIB", "default", "bf16", compiled=True))
    print(rows[-1], flush=True)
    write_json(RESULTS, results)


if __name__ == "__main__":
    main()
