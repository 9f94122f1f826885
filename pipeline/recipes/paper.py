"""The experiments of the paper."""

from pipeline.recipes.plan import (
    BOUNDS,
    GENERATION,
    INTERPOLATION,
    JUDGE,
    JUDGE_RUN,
    RECONSTRUCTION,
    Run,
    training_flags,
)

# Flags of every model with Gaussians. With a weight as small as the default of train.py, the vectors are so far apart
# that the decoder finds the weakest among the others, and the model need not drop any. The warm-up lets each model
# learn to reconstruct first, which takes the NVAE the fewest steps.
GAUSSIAN = ("--KL_GAUSSIAN_LAMBDA", "1")
MONOTONIC = ("--KL_ANNEALING_GAUSSIAN", "monotonic")
VARIATIONAL = (*GAUSSIAN, "--KL_WARMUP", "0.6", *MONOTONIC)
NONPARAMETRIC = (*GAUSSIAN, "--KL_WARMUP", "0.4", *MONOTONIC)
NONPARAMETRIC += ("--KL_ANNEALING_DIRICHLET", "monotonic", "--ALPHA_ACTIVATION", "relu")
AT_30_NATS = ("--TARGET_RATE", "30", "--COOLDOWN", "0.2", "--BOTTLENECK", "plain")

RUNS = (
    Run("t", "T", (*RECONSTRUCTION, *INTERPOLATION), tuned=True),
    Run("lm", "LM", GENERATION, tuned=True),  # the baseline of every table of generation
    Run("vtv", "VTV", (*BOUNDS, *GENERATION, *INTERPOLATION), VARIATIONAL, tuned=True),
    Run("vtp", "VTP", (*BOUNDS, *GENERATION, *INTERPOLATION), VARIATIONAL, tuned=True),
    Run("vts", "VTS", (*BOUNDS, *GENERATION, *INTERPOLATION), (*VARIATIONAL, "--STRIDE_PERC", "0.5"), tuned=True),
    Run(
        "nvib",
        "NVIB",
        (*RECONSTRUCTION, *GENERATION, *INTERPOLATION, "regularisation"),
        (*NONPARAMETRIC, "--KL_DIRICHLET_LAMBDA", "1", "--DELTA", "0.25"),
        tuned=True,
    ),
    # The same at an operating point that is chosen, with a learned prior: the language model of the same seed.
    Run("nvib-30", "NVIB", (*RECONSTRUCTION, *GENERATION, *INTERPOLATION), AT_30_NATS, start_from="t", prior="lm"),
    # And with the plain prior, for whose draws the decoder is trained.
    Run("nvib-30-plain", "NVIB", (*RECONSTRUCTION, *GENERATION), (*AT_30_NATS, "--PRIOR_TEXTS", "0.5"), start_from="t"),
    # The number of vectors that a stronger regulariser drops, and the text that remains. Strong weights leave few
    # pseudo-counts, which all kept vectors share, so that a vector well below train.py's threshold is still in use.
    *(
        Run(
            f"nvib-lambda{lambda_d}-delta{delta}",
            "NVIB",
            ("reconstruction-validation", "regularisation"),
            (*NONPARAMETRIC, "--KL_DIRICHLET_LAMBDA", lambda_d, "--DELTA", delta, "--ALPHA_THRESHOLD", "0.01"),
            seeds=1,
        )
        for lambda_d, delta in (("0.1", "0.5"), ("3", "0.1"), ("10", "0.05"), ("10", "0.02"))
    ),
    # Remedies for posterior collapse, with the model most prone to it, which has one vector for a text. The run `vtp`
    # has the remedy of a warm-up.
    *(
        Run(f"vtp-{name}", "VTP", ("reconstruction-validation",), (*GAUSSIAN, *flags))
        for name, flags in (
            ("none", ()),
            ("free-bits", ("--FREE_BITS", "0.5")),
            ("word-dropout", ("--WORD_DROPOUT", "0.3")),
            ("cyclic", ("--KL_ANNEALING_GAUSSIAN", "cyclic")),
        )
    ),
)


def flags_of(name: str) -> tuple[str, ...]:
    """Flags of train.py for a run of `RUNS`, or for the judge."""
    return training_flags(JUDGE_RUN if name == JUDGE else next(run for run in RUNS if run.name == name))
