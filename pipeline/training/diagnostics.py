"""What training tells its user: an epoch's line, and what is behind a loss that is not finite."""

import math

from torch import nn

from models.text_model import Encoding
from pipeline.training.fsdp import whole


def extremes(encoding: Encoding | None) -> str:
    """The least and greatest of each quantity of an encoding, for the message that names what is not finite."""
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
    """The parameter with the largest gradient, a non-finite one before all, and its size."""
    worst, size = "no parameter (none has a gradient yet)", 0.0
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        largest = whole(parameter.grad).abs().max().item()
        if not math.isfinite(largest):
            return name, largest
        if largest >= size:
            worst, size = name, largest
    return worst, size


def epoch_line(row: dict[str, float], best: bool) -> str:
    """One epoch's figures for the eye."""
    parts = [
        f"epoch {row['epoch']}",
        f"train {row['train/cross_entropy']:.3f}",
        f"validation {row['validation/cross_entropy']:.3f} (perplexity {row['validation/perplexity']:.2f}, "
        f"end token {row['validation/end_cross_entropy']:.3f})",
    ]
    if "validation/vectors_kept" in row:
        kept, share = row["validation/vectors_kept"], row["validation/vectors_kept_fraction"]
        parts.append(f"kept {share:.0%} ({kept:.1f} vectors)")
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
