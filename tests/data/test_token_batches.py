"""Batches by tokens: what fits, what every epoch has in common, resuming within an epoch, and several processes."""

from itertools import chain

import numpy as np
import pytest

from pipeline.data.token_batches import TokenOrder, batch_ends

LENGTHS = np.random.default_rng(0).integers(3, 40, size=500)
FIRST = 137


def order(**changes: int) -> TokenOrder:
    usual = {"tokens": 100, "seed": 1, "epoch": 0}
    return TokenOrder(LENGTHS, **{**usual, **changes})


@pytest.mark.parametrize("tokens", [1, 39, 100, 10**6])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_an_epoch_has_every_sentence_once_and_no_more_tokens_than_fit(tokens: int, processes: int):
    ranks = [list(order(tokens=tokens, rank=rank, processes=processes)) for rank in range(processes)]
    together = [list(chain(*parts)) for parts in zip(*ranks, strict=True)]
    seen = sorted(number for batch in together for number in batch)
    left_out = 500 % processes if tokens == 1 else 0  # with one sentence for each process, the others are too few
    assert len(seen) == len(set(seen)) == 500 - left_out
    for batch in chain(*ranks):
        assert batch
        assert len(batch) == 1 or len(batch) * LENGTHS[batch].max() <= tokens
    assert [len(batch) for batch in together] == list(order(tokens=tokens, processes=processes).sizes())
    assert len(order(tokens=tokens, processes=processes)) == len(together)


def test_a_batch_is_as_full_as_its_longest_sentence_allows_and_of_similar_lengths():
    batches = list(order())
    full = [batch for batch in batches if (len(batch) + 1) * LENGTHS[batch].max() > 100]
    assert len(full) >= len(batches) - 1  # the last one has what is left
    spreads = [LENGTHS[batch].max() - LENGTHS[batch].min() for batch in batches]
    assert np.mean(spreads) < 0.05 * (40 - 3)
    padded = sum(len(batch) * LENGTHS[batch].max() for batch in batches)
    assert LENGTHS.sum() / padded > 0.98


def test_epochs_differ_in_their_batches_and_not_in_their_sizes():
    first, again, other, second = order(), order(), order(seed=2), order(epoch=1)
    assert list(first) == list(again)
    for changed in (other, second):
        assert list(changed) != list(first)
        sets = [{frozenset(batch) for batch in each} for each in (changed, first)]
        assert len(sets[0] & sets[1]) < 0.3 * len(first)  # sentences of equal length meet others
        assert sorted(changed.sizes()) == sorted(first.sizes())
    longest = [int(LENGTHS[batch].max()) for batch in first]
    assert np.abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2  # in random order


@pytest.mark.parametrize("processes", [1, 2])
def test_an_interrupted_epoch_goes_on_with_the_batches_that_are_left(processes: int):
    whole = order(rank=processes - 1, processes=processes)
    sizes, batches = list(whole.sizes()), list(whole)
    assert whole.done == 0
    for taken in (1, 7, len(sizes)):
        left = order(rank=processes - 1, processes=processes, first=sum(sizes[:taken]))
        assert list(left) == batches[taken:]
        assert list(left.sizes()) == sizes[taken:]
        assert (left.done, len(left)) == (taken, len(sizes) - taken)


def test_a_position_within_a_batch_leaves_the_rest_of_it():
    """The number of processes may change within an epoch, and batches with it."""
    sizes, batches = list(order().sizes()), list(order())
    inside = next(number for number, size in enumerate(sizes) if size > 3)
    first = sum(sizes[:inside]) + 2
    assert list(order(first=first)) == [batches[inside][2:], *batches[inside + 1 :]]
    parts = [list(order(first=FIRST, rank=rank, processes=2)) for rank in (0, 1)]
    assert sum(len(batch) for part in parts for batch in part) in (500 - FIRST, 500 - FIRST - 1)
    assert all(map(len, parts[0] + parts[1]))


@pytest.mark.parametrize(
    ("lengths", "tokens", "processes", "ends"),
    [
        ([], 10, 1, [0]),
        ([9], 10, 2, [0]),  # too few for two processes
        ([30, 5, 5, 5], 10, 1, [0, 1, 3, 4]),
        ([5, 5, 4, 4, 2], 10, 1, [0, 2, 4, 5]),
        ([5] * 5, 10, 2, [0, 3, 5]),  # the batch before lends one
        ([9] * 5, 10, 2, [0, 2, 4]),  # it has none to lend
        ([9, 9, 2, 2, 2], 10, 2, [0, 2, 5]),
    ],
)
def test_sentences_are_cut_where_the_next_one_does_not_fit(
    lengths: list[int], tokens: int, processes: int, ends: list[int]
):
    assert batch_ends(np.array(lengths), tokens, processes) == ends
