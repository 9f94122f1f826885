"""Record the vectors that a converted Hugging Face attention module attends to, with their positions."""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from nvib.empirical_prior import bound_arguments
from nvib.identity import IdentityNVIB
from nvib.rotary_attention import KeyValueProjections, Rotation, rotate

NAME = "nvib"  # attention implementation, and submodule of each attention module
CACHES = ("cache", "past_key_values")  # newer versions of transformers use the first name
CROSS_ATTENDED = ("key_value_states", "encoder_hidden_states")


class Bottleneck(nn.Module):
    """The `nvib` submodule of a converted attention module: the NVIB layer and the vectors attended to.

    The attention interface receives keys and values, which are projections of the vectors that denoising attention
    needs. A forward pre-hook records these vectors at the entry of the attention module, and the rotations of their
    positions if the model has rotary positions. They are kept as long as the cache that holds their keys.

    Args:
        layer: NVIB layer; a forward hook on it receives the posterior of every call.
        path: path of the attention module, for error messages.
    """

    def __init__(self, layer: IdentityNVIB, path: str) -> None:
        super().__init__()
        self.layer = layer
        self.path = path
        self.entered: tuple[list[Tensor], Any] | None = None  # vectors and rotation of the current call, and its cache
        self.requested = self.need_weights = False  # by the model call, and by the attention call
        self.kept: WeakKeyDictionary[Any, list[Tensor]] = WeakKeyDictionary()

    def enter(self, vectors: Tensor, cache: Any, need_weights: bool, rotation: Rotation | None = None) -> None:
        """Record the attended vectors of a call.

        Args:
            vectors: [B, N, D].
            cache: cache that the call extends, or None.
            need_weights: if True, the call returns the attention weights.
            rotation: cosines and sines of the positions of the vectors, each [1 or B, N, r]; None without rotations.
        """
        self.entered = [vectors, *(rotation or ())], cache
        self.need_weights = need_weights or self.requested

    def recall(self, key: Tensor, projections: KeyValueProjections) -> tuple[Tensor, Rotation | None]:
        """Return all attended vectors, including those of earlier calls with the same cache.

        Args:
            key: [B, G, S, d_h], keys of the vectors.
            projections: projections of the attention module.

        Returns:
            The vectors [B, S, D], and the rotations of their positions, [1 or B, S, r] each, or None.

        Raises:
            ValueError: if some vectors were not recorded, or if `key` does not follow from them.
        """
        if self.entered is None:
            raise ValueError(f"{self.path} must be called as a module, because a forward pre-hook records its input")
        parts, cache = self.entered
        self.entered = None
        earlier = self.kept.get(cache) if cache is not None else None
        before = key.shape[2] - parts[0].shape[1]
        if earlier is not None and before > 0 and [len(part) for part in earlier] == [len(part) for part in parts]:
            parts = [torch.cat([old[:, :before], new], dim=1) for old, new in zip(earlier, parts, strict=True)]
        vectors, rotation = parts[0], (parts[1], parts[2]) if len(parts) == 3 else None
        if vectors.shape[:2] != (key.shape[0], key.shape[2]):
            raise ValueError(
                f"{self.path} must have one recorded vector per key, got {key.shape[2]} keys and "
                f"{vectors.shape[1]} vectors: start from an empty, growing cache, or pass use_cache=False"
            )
        if not torch.compiler.is_compiling():
            expected = rotate(projections.keys(vectors), rotation)
            if (expected - key).abs().max() > torch.finfo(key.dtype).eps ** 0.5 * key.abs().max():
                raise ValueError(
                    f"{self.path} must have keys that are projections of the attended vectors, rotated in planes of "
                    "dimensions i and i + r/2, got other keys: this family is not supported, or its cache was "
                    "reordered or cropped (beam search needs use_cache=False, as do windows shorter than the text)"
                )
        if cache is not None:
            self.kept[cache] = [part.detach() for part in parts]
        return vectors, rotation


def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Record the attended vectors of a call; forward pre-hook of a converted attention module."""
    arguments = bound_arguments(module, args, kwargs)
    vectors, crossed = attended_vectors(arguments)
    cache = None if crossed else next((arguments[name] for name in CACHES if name in arguments), None)
    bottleneck: Bottleneck = getattr(module, NAME)
    # Some families have layers without rotations, which receive them nevertheless.
    rotation = arguments.get("position_embeddings") if not crossed and getattr(module, "use_rope", True) else None
    bottleneck.enter(vectors, cache, bool(arguments.get("output_attentions")), rotation)


def request_weights(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Pass `output_attentions` to every bottleneck; forward pre-hook of a converted model.

    Some model families do not pass this argument to their attention modules.
    """
    for part in model.modules():
        if isinstance(part, Bottleneck):
            part.requested = bool(kwargs.get("output_attentions"))


def attended_vectors(arguments: dict[str, Any]) -> tuple[Tensor, bool]:
    """Return the vectors [B, N, D] that a call attends to, and True if they come from cross-attention."""
    for name in CROSS_ATTENDED:
        if arguments.get(name) is not None:
            return arguments[name], True
    return arguments["hidden_states"], False
