"""A pretrained language model that judges texts: bits a character, perplexity a word and perplexity a token.

No run of this suite trains the judge. Its figures a word and a character compare texts of models with other tokenizers.

- Perplexity a word is exp(nats of the texts / number of words). Words are what white space divides.
- Bits a character are nats of the texts / ln 2 / number of characters, which are Unicode code points. White space
  counts, and so do marks.
- Perplexity a token is exp(nats of the texts / number of tokens of the judge's tokenizer).

A text is scored as it is, each by itself. It follows the tokens that the judge's tokenizer puts in front of every text,
such as <s>; where there are none, it follows a line break. Its end is not scored. On 96 sentences of Wikipedia,
SmolLM2-135M-Instruct has these perplexities a word: 299 behind a line break, 302 behind <|endoftext|>, 501 behind its
start token <|im_start|>; and behind a line break 333 with a line break as the end, 438 with <|im_end|>.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.data.base_models import base_folder, require
from pipeline.runtime.devices import default_device, precision
from pipeline.runtime.errors import UserError, one_line
from pipeline.runtime.files import read_json
from pipeline.runtime.processes import gathered, share
from pipeline.runtime.progress import bar

LOGITS = 2**24  # logits in memory at a time: 64 MiB in float32
LARGE = 10_000_000  # weights of a model from which on bfloat16 pays
POSITIONS = 8192  # positions that go through the layers together at most
PROBE = "The old king left the town, and nobody saw him again."


@dataclass(frozen=True)
class Score:
    """Sums over the texts that were scored.

    Args:
        nats: negative log likelihood of the texts.
        tokens: tokens of the judge's tokenizer.
        words: words, divided by white space.
        characters: Unicode code points.
        texts: texts that were scored.
        empty: texts without a word, which cannot be scored.
        too_long: texts longer than the judge's context, which were not scored.
    """

    nats: float
    tokens: int
    words: int
    characters: int
    texts: int
    empty: int = 0
    too_long: int = 0

    def figures(self) -> dict[str, float | None]:
        """Return the figures by name, None if no text was scored."""
        if not self.texts:
            return dict.fromkeys(FIGURE_NAMES)
        values = (_exp(self.nats / self.words), self.nats / math.log(2) / self.characters)
        return dict(zip(FIGURE_NAMES, (*values, _exp(self.nats / self.tokens)), strict=True))

    def left_out(self) -> str:
        """Say how many texts were not scored and why; empty if all were."""
        reasons = ((self.empty, "empty"), (self.too_long, "longer than the judge's context"))
        return " and ".join(f"{count:,} {reason}" for count, reason in reasons if count)


FIGURE_NAMES = ("pretrained_word_perplexity", "pretrained_bits_per_character", "pretrained_forward_perplexity")


class BaseJudge:
    """A pretrained causal language model with its tokenizer.

    Args:
        name: name of the model, for messages.
        folder: its folder, from `base_folder`.

    Raises:
        UserError: transformers cannot load it, or it is no causal language model.
    """

    def __init__(self, name: str, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.name, self.folder, self.device = name, folder, default_device()
        self.model = _loaded(name, folder).to(self.device).eval()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True  # in a text, "<s>" is three characters
        self._front = self._tokens_in_front()
        self._longest: int = getattr(self.model.config, "max_position_embeddings", None) or 2**31
        self._head = self._checked_head()
        # On processors that are faster with it, 2.4 times as fast; the perplexity of SmolLM2 changes by 0.15 %.
        large = sum(parameter.numel() for parameter in self.model.parameters()) >= LARGE
        self._low_precision = large and precision("auto") == "bf16"

    @classmethod
    def load(cls, name: str) -> "BaseJudge":
        """Load a judge by `bundled`, a folder or a name on the Hugging Face hub, onto this process's device.

        Raises:
            UserError: it is absent, damaged or no causal language model, or the extra `pretrained` is not installed.
        """
        require("transformers")
        return cls(name, base_folder(name))

    @torch.inference_mode()
    def score(self, texts: Sequence[str], batch_size: int, description: str) -> Score:
        """Score texts, each by itself, shared among all processes.

        Args:
            texts: the texts.
            batch_size: largest number of texts that go through the model together.
            description: label of the progress bar.
        """
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        empty = [not (text.strip() and own) for text, own in zip(texts, ids, strict=True)]
        room = self._longest - len(self._front)
        scored = [number for number, own in enumerate(ids) if not empty[number] and len(own) <= room]
        order = sorted(scored, key=lambda number: -len(ids[number]))  # equal lengths together, the longest first
        batches = self._batches([len(ids[number]) + len(self._front) for number in order], batch_size)
        own = share([[order[place] for place in batch] for batch in batches])
        shown = bar(own, total=len(own), desc=description, unit="batch")
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._low_precision):
            parts = [list(zip(numbers, self._nats([ids[n] for n in numbers]), strict=True)) for numbers in shown]
        parts = gathered(parts)
        nats: dict[int, float] = {number: value for part in parts for number, value in part}
        return Score(
            math.fsum(nats[number] for number in scored),
            sum(len(ids[number]) for number in scored),
            sum(len(texts[number].split()) for number in scored),
            sum(len(texts[number]) for number in scored),
            len(scored),
            sum(empty),
            len(texts) - sum(empty) - len(scored),
        )

    def _batches(self, lengths: Sequence[int], batch_size: int) -> list[list[int]]:
        """Divide texts, the longest first, into batches of at most `batch_size` texts and `POSITIONS` positions."""
        positions = POSITIONS if self._head else self._rows
        batches: list[list[int]] = []
        for place in range(len(lengths)):
            full = not batches or len(batches[-1]) == batch_size
            if full or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > positions:
                batches.append([])
            batches[-1].append(place)
        return batches

    def _nats(self, batch: Sequence[Sequence[int]]) -> list[float]:
        """Compute the negative log likelihood of the token ids of each of B texts, in nats."""
        front = len(self._front)
        rows = [torch.tensor([*self._front, *ids]) for ids in batch]
        inputs = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.device)  # [B, T]
        lengths = torch.tensor([len(row) for row in rows], device=self.device)[:, None]  # [B, 1]
        real = torch.arange(inputs.shape[1], device=self.device) < lengths  # [B, T], True at tokens
        target = real[:, front:]  # the tokens of the texts: [B, T - front]
        if self._head is None:
            logits = self.model(input_ids=inputs, attention_mask=real.long(), use_cache=False).logits
            vectors, head = logits[:, front - 1 : -1][target], _same  # [P, V], of P tokens
        else:
            vectors = self._hidden(inputs, real)[:, front - 1 : -1][target]  # [P, D]
            head = self._head
        wanted = inputs[:, front:][target]  # [P]
        # The logits of a few positions at a time: those of a whole batch have as many columns as the vocabulary.
        each = torch.cat(
            [
                torch.nn.functional.cross_entropy(head(part).float(), tokens, reduction="none").double()
                for part, tokens in zip(vectors.split(self._rows), wanted.split(self._rows), strict=True)
            ]
        )
        row = torch.arange(len(rows), device=self.device)[:, None].expand_as(target)[target]  # [P], number of the text
        return torch.zeros(len(rows), dtype=torch.double, device=self.device).index_add_(0, row, each).tolist()

    def _hidden(self, inputs: Tensor, real: Tensor) -> Tensor:
        """Compute the last hidden states [B, T, D]."""
        return self.model.base_model(input_ids=inputs, attention_mask=real.long(), use_cache=False).last_hidden_state

    @property
    def _rows(self) -> int:
        """Number of positions whose logits are in memory at a time."""
        return max(1, LOGITS // self.model.config.get_text_config().vocab_size)

    def _tokens_in_front(self) -> list[int]:
        """Return the ids of the tokens before a text: those that the tokenizer puts there, else of a line break."""
        plain, whole = (self._tokenizer.encode("a", add_special_tokens=special).ids for special in (False, True))
        starts = (start for start in range(len(whole)) if whole[start : start + len(plain)] == plain)
        front = whole[: next(starts, 0)] or self._tokenizer.encode("\n", add_special_tokens=False).ids
        if not front or not plain:
            raise UserError(
                f"--LANGUAGE_MODEL {self.name} has a tokenizer without a token for a line break or a letter"
            )
        return front

    @torch.inference_mode()
    def _checked_head(self) -> Callable[[Tensor], Tensor] | None:
        """Return the projection to logits, or None for a model that changes the logits behind it.

        Raises:
            UserError: the model sees the tokens that follow, as an encoder does.
        """
        ids = self._tokenizer.encode(PROBE, add_special_tokens=False).ids
        inputs = torch.tensor([[*self._front, *ids]], device=self.device)
        real = torch.ones_like(inputs, dtype=torch.bool)
        whole = self.model(input_ids=inputs, attention_mask=real.long(), use_cache=False).logits.float()
        start = self.model(input_ids=inputs[:, :-1], attention_mask=real[:, :-1].long(), use_cache=False).logits.float()
        near = 1e-2 * whole.abs().max().item()
        if not torch.allclose(whole[:, :-1], start, atol=near):
            raise UserError(
                f"--LANGUAGE_MODEL {self.name} is no causal language model: a token's scores depend on those behind it"
            )
        head = self.model.get_output_embeddings()
        if head is None:
            return None
        return head if torch.allclose(head(self._hidden(inputs, real)).float(), whole, atol=near) else None


def same_family(base: Any, judge: BaseJudge) -> bool:
    """True if a generator is built on the judge, or on a model of its architecture with its vocabulary.

    Args:
        base: name of the pretrained model that the generator is built on, as its settings hold it; None if there is
            none.
        judge: the judge.
    """
    if not base or base == judge.name:
        return bool(base)
    try:
        folder = base_folder(str(base))
    except UserError:
        return False  # it is no longer there to compare
    return _family(folder) == _family(judge.folder)


def _family(folder: Path) -> tuple[Any, Any]:
    """Return the architecture of a pretrained model and its vocabulary."""
    remedy = "save the model again"
    config, tokenizer = (read_json(folder / name, remedy) for name in ("config.json", "tokenizer.json"))
    return config.get("model_type"), (tokenizer.get("model") or {}).get("vocab")


def _loaded(name: str, folder: Path) -> Any:
    """Load a causal language model, in float32 on a CPU and in the type of its weights on a GPU.

    Raises:
        UserError: transformers cannot load it, or a weight is absent.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # the messages below suffice
    dtype = torch.float32 if default_device().type == "cpu" else "auto"
    auto: Any = transformers.AutoModelForCausalLM
    try:
        model, report = auto.from_pretrained(folder, dtype=dtype, local_files_only=True, output_loading_info=True)
    except Exception as error:  # many kinds; all mean that it cannot judge
        raise UserError(f"--LANGUAGE_MODEL {name} cannot be loaded as a language model ({one_line(error)})") from None
    if missing := sorted(report["missing_keys"]):
        raise UserError(f"--LANGUAGE_MODEL {name} is no causal language model: it has no weights {missing[0]}")
    return model


def _same(logits: Tensor) -> Tensor:
    """Return logits as they are."""
    return logits


def _exp(nats: float) -> float:
    """Exponential, bounded so that JSON can hold it."""
    return math.exp(min(nats, 700.0))
