"""The experiments of the operating point: reconstruction and generation against the rate of the latent.

Every run starts from the weights of the one before it, so that each pays for its own part of the way alone.
"""

from pipeline.recipes.plan import Run

WARM_STEPS = 1500  # steps of T and of the language model, which learn from scratch
RECONSTRUCTION = ("reconstruction-validation",)
SAMPLES = ("sample", "forward")
CONTROL = ("--COOLDOWN", "0.2")
# The identity bottleneck is for the start from T. Its pseudo-counts grow with the norm of a vector, and those of a draw
# from the prior do not.
PLAIN = ("--BOTTLENECK", "plain")
RATES = ((120, 600), (60, 350), (30, 400), (15, 500))  # nats a vector, and the steps that lead there
SAMPLING = ("--DECODING", "sample", "--TOP_P", "0.95")


def _rates() -> tuple[Run, ...]:
    runs, source = [], "t"
    for rate, steps in RATES:
        name = f"rate-{rate}"
        flags = ("--TARGET_RATE", str(rate), *CONTROL, *(PLAIN if runs else ()))
        runs.append(Run(name, "NVIB", (*RECONSTRUCTION, *SAMPLES), flags, start_from=source, steps=steps))
        source = name
    return tuple(runs)


RUNS = (
    Run("t", "T", RECONSTRUCTION, steps=WARM_STEPS),
    Run("lm", "LM", SAMPLES, steps=WARM_STEPS),
    *_rates(),
    # Where reconstruction begins to fall.
    Run(
        "rate-22",
        "NVIB",
        (*RECONSTRUCTION, *SAMPLES),
        ("--TARGET_RATE", "22", *CONTROL, *PLAIN),
        start_from="rate-30",
        steps=300,
    ),
    # The decoder learns what to write for draws of the prior, beside texts that it reconstructs.
    Run(
        "prior-30",
        "NVIB",
        (*RECONSTRUCTION, *SAMPLES),
        ("--TARGET_RATE", "30", "--PRIOR_TEXTS", "0.5", *CONTROL, *PLAIN),
        start_from="rate-30",
        steps=1500,
    ),
)
