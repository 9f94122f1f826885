"""Computed cost of training and preparation: parameters, operations, bytes and seconds, from a model's sizes.

Symbols: D the width, V the vocabulary, L the encoder's layers and as many of the decoder, H the heads, n the tokens of
a sentence, K the processes. A multiplication with its addition counts as two operations (FLOPs). Nothing is measured
here. `benchmarks.doc_tables` compares these costs with the measurements of `benchmarks.scaling`, and docs/scaling.md
explains both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Model:
    """Sizes of a Transformer autoencoder. The defaults are the scripts' own, with BERT's vocabulary.

    Args:
        vocabulary: number of tokens of the vocabulary, V.
        width: width of the vectors, D.
        layers: number of layers of the encoder, and of the decoder, L.
        heads: number of attention heads, H.
        nvib: True for a model with the NVIB bottleneck (`NVIB`), False for one without (`T`).
    """

    vocabulary: int = 30_522
    width: int = 256
    layers: int = 1
    heads: int = 1
    nvib: bool = True


@dataclass(frozen=True)
class Gpu:
    """Figures of a GPU's data sheet.

    Args:
        flops: dense bfloat16 operations per second.
        bandwidth: memory bandwidth, in bytes per second.
        memory: memory size, in bytes.
    """

    flops: float
    bandwidth: float
    memory: float


# NVIDIA's data sheet of the H100 SXM: 1,979 teraFLOPS in bfloat16 "with sparsity", half without; 3.35 TB/s; 80 GB.
H100 = Gpu(flops=989.4e12, bandwidth=3.35e12, memory=80e9)
# The H200's: the same chip with 4.8 TB/s and 141 GB.
H200 = Gpu(flops=989.4e12, bandwidth=4.8e12, memory=141e9)
# Bytes a second out of one GPU. NVLink's 900 GB/s of the same sheet are both directions together.
NETWORKS = {"NVLink": 450e9, "InfiniBand, 400 Gb/s": 50e9, "Ethernet, 10 Gb/s": 1.25e9}
# Random reads of 4 KiB a second of one data centre SSD (Samsung PM9A3, as announced: 900,000; 6.5 GB/s in order).
SSD_READS, BLOCK = 900e3, 4096

# Assumptions, each of them marked as such in docs/scaling.md.
UTILISATION = 0.4  # of the peak, in large products: Llama 3 reports 38 to 43 % on H100s
LAUNCH = 29e-6  # seconds for the host to start one operation: 21 ms for 720 operations, measured with an H200
PASSES = 5  # reads and writes in a step of the values that the layers keep for the gradient

# Bytes of memory traffic a logit, by the operations of models/loss.py in bfloat16, of which each reads and writes all
# logits: product 2, to float32 6, bias 8, maximum 4, difference 8, exponential 8, sum 4, quotient 8, target 8, sum for
# the bias 4, to bfloat16 6, two products 4.
LOGIT_TRAFFIC = 70
OPTIMIZER_TRAFFIC = 28  # bytes per parameter: gradient, weight and two moments read, weight and moments written

# Vectors of D numbers that are kept for the gradient, a token: fixed, and a pair of layers; and numbers a head and key.
KEPT = {False: (4, 56), True: (7, 59)}
KEPT_FEWER = 5  # fewer for a pair of layers with several heads
KEPT_PER_KEY = 9  # three attentions that are not fused: logits, weights, and weights after dropout


def parameters(model: Model) -> dict[str, int]:
    """Return the number of parameters of each part."""
    d, v = model.width, model.vocabulary
    return {
        "embedding": v * d,
        "encoder": model.layers * (12 * d * d + 13 * d),
        "bottleneck": 2 * (d * d + d) + d + 1 if model.nvib else 0,
        "decoder": model.layers * (16 * d * d + 19 * d),
        "projection to the vocabulary": v * d + v,
    }


def size(model: Model) -> int:
    """Return the number of all parameters."""
    return sum(parameters(model).values())


def forward_flops(model: Model, length: float) -> dict[str, float]:
    """Return the operations of a forward pass per target token, for sentences of `length` tokens without padding."""
    d = model.width
    seen = length + 1 if model.nvib else length  # vectors in the latent
    share = seen / length  # vectors per token
    return {
        "layers": model.layers * (52 + 4 * share) * d * d,
        "attention": model.layers * 4 * (2 * length + seen) * d,
        "bottleneck": share * (4 * d * d + 2 * d) if model.nvib else 0.0,
        "projection to the vocabulary": 2.0 * model.vocabulary * d,
    }


def training_flops(model: Model, length: float) -> float:
    """Return the operations of a training step per target token. The backward pass costs two forward passes."""
    return 3 * sum(forward_flops(model, length).values())


def even_width(vocabulary: int, layers: int) -> float:
    """Return the width at which layers and projection cost the same operations: `56 L D^2 = 2 V D`."""
    return vocabulary / (28 * layers)


def state_bytes(model: Model) -> int:
    """Return the bytes of weights, gradients and Adam's two moments, in float32."""
    return 4 * FLOAT32 * size(model)


def activation_bytes(model: Model, length: float, fused: bool = False) -> float:
    """Return the float32 bytes kept for the gradient per token. `fused` attention keeps no weights."""
    fixed, layered = KEPT[model.nvib]
    layered -= KEPT_FEWER * (model.heads > 1)
    weights = 0.0 if fused else KEPT_PER_KEY * model.layers * model.heads * length
    return FLOAT32 * ((fixed + layered * model.layers) * model.width + weights)


def gpu_seconds(model: Model, tokens: float, length: float, operations: float, gpu: Gpu = H100) -> dict[str, float]:
    """Return the seconds of a step on one GPU, by their use.

    Args:
        model: sizes of the model.
        tokens: tokens of the batch.
        length: tokens per sentence.
        operations: operations that the host starts for a step.
        gpu: figures of the GPU.

    Returns:
        Seconds of `products`, `logits` and `vectors` (memory traffic), `optimizer`, and `launches`, which overlap with
        the other four.
    """
    return {
        "products": tokens * training_flops(model, length) / (UTILISATION * gpu.flops),
        "logits": tokens * LOGIT_TRAFFIC * model.vocabulary / gpu.bandwidth,
        "vectors": tokens * PASSES * activation_bytes(model, length, fused=True) / gpu.bandwidth,
        "optimizer": OPTIMIZER_TRAFFIC * size(model) / gpu.bandwidth,
        "launches": LAUNCH * operations,
    }


def step_seconds(spent: dict[str, float]) -> float:
    """Return the seconds of a whole step on one GPU: the sum of the GPU's work, or the host's if that is more."""
    return max(sum(seconds for name, seconds in spent.items() if name != "launches"), spent["launches"])


def exchanged(count: int, processes: int) -> float:
    """Return the bytes that a process sends in a ring all-reduce of `count` float32 gradients: `2 (K - 1) / K` each."""
    return 2 * (processes - 1) / processes * FLOAT32 * count


def exchanged_sharded(count: int, processes: int) -> float:
    """Return the bytes that a process sends with sharded weights (FSDP): two gathers, one scatter of gradients."""
    return 1.5 * exchanged(count, processes)


def even_tokens(model: Model, processes: int, bandwidth: float, length: float, gpu: Gpu = H100) -> float:
    """Return the batch size in tokens at which a GPU's work, without launches, takes as long as the exchange."""
    spent = gpu_seconds(model, 1.0, length, 0.0, gpu)
    of_a_token = spent["products"] + spent["logits"] + spent["vectors"]
    return max(0.0, exchanged(size(model), processes) / bandwidth - spent["optimizer"]) / of_a_token


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Fit a line by least squares: `y` at 0, and the increase of `y` per unit of `x`.

    Raises:
        ValueError: fewer than two different `x`.
    """
    if len(set(x)) < 2:
        raise ValueError(f"a line needs two different values of x, got {list(x)}")
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
    return mean_y - slope * mean_x, slope


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the exponent with which `y` grows: the slope of the logarithms."""
    return line([math.log(a) for a in x], [math.log(b) for b in y])[1]
