"""Generation of texts from latents, token by token, until the end token or a limit."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from models.latent import Latent
from models.layers import DecoderState
from models.settings import ModelSettings
from models.text_model import TextModel

BLOCK = 256  # tokens of the vocabulary whose maximum greedy decoding computes together

Choose = Callable[[Tensor], Tensor]  # logits [B, V] -> tokens [B]


class Constraint(Protocol):
    """Rules for the tokens of B texts that are generated together, such as the grammar of a table's rows."""

    def apply(self, rows: Sequence[int], logits: Tensor) -> Tensor:
        """Make the tokens that the rules forbid impossible.

        Args:
            rows: numbers of the S texts that have not ended.
            logits: [S, V] of their next tokens.

        Returns:
            [S, V], -inf for tokens that are forbidden.
        """
        ...

    def advance(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Take the chosen tokens of S texts into account.

        Args:
            rows: numbers of the texts.
            tokens: a token for each.
        """
        ...

    def chosen(self) -> list[int] | None:
        """Return the numbers of the texts that go on, each as often as it is named; None for all.

        It is asked after each token, and the texts that go on have the numbers of their places.
        """
        ...


def greedy(logits: Tensor) -> Tensor:
    """Return the most probable token of each row of logits.

    On a CPU `argmax` takes a tenth of the time of a generated token, and `amax` a tenth of that. So the block of the
    vocabulary with the largest logit is found first, then the largest logit in it.

    Args:
        logits: [B, V].

    Returns:
        [B], token ids; the smallest of equal logits.
    """
    by_token = logits.t()  # [V, B], as `TextModel.step` lays them out
    count = by_token.shape[0]
    whole = count // BLOCK * BLOCK
    largest = torch.unflatten(by_token[:whole], 0, (-1, BLOCK)).amax(dim=1)  # [V / BLOCK, B]
    if whole < count:
        largest = torch.cat([largest, by_token[whole:].amax(dim=0, keepdim=True)])
    first = largest.argmax(dim=0) * BLOCK  # [B]
    tokens = first + torch.arange(BLOCK, device=logits.device).unsqueeze(1)  # [BLOCK, B]
    beyond = tokens >= count
    values = by_token.gather(0, tokens.masked_fill(beyond, 0)).masked_fill(beyond, -torch.inf)
    return first + values.argmax(dim=0)


def nucleus(temperature: float = 1.0, top_p: float = 1.0, generator: torch.Generator | None = None) -> Choose:
    """Draw from the smallest set of tokens with a total probability of at least `top_p` (Holtzman et al. 2020).

    Args:
        temperature: divides the logits; above 0.
        top_p: share of the probability that is kept, in (0, 1].
        generator: source of randomness, on the device of the logits; None for torch's own.

    Returns:
        A function from logits [B, V] to tokens [B].
    """

    def choose(logits: Tensor) -> Tensor:
        probability = (logits.float() / temperature).softmax(dim=-1)
        if top_p < 1.0:
            ordered, order = probability.sort(dim=-1, descending=True, stable=True)
            # A token stays if the tokens before it sum to less than top_p. The first always stays.
            kept = ordered.cumsum(dim=-1) - ordered < top_p
            probability = torch.zeros_like(probability).scatter_(1, order, ordered * kept)
        return torch.multinomial(probability, 1, generator=generator).squeeze(1)

    return choose


@torch.inference_mode()
def generate(
    model: TextModel[ModelSettings],
    latent: Latent | None,
    batch: int,
    start_id: int,
    end_id: int,
    max_tokens: int,
    choose: Choose = greedy,
    min_tokens: int = 0,
    first: Tensor | None = None,
    constraint: Constraint | None = None,
) -> list[list[int]]:
    """Generate one text from each latent.

    The keys and values of past tokens are cached, those of the latent are computed once, only the last position is
    projected to the vocabulary, and texts that have ended leave the batch.

    Args:
        model: model in evaluation mode.
        latent: latents of B texts, as `encode`, `sample_prior`, `sample_posterior` or `mix` return them.
        batch: B.
        start_id: token that every text begins with; not returned.
        end_id: token that ends a text; not returned.
        max_tokens: largest number of tokens of a text, without the end token, which is forced after them.
        choose: function from logits [B, V] to tokens [B].
        min_tokens: smallest number of tokens of a text, without the end token, which is forbidden before.
        first: [B], first token of each text, for example its label; None leaves it to the model.
        constraint: rules for the tokens of the texts; None for none.

    Returns:
        B lists of token ids; with a constraint, as many as it chooses.
    """
    device = model.device
    texts: list[list[int]] = [[] for _ in range(batch)]
    rows = torch.arange(batch, device=device)  # number of the text of each row of the shrinking batch
    numbers: list[int] = _listed(rows)
    tokens = torch.full((batch,), start_id, device=device)
    state = model.start(latent)
    for position in range(max_tokens):
        logits, state = _next(model, tokens, position, state, end_id, min_tokens, first)
        tokens = choose(logits if constraint is None else constraint.apply(numbers, logits))
        running = tokens != end_id
        chosen: list[int] = _listed(tokens)
        if constraint is not None:
            constraint.advance(numbers, chosen)
        for row, token, runs in zip(numbers, chosen, _listed(running), strict=True):
            if runs:
                texts[row].append(token)
        if constraint is not None and (places := constraint.chosen()) is not None:
            # A text that goes on may have ended already: it is copied, and has no row in the batch.
            batched = {number: row for row, number in enumerate(numbers)}
            numbers = [number for number, place in enumerate(places) if place in batched]
            index = torch.tensor([batched[places[number]] for number in numbers], dtype=torch.long, device=device)
            texts, tokens = [list(texts[place]) for place in places], tokens[index]
            rows, running = torch.tensor(numbers, dtype=torch.long, device=device), running[index]
            if not numbers:
                break
            state = [layer.select(index) for layer in state]
        if not running.all():
            going = running.nonzero().squeeze(1)
            if not going.numel():
                break
            rows, tokens = rows[going], tokens[going]
            numbers = _listed(rows)
            state = [layer.select(going) for layer in state]
    return texts


@torch.inference_mode()
def beam_search(
    model: TextModel[ModelSettings],
    latent: Latent | None,
    batch: int,
    start_id: int,
    end_id: int,
    max_tokens: int,
    beams: int,
    length_penalty: float = 1.0,
    min_tokens: int = 0,
    first: Tensor | None = None,
) -> list[list[int]]:
    """Search for the text of each latent with the highest `log p / tokens ** length_penalty`.

    At each token the search follows the `beams` most probable continuations of the beams of a text (Sutskever et al.
    2014). A beam that ends leaves the search, and the search of a text ends when `beams` beams have ended. One beam is
    greedy decoding, and as many beams as there are possible texts find the best of all.

    Args:
        model, latent, batch, start_id, end_id, max_tokens, min_tokens, first: see `generate`.
        beams: number of beams, at least 1.
        length_penalty: not negative. 0 compares the probability of whole texts, which favours short ones, 1 the mean
            over their tokens, the end token counted. Where the end token is forbidden, the other tokens share its
            probability; where it is forced, its probability is 1.

    Returns:
        B lists of token ids.
    """
    device = model.device
    best: list[tuple[float, list[int]]] = [(-math.inf, [])] * batch
    ended = [0] * batch

    def keep(row: int, log_p: float, ids: list[int], tokens: int) -> None:
        score = log_p / tokens**length_penalty
        best[row] = max(best[row], (score, ids), key=lambda found: found[0])  # the first of equal scores
        ended[row] += 1

    rows = torch.arange(batch, device=device)  # [S], numbers of the texts whose search runs
    texts = torch.empty(batch, 1, 0, dtype=torch.long, device=device)  # [S, b, tokens so far], of b beams
    log_p = torch.zeros(batch, 1, device=device)  # [S, b]; -inf for a beam that has ended
    tokens = torch.full((batch,), start_id, device=device)  # [S b]
    state = model.start(latent)
    for position in range(max_tokens):
        logits, state = _next(model, tokens, position, state, end_id, min_tokens, first)
        width, vocabulary = log_p.shape[1], logits.shape[1]
        by_beam = torch.unflatten(logits.float().log_softmax(dim=-1), 0, (-1, width))  # [S, b, V]
        onward = log_p.unsqueeze(-1) + by_beam
        log_p, index = onward.flatten(1).topk(min(beams, width * vocabulary))  # [S, b']
        parent, token = index // vocabulary, index % vocabulary
        texts = torch.cat([texts.gather(1, parent.unsqueeze(-1).expand(-1, -1, position)), token.unsqueeze(-1)], dim=-1)
        ends = (token == end_id) & (log_p > -math.inf)
        for s, beam in _listed(ends.nonzero()):
            keep(int(rows[s]), log_p[s, beam].item(), _listed(texts[s, beam, :-1]), position + 1)
        log_p = log_p.masked_fill(ends, -math.inf)
        numbers: list[int] = _listed(rows)
        runs = [ended[number] < beams for number in numbers]
        going = ((log_p > -math.inf).any(dim=1) & torch.tensor(runs, device=device)).nonzero().squeeze(1)
        if not going.numel():
            break
        parents = (torch.arange(len(rows), device=device).unsqueeze(1) * width + parent)[going].flatten()
        same = len(going) == len(rows) and parent.shape[1] == width
        state = [layer.select_past(parents) if same else layer.select(parents) for layer in state]
        rows, texts, log_p, tokens = rows[going], texts[going], log_p[going], token[going].flatten()
    else:  # the beams at the limit end there
        for s, beam in _listed((log_p > -math.inf).nonzero()):
            keep(int(rows[s]), log_p[s, beam].item(), _listed(texts[s, beam]), max_tokens + 1)
    return [ids for _, ids in best]


@dataclass(frozen=True)
class Decoding:
    """A way to choose the tokens of texts: greedy decoding, sampling or beam search.

    Args:
        method: `greedy`, `sample` (see `nucleus`) or `beam` (see `beam_search`).
        temperature: divides the logits, for `sample`.
        top_p: share of the probability that is kept, for `sample`.
        beams: number of beams, for `beam`.
        length_penalty: power of the number of tokens that divides log probabilities, for `beam`.
    """

    method: str = "greedy"
    temperature: float = 1.0
    top_p: float = 1.0
    beams: int = 5
    length_penalty: float = 1.0

    def __call__(
        self,
        model: TextModel[ModelSettings],
        latent: Latent | None,
        batch: int,
        start_id: int,
        end_id: int,
        max_tokens: int,
        min_tokens: int = 0,
        generator: torch.Generator | None = None,
        first: Tensor | None = None,
        constraint: Constraint | None = None,
    ) -> list[list[int]]:
        """Generate a list of token ids from each of B latents. See `generate` for the arguments.

        Raises:
            ValueError: beam search with a constraint.
        """
        where = (model, latent, batch, start_id, end_id, max_tokens)
        if self.method == "beam":
            if constraint is not None:
                raise ValueError("beam search takes no constraint")
            return beam_search(*where, self.beams, self.length_penalty, min_tokens, first)
        choose = nucleus(self.temperature, self.top_p, generator) if self.method == "sample" else greedy
        return generate(*where, choose, min_tokens, first, constraint)


GREEDY = Decoding()


def _listed(values: Tensor) -> Any:
    """Values as nested lists. The annotation of `Tensor.tolist` does not say of what."""
    return cast(Any, values).tolist()


def _next(
    model: TextModel[ModelSettings],
    tokens: Tensor,
    position: int,
    state: list[DecoderState],
    end_id: int,
    min_tokens: int,
    first: Tensor | None,
) -> tuple[Tensor, list[DecoderState]]:
    """Decode one step.

    Returns:
        The logits [B, V] and the state after the step. Only the first token is possible where it is given, and the end
        token is impossible before `min_tokens` tokens.
    """
    logits, state = model.step(tokens, position, state)
    if position == 0 and first is not None:
        logits = torch.full_like(logits, -torch.inf).scatter_(1, first.unsqueeze(1), 0.0)
    elif position < min_tokens:
        logits[:, end_id] = -torch.inf
    return logits, state
