"""Flags of the control of the rate, and of what begins with it: refused where they have no effect."""

from collections.abc import Mapping
from typing import Any

from models import ModelSettings
from models.settings import PERTURBING, NVAESettings
from pipeline.cli.settings_flags import RATE, flag
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.runtime.errors import UserError

KEPT = ("target_kept",)


def with_control(model: type[ModelSettings], given: Mapping[str, Any], training: TrainingSettings) -> dict[str, Any]:
    """Check the settings of control, and complete those of the model.

    Args:
        model: settings of the model that is trained.
        given: those that were given, by name.
        training: settings of training.

    Returns:
        The settings of the model. Where a rate is asked for, KL_G charges every component alike unless a flag says
        otherwise: by shares, the rate would not follow its price.

    Raises:
        UserError: a setting has no effect, or leaves nothing to control.
    """
    asked = [name for name in (*RATE, *KEPT) if getattr(training, name) is not None]
    if asked and not hasattr(model, "prior_mu"):
        raise UserError(
            f"--TARGET_RATE, --TARGET_KEPT and --RATE_PATH are for models with Gaussians; --MODEL {model.name} has "
            "none; leave them out"
        )
    if "target_kept" in asked and model is not NVAESettings:
        raise UserError(f"--TARGET_KEPT is for NVIB; --MODEL {model.name} keeps vectors by rule; leave it out")
    for weight, targets in (("kl_gaussian_lambda", RATE), ("kl_dirichlet_lambda", KEPT)):
        controlled = [name for name in targets if name in asked]
        if controlled and given.get(weight) == 0:
            raise UserError(f"{flag(weight)} 0 leaves no weight that {flag(controlled[0])} could change; leave it out")
    if training.rate_path is not None and training.patience > 0:
        raise UserError(
            "--PATIENCE means nothing for --RATE_PATH, which ends after the last step; leave one of them out"
        )
    perturbed = [
        name for name in PERTURBING if given.get(name, getattr(NVAESettings, name)) != getattr(NVAESettings, name)
    ]
    if not asked and not perturbed and training.start_perplexity != TrainingSettings.start_perplexity:
        needed = ", ".join(flag(name) for name in (*RATE, *KEPT, *PERTURBING))
        raise UserError(f"--START_PERPLEXITY means nothing without one of {needed}; leave it out")
    for name, of in (
        ("full_texts", ("vector_dropout", "posterior_temperature")),
        ("dropped_vectors", ("vector_dropout",)),
    ):
        usual = getattr(model, name, None)
        if given.get(name, usual) != usual and not any(other in perturbed for other in of):
            raise UserError(f"{flag(name)} means nothing without {' or '.join(map(flag, of))}; leave it out")
    completed = dict(given)
    if model is NVAESettings and any(name in asked for name in RATE):
        completed.setdefault("kl_weighting", "component")
    return completed
