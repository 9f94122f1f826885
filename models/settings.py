"""The models' settings, their defaults, and the registry that names them."""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from models.text_model import TextModel


@dataclass(frozen=True)
class ModelSettings:
    """What every model has; the paper's sizes are the defaults.

    Args:
        vocabulary_size: tokens the tokenizer knows.
        dim_h: width D of every vector; the feed-forward layers are four times as wide.
        num_heads: attention heads, which divide `dim_h`.
        num_layers: encoder layers, and as many decoder layers.
        dropout: probability, in [0, 1).
        word_dropout: probability, in [0, 1), that training hides a word from the decoder's input (Bowman et al. 2016).

    Raises:
        ValueError: the heads do not divide the width.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    implementation: ClassVar[tuple[str, str]]  # module and class, imported when the model is built
    sees_target: ClassVar[bool] = True  # whether it scores a text from an encoding of that very text

    vocabulary_size: int
    dim_h: int = 256
    num_heads: int = 1
    num_layers: int = 1
    dropout: float = 0.1
    word_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.dim_h % self.num_heads:
            raise ValueError(f"DIM_H must be a multiple of NUM_HEADS, got {self.dim_h} and {self.num_heads}")


@dataclass(frozen=True)
class TransformerSettings(ModelSettings):
    """The vanilla Transformer autoencoder."""

    name = "T"
    summary = "vanilla Transformer"
    implementation = ("models.transformer", "TransformerAutoencoder")


@dataclass(frozen=True)
class VariationalSettings(ModelSettings):
    """What the models with a Gaussian for each vector have: their prior and their objective.

    Args:
        prior_mu: mean of the prior's vectors.
        prior_var: variance of it, above 0.
        kl_gaussian_lambda: weight of KL_G in the loss.
        kl_annealing_gaussian: schedule of KL_G's weight: constant, monotonic or cyclic.
        kl_warmup: share of training, in [0, 1), before the KL starts.
        free_bits: nats of KL_G that each dimension has free (Kingma et al. 2016).
    """

    prior_mu: float = 0.0
    prior_var: float = 1.0
    kl_gaussian_lambda: float = 0.001
    kl_annealing_gaussian: str = "constant"
    kl_warmup: float = 0.0
    free_bits: float = 0.0


@dataclass(frozen=True)
class VTVSettings(VariationalSettings):
    """The variational Transformer that keeps every vector."""

    name = "VTV"
    summary = "variational Transformer, a vector for every token"
    implementation = ("models.vtv", "VariationalTransformerVectors")


@dataclass(frozen=True)
class VTPSettings(VariationalSettings):
    """The variational Transformer with one pooled vector.

    Args:
        pooling: over a text's tokens: mean or max.
    """

    name = "VTP"
    summary = "variational Transformer, one pooled vector"
    implementation = ("models.vtp", "VariationalTransformerPooled")

    pooling: str = "mean"


@dataclass(frozen=True)
class VTSSettings(VariationalSettings):
    """The variational Transformer that drops vectors by position.

    Args:
        stride_perc: share of the vectors that is dropped, in [0, 1).
    """

    name = "VTS"
    summary = "variational Transformer, a fixed share of its vectors dropped"
    implementation = ("models.vts", "VariationalTransformerStride")

    stride_perc: float = 0.5


@dataclass(frozen=True)
class NVAESettings(ModelSettings):
    """The nonparametric variational autoencoder: its prior, its bottleneck and its objective.

    Args:
        prior_mu: mean of the prior's base distribution.
        prior_var: variance of it, above 0.
        prior_alpha: concentration of the prior at length 0, in pseudo-counts.
        delta: concentration that the prior adds for every token, in pseudo-counts.
        kappa: vectors drawn per component in training.
        alpha_activation: `exp` or `relu`, from a score to a pseudo-count.
        alpha_threshold: components with a smaller pseudo-count are dropped in evaluation.
        kl_gaussian_lambda: weight of KL_G in the loss.
        kl_dirichlet_lambda: weight of KL_D in the loss.
        kl_annealing_gaussian: schedule of KL_G's weight: constant, monotonic or cyclic.
        kl_annealing_dirichlet: schedule of KL_D's weight.
        kl_warmup: share of training, in [0, 1), before both start.
        free_bits: nats of KL_G that each dimension has free (Kingma et al. 2016).
    """

    name = "NVIB"
    summary = "nonparametric variational autoencoder (NVAE)"
    implementation = ("models.nvae", "NVAE")

    prior_mu: float = 0.0
    prior_var: float = 1.0
    prior_alpha: float = 1.0
    delta: float = 1.0
    kappa: int = 1
    alpha_activation: str = "exp"
    alpha_threshold: float = 0.1
    kl_gaussian_lambda: float = 0.001
    kl_dirichlet_lambda: float = 0.1
    kl_annealing_gaussian: str = "constant"
    kl_annealing_dirichlet: str = "constant"
    kl_warmup: float = 0.0
    free_bits: float = 0.0


@dataclass(frozen=True)
class LanguageModelSettings(ModelSettings):
    """The language model that judges samples."""

    name = "LM"
    summary = "causal Transformer language model"
    implementation = ("models.language_model", "LanguageModel")
    sees_target = False


MODELS: dict[str, type[ModelSettings]] = {
    settings.name: settings
    for settings in (TransformerSettings, VTVSettings, VTPSettings, VTSSettings, NVAESettings, LanguageModelSettings)
}


def build(settings: ModelSettings) -> "TextModel[ModelSettings]":
    """Build the model of these settings, with fresh weights."""
    module, name = settings.implementation
    return getattr(importlib.import_module(module), name)(settings)
