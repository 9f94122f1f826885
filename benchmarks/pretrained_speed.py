"""Compare models around a pretrained language model with the pretrained model's own training and generation.

    python -m benchmarks.pretrained_speed                     # the bundled model; skipped where it is absent
    python -m benchmarks.pretrained_speed FOLDER --ROUNDS 3   # another model

All figures are ratios of medians; the spread is half the distance between the quartiles. Compared actions alternate. A
training step is one of NVIB with LoRA, against a LoRA step of the pretrained model through transformers and peft on as
many positions (instruction, latent and text together). A generated token is one of NVIB with a latent, against
`generate` of transformers with its key-value cache and a prompt of as many tokens. Peak memory is that of a process of
its own. Writes benchmarks/pretrained_speed.json.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import processor
from benchmarks.speed import _python, in_turn, peak_gigabytes, ratio, timed
from models import MODELS, build
from models.decoding import generate
from models.pretrained_base import sizes, tokenizer_of
from models.prompt_models import INSTRUCTION
from pipeline.data.base_models import BUNDLED, base_folder, require
from pipeline.data.batches import Batch, collate
from pipeline.runtime.devices import keep_freed_memory
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import write_json

RESULTS = Path(__file__).parent / "pretrained_speed.json"
TEXTS, LENGTH, TOKENS, RANK = 16, 30, 30, 16
NO_END = -1


def batch_of(folder: Path) -> Batch:
    """Return a batch of random texts of equal length."""
    generator = torch.Generator().manual_seed(0)
    highest = len(tokenizer_of(folder))
    ids = torch.randint(highest // 10, highest, (TEXTS, LENGTH + 1), generator=generator)
    return collate(ids.tolist(), 0)


def around(folder: Path) -> Any:
    """Build NVIB around the model in a folder, with LoRA."""
    torch.manual_seed(0)
    found = sizes(folder)
    shape: dict[str, Any] = {
        "vocabulary_size": found.rows,
        "dim_h": found.dim,
        "num_heads": found.heads,
        "num_layers": 2,
    }
    return build(MODELS["NVIB"](**shape, dropout=0.0, pretrained=str(folder), lora_rank=RANK), folder)


def plain(folder: Path) -> Any:
    """Load the model in a folder through transformers, with peft's LoRA on the same layers."""
    from peft import LoraConfig, inject_adapter_in_model
    from transformers import AutoModelForCausalLM

    from models.pretrained_base import ADAPTED

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    model.requires_grad_(False)
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    chosen = [name for name in ADAPTED if name in names]
    turned = "c_attn" in names
    inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=chosen, fan_in_fan_out=turned), model)
    return model


def positions(folder: Path) -> int:
    """Return the positions that the decoder of NVIB reads for one text: instruction, latent and text."""
    instruction = tokenizer_of(folder)(INSTRUCTION, add_special_tokens=False)["input_ids"]
    return len(instruction) + (LENGTH + 1) + LENGTH


def step(model: Any, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """Return an action that takes one optimizer step."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-5, fused=True)

    def act() -> None:
        loss().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return act


def own_step(folder: Path) -> Callable[[], None]:
    """Return an action that trains NVIB on one batch."""
    model, batch = around(folder).train(), batch_of(folder)

    def loss() -> torch.Tensor:
        encoding, tokens = model(batch.source, batch.key_padding_mask, batch.target_input)
        return tokens.mean + model.penalty(encoding, 1.0)

    return step(model, loss)


def plain_step(folder: Path, count: int) -> Callable[[], None]:
    """Return an action that trains the pretrained model on a batch of texts with `count` positions."""
    model = plain(folder).train()
    ids = batch_of(folder).source.repeat(1, -(-count // LENGTH))[:, :count]
    return step(model, lambda: model(input_ids=ids, labels=ids, use_cache=False).loss)


def own_generation(model: Any, texts: int) -> Callable[[], object]:
    """Return an action that generates texts from latents of the prior."""
    latent = model.sample_prior(torch.full((texts,), LENGTH))
    return lambda: generate(model, latent, texts, 1, NO_END, TOKENS)


def plain_generation(model: Any, texts: int, count: int) -> Callable[[], object]:
    """Return an action that generates texts with transformers, from prompts of `count` tokens."""
    ids = torch.randint(100, 300, (texts, count))
    fixed = {"min_new_tokens": TOKENS, "max_new_tokens": TOKENS, "do_sample": False, "pad_token_id": 0}
    with_cache = {"attention_mask": torch.ones_like(ids), "use_cache": True, **fixed}

    def act() -> object:
        with torch.inference_mode():
            return model.generate(ids, **with_cache)

    return act


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Measure all ratios."""
    keep_freed_memory()
    results: dict[str, Any] = {}

    def compare(name: str, own: Callable[[], object], other: Callable[[], object]) -> None:
        seconds = in_turn({"own": timed(own), "other": timed(other)}, rounds)
        results[name], results[f"{name}_spread"] = ratio(seconds, "own", "other")
        print(f"{name:<28} {results[name]:6.2f} ± {results[f'{name}_spread']:.2f}", flush=True)

    model = around(folder).eval()
    count = positions(folder)
    compare("train_step_over_lora", own_step(folder), plain_step(folder, count))
    base = plain(folder).eval()
    for texts in (1, 32):
        prompt = count - LENGTH
        compare(f"generate_{texts}_over_base", own_generation(model, texts), plain_generation(base, texts, prompt))
    for kind in ("own", "plain"):
        results[f"{kind}_train_peak_gb"] = float(
            _python("-m", "benchmarks.pretrained_speed", str(folder), "--MEMORY", kind)
        )
    results["memory_over_lora"] = results["own_train_peak_gb"] / results["plain_train_peak_gb"]
    return results


def main() -> None:
    """Measure, print and write the results; or print the peak memory of one kind of training."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("BASE", nargs="?", default=BUNDLED, help="folder of a pretrained model, or bundled")
    parser.add_argument("--ROUNDS", type=int, default=5, help="measurements of each action")
    parser.add_argument("--MEMORY", choices=("own", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--RESULTS", type=Path, default=RESULTS, help="file of the results")
    arguments = parser.parse_args()
    try:
        require("transformers", "peft")
        folder = base_folder(arguments.BASE)
    except UserError as error:
        print(f"pretrained_speed is skipped: {error}", file=sys.stderr)
        return
    if arguments.MEMORY is not None:
        keep_freed_memory()
        act = own_step(folder) if arguments.MEMORY == "own" else plain_step(folder, positions(folder))
        for _ in range(3):
            act()
        print(peak_gigabytes())
        return
    results = measure(folder, arguments.ROUNDS)
    machine = f"{processor()}, {torch.get_num_threads()} threads"
    about = {"base": folder.name, "machine": machine, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    write_json(arguments.RESULTS, results | about)


if __name__ == "__main__":
    main()
