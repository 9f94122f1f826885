"""Models around a pretrained causal language model: the NVAE whose latent is a soft prompt, and the model alone."""

import math
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from models.autoencoder import TextAutoencoder
from models.gaussian import GaussianBottleneck
from models.language_model import WithoutLatent
from models.latent import Draws, Latent, Memory, Placed, each_draw
from models.layers import EncoderLayer, sinusoids
from models.nonparametric import COLD, Nonparametric
from models.packing import Packing
from models.pretrained_base import tokenizer_of
from models.pretrained_decoder import HIDDEN, PretrainedDecoder, Prompt
from models.readings import INTEGRATING, draws_of
from models.settings import LanguageModelSettings, NVAESettings, VTSSettings, VTVSettings
from models.text_model import AS_TRAINED, Encoding, Noise, Settings, UnsupportedError
from models.token_codes import TokenCodes, scaled_identity
from models.variational import OwnSettings, Variational
from models.vts import EvenlySpaced
from models.vtv import EveryVector
from nvib import DiscreteMixture, GaussianMixture

INITIAL_RATE = 30.0  # nats a vector before the first step, at which a token is rarely mistaken for another one
INSTRUCTION = "Repeat the sentence.\n"
BREAK = "\n"  # between the latent and the text


class PretrainedLanguageModel(WithoutLatent, PretrainedDecoder[LanguageModelSettings]):
    """Pretrained language model that learns texts without a latent.

    Args:
        settings: settings with `pretrained`.
        folder: folder of the pretrained model.
    """


class PromptAutoencoder(PretrainedDecoder[Settings], TextAutoencoder[Settings]):
    """Networks of an autoencoder whose latent is a soft prompt of a pretrained language model.

    The encoder gives each token its code and adds what a small bidirectional Transformer reads from the text. The
    decoder reads an instruction, one vector for each component of the latent, a line break, and the text. A component's
    vector is the embedding that its token is expected to have (`TokenCodes`), and every layer adds the component's log
    weight, relative to equal weights, to the attention scores of its position. Several draws of a component count as
    one component.

    Args:
        settings: settings with `pretrained`.
        folder: folder of the pretrained model.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        super().__init__(settings, folder)
        more = 0 if self.more is None else len(self.more)
        dim = settings.dim_h
        self.scale = math.sqrt(2.0 * INITIAL_RATE / dim)
        self.codes = TokenCodes(self.embeddings, more, self.scale)
        self.encoder = nn.ModuleList(
            EncoderLayer(dim, settings.num_heads, settings.dropout) for _ in range(settings.num_layers)
        )
        self.context = nn.Linear(dim, dim)  # what the encoder adds; nothing at first
        nn.init.zeros_(self.context.weight)
        nn.init.zeros_(self.context.bias)
        tokenizer = tokenizer_of(folder)
        for name, text in (("instruction", INSTRUCTION), ("line_break", BREAK)):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            self.register_buffer(name, torch.tensor(ids, dtype=torch.long), persistent=False)

    instruction: Tensor
    line_break: Tensor

    @torch.no_grad()
    def start_with(self, counts: Tensor) -> None:
        """Take over how often each token occurs in the training text; see `TextModel.start_with`."""
        self.codes.start_with(counts)

    def encode_tokens(self, source: Tensor, packing: Packing) -> Tensor:
        """Apply the encoder: token ids [B, N] to vectors [B, N, D], zeros at padding."""
        code = self.codes.codes[packing.pack(source)]  # [R, D]
        hidden = code + sinusoids(packing.positions, code.shape[1])
        for layer in self.encoder:
            hidden = layer(hidden, packing)
        return packing.pad(code + self.context(hidden))

    def first_vectors(self, tokens: Tensor) -> Tensor:
        """Embed the line break in place of the decoder's first token: [B] to [B, D]."""
        return self.embed(self.line_break[-1]).expand(len(tokens), -1)

    def prompt(self, latent: Latent | None) -> Prompt:
        """Return the instruction and the latent's vectors; see `PretrainedDecoder.prompt`."""
        if isinstance(latent, Memory):
            log_pi = torch.zeros_like(latent.key_padding_mask, dtype=torch.float32)
            log_pi = log_pi.masked_fill(latent.key_padding_mask, -math.inf)
            latent = DiscreteMixture(latent.vectors, log_pi, latent.key_padding_mask)
        if not isinstance(latent, (DiscreteMixture, GaussianMixture, Placed)):
            raise TypeError(f"the latent must be a memory or a mixture, got {type(latent).__name__}")
        placed = Placed.of(latent)
        mixture, mask = placed.mixture, placed.key_padding_mask
        z = mixture.z if isinstance(mixture, DiscreteMixture) else mixture.mu
        packing = Packing.of(mask)
        read = packing.pad(self.codes(packing.pack(z), self.vocabulary()))  # [B, K, D]
        components = placed.shares.masked_fill(mask, 0.0).sum(dim=-1, keepdim=True)
        bias = (mixture.log_pi.float() + components.log()).masked_fill(mask, HIDDEN).clamp_min(HIDDEN)
        before = self.embed(self.instruction)
        texts, start = len(mask), len(before)
        # The position of the last vector, so that the padding of a batch changes nothing.
        last = torch.where(mask, 0, placed.positions + 1).amax(dim=-1)
        return Prompt(
            torch.cat([before.expand(texts, -1, -1), read.to(before.dtype)], dim=1),
            torch.cat([bias.new_zeros(texts, start), bias], dim=1),
            torch.cat([torch.arange(start, device=z.device).expand(texts, -1), start + placed.positions], dim=1),
            start + last,
        )

    def positions_before(self, latent: Latent | None) -> int:
        """Return the positions of the instruction and of the longest latent; see `TextModel.positions_before`."""
        (first, *_) = each_draw(latent)
        if isinstance(first, Placed):
            return len(self.instruction) + int(first.positions.max()) + 1
        return len(self.instruction) + cast(Latent, first).key_padding_mask.shape[1]

    def positions_of(self, length: int) -> int:
        """Return the positions of the instruction, the vectors and the text; see `TextModel.positions_of`."""
        return len(self.instruction) + self.components(length) + length

    @abstractmethod
    def components(self, length: int) -> int:
        """Return the number of components of the latent of a text with `length` tokens."""

    def attention_weights(self, target_input: Tensor, latent: Latent | None) -> Tensor:
        """Compute the weights of every layer and head over the vectors, which sum to one: [B, layers, H, T, K]."""
        if isinstance(latent, Draws):
            return torch.stack([self.attention_weights(target_input, own) for own in latent.latents]).mean(dim=0)
        first = len(self.instruction)
        vectors = slice(first, first + cast(Latent, latent).key_padding_mask.shape[1])
        self.backbone.set_attn_implementation("eager")  # the fused attention gives no weights
        try:
            layers = self.backbone(**self.inputs(target_input, latent), output_attentions=True).attentions
        finally:
            self.backbone.set_attn_implementation("sdpa")
        weights = torch.stack(layers, dim=1)[..., -target_input.shape[1] :, vectors]
        return weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-12)


class PromptVariational(Variational[OwnSettings], PromptAutoencoder[OwnSettings]):
    """Variational autoencoder around a pretrained causal language model; a subclass says which vectors are kept.

    Args:
        settings: settings with `pretrained`.
        folder: folder of the pretrained model.
    """

    def __init__(self, settings: OwnSettings, folder: Path) -> None:
        PromptAutoencoder.__init__(self, settings, folder)  # pyright: ignore[reportUnknownMemberType] a generic base
        self.bottleneck = GaussianBottleneck(settings.dim_h)
        start_at_codes(self.bottleneck.mu, self.bottleneck.logvar, self.scale)

    def components(self, length: int) -> int:
        """Return the number of vectors that are kept; see `PromptAutoencoder.components`."""
        return int(self.count_kept(torch.tensor([length])))


class PromptVTV(EveryVector, PromptVariational[VTVSettings]):
    """Variational autoencoder around a pretrained model, a vector for every token."""


class PromptVTS(EvenlySpaced, PromptVariational[VTSSettings]):
    """Variational autoencoder around a pretrained model, a fixed share of its vectors dropped."""


class PromptNVAE(Nonparametric, PromptAutoencoder[NVAESettings]):
    """NVAE around a pretrained causal language model.

    Before the first step, the mean of a token's posterior is its scaled code and the variance that of the prior.

    Args:
        settings: settings with `pretrained`.
        folder: folder of the pretrained model.
    """

    def __init__(self, settings: NVAESettings, folder: Path) -> None:
        if settings.reading in INTEGRATING:
            raise UnsupportedError(
                f"the reading {settings.reading} means nothing for a causal model, which reads vectors and no "
                "variances; take plug-in or draws-K"
            )
        PromptAutoencoder.__init__(self, settings, folder)  # pyright: ignore[reportUnknownMemberType] a generic base
        self.add_bottleneck()
        start_at_codes(self.bottleneck.mu, self.bottleneck.logvar, self.scale)
        nn.init.zeros_(self.bottleneck.alpha.weight)

    def components(self, length: int) -> int:
        """Return a component for each token, and that of the prior; see `PromptAutoencoder.components`."""
        return length + 1

    def read(self, encoding: Encoding, source: Tensor) -> Encoding:
        """Replace the mean measure by its means or by draws; see `TextAutoencoder.read`."""
        encoding = super().read(encoding, source)
        drawn = self.training or draws_of(self.settings.reading) > 0
        return replace(encoding, latent=_placed(encoding.latent, self.settings.kappa if drawn else 1))

    def sample_prior(
        self, lengths: Tensor, generator: torch.Generator | None = None, noise: Noise = AS_TRAINED
    ) -> Latent:
        """Draw weights and vectors from the prior; see `Nonparametric.sample_prior`."""
        drawn = super().sample_prior(lengths, generator, noise)
        return drawn if noise.temperature < COLD else _placed(drawn, self._kappa(noise))

    def sample_posterior(
        self, encoding: Encoding, generator: torch.Generator | None = None, noise: Noise = AS_TRAINED
    ) -> Latent:
        """Draw weights and vectors from the posterior; see `Nonparametric.sample_posterior`."""
        drawn = super().sample_posterior(encoding, generator, noise)
        return drawn if noise.temperature < COLD else _placed(drawn, self._kappa(noise))

    def interpolate(self, a: Latent, b: Latent, tau: float) -> Latent:
        """Compute the mixture `(1 - tau) a + tau b`, whose vectors keep their positions; see `TextModel.interpolate`.

        The decoder reads the i-th vectors of both at the same position.
        """
        if isinstance(a, Draws) and isinstance(b, Draws):
            pairs = zip(a.latents, b.latents, strict=True)
            return Draws(tuple(self.interpolate(*pair, tau) for pair in pairs))
        kinds = (DiscreteMixture, GaussianMixture, Placed)
        if not isinstance(a, kinds) or not isinstance(b, kinds):
            raise TypeError(f"a and b must be mixtures, got {type(a).__name__} and {type(b).__name__}")
        if tau in (0.0, 1.0):
            return b if tau else a
        return Placed.of(a).joined(Placed.of(b), tau)


def _placed(latent: Latent, kappa: int) -> Latent:
    """Place the draws of each component at the component's position; one draw each is placed by its index already."""
    if kappa == 1:
        return latent
    if isinstance(latent, Draws):
        return Draws(tuple(_placed(own, kappa) for own in latent.latents))
    assert isinstance(latent, (DiscreteMixture, GaussianMixture))
    return Placed.of(latent, kappa)


def start_at_codes(mu: nn.Linear, logvar: nn.Linear, scale: float) -> None:
    """Set the layers of a posterior: means that are scaled codes, and the variance of the standard prior."""
    scaled_identity(mu.weight, scale)
    nn.init.zeros_(mu.bias)
    nn.init.zeros_(logvar.weight)
    nn.init.zeros_(logvar.bias)
