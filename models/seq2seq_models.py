"""Models around a pretrained encoder-decoder of transformers (BART, T5, mBART, Marian)."""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nvib
from models.autoencoder import TextAutoencoder
from models.gaussian import GaussianBottleneck
from models.latent import Draws, Latent, Memory, each_draw
from models.layers import DecoderState
from models.loss import averaged_logits
from models.nonparametric import Nonparametric
from models.packing import Packing
from models.pretrained_base import PretrainedModel, open_base
from models.settings import NVAESettings, TransformerSettings, VTSSettings, VTVSettings
from models.text_model import Settings, UnsupportedError
from models.transformer import PlainMemory
from models.variational import OwnSettings, Variational
from models.vts import EvenlySpaced
from models.vtv import EveryVector
from nvib import DiscreteMixture, GaussianMixture

DROPPED = -1  # id of a token that word dropout hides
LEAST_SPREAD = 1e-2  # smallest standard deviation of a dimension, relative to their root mean square
CLOSE = 2e-3  # largest difference from the base's own logits that rounding explains, relative to the largest logit
MEASURED = (16, 16)  # texts and tokens on which the encoder's vectors are measured before the training text is known


class TokenEmbedding(nn.Module):
    """Embedding of a pretrained model, with the tokens of labels behind its own, and zeros for hidden words.

    Args:
        known: embedding of the pretrained model, which may scale its vectors.
        more: [M, D], embeddings of further tokens; None for none.
    """

    def __init__(self, known: nn.Module, more: nn.Parameter | None) -> None:
        super().__init__()
        self.known = known
        self.more = more

    @property
    def weight(self) -> Tensor:
        """[rows, D], embeddings of the pretrained model's tokens."""
        return cast(Tensor, self.known.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed token ids: […] to […, D]."""
        rows = self.weight.shape[0]
        found = cast(Tensor, self.known(tokens.clamp(0, rows - 1)))
        if self.more is not None:
            labels = F.embedding((tokens - rows).clamp_min(0), self.more) * getattr(self.known, "embed_scale", 1.0)
            found = torch.where((tokens >= rows).unsqueeze(-1), labels, found)
        return found.masked_fill((tokens == DROPPED).unsqueeze(-1), 0.0)


@dataclass
class CachedState(DecoderState):
    """State of the decoder between two generated tokens.

    Args:
        cache: keys and values of all layers, of the earlier positions and of the latent.
        keys: what cross-attention reads of the latent, `nvib.latent_attention.LatentKeys`.
    """

    cache: Any
    keys: Any

    def select(self, rows: Tensor) -> "CachedState":
        """Select the state of some of the B texts; the cache is changed in place."""
        if self.cache.get_seq_length():
            self.cache.batch_select_indices(rows)
        return CachedState(self.cache, self.keys.select(rows))

    def select_past(self, rows: Tensor) -> "CachedState":
        """Replace the past of each text by the past of text `rows[b]`, which has the same latent."""
        return self.select(rows)


class Seq2SeqAutoencoder(PretrainedModel[Settings], TextAutoencoder[Settings]):
    """Networks of an autoencoder that are a pretrained encoder-decoder, whose cross-attention reads the latent.

    The encoder's vectors are standardised per dimension, by statistics of training texts, so that the prior N(0, I) is
    as wide as they are. The decoder undoes it, and a latent of the encoder's vectors gives the base's own outputs. The
    decoder's first token is the base's decoder_start_token, whatever the data's start token.

    Args:
        settings: settings with `pretrained`; sizes are the base's.
        folder: folder of the pretrained model.

    Raises:
        UnsupportedError: transformers or this project has no such encoder-decoder.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, settings: Settings, folder: Path) -> None:
        super().__init__(settings, folder)
        self.noise = math.sqrt(settings.dim_h // settings.num_heads)  # s0, as in IdentityNVIB
        self.output_scale = 1.0
        self.register_buffer("centre", torch.zeros(settings.dim_h))
        self.register_buffer("spread", torch.ones(settings.dim_h))
        encoder, decoder = self.backbone.get_encoder(), self.backbone.get_decoder()
        encoder.embed_tokens = decoder.embed_tokens = TokenEmbedding(encoder.embed_tokens, self.more)
        self.first_token = _decoder_start(self.backbone)
        self.attentions: list[nn.Module] = []
        known = self.backbone.config.model_type
        try:
            self._convert()
        except (ValueError, TypeError, AttributeError, KeyError, IndexError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UnsupportedError(f"{known} has no cross-attention that can read a mixture: {reason}") from None
        if not self._equals_base():
            raise UnsupportedError(
                f"{known} computes its outputs in another way than BART and T5 do: with a mixture of its own vectors "
                "they would differ; take another model"
            )

    def load(self, folder: Path) -> tuple[Any, Any]:
        """Load the pretrained model; see `PretrainedModel.load`."""
        from transformers import AutoModelForSeq2SeqLM

        loaded = open_base(AutoModelForSeq2SeqLM, folder, self.settings)
        known = loaded.config.model_type
        stacks = [loaded.get_encoder(), loaded.get_decoder()]
        found = [getattr(getattr(stack, "embed_tokens", None), "weight", None) for stack in stacks]
        if not isinstance(found[0], Tensor) or not isinstance(found[1], Tensor):
            raise UnsupportedError(f"{known} has no embedding of tokens in its encoder and its decoder")
        if found[0] is not found[1] and not (found[0].shape == found[1].shape and torch.equal(found[0], found[1])):
            raise UnsupportedError(f"the encoder and the decoder of this {known} have different vocabularies")
        head = loaded.get_output_embeddings()
        return loaded, None if head.weight is found[1] else head

    @property
    def embeddings(self) -> Tensor:
        """[rows, D], embeddings of the pretrained model's tokens."""
        return cast(Tensor, self.backbone.get_decoder().embed_tokens.weight)

    @property
    def head(self) -> tuple[Tensor, Tensor]:
        """Weight [V, D] and bias [V] of the projection to the vocabulary."""
        weight, bias = super().head
        for found in (getattr(self.separate_head, "bias", None), getattr(self.backbone, "final_logits_bias", None)):
            if found is not None:
                bias = bias + F.pad(found.flatten(), (0, len(bias) - found.numel()))
        return weight, bias

    def encode_tokens(self, source: Tensor, packing: Packing) -> Tensor:
        """Apply the encoder and standardise: token ids [B, N] to vectors [B, N, D], zeros at padding."""
        padding = packing.key_padding_mask
        return ((self._encoded(source, padding) - self.centre) / self.spread).masked_fill(padding.unsqueeze(-1), 0.0)

    @torch.no_grad()
    def start_at(self, source: Tensor, key_padding_mask: Tensor) -> None:
        """Take over mean and standard deviation of the encoder's vectors; see `TextModel.start_at`."""
        with _evaluating(self):
            vectors = self._encoded(source, key_padding_mask)[~key_padding_mask].double()
        spread = vectors.std(dim=0, correction=0)
        spread = spread.clamp_min(float(spread.square().mean().sqrt()) * LEAST_SPREAD).clamp_min(1e-6)
        self.centre.copy_(vectors.mean(dim=0))
        self.spread.copy_(spread)
        self.pass_through(float(vectors.square().sum(dim=-1).mean()))

    def start_at_tokens(self) -> None:
        """Take over statistics of vectors of arbitrary tokens, until the training text is known."""
        texts, count = MEASURED
        ids = torch.linspace(0, self.rows - 1, texts * count).long()
        source = torch.unflatten(ids, 0, (count, texts)).t()  # a text has tokens of the whole vocabulary
        self.start_at(source, torch.zeros_like(source, dtype=torch.bool))

    def decode(self, target_input: Tensor, latent: Latent | None, packing: Packing | None = None) -> Tensor:
        """Compute the decoder's vectors at all positions at once; see `TextModel.decode`."""
        hidden = self._decoded(target_input, self._keys(latent))[0]
        return hidden if packing is None else packing.pack(hidden)

    def start(self, latent: Latent | None) -> list[DecoderState]:
        """Return the decoder's state before the first token; see `TextModel.start`."""
        from transformers import DynamicCache, EncoderDecoderCache

        new = cast(Callable[[], Any], DynamicCache)
        caches = (cast(Any, EncoderDecoderCache)(new(), new()) for _ in each_draw(latent))
        return [CachedState(cache, self._keys(own)) for cache, own in zip(caches, each_draw(latent), strict=True)]

    def step(self, tokens: Tensor, position: int, state: list[DecoderState]) -> tuple[Tensor, list[DecoderState]]:
        """Decode one position; see `TextModel.step`. Special tokens other than the end token never come out."""
        given = torch.full_like(tokens, self.first_token) if position == 0 else tokens
        weight, bias = self.head
        logits = list[Tensor]()
        for before in cast(list[CachedState], state):
            hidden = self._run(given.unsqueeze(1), before.keys, before.cache)[0]
            # The vocabulary as rows, as in the loss: faster on a CPU for the few texts of a batch.
            logits.append((weight @ hidden.squeeze(1).t()).add_(bias.unsqueeze(1)))  # [V, B]
        return averaged_logits(logits).index_fill(0, self.unspoken, -torch.inf).t(), state

    def attention_weights(self, target_input: Tensor, latent: Latent | None) -> Tensor:
        """Compute the weights of every layer and head over the vectors: [B, layers, H, T, K]; of draws, their mean."""
        if isinstance(latent, Draws):
            return torch.stack([self.attention_weights(target_input, own) for own in latent.latents]).mean(dim=0)
        return torch.stack(self._decoded(target_input, self._keys(latent), record=True)[1], dim=1)

    def _encoded(self, source: Tensor, padding: Tensor) -> Tensor:
        """Apply the encoder: [B, N] to [B, N, D]."""
        self.recompute_layers()
        output = self.backbone.get_encoder()(input_ids=source, attention_mask=(~padding).long())
        return cast(Tensor, output.last_hidden_state)

    def _keys(self, latent: Latent | None) -> Any:
        """Prepare a latent for cross-attention, as `nvib.latent_attention.LatentKeys`."""
        from nvib import latent_attention

        if isinstance(latent, Memory):
            mask = latent.key_padding_mask
            bias = torch.zeros_like(mask, dtype=latent.vectors.dtype).masked_fill(mask, -torch.inf)
            vectors = (latent.vectors * self.spread + self.centre).masked_fill(mask.unsqueeze(-1), 0.0)
            return latent_attention.LatentKeys(vectors, bias[:, None, None])
        if isinstance(latent, DiscreteMixture):
            own = DiscreteMixture(latent.z * self.spread + self.centre, latent.log_pi, latent.key_padding_mask)
        elif isinstance(latent, GaussianMixture):
            mu, logvar = latent.mu * self.spread + self.centre, latent.logvar + 2.0 * self.spread.log()
            own = GaussianMixture(mu, logvar, latent.log_pi, latent.key_padding_mask)
        else:
            raise TypeError(f"the latent must be a memory or a mixture, got {type(latent).__name__}")
        return latent_attention.prepare(own, self.attentions, self.noise)

    def _decoded(self, target_input: Tensor, keys: Any, record: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Apply the decoder to whole texts [B, T]; its first token and word dropout are put in."""
        tokens = F.pad(target_input[:, 1:], (1, 0), value=self.first_token)
        if self.training and self.settings.word_dropout:
            dropped = torch.rand(tokens.shape, device=tokens.device) < self.settings.word_dropout
            tokens = tokens.masked_fill(dropped, DROPPED)
        return self._run(tokens, keys, None, record)

    def _run(self, tokens: Tensor, keys: Any, cache: Any = None, record: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Apply the decoder's layers: vectors [B, T, D], scaled for the head, and each layer's recorded weights."""
        from nvib import latent_attention

        self.recompute_layers()
        given = {"encoder_hidden_states": keys.vectors, "encoder_attention_mask": keys.bias, "cache": cache}
        with latent_attention.reading(self.attentions, keys, record) as weights:
            output = self.backbone.get_decoder()(input_ids=tokens, use_cache=cache is not None, **given)
        return cast(Tensor, output.last_hidden_state) * self.output_scale, weights

    def _convert(self) -> None:
        """Find the decoder's cross-attention and let it read mixtures."""
        from nvib import latent_attention

        decoder = self.backbone.get_decoder()
        vectors = torch.zeros(1, 1, self.settings.dim_h)

        def call() -> None:
            tokens = torch.tensor([[self.first_token]])
            decoder(input_ids=tokens, encoder_hidden_states=vectors, use_cache=False)

        with _evaluating(self), torch.no_grad():
            self.attentions = latent_attention.convert(self.backbone, decoder, call)

    @torch.no_grad()
    def _equals_base(self) -> bool:
        """Compare the logits with the base's own, with the encoder's vectors as a memory and as both mixtures.

        The scale of the decoder's outputs is found here: some T5 models have one.
        """
        ids = torch.linspace(0, self.rows - 1, 7).long()
        source = torch.stack([ids[:5], ids[2:]])
        padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
        target_input = F.pad(ids[None, 1:4].expand(2, -1), (1, 0), value=self.first_token)
        with _evaluating(self):
            given = {"attention_mask": (~padding).long(), "decoder_input_ids": target_input, "use_cache": False}
            expected = cast(Tensor, self.backbone(input_ids=source, **given).logits)
            hidden = self._encoded(source, padding)
            log_pi = hidden.double().square().sum(dim=-1) / (2.0 * self.noise)
            log_pi = log_pi.masked_fill(padding, -math.inf).log_softmax(dim=-1)
            latents: Sequence[Latent] = (
                Memory(hidden, padding),
                DiscreteMixture(hidden, log_pi, padding),
                GaussianMixture(hidden, torch.full_like(hidden, -60.0), log_pi, padding),
            )
            for scale in (1.0, self.settings.dim_h**-0.5):
                self.output_scale = scale
                if all(self._close(target_input, latent, expected) for latent in latents):
                    return True
        return False

    def _close(self, target_input: Tensor, latent: Latent, expected: Tensor) -> bool:
        weight, bias = self.head
        found = (self.decode(target_input, latent) @ weight.t() + bias)[..., : expected.shape[-1]]
        finite = expected[expected.isfinite()]
        close = (found - expected)[expected.isfinite()].abs().max() <= CLOSE * finite.abs().max()
        return found.shape == expected.shape and bool(close)


@contextmanager
def _evaluating(model: nn.Module) -> Generator[None]:
    """Put a model into evaluation mode within a `with` block."""
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)


def _decoder_start(backbone: Any) -> int:
    """Return the id of the token that the base's decoder begins with."""
    names = ("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id")
    for name in names:
        for config in (backbone.config, backbone.generation_config):
            found = getattr(config, name, None)
            if isinstance(found, int):
                return found
    raise UnsupportedError(f"{backbone.config.model_type} declares no token to begin its decoder with")


class Seq2SeqTransformer(PlainMemory, Seq2SeqAutoencoder[TransformerSettings]):
    """Pretrained encoder-decoder that is trained as an autoencoder, without a bottleneck."""

    def start_at(self, source: Tensor, key_padding_mask: Tensor) -> None:
        """Change nothing: without a prior, the encoder's vectors need no standard width."""


class Seq2SeqVariational(Variational[OwnSettings], Seq2SeqAutoencoder[OwnSettings]):
    """Variational autoencoder around a pretrained encoder-decoder; a subclass says which vectors are kept.

    Args:
        settings: settings with `pretrained`.
        folder: folder of the pretrained model.
    """

    def __init__(self, settings: OwnSettings, folder: Path) -> None:
        Seq2SeqAutoencoder.__init__(self, settings, folder)  # pyright: ignore[reportUnknownMemberType] a generic base
        self.bottleneck = GaussianBottleneck(settings.dim_h)
        self.bottleneck.pass_through()
        self.start_at_tokens()


class Seq2SeqVTV(EveryVector, Seq2SeqVariational[VTVSettings]):
    """Variational autoencoder around a pretrained encoder-decoder, a vector for every token."""


class Seq2SeqVTS(EvenlySpaced, Seq2SeqVariational[VTSSettings]):
    """Variational autoencoder around a pretrained encoder-decoder, a fixed share of its vectors dropped."""


class Seq2SeqNVAE(Nonparametric, Seq2SeqAutoencoder[NVAESettings]):
    """NVAE around a pretrained encoder-decoder: denoising attention in every decoder layer.

    With the identity bottleneck and the reading plug-in, the outputs before the first step are the base's own.

    Args:
        settings: settings with `pretrained`.
        folder: folder of the pretrained model.
    """

    def __init__(self, settings: NVAESettings, folder: Path) -> None:
        Seq2SeqAutoencoder.__init__(self, settings, folder)  # pyright: ignore[reportUnknownMemberType] a generic base
        self.add_bottleneck()
        self.start_at_tokens()

    @torch.no_grad()
    def pass_through(self, squared_norm: float) -> None:
        """Let the bottleneck pass the encoder's vectors through; see `Nonparametric.pass_through`.

        Args:
            squared_norm: mean of the encoder's vectors' `||h||^2`, before they are standardised.
        """
        super().pass_through(squared_norm)
        layer = self.bottleneck
        if isinstance(layer, nvib.IdentityNVIB):
            # ||h||^2 / 2 s0 of h = spread x + centre, where x is what the bottleneck sees
            layer.alpha_square.weight.copy_(self.spread.square().unsqueeze(0))
            layer.alpha.weight.copy_((self.spread * self.centre / layer.noise).unsqueeze(0))
            layer.alpha.bias.add_(self.centre.square().sum() / (2.0 * layer.noise))
