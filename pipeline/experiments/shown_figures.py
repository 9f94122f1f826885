"""Figures that tables, the console and the model card show, by their keys in `pipeline.experiments.metrics`."""

# Keys of the console's comparison and of the model card, in order.
HEADLINE = (
    "validation/cross_entropy",
    "validation/perplexity",
    "validation/end_cross_entropy",
    "validation/reconstruction_bleu",
    "test/reconstruction_bleu",
    "test/reconstruction_perplexity",
    "validation/vectors_kept",
    "validation/vectors_kept_fraction",
    "validation/alpha0",
    "validation/rate",
    "validation/kl_gaussian",
    "validation/kl_dirichlet",
    "samples/mean_length",
    "interpolation/tau_0.5/bleu_source",
    "interpolation/tau_0.5/bleu_target",
    "interpolation/tau_0.5/novel_fraction",
)

# Keys of the columns of the demo's last screen, in order.
SCREEN = (
    "validation/reconstruction_bleu",
    "validation/rate",
    "samples/forward_perplexity",
    "samples/distinct_2",
    "samples/exact_training_fraction",
    "samples/same_draw_bleu",
    "samples/different_draws_bleu",
)

# Keys of the columns of each table, in order. Figures of real text and of unigrams are rows of their own.
TABLES: dict[str, tuple[str, ...]] = {
    "reconstruction": (
        "validation/reconstruction_bleu",
        "validation/reconstruction_perplexity",
        "test/reconstruction_bleu",
        "test/reconstruction_perplexity",
        "validation/elbo",
        "validation/importance_weighted_bound",
        "test/elbo",
        "test/importance_weighted_bound",
    ),
    "generation": (
        "samples/forward_perplexity",
        "samples/pretrained_word_perplexity",
        "samples/pretrained_bits_per_character",
        "samples/pretrained_forward_perplexity",
        "validation/reverse_perplexity",
        "test/reverse_perplexity",
        "samples/mauve",
        "samples/semantic_mauve",
        "samples/distinct_2",
        "samples/self_bleu",
        "samples/exact_training_fraction",
        "samples/training_run_fraction",
        "samples/same_draw_bleu",
        "samples/different_draws_bleu",
    ),
    "frontier": (
        "validation/rate",
        "validation/vectors_kept_fraction",
        "validation/reconstruction_bleu",
        "samples/forward_perplexity",
        "samples/distinct_2",
        "samples/mauve",
    ),
    "diversity": (
        "samples/distinct_1",
        "samples/distinct_3",
        "samples/longest_training_ngram",
        "samples/length_divergence",
    ),
    "regularisation": (
        "validation/vectors_kept",
        "validation/vectors_kept_fraction",
        "validation/reconstruction_bleu",
        "validation/rate",
        "validation/rate_per_token",
        "validation/kl_gaussian",
        "validation/kl_dirichlet",
        "validation/alpha0",
        "regularisation/unexplained_by_length",
        "regularisation/alpha_frequency_correlation",
        "validation/active_units",
        "validation/perplexity_gap",
    ),
    "interpolation": (
        "interpolation/tau_0.5/bleu_source",
        "interpolation/tau_0.5/bleu_target",
        "interpolation/tau_0.5/novel_fraction",
        "interpolation/tau_0.5/novel_forward_perplexity",
    ),
}

# Key without which a table is left out.
NEEDED = {"frontier": "validation/rate"}
