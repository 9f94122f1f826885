"""Batches of sentences: their padding, and the order of an epoch."""

import torch

from pipeline.data.batches import EpochOrder, collate


def test_a_batch_is_padded_at_the_end_and_shifted_by_one_token():
    batch = collate([[1, 5, 6, 7, 2], [1, 8, 2]], pad_id=0)
    assert batch.source.tolist() == [[5, 6, 7, 2], [8, 2, 0, 0]]
    assert batch.target_input.tolist() == [[1, 5, 6, 7], [1, 8, 0, 0]]
    assert batch.key_padding_mask.tolist() == [[False] * 4, [False, False, True, True]]
    assert (batch.tokens, batch.source.dtype) == (6, torch.int64)


def test_without_a_window_all_sentences_are_shuffled_together():
    whole = list(EpochOrder(5000, 16, seed=1, epoch=2))
    assert whole == list(EpochOrder(5000, 16, seed=1, epoch=2, window=5000))
    assert whole != list(EpochOrder(5000, 16, seed=1, epoch=2, window=4999))
    assert sorted(number for batch in whole for number in batch) == list(range(5000))
