"""A pretrained model of transformers in a text model: its weights, adapters, vocabulary and state dict.

The modules of models around pretrained ones alone import transformers and peft, which are optional.
"""

import re
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from models.settings import ModelSettings
from models.text_model import Settings, TextModel, UnsupportedError

# Linear layers with adapters, under the names of Llama, Qwen, GPT-2, BART and T5: attention except keys, and the last
# of the feed-forward layers.
ADAPTED = ("q_proj", "v_proj", "o_proj", "down_proj", "c_attn", "c_proj", "out_proj", "fc2", "q", "v", "o", "wo")
DROPOUTS = ("attention_dropout", "activation_dropout", "dropout")  # probabilities that are no modules
PARTS = ("backbone.", "separate_head.")  # names of the pretrained tensors begin with these


@dataclass(frozen=True)
class BaseSizes:
    """Sizes of a pretrained model.

    Args:
        dim: D, width of its vectors.
        heads: attention heads of a layer; where their widths do not add up to D, D over the width of a head.
        rows: tokens that its embedding has room for.
        layers: layers of its decoder.
        positions: tokens of the longest text that it has positions for; None for any.
    """

    dim: int
    heads: int
    rows: int
    layers: int
    positions: int | None


def sizes(folder: Path) -> BaseSizes:
    """Read the sizes of the pretrained model in a folder.

    Raises:
        UnsupportedError: the installed version of transformers does not know the model, or it has no such sizes.
    """
    config = config_of(folder)
    try:
        dim, heads, rows = config.hidden_size, config.num_attention_heads, config.vocab_size
        layers = getattr(config, "decoder_layers", None) or config.num_hidden_layers
    except AttributeError as error:
        raise UnsupportedError(f"{config.model_type} is no model of one text: {error}") from None
    width = getattr(config, "d_kv", None)
    if width is not None and width * heads != dim:
        heads = dim // width if dim % width == 0 else 1
    return BaseSizes(dim, heads, rows, layers, getattr(config, "max_position_embeddings", None))


class PretrainedModel(TextModel[Settings]):
    """Text model with a pretrained model of transformers in it, with adapters or trained whole.

    The state dict leaves out pretrained tensors that are not trained: settings name them with their hash. Tensors with
    several names are in it once.

    Args:
        settings: settings with `pretrained`; `dim_h` is the width of the pretrained model.
        folder: folder of the pretrained model.
    """

    _no_split_modules: ClassVar = list[str]()
    _whole_state = False  # True while the state dict has all tensors

    def __init__(self, settings: Settings, folder: Path) -> None:
        super().__init__(settings)
        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType] not annotated
            self.backbone, head = self.load(folder)
        self.separate_head = head
        self.positions = sizes(folder).positions
        self.rows = int(self.embeddings.shape[0])
        more = settings.vocabulary_size - self.rows  # tokens of labels, which the pretrained model does not know
        self.more: nn.Parameter | None = None
        if more > 0:
            self.more = nn.Parameter(self.embeddings.detach().mean(dim=0).repeat(more, 1))
        if settings.train != "all":
            for parameter in self._pretrained_parameters():
                parameter.requires_grad_(False)
        if settings.train == "lora":
            _add_adapters(self.backbone, settings.lora_rank)
        self.register_buffer("no_bias", torch.zeros(max(self.rows, settings.vocabulary_size)), persistent=False)
        self.register_buffer("unspoken", torch.tensor(_unspoken(folder, self.rows), dtype=torch.long), persistent=False)
        hooks = cast(Any, self)  # torch annotates no hook
        hooks.register_state_dict_post_hook(_leave_frozen_out)
        hooks.register_load_state_dict_pre_hook(_put_frozen_in)

    no_bias: Tensor
    unspoken: Tensor

    @property
    def embeddings(self) -> Tensor:
        """[rows, D], embeddings of the pretrained model's tokens."""
        return cast(Tensor, self.backbone.get_input_embeddings().weight)

    def vocabulary(self) -> Tensor:
        """Embeddings of all tokens, those of labels included: [V, D]."""
        return self.embeddings if self.more is None else torch.cat([self.embeddings, self.more])

    @property
    def head(self) -> tuple[Tensor, Tensor]:
        """Weight [V, D] and bias [V] of the projection to the vocabulary."""
        if self.separate_head is None:
            return self.vocabulary(), self.no_bias
        weight = self.separate_head.weight
        return weight if self.more is None else torch.cat([weight, self.more]), self.no_bias

    @abstractmethod
    def load(self, folder: Path) -> tuple[Any, Any]:
        """Load the pretrained model: its layers, and its projection to the vocabulary if that is not its embedding."""

    def recompute_layers(self) -> None:
        """Turn gradient checkpointing of the pretrained layers on, where it is wanted."""
        if self.recompute and self.training and not self.backbone.is_activation_checkpointing:
            self.backbone.activation_checkpointing_enable({"use_reentrant": False})

    def _pretrained_parameters(self) -> list[nn.Parameter]:
        head = [] if self.separate_head is None else list(self.separate_head.parameters())
        return [*self.backbone.parameters(), *head]

    def stored_elsewhere(self) -> dict[str, str]:
        """Names of the pretrained tensors that the state dict lacks, with the name of the same tensor that it has.

        The second name is the first one itself for tensors that are not trained.
        """
        first, found = dict[int, str](), dict[str, str]()
        for name, parameter in self.named_parameters(remove_duplicate=False):
            again = first.setdefault(id(parameter), name)
            if name.startswith(PARTS) and not parameter.requires_grad:
                found[name] = name
            elif name.startswith(PARTS) and again != name:
                found[name] = again
        buffers = (name for name, _ in self.named_buffers(remove_duplicate=False))
        return found | {name: name for name in buffers if name.startswith(PARTS)}

    def whole_state(self) -> dict[str, Tensor]:
        """Return the state dict with the pretrained tensors that are not trained, under all their names."""
        self._whole_state = True
        try:
            return self.state_dict()
        finally:
            self._whole_state = False

    @property
    def keeps_all(self) -> bool:
        """True while the state dict has all tensors."""
        return self._whole_state


def config_of(folder: Path) -> Any:
    """Read the configuration of a pretrained model.

    Raises:
        UnsupportedError: the installed version of transformers does not know the model.
    """
    import transformers

    try:
        return cast(Any, transformers.AutoConfig).from_pretrained(folder, local_files_only=True)
    except ValueError as error:
        found = re.search(r"model type `([^`]+)`", str(error))
        reason = f"its model type {found[1]}" if found else f"its config.json ({' '.join(str(error).split())[:120]})"
        raise UnsupportedError(
            f"transformers {transformers.__version__} does not know {reason}; install a newer version, or take "
            "another model"
        ) from None


def open_base(auto: Any, folder: Path, settings: ModelSettings) -> Any:
    """Load a pretrained model with the dropout of the settings.

    Args:
        auto: class of transformers that chooses the model's class.
        folder: folder of the pretrained model.
        settings: settings of the model around it.

    Raises:
        UnsupportedError: transformers has no such model.
    """
    from transformers.utils import logging

    config_of(folder)
    logging.disable_progress_bar()  # loading takes a second
    given = {"dtype": torch.float32, "local_files_only": True, "use_safetensors": True, "attn_implementation": "sdpa"}
    try:
        loaded = auto.from_pretrained(folder, **given)
    except ValueError as error:  # no class for this type, or no fused attention
        raise UnsupportedError(" ".join(str(error).split()).partition(". ")[0][:200]) from None
    for module in loaded.modules():
        if isinstance(module, nn.Dropout):
            module.p = settings.dropout
        for name in DROPOUTS:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, settings.dropout)
        if isinstance(getattr(module, "layerdrop", None), float):
            setattr(module, "layerdrop", 0.0)  # noqa: B010 (a plain attribute, which torch does not annotate)
    return loaded


def _add_adapters(backbone: Any, rank: int) -> None:
    """Add low-rank adapters, which change nothing before they are trained."""
    from peft import LoraConfig, inject_adapter_in_model

    names = {name.rpartition(".")[2] for name, _ in backbone.named_modules()}
    chosen = [name for name in ADAPTED if name in names]
    if not chosen:
        raise UnsupportedError(f"{backbone.config.model_type} has none of the layers {', '.join(ADAPTED)} to adapt")
    turned = "c_attn" in names  # GPT-2's layers hold their weights as [in, out]
    config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=chosen, fan_in_fan_out=turned)
    inject_adapter_in_model(config, backbone)


def _unspoken(folder: Path, rows: int) -> list[int]:
    """Return the ids that no text contains: special tokens except the end token, and rows without a token."""
    tokenizer = tokenizer_of(folder)
    end = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    special = {*tokenizer.all_special_ids, *(n for n, token in tokenizer.added_tokens_decoder.items() if token.special)}
    return sorted((special | set(range(len(tokenizer), rows))) - {end})


def tokenizer_of(folder: Path) -> Any:
    """Load the tokenizer of a pretrained model."""
    from transformers import AutoTokenizer

    return cast(Any, AutoTokenizer).from_pretrained(folder, local_files_only=True)


def _leave_frozen_out(module: nn.Module, tensors: dict[str, Any], prefix: str, _: Any) -> None:
    assert isinstance(module, PretrainedModel)
    known = cast(PretrainedModel[ModelSettings], module)
    if not known.keeps_all:
        for name in known.stored_elsewhere():
            tensors.pop(prefix + name, None)


def _put_frozen_in(module: nn.Module, tensors: dict[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(module, PretrainedModel)
    known = cast(PretrainedModel[ModelSettings], module)
    own = known.whole_state()
    for name, same in known.stored_elsewhere().items():
        if name in own:  # not a buffer that no state dict has
            value = own[name].detach()
            tensors[prefix + name] = value if same == name else tensors.get(prefix + same, value)
