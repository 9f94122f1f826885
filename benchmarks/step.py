"""Measure a training step of NVIB of one size, in a separate process for the sake of its peak memory.

    python -m benchmarks.step '{"sentences": 32, "length": 25, "vocabulary": 8000, "width": 256, "layers": 1,
        "steps": 5}'

All sentences have one length, so that there is no padding. Prints JSON: median seconds of a step, peak memory in GB,
bytes kept for the gradient, and the number of operations that the host starts.
"""

import json
import statistics
import sys
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.speed import peak_gigabytes, timed
from models import MODELS, build
from pipeline.data.batches import collate
from pipeline.runtime.devices import keep_freed_memory


class Operations(TorchDispatchMode):
    """Count the operations that compute. Views start no computation and are not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        """Count an operation and run it."""
        alias = [value.alias_info for value in function._schema.returns]
        self.count += not any(info is not None and not info.is_write for info in alias)
        return function(*arguments, **(keywords or {}))


class Step:
    """Forward pass, backward pass, clipping and Adam on one batch, repeated."""

    def __init__(self, name: str, sentences: int, length: int, vocabulary: int, width: int, layers: int = 1) -> None:
        torch.manual_seed(0)
        self.model = build(MODELS[name](vocabulary_size=vocabulary, dim_h=width, num_layers=layers))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)
        self.batch = collate(torch.randint(5, vocabulary, (sentences, length + 1)).tolist(), 0)

    def loss(self) -> torch.Tensor:
        """Return the objective: []."""
        batch = self.batch
        encoding, tokens = self.model(batch.source, batch.key_padding_mask, batch.target_input)
        return tokens.mean + self.model.penalty(encoding, 1.0)

    def __call__(self) -> None:
        """Take one step."""
        self.loss().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def operations(self) -> int:
        """Return the number of operations that the host starts for a step."""
        with Operations() as counted:
            self()
        return counted.count

    def kept_bytes(self) -> int:
        """Return the bytes that a forward pass keeps for the gradient, without parameters and their gradients."""
        parameters = {parameter.untyped_storage().data_ptr() for parameter in self.model.parameters()}
        kept, tensors = {}, []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            tensors.append(tensor)  # kept alive, so that no later tensor gets its address
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            self.loss()
        head = self.model.head  # the loss computes its gradients along with its value
        return sum(kept.values()) - sum(4 * parameter.numel() for parameter in head)


def measure(sentences: int, length: int, vocabulary: int, width: int, layers: int, steps: int) -> dict[str, Any]:
    """Measure the figures of a size, after one step of warm-up."""
    step = Step("NVIB", sentences, length, vocabulary, width, layers)
    run = timed(step)
    seconds = [run() for _ in range(steps + 1)][1:]
    peak = peak_gigabytes()
    return {
        "sentences": sentences,
        "length": length,
        "vocabulary": vocabulary,
        "width": width,
        "layers": layers,
        "seconds": statistics.median(seconds),
        "peak_gb": peak,
        "kept_bytes": step.kept_bytes(),
        "operations": step.operations(),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Measure and print the figures."""
    keep_freed_memory()
    print(json.dumps(measure(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
