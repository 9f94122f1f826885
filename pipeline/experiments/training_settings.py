"""Settings of training, shared by the scripts, the training loop and `config.json`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from models.declaration import Range, SettingError, check_settings, declare

DEFAULT_STEPS = 1500  # 1.3 passes over the 73,790 sentences of WikiText-2

# Defaults of training around a pretrained model. Its adapters begin at zero, so that the first steps are short. It
# knows a few hundred texts by heart after some ten epochs, so that it stops before.
AROUND_PRETRAINED = {
    "learning_rate": 5e-4,
    "gradient_clip": 1.0,
    "batch_size": 16,
    "warmup_steps": 20,
    "save_steps": 100,
    "group_by_length": True,
    "patience": 2,
}


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of training.

    The metadata of each field holds its meaning, unit and range.

    Raises:
        ValueError: if a value is out of its range.
    """

    learning_rate: float = field(
        default=1e-3, metadata=declare("learning rate of Adam", above=0, tune=Range(3e-4, 3e-3, log=True))
    )
    warmup_steps: int = field(
        default=0, metadata=declare("optimizer steps over which the learning rate rises from 0", low=0)
    )
    cooldown: float = field(
        default=0.0,
        metadata=declare(
            "share of the optimizer steps, the last ones, over which the learning rate falls to 0", low=0, high=1
        ),
    )
    epochs: int = field(
        default=-1, metadata=declare("passes over the training sentences; -1 for no limit", low=1, no_limit=True)
    )
    max_steps: int = field(
        default=-1,
        metadata=declare(
            "optimizer steps after which training stops; -1 for no limit, but "
            f"{DEFAULT_STEPS} if EPOCHS has no limit either",
            low=1,
            no_limit=True,
        ),
    )
    patience: int = field(
        default=-1,
        metadata=declare(
            "epochs without a lower validation loss after which training stops, -1 for no limit (around a pretrained "
            "model, 2 unless given); where a rate is asked for, they count once its target is reached",
            low=1,
            no_limit=True,
        ),
    )
    batch_size: int = field(default=64, metadata=declare("sentences per batch of one process", low=1))
    batch_tokens: int | None = field(
        default=None,
        metadata=declare(
            "tokens per batch of one process, padding counted, in place of BATCH_SIZE sentences: a batch has as many "
            "sentences of similar length as fit, at least one; validation keeps the default of BATCH_SIZE",
            low=1,
        ),
    )
    accumulation_steps: int = field(
        default=1, metadata=declare("batches whose gradients make one optimizer step", low=1)
    )
    gradient_clip: float = field(
        default=0.1, metadata=declare("largest norm of the gradient of an optimizer step", above=0)
    )
    save_steps: int = field(
        default=500, metadata=declare("optimizer steps between two checkpoints within an epoch", low=1)
    )
    on_non_finite: str = field(
        default="stop",
        metadata=declare(
            "action for a loss or gradient that is not finite: stop training, or skip the step and count it",
            choices=("stop", "skip"),
        ),
    )
    seed: int = field(
        default=42, metadata=declare("seed of weights, order, dropout and sampling", low=0, high=2**32 - 1)
    )
    precision: str = field(  # auto is resolved by pipeline.runtime.devices.precision
        default="auto",
        metadata=declare(
            "fp32; bf16, autocast to bfloat16; or auto: bf16 on a GPU with support for it and on a processor that is "
            "measured to be faster with it, fp32 otherwise",
            choices=("auto", "fp32", "bf16"),
        ),
    )
    compile: bool = field(
        default=False,
        metadata=declare("True compiles the model with torch.compile, which needs a C++ compiler on a CPU"),
    )
    gradient_checkpointing: bool = field(
        default=False,
        metadata=declare(
            "True computes the layers again for the gradient and does not keep their activations: less memory, about "
            "a third more time, the same numbers"
        ),
    )
    shuffle_window: int = field(
        default=2**25,
        metadata=declare(
            "sentences that are shuffled together, 8 bytes of memory each: the whole corpus if it is smaller, "
            "otherwise runs of neighbours drawn at random",
            low=1,
        ),
    )
    group_by_length: bool = field(
        default=False,
        metadata=declare(
            "True puts sentences of similar lengths into one batch, which holds less padding; from scratch, models "
            "need about twice as many steps with it"
        ),
    )
    loader_workers: int = field(
        default=-1,
        metadata=declare(
            "processes that read batches ahead, which changes no number; -1 for two beside a GPU and none otherwise",
            low=-1,
            high=64,
        ),
    )
    start_from: str | None = field(
        default=None,
        metadata=declare(
            "experiment of the project whose best weights training starts from, for every weight that both models "
            "have; the others are drawn with SEED",
            form="name",
        ),
    )

    target_rate: float | None = field(
        default=None,
        metadata=declare(
            "rate that training ends with, in nats a vector: the weight of KL_G rises or falls until it is met",
            above=0,
        ),
    )
    target_kept: float | None = field(
        default=None,
        metadata=declare(
            "share of vectors that training ends with, in (0, 1]: the weight of KL_D follows", above=0, high=1
        ),
    )
    rate_path: Sequence[float] | None = field(
        default=None,
        metadata=declare(
            "first and last rate, in nats a vector: the rate falls geometrically over the run, and every octave is "
            "saved as an experiment of its own",
            above=0,
        ),
    )
    start_perplexity: float = field(
        default=1.5,
        metadata=declare(
            "validation perplexity at which the reconstruction is there, so that the control of the rate and the "
            "dropout of vectors begin",
            above=1,
        ),
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.batch_tokens is not None:
            object.__setattr__(self, "group_by_length", True)
        if self.rate_path is not None:
            if len(self.rate_path) != 2 or self.rate_path[0] <= self.rate_path[1]:
                raise SettingError("{rate_path} takes two rates, the second one lower")
            if self.target_rate is not None:
                raise SettingError("{rate_path} and {target_rate} both set the rate; leave one out")

    @property
    def controlled(self) -> bool:
        """True if a rate or a share of vectors is asked for."""
        return any(value is not None for value in (self.target_rate, self.target_kept, self.rate_path))

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the whole run."""
        if self.epochs > 0:
            return self.limited(self.epochs * steps_per_epoch)
        return self.max_steps if self.max_steps > 0 else DEFAULT_STEPS

    def learning_rate_at(self, step: int, total_steps: int) -> float:
        """Learning rate of an optimizer step, counted from 0, of a run of `total_steps`.

        It is 0 behind the last step: a limit that was lowered may lie before a step that was taken.
        """
        rising = (step + 1) / max(1, self.warmup_steps)
        falling = max(0, total_steps - step) / max(1.0, self.cooldown * total_steps) if self.cooldown else 1.0
        return self.learning_rate * min(1.0, rising, falling)

    def limited(self, steps: int) -> int:
        """A number of optimizer steps, at most `max_steps`."""
        return min(steps, self.max_steps) if self.max_steps > 0 else steps
