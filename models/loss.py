"""Cross-entropy with its projection to the vocabulary, in chunks that never hold all logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1024  # tokens whose logits stand in memory at once


@dataclass(frozen=True)
class TokenLoss:
    """Cross-entropy of M target tokens: their mean [] with a gradient, and each one's [M] without, in nats."""

    mean: Tensor
    each: Tensor


def token_loss(hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> TokenLoss:
    """Cross-entropy of `softmax(hidden weight^T + bias)` at `target`, in nats.

    Args:
        hidden: [M, D], a vector for each real token.
        weight: [V, D], the projection to the vocabulary.
        bias: [V].
        target: [M], token ids.
    """
    mean, each = _ChunkedCrossEntropy.apply(hidden, weight, bias, target)
    return TokenLoss(mean, each)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Computes the gradient along with the value, chunk by chunk, while the logits are at hand."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor):
        device = hidden.device.type
        if torch.is_autocast_enabled(device):
            low = torch.get_autocast_dtype(device)
            hidden, weight_low, bias_low = hidden.to(low), weight.to(low), bias.to(low)
        else:
            weight_low, bias_low = weight, bias
        count = target.numel()
        each = torch.empty(count, device=hidden.device, dtype=torch.promote_types(hidden.dtype, torch.float32))
        needed = any(ctx.needs_input_grad)
        if needed:
            grad_hidden = torch.empty_like(hidden)
            grad_weight = torch.zeros_like(weight)
            grad_bias = torch.zeros_like(bias)
        with torch.autocast(device, enabled=False):
            for start in range(0, count, CHUNK):
                rows = slice(start, min(start + CHUNK, count))
                logits = torch.addmm(bias_low, hidden[rows], weight_low.t()).to(each.dtype)
                chosen = target[rows].unsqueeze(1)
                log_norm = logits.logsumexp(dim=-1, keepdim=True)
                each[rows] = (log_norm - logits.gather(1, chosen)).squeeze(1)
                if needed:
                    grad = logits.sub_(log_norm).exp_()
                    grad.scatter_add_(1, chosen, torch.full_like(log_norm, -1.0))
                    grad.div_(count)
                    grad_bias += grad.sum(dim=0)
                    grad = grad.to(weight_low.dtype)
                    torch.mm(grad, weight_low, out=grad_hidden[rows])
                    if grad.dtype == grad_weight.dtype:
                        grad_weight.addmm_(grad.t(), hidden[rows])
                    else:
                        grad_weight += grad.t() @ hidden[rows]
        if needed:
            ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.mark_non_differentiable(each)
        return each.mean(), each

    @staticmethod
    def backward(ctx, grad_mean: Tensor, _):
        grads = (grad * grad_mean.to(grad.dtype) for grad in ctx.saved_tensors)
        return *grads, None
