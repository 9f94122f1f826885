"""Empirical priors: mean and variance of the vectors that an attention module attends to."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from nvib.dirichlet_process import Prior

# Lower bound of the variance: a constant dimension still needs a Gaussian.
LEAST_VARIANCE = 1e-6

# Maps an attention module and the arguments of a call to the attended vectors [B, N, D] and the padding mask [B, N].
Attended = Callable[[nn.Module, dict[str, Any]], tuple[Tensor, Tensor]]


class Moments:
    """Running mean and variance of vectors, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self.square: Tensor | None = None  # sum of squared deviations from the mean

    def add(self, vectors: Tensor) -> None:
        """Add vectors [n, D] to the moments.

        The update of Chan, Golub & LeVeque (1983) keeps its precision if the mean is large.
        """
        if not len(vectors):
            return
        vectors = vectors.double()
        mean = vectors.mean(dim=0)
        square = (vectors - mean).square().sum(dim=0)
        if self.mean is None or self.square is None:
            self.count, self.mean, self.square = len(vectors), mean, square
            return
        total = self.count + len(vectors)
        step = mean - self.mean
        self.square = self.square + square + step.square() * (self.count * len(vectors) / total)
        self.mean = self.mean + step * (len(vectors) / total)
        self.count = total

    def prior(self, alpha: float, delta: float) -> Prior:
        """Return the prior whose base distribution has these moments.

        Raises:
            ValueError: if no vectors were added.
        """
        if self.mean is None or self.square is None:
            raise ValueError("moments require at least one vector, got none")
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
    """Estimate the prior of each attention module from the calls that `module` makes in evaluation mode.

    Args:
        module: module to run on every batch.
        attentions: attention modules within `module`, by path.
        attended: function that extracts the attended vectors and their padding mask from the arguments of a call.
        loader: batches: a tensor, a tuple of positional arguments or a mapping of keyword arguments.
        alpha: concentration of every prior at length 0, in pseudo-counts.
        delta: concentration added per token, in pseudo-counts.

    Returns:
        A prior per path.

    Raises:
        ValueError: if an attention module receives no real vector.
    """
    moments = {path: Moments() for path in attentions}

    def observe(path: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def hook(called: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
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
        raise ValueError(f"loader must supply a real vector to every attention module, got none for {unseen[0]!r}")
    return {path: found.prior(alpha, delta) for path, found in moments.items()}


def named_modules(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield `module` and all its submodules with their paths, as `torch.nn.Module.named_modules`."""
    yield from module.named_modules()


def bound_arguments(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call of `module.forward` by name, with the contents of **kwargs merged in."""
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
