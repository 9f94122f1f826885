"""Messages of training: the line of an epoch, and the cause of a loss that is not finite."""

import math
from dataclasses import dataclass

from torch import Tensor, nn
from tqdm import tqdm

from models.loss import TokenLoss
from models.text_model import Encoding
from pipeline.data.batches import Batch
from pipeline.training.fsdp import whole
from pipeline.training.validation import Figures


@dataclass(frozen=True)
class Computed:
    """Outcome of the forward pass of one batch.

    Args:
        objective: this batch's share of the loss that is differentiated.
        loss: token loss.
        penalty: weighted regulariser.
        batch: the batch.
        encoding: encoding of its sentences, None for a model without a latent.
    """

    objective: Tensor
    loss: TokenLoss
    penalty: Tensor
    batch: Batch
    encoding: Encoding | None


def describe_non_finite(computed: Computed, model: nn.Module, step: int, epoch: int, number: int) -> str:
    """Describe a loss or gradient that is not finite, and the quantities behind it.

    Args:
        computed: outcome of the batch.
        model: the model, with its gradients.
        step: optimizer step, from 1.
        epoch: epoch, from 1.
        number: batch of the epoch, from 1.
    """
    name, size = largest_gradient(model)
    source = computed.batch.source
    return (
        f"the loss became {computed.objective.item()} at step {step} (epoch {epoch}, batch {number}: {len(source)} "
        f"sentences of up to {source.shape[1]} tokens); cross-entropy {computed.loss.mean.item():.4g}, regulariser "
        f"{computed.penalty.item():.4g}{extremes(computed.encoding)}, largest gradient {size:.3g} in {name}"
    )


def extremes(encoding: Encoding | None) -> str:
    """Describe the range of each quantity of an encoding, for the message about a loss that is not finite."""
    if encoding is None:
        return ""
    values = {"KL_G": encoding.kl_gaussian, "KL_D": encoding.kl_dirichlet}
    if encoding.gaussians is not None:
        real = ~encoding.gaussians.key_padding_mask
        values |= {"mu": encoding.gaussians.mu[real], "log sigma^2": encoding.gaussians.logvar[real]}
    if encoding.posterior is not None:
        real = ~encoding.posterior.key_padding_mask
        values |= {"alpha0_q": encoding.posterior.alpha0, "log alpha": encoding.posterior.log_alpha[real]}
    shown = [
        f"{name} in [{value.min().item():.4g}, {value.max().item():.4g}]"
        for name, value in values.items()
        if value is not None
    ]
    return "".join(f", {text}" for text in shown)


def largest_gradient(model: nn.Module) -> tuple[str, float]:
    """Return the parameter with the largest absolute gradient, and that value. A non-finite gradient comes first."""
    worst, size = "no parameter (no parameter has a gradient yet)", 0.0
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        largest = whole(parameter.grad).abs().max().item()
        if not math.isfinite(largest):
            return name, largest
        if largest >= size:
            worst, size = name, largest
    return worst, size


def progress_text(figures: Figures, left: float) -> str:
    """Format the figures of an epoch so far, and the time that the run has left, for a progress bar.

    Args:
        figures: figures of the epoch, without a token if every step of this process was skipped.
        left: seconds of the steps that are left of all epochs.
    """
    sums, parts = figures.sums, []
    if sums.get("tokens"):
        parts.append(f"cross-entropy {sums['nll'] / sums['tokens']:.3f}")
    if sums.get("sentences") and "vectors_kept_fraction" in sums:
        parts.append(f"kept {sums['vectors_kept_fraction'] / sums['sentences']:.0%}")
    return ", ".join([*parts, f"run: {tqdm.format_interval(left)} left"])


def epoch_line(row: dict[str, float], best: bool) -> str:
    """Format the metrics of an epoch as one line."""
    parts = [
        f"epoch {row['epoch']}",
        f"train {row['train/cross_entropy']:.3f}",
        f"validation {row['validation/cross_entropy']:.3f} (perplexity {row['validation/perplexity']:.2f}, "
        f"end token {row['validation/end_cross_entropy']:.3f})",
    ]
    if "validation/vectors_kept" in row:
        kept, share = row["validation/vectors_kept"], row["validation/vectors_kept_fraction"]
        parts.append(f"kept {share:.0%} ({kept:.1f} vectors)")
    if "validation/rate" in row:
        parts.append(f"rate {row['validation/rate']:.1f}")
    if "validation/kl_gaussian" in row:
        parts.append(f"KL_G {row['validation/kl_gaussian']:.3f}")
    if "validation/kl_dirichlet" in row:
        parts.append(f"KL_D {row['validation/kl_dirichlet']:.4f}")
    if "validation/alpha0" in row:
        parts.append(f"alpha0 {row['validation/alpha0']:.1f}")
    if "validation/active_units" in row:
        parts.append(f"active {row['validation/active_units']}")
    if "validation/perplexity_gap" in row:
        parts.append(f"gap {row['validation/perplexity_gap']:.3g}")
    parts.append(f"{row['tokens_per_second']:,.0f} tokens/s")
    return " | ".join(parts) + (" | best" if best else "")
