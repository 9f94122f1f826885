"""Generation: token by token from a latent, until the end token or a limit."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from models.text_model import TextModel

BLOCK = 256  # tokens of the vocabulary that greedy decoding looks at together

Choose = Callable[[Tensor], Tensor]  # logits [B, V] -> tokens [B]


def greedy(logits: Tensor) -> Tensor:
    """The most probable token of [B, V] logits: [B].

    On a CPU `argmax` takes a tenth of a generated token's time and `amax` a tenth of that, so the largest block of
    the vocabulary is looked for first, then the largest token in it.
    """
    by_token = logits.t()  # [V, B], as `TextModel.step` lays them out
    count = by_token.shape[0]
    whole = count // BLOCK * BLOCK
    largest = by_token[:whole].unflatten(0, (-1, BLOCK)).amax(dim=1)  # [V / BLOCK, B]
    if whole < count:
        largest = torch.cat([largest, by_token[whole:].amax(dim=0, keepdim=True)])
    first = largest.argmax(dim=0) * BLOCK  # [B]
    tokens = first + torch.arange(BLOCK, device=logits.device).unsqueeze(1)  # [BLOCK, B]
    beyond = tokens >= count
    values = by_token.gather(0, tokens.masked_fill(beyond, 0)).masked_fill(beyond, -torch.inf)
    return first + values.argmax(dim=0)


def nucleus(temperature: float = 1.0, top_p: float = 1.0, generator: torch.Generator | None = None) -> Choose:
    """Draw from the smallest set of tokens whose probability is at least `top_p` (Holtzman et al. 2020).

    Args:
        temperature: divides the logits; above 0.
        top_p: share of the probability that is kept, in (0, 1].
        generator: source of randomness, of the logits' device.
    """

    def choose(logits: Tensor) -> Tensor:
        probability = (logits.float() / temperature).softmax(dim=-1)
        if top_p < 1.0:
            ordered, order = probability.sort(dim=-1, descending=True, stable=True)
            # A token stays if those before it do not yet reach top_p: the first always does.
            kept = ordered.cumsum(dim=-1) - ordered < top_p
            probability = torch.zeros_like(probability).scatter_(1, order, ordered * kept)
        return torch.multinomial(probability, 1, generator=generator).squeeze(1)

    return choose


@torch.inference_mode()
def generate(
    model: TextModel,
    latent: Any,
    batch: int,
    start_id: int,
    end_id: int,
    max_tokens: int,
    choose: Choose = greedy,
) -> list[list[int]]:
    """Generate one text from each latent.

    Keys and values of the past are kept, those of the latent are computed once, only the last position is
    projected to the vocabulary, and sentences that have ended leave the batch.

    Args:
        model: in evaluation mode.
        latent: of B texts, as `encode`, `sample_prior` or `interpolate` return it.
        batch: B.
        start_id: token that every text begins with; not returned.
        end_id: token that ends a text; not returned.
        max_tokens: limit of the tokens generated, the end token counted.
        choose: picks a token from each row of logits.

    Returns:
        B lists of token ids.
    """
    device = model.output.weight.device
    texts: list[list[int]] = [[] for _ in range(batch)]
    rows = torch.arange(batch, device=device)  # which text each row of the shrinking batch is
    tokens = torch.full((batch,), start_id, device=device)
    state = model.start(latent)
    for position in range(max_tokens):
        logits, state = model.step(tokens, position, state)
        tokens = choose(logits)
        running = tokens != end_id
        for row, token, runs in zip(rows.tolist(), tokens.tolist(), running.tolist(), strict=True):
            if runs:
                texts[row].append(token)
        if not running.all():
            going = running.nonzero().squeeze(1)
            if not going.numel():
                break
            rows, tokens = rows[going], tokens[going]
            state = [layer.select(going) for layer in state]
    return texts
