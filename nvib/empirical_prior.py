"""An empirical prior: the mean and the variance of the vectors that an attention module attends to."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from nvib.dirichlet_process import Prior

# A dimension that never changes still needs a Gaussian.
LEAST_VARIANCE = 1e-6

# Which vectors a call of an attention module attends to, [B, N, D], and their padding, [B, N], True at padding.
Attended = Callable[[nn.Module, dict[str, Any]], tuple[Tensor, Tensor]]


class Moments:
    """Mean and variance of vectors that come in parts, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self.square: Tensor | None = None  # sum of squared deviations from the mean

    def add(self, vectors: Tensor) -> None:
        """Take in [n, D] vectors (Chan, Golub & LeVeque 1983, which loses nothing where the mean is large)."""
        if not len(vectors):
            return
        vectors = vectors.double()
        mean = vectors.mean(dim=0)
        square = (vectors - mean).square().sum(dim=0)
        if self.mean is None:
            self.count, self.mean, self.square = len(vectors), mean, square
            return
        total = self.count + len(vectors)
        step = mean - self.mean
        self.square = self.square + square + step.square() * (self.count * len(vectors) / total)
        self.mean = self.mean + step * (len(vectors) / total)
        self.count = total

    def prior(self, alpha: float, delta: float) -> Prior:
        """The Dirichlet process whose base distribution has these moments."""
        variance = (self.square / self.count).clamp_min(LEAST_VARIANCE)
        return Prior(self.mean.float().cpu(), variance.float().cpu(), alpha, delta)


@torch.no_grad()
def estimate(
    module: nn.Module,
    attentions: Mapping[str, nn.Module],
    attended: Attended,
    loader: Iterable[Any],
    alpha: float,
    delta: float,
) -> dict[str, Prior]:
    """A prior for each of `attentions`, path -> module, from the calls that `module` makes of them in evaluation.

    Args:
        module: what is run on every batch.
        attentions: the attention modules in it.
        attended: reads the vectors and their padding from the arguments of a call.
        loader: batches: a tensor, a tuple of positional arguments or a mapping of keyword arguments.
        alpha, delta: of every prior.

    Raises:
        ValueError: a module was never called with a real vector.
    """
    moments = {path: Moments() for path in attentions}

    def observe(path: str) -> Callable[[nn.Module, tuple, dict], None]:
        def hook(called: nn.Module, args: tuple, kwargs: dict) -> None:
            vectors, padding = attended(called, bound_arguments(called, args, kwargs))
            moments[path].add(vectors[~padding])

        return hook

    training = {part: part.training for part in module.modules()}
    module.eval()
    with ExitStack() as stack:
        for path, attention in attentions.items():
            stack.callback(attention.register_forward_pre_hook(observe(path), with_kwargs=True).remove)
        stack.callback(lambda: [setattr(part, "training", was) for part, was in training.items()])
        for batch in loader:
            _call(module, batch)
    unseen = [path for path, found in moments.items() if not found.count]
    if unseen:
        raise ValueError(f"loader must reach every attention module, but none of its batches reached {unseen[0]!r}")
    return {path: found.prior(alpha, delta) for path, found in moments.items()}


def bound_arguments(module: nn.Module, args: tuple, kwargs: dict) -> dict[str, Any]:
    """The arguments of a call of `module.forward` by name; what it takes as **kwargs is among them."""
    signature = inspect.signature(module.forward)
    arguments = dict(signature.bind(*args, **kwargs).arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(name, {}))
    return arguments


def _call(module: nn.Module, batch: Any) -> None:
    if isinstance(batch, Mapping):
        module(**batch)
    elif isinstance(batch, list | tuple):
        module(*batch)
    else:
        module(batch)
