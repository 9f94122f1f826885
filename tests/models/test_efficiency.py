"""Speed and memory of the models, by sizes and operations instead of times."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from models import MODELS, build
from models.loss import CHUNK
from pipeline.data.batches import collate, in_order
from pipeline.training.validation import evaluate

VOCABULARY, END, PAD = 4096, 1, 0


class LargestTensor(TorchDispatchMode):
    """Record the number of elements of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        returned = function(*arguments, **(keywords or {}))
        for value in returned if isinstance(returned, tuple | list) else [returned]:
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return returned


def sentences(count: int, longest: int = 40) -> list[list[int]]:
    lengths = torch.randint(3, longest, (count,), generator=torch.Generator().manual_seed(0)).tolist()
    return [[2, *torch.randint(5, VOCABULARY, (length,)).tolist(), END] for length in lengths]


@pytest.mark.parametrize("name", ["T", "NVIB"])
def test_a_training_step_never_holds_the_logits_of_all_tokens(name: str):
    model = build(MODELS[name](vocabulary_size=VOCABULARY, dim_h=16))
    batch = collate(sentences(64), PAD)
    with LargestTensor() as largest:
        encoding, loss = model(batch.source, batch.key_padding_mask, batch.target_input)
        (loss.mean + model.penalty(encoding, 1.0)).backward()
    assert batch.tokens > 4 * CHUNK["cpu"]
    assert largest.elements <= CHUNK["cpu"] * VOCABULARY


@pytest.mark.parametrize("name", ["T", "NVIB"])
def test_figures_depend_neither_on_the_order_nor_on_the_size_of_batches(name: str):
    model, rows = build(MODELS[name](vocabulary_size=VOCABULARY, dim_h=16)), sentences(100)
    by_length = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    bucketed = [by_length[start : start + 8] for start in range(0, len(rows), 8)]
    figures = [
        evaluate(model, (collate([rows[n] for n in batch], PAD) for batch in batches), torch.device("cpu"), END)
        for batches in (bucketed, in_order(len(rows), 100))
    ]
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_evaluation_projects_to_the_vocabulary_once(mode):
    """Evaluation needs no gradient, whose two further products would take twice as long again."""
    model = build(MODELS["LM"](vocabulary_size=VOCABULARY, dim_h=16)).eval()
    batch = collate(sentences(64), PAD)

    def products() -> int:
        with FlopCounterMode(display=False) as counter:
            model(batch.source, batch.key_padding_mask, batch.target_input)
        return counter.get_total_flops()

    with mode():
        evaluated = products()
    assert evaluated < 0.5 * products()
