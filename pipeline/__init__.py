"""What the scripts share: corpora, tokenizers, prepared data, training, evaluation, tracking."""
