"""How a model is trained: settings that scripts, training loop and `config.json` share."""

from dataclasses import dataclass

# Of WikiText-2's 73,790 sentences, 1.3 passes.
DEFAULT_STEPS = 1500


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained.

    Args:
        learning_rate: Adam's, above 0.
        warmup_steps: optimizer steps over which the learning rate rises from 0.
        epochs: passes over the training split, -1 for no limit.
        max_steps: optimizer steps after which training stops, -1 for no limit.
            Without either limit it stops after `DEFAULT_STEPS`.
        patience: epochs without a lower validation loss after which training stops, -1 for no limit.
        batch_size: sentences of a batch, of one process.
        accumulation_steps: batches whose gradients make one optimizer step.
        gradient_clip: largest norm of an optimizer step's gradient.
        save_steps: optimizer steps between two checkpoints within an epoch.
        on_non_finite: what a loss or gradient that is not finite does: stop ends training, skip leaves the step out
            and counts it.
        seed: of weights, order, dropout and sampling.
        precision: fp32, bf16 (autocast), or auto, which `pipeline.runtime.devices.precision` resolves.
        compile: whether torch compiles the model.
        gradient_checkpointing: whether layers are computed again for the gradient: less memory, a third more time.
        shuffle_window: sentences that are shuffled together: all, if there are no more, otherwise runs of neighbours.
        loader_workers: processes that read batches ahead; -1 for two beside a GPU and none otherwise.
        start_from: experiment of the same project whose best weights the model starts from, where both have them.
    """

    learning_rate: float = 1e-3
    warmup_steps: int = 0
    epochs: int = -1
    max_steps: int = -1
    patience: int = -1
    batch_size: int = 64
    accumulation_steps: int = 1
    gradient_clip: float = 0.1
    save_steps: int = 500
    on_non_finite: str = "stop"
    seed: int = 42
    precision: str = "auto"
    compile: bool = False
    gradient_checkpointing: bool = False
    shuffle_window: int = 2**25
    loader_workers: int = -1
    start_from: str | None = None

    def total_steps(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the whole run."""
        if self.epochs > 0:
            return self.limited(self.epochs * steps_per_epoch)
        return self.max_steps if self.max_steps > 0 else DEFAULT_STEPS

    def limited(self, steps: int) -> int:
        """So many optimizer steps, but `max_steps` at most."""
        return min(steps, self.max_steps) if self.max_steps > 0 else steps
