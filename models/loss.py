"""Cross-entropy and the projection to the vocabulary, in chunks that never hold all logits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

# Tokens whose logits are in memory at the same time. On a CPU the logits of a chunk fit the last-level cache.
CHUNK = {"cpu": 256}
CHUNK_ELSEWHERE = 4096


@dataclass(frozen=True)
class TokenLoss:
    """Cross-entropy of M target tokens, in nats.

    Args:
        mean: [], mean over the tokens, differentiable.
        each: [M], of each token, without a gradient.
    """

    mean: Tensor
    each: Tensor


def token_loss(hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> TokenLoss:
    """Compute the cross-entropy of `softmax(hidden weight^T + bias)` at `target`, in nats.

    Args:
        hidden: [R, D], a vector for each of M tokens; vectors after them count for nothing.
        weight: [V, D], projection to the vocabulary.
        bias: [V], bias of the projection.
        target: [M], token ids.
    """
    # Gradients are always off inside the function, so it takes the caller's mode as an argument.
    inputs = hidden, weight, bias, target, torch.is_grad_enabled()
    computed = _ChunkedCrossEntropy.apply(*inputs)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] not annotated
    return TokenLoss(*cast(tuple[Tensor, Tensor], computed))


def averaged_loss(losses: Sequence[TokenLoss]) -> TokenLoss:
    """Compute the cross-entropy of the mean of several distributions: `-ln (1/K) sum_k p_k`.

    Args:
        losses: K losses of the same M tokens; one is returned unchanged.

    Returns:
        The loss of the mean, without a gradient if K is above 1.
    """
    if len(losses) == 1:
        return losses[0]
    each = math.log(len(losses)) - torch.stack([-loss.each for loss in losses]).logsumexp(dim=0)  # [M]
    return TokenLoss(each.mean(), each)


def averaged_logits(logits: Sequence[Tensor]) -> Tensor:
    """Compute log probabilities of the mean of several distributions over the vocabulary.

    Args:
        logits: K tensors [V, B]; one is returned unchanged.

    Returns:
        [V, B].
    """
    if len(logits) == 1:
        return logits[0]
    exact = torch.promote_types(logits[0].dtype, torch.float32)
    log_p = torch.stack([each.to(exact).log_softmax(dim=0) for each in logits])  # [K, V, B]
    return log_p.logsumexp(dim=0) - math.log(len(logits))


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Compute the gradient together with the value, chunk by chunk, while the logits are in memory.

    Logits have shape [V, C] for a chunk of C tokens. With the vocabulary as rows, the three products with the logits
    are up to twice as fast on CPUs as with the tokens as rows, and equally fast elsewhere.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor, needed: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the mean [] and the cross-entropy of each token [M]; save the gradient of the mean."""
        device = hidden.device.type
        exact = torch.promote_types(hidden.dtype, torch.float32)
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        with torch.autocast(device, enabled=False):
            vectors, matrix = hidden.to(low), weight.to(low)
            count, size, chunk = target.numel(), len(hidden), CHUNK.get(device, CHUNK_ELSEWHERE)
            target = functional.pad(target, (0, size - count))
            each = torch.empty(size, device=hidden.device, dtype=exact)
            gradients: tuple[Tensor, Tensor | None, Tensor] | None = None
            if needed and any(ctx.needs_input_grad):
                grad_weight = None
                if ctx.needs_input_grad[1]:  # not for the frozen vocabulary of a pretrained model
                    grad_weight = torch.empty_like(weight) if low == weight.dtype else torch.zeros_like(weight)
                gradients = (torch.empty_like(vectors), grad_weight, torch.zeros_like(bias))
            for start in range(0, size, chunk):
                rows = slice(start, min(start + chunk, size))
                chosen = target[rows].unsqueeze(0)  # [1, C]
                logits = (matrix @ vectors[rows].t()).to(exact).add_(bias.unsqueeze(1))  # [V, C]
                largest = logits.amax(dim=0, keepdim=True)
                at_target = logits.gather(0, chosen)
                probability = logits.sub_(largest).exp_()
                total = probability.sum(dim=0, keepdim=True)
                each[rows] = (total.log() + largest - at_target).squeeze(0)
                if gradients is not None:
                    grad_hidden, grad_weight, grad_bias = gradients
                    grad = probability.div_(total).scatter_add_(0, chosen, -torch.ones_like(total))
                    grad[:, max(count - start, 0) :] = 0  # vectors without a token
                    grad_bias += grad.sum(dim=1)
                    grad = grad.to(low)
                    torch.mm(grad.t(), matrix, out=grad_hidden[rows])
                    if grad_weight is None:
                        continue
                    if low == grad_weight.dtype:
                        # The first chunk overwrites, so that the tensor needs no zeros.
                        torch.addmm(grad_weight, grad, vectors[rows], beta=float(start > 0), out=grad_weight)
                    else:
                        grad_weight += grad @ vectors[rows]
        if gradients is not None:
            grad_hidden, grad_weight, grad_bias = gradients
            ctx.save_for_backward(grad_hidden.to(hidden.dtype), grad_weight, grad_bias)  # None is kept as it is
            ctx.count = count
        each = each[:count]
        ctx.mark_non_differentiable(each)
        return each.mean(), each

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] torch passes one gradient per output
        ctx: Any, grad_mean: Tensor, _: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Multiply the saved gradients by the gradient of the mean."""
        scale = grad_mean / ctx.count
        grads = (None if grad is None else grad * scale.to(grad.dtype) for grad in ctx.saved_tensors)
        return *grads, None, None
