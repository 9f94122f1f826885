"""The training loop: epochs, gradient steps, checkpoints, and resuming a stopped run."""

import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from typing import NoReturn, cast

import torch
from torch import Tensor
from tqdm import tqdm

from models.text_model import TextModel
from pipeline.data.batches import Batch, groups_of
from pipeline.data.dataset import PreparedData
from pipeline.experiments.paths import ExperimentFiles
from pipeline.experiments.tracker import Tracker
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.runtime.devices import precision
from pipeline.runtime.errors import LostError, UserError
from pipeline.runtime.processes import gathered, peer_lost
from pipeline.runtime.progress import bar
from pipeline.runtime.seeds import mixed
from pipeline.runtime.signals import Deferred, Interrupted, continues, deferred, ignore_signals
from pipeline.training.best_epoch import compared_loss
from pipeline.training.calibration import calibrate
from pipeline.training.checkpoints import Progress, ShardedCheckpoints, WholeCheckpoints
from pipeline.training.collapse import collapse_warning, threshold_warning
from pipeline.training.diagnostics import Computed, describe_non_finite, epoch_line, progress_text
from pipeline.training.epoch_orders import EpochOrders
from pipeline.training.evaluator import Evaluator
from pipeline.training.fsdp import new_accelerator, trained_parameters
from pipeline.training.octaves import save_octave
from pipeline.training.rate_control import RateControl
from pipeline.training.validation import Figures


class Trainer:
    """Train one model on one dataset and save its checkpoints.

    Args:
        model: model with fresh weights.
        data: prepared data.
        settings: training settings.
        files: paths of the experiment's files.
        tracker: receives the metrics.
        after_epoch: called with every epoch's metrics after they are saved. An exception that it raises ends training.
    """

    def __init__(
        self,
        model: TextModel,
        data: PreparedData,
        settings: TrainingSettings,
        files: ExperimentFiles,
        tracker: Tracker,
        after_epoch: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self.settings = settings
        self.after_epoch = after_epoch
        self.data = data
        self.files = files
        self.tracker = tracker
        mixed = {"bf16": "bf16", "fp32": "no"}[precision(settings.precision)]
        self.accelerator = new_accelerator(mixed)
        self.sharded = self.accelerator.is_fsdp2
        # A model that is to be sharded need not fit a device: it moves there layer by layer.
        self.model = model if self.sharded else model.to(self.accelerator.device)
        self.model.recompute = settings.gradient_checkpointing
        optimizer = torch.optim.Adam(trained_parameters(self.model), lr=settings.learning_rate, fused=True)
        # Batches differ in length: without `dynamic` every length would be compiled anew.
        trained = torch.compile(self.model, dynamic=True) if settings.compile else self.model
        self.trained, self.optimizer = self.accelerator.prepare(trained, optimizer)
        form = ShardedCheckpoints if self.sharded else WholeCheckpoints
        self.checkpoints = form(files, self.model, self.optimizer.optimizer, self.accelerator.is_main_process)
        self.progress = Progress()
        self.stop = Deferred()  # signal that asked this process to end
        self.stopping = False  # True if any process was asked to end
        ranks = self.accelerator.process_index, self.accelerator.num_processes
        self.orders = EpochOrders(settings, data.splits["train"], *ranks)
        self.batches = 0  # of this epoch, of which steps were taken
        self.steps_per_epoch = self.orders.steps()
        self.total_steps = self._total_steps()
        self.control = RateControl(settings, self.model.settings, self.total_steps)
        self.evaluator = Evaluator(self.model, data, settings, self.accelerator, self._stoppable)

    def resume(self) -> bool:
        """Load the latest checkpoint, if one exists.

        Returns:
            True if training resumes from a checkpoint.

        Raises:
            UserError: the checkpoint is damaged or does not fit.
        """
        progress = self.checkpoints.restore()
        if progress is None:
            return False
        self.progress = progress
        if not self.accelerator.is_main_process:  # the sums are of one process, and all of them are added up
            progress.figures = dict.fromkeys(progress.figures, 0.0)
        self.total_steps = self._total_steps()
        self.control = RateControl(self.settings, self.model.settings, self.total_steps, progress.control)
        if progress.step < self.total_steps:
            self.control.reopen()
        self.model.dropping = self.control.started
        return True

    def train(self) -> dict[str, float]:
        """Train to the end.

        Returns:
            Validation metrics of the best epoch, by their names in `summary.json`.

        Raises:
            UserError: a loss or gradient is not finite. The state before it is saved.
            LostError: another process has ended. The state so far is saved.
            Interrupted: a signal asked the process to end. The state so far is saved.
        """
        with deferred() as self.stop:
            try:
                self._save_octaves(finished=False)  # the point whose evaluation a signal ended
                while self.unfinished:
                    self._train_epoch()
                self._save_octaves(finished=True)
                self.progress.finished = True
                self._save()
            except RuntimeError as error:
                if not peer_lost(error):
                    raise
                self.progress.control = self.control.to_json()
                step = self.checkpoints.save_alone(self.progress)
                ignore_signals()  # the launcher ends this process too, which must report first
                state = "nothing" if step is None else f"step {step} of {self.total_steps}"
                where = "from the start" if step is None else "there"
                raise LostError(
                    f"another process of this run has ended; {state} is saved, and {continues()} {where}"
                ) from None
        self.accelerator.wait_for_everyone()
        return self._best_figures()

    @property
    def unfinished(self) -> bool:
        """True if training has an epoch to begin or to complete."""
        progress = self.progress
        # A limit lowered since the checkpoint may lie behind it: the partial epoch is evaluated.
        return (progress.step < self.total_steps or progress.sentences > 0) and not self._out_of_patience()

    @property
    def after_part(self) -> bool:
        """True if a limit cut the last epoch, and none has begun since."""
        return self.progress.cut and self.progress.sentences == 0

    def _out_of_patience(self) -> bool:
        """Return True if the last `patience` epochs did not lower the validation loss. It is False within an epoch."""
        progress, patience = self.progress, self.settings.patience
        return 0 < patience <= progress.epoch - max(progress.best_epoch, 0) and progress.sentences == 0

    def _train_epoch(self) -> None:
        progress, settings = self.progress, self.settings
        figures = Figures(dict(progress.figures))
        order = self.orders.of(progress.epoch, progress.sentences)
        self.batches, whole, sizes = order.done, order.done + len(order), order.sizes()
        started = time.monotonic() - progress.seconds
        self.trained.train()
        description = f"epoch {progress.epoch + 1}/{math.ceil(self.total_steps / self.steps_per_epoch)}"
        with bar(
            total=whole,
            initial=self.batches,
            desc=description,
            unit="batch",
        ) as shown:
            left = self.evaluator.loader(order, "train") if progress.step < self.total_steps else ()
            for group in groups_of(left, settings.accumulation_steps):
                sums = self._step(group, figures)
                progress.sentences += sum(islice(sizes, len(group)))
                self.batches += len(group)
                progress.step += 1
                shown.update(len(group))
                of_a_step = (time.monotonic() - started) * settings.accumulation_steps / self.batches
                remaining = of_a_step * (self.total_steps - progress.step)
                shown.set_postfix_str(progress_text(figures, remaining), refresh=False)
                # Sums of this process. If a run of several processes resumes within an epoch, the other processes'
                # sums so far are missing from the epoch's training metrics, and nowhere else.
                progress.figures, progress.seconds = dict(figures.sums), time.monotonic() - started
                # After the progress: control waits for all processes, and what is saved if one is lost must agree.
                if sums:
                    self.control.after_step(progress.step, sums, self._sums, self.evaluator.check)
                    self.model.dropping = self.control.started
                self._save_octaves(finished=False)
                if self.stopping:
                    self._save_and_stop()
                if progress.step >= self.total_steps:
                    break
                if progress.step % settings.save_steps == 0:
                    self._save()
        if progress.step >= self.total_steps:
            self._calibrate()
        progress.cut = self.batches < whole
        self._finish_epoch(figures, time.monotonic() - started)

    def _save_and_stop(self) -> NoReturn:
        self._save()
        step, total = self.progress.step, self.total_steps
        number = self.stop.number or signal.SIGTERM  # the signal reached another process
        raise Interrupted(number, f"stopped after step {step} of {total}, which is saved; {continues()} there")

    def _step(self, group: list[Batch], figures: Figures) -> dict[str, float]:
        """Take one optimizer step over a group of batches, equal to a step over one large batch.

        Returns:
            Sums of its figures over this process's sentences; empty if the step is skipped.
        """
        progress = self.progress
        # A step's random draws depend on the seed and the step's number alone, so that a resumed run makes the same
        # draws as an uninterrupted one.
        torch.manual_seed(mixed(self.settings.seed, progress.step, self.accelerator.process_index))
        share_done = min(1.0, progress.step / max(1, self.total_steps))
        # Counted on the CPU: counting on a GPU would synchronise with it.
        counts = torch.tensor([[batch.tokens, len(batch.source)] for batch in group], device=self.accelerator.device)
        group = [batch.to(self.accelerator.device) for batch in group]
        asked = counts.new_tensor([self.stop.number is not None])  # all processes stop after the same step
        totals = self._reduce(torch.cat([counts.sum(dim=0), asked]).double(), "mean")  # means over processes
        self.stopping = bool(totals[2])
        added = Figures({})
        first_bad: Computed | None = None  # first batch whose loss is not finite
        computed: Computed | None = None
        for number, batch in enumerate(group):
            tokens, sentences = (counts[number] / totals[:2]).float()
            context = self.accelerator.no_sync(self.trained) if number < len(group) - 1 else nullcontext()
            with context, self.accelerator.autocast():
                encoding, loss = self.trained(batch.source, batch.key_padding_mask, batch.target_input)
                penalty = self.model.penalty(encoding, share_done, self.control.prices)
                # Means over all tokens and sentences of the group, not means of its batches' means.
                objective = tokens * loss.mean + sentences * penalty
            self.accelerator.backward(objective)
            added.add(batch, self.data.tokenizer.sep_id, encoding, loss, penalty)
            computed = Computed(objective, loss, penalty, batch, encoding)
            # The remaining batches are computed anyway: other processes wait for this one's share of them.
            if first_bad is None and not bool(torch.isfinite(objective)):
                first_bad = computed
        norm = self.accelerator.clip_grad_norm_(self.trained.parameters(), self.settings.gradient_clip)
        finite = first_bad is None and norm is not None and bool(torch.isfinite(norm))
        finite_everywhere = not self._any(not finite)
        if not finite_everywhere and computed is not None:
            self._not_finite(first_bad is not None, first_bad or computed)
        else:
            figures.merge(added)
            for parameters in self.optimizer.param_groups:
                parameters["lr"] = self.learning_rate(progress.step)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return dict(added.sums) if finite_everywhere else {}

    def _save_octaves(self, finished: bool) -> None:
        """Save each point of a path of the rate that is reached, as an experiment of its own."""
        while (rate := self.control.next_octave(finished)) is not None:
            figures = self._evaluated()
            weights = self.checkpoints.weights()
            if self.accelerator.is_main_process:
                save_octave(self.files, rate, weights, self.progress.epoch + 1, figures, self.control.to_json())
            self.control.state.octaves += 1

    def _evaluated(self) -> dict[str, float]:
        """Evaluate on the validation split. A signal saves the state before it, and ends training."""
        try:
            # Processes that share a sharded model stop together.
            with nullcontext() if self.sharded else self.stop.at_once():
                return self.evaluator.evaluate()
        except Interrupted:
            self._save_and_stop()

    def _calibrate(self) -> None:
        """Give the posteriors the rate that is asked for, once after the last step."""
        state, step = self.control.state, self.progress.step
        target = self.control.target_rate(step) if self.control.started else None
        if target is not None and state.calibrated != step:
            calibrate(self.model, target, lambda: self.evaluator.check()["rate"])
            state.calibrated = step

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of an optimizer step, counted from 0."""
        return self.settings.learning_rate_at(step, self.total_steps)

    def _finish_epoch(self, figures: Figures, seconds: float) -> None:
        progress = self.progress
        if not figures.sums:
            raise UserError(
                f"no step of epoch {progress.epoch + 1} had a finite loss and gradient; try a lower --LEARNING_RATE "
                "under a new name"
            )
        validation = self._evaluated()
        figures = self._over_processes(figures)
        row = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            **{f"train/{name}": value for name, value in figures.means().items()},
            **{f"validation/{name}": value for name, value in validation.items()},
            "learning_rate": self.learning_rate(progress.step - 1),
            "tokens_per_second": figures.sums["tokens"] / max(seconds, 1e-9),
            "seconds": seconds,
            **self.control.figures(),
        }
        loss = compared_loss(validation, self.model.settings, self.control, progress.step, self.settings.patience)
        if loss is None or loss < progress.best_loss:
            progress.best_loss, progress.best_epoch = math.inf if loss is None else loss, progress.epoch + 1
            if self.accelerator.is_main_process:
                self.tracker.forget()
            self.checkpoints.save_best({"epoch": progress.epoch + 1, "validation": validation})
        histograms = self.evaluator.histograms() if self.sharded or self.accelerator.is_main_process else {}
        if self.accelerator.is_main_process:
            self.tracker.log_epoch(row, histograms)
            self.tracker.log_control(self.control.state.looks)
        progress.epoch, progress.sentences, progress.seconds, progress.figures = progress.epoch + 1, 0, 0.0, {}
        self._save()
        if self.accelerator.is_main_process:
            tqdm.write(epoch_line(row, best=progress.best_epoch == progress.epoch))
            # The latter's perplexities are without the vectors that the former is about.
            if warning := threshold_warning(validation) or collapse_warning(validation):
                tqdm.write(warning, file=sys.stderr)
        if self.after_epoch is not None:
            self.after_epoch(row)

    def _stoppable(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield batches. With a sharded model, all processes raise if a signal asked any of them to end.

        Raises:
            Interrupted: a process was asked to end.
        """
        for batch in batches:
            if self.sharded and self._any(self.stop.number is not None):
                raise Interrupted(self.stop.number or signal.SIGTERM)
            yield batch

    def _best_figures(self) -> dict[str, float]:
        state = self.checkpoints.best_state()
        return {f"validation/{name}": value for name, value in state["validation"].items()} | {
            "best_epoch": state["epoch"],
            "train/skipped_steps": self.progress.skipped,
        }

    def _over_processes(self, figures: Figures) -> Figures:
        """Add up the sums of all processes."""
        names = sorted(figures.sums)
        return Figures(dict(zip(names, self._sums([figures.sums[name] for name in names]), strict=True)))

    def _sums(self, values: list[float]) -> list[float]:
        """Add up values over all processes, one by one."""
        own = torch.tensor(values, dtype=torch.float64)
        return self._reduce(own.to(self.accelerator.device), "sum").tolist()

    def _any(self, flag: bool) -> bool:
        """Return True if the flag is set on any rank."""
        if self.accelerator.num_processes == 1:
            return flag
        return bool(self._reduce(torch.tensor(float(flag), device=self.accelerator.device), "sum"))

    def _reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        """Reduce a tensor over all processes, by `sum` or `mean`."""
        return cast(Tensor, self.accelerator.reduce(tensor, reduction))

    def _save(self) -> None:
        self.progress.control = self.control.to_json()
        self.checkpoints.save_latest(self.progress)

    def _total_steps(self) -> int:
        """Return the optimizer steps of the whole run: those taken, by any number of processes, and those left."""
        progress, settings = self.progress, self.settings
        if settings.epochs < 0 or progress.step == 0:
            return settings.total_steps(self.steps_per_epoch)
        left = math.ceil(len(self.orders.of(progress.epoch, progress.sentences)) / settings.accumulation_steps)
        left += (settings.epochs - progress.epoch - 1) * self.steps_per_epoch
        # After the last batch `left` omits this epoch, which `progress.epoch` does not count yet.
        return settings.limited(progress.step + max(0, left))

    def _not_finite(self, own: bool, computed: Computed) -> None:
        """Stop training or skip the step, and report the quantities behind a loss that is not finite.

        Args:
            own: True if the loss of this process is not finite. Rank 0 reports for all processes.
            computed: the first batch whose loss is not finite, or the step's last batch.

        Raises:
            UserError: the settings stop training on such a loss.
        """
        progress = self.progress
        what = describe_non_finite(computed, self.model, progress.step + 1, progress.epoch + 1, self.batches + 1)
        what = next(filter(None, gathered([what if own else ""])), what)
        if self.settings.on_non_finite == "stop":
            raise UserError(
                f"{what}; the checkpoints before it are kept: try a lower --LEARNING_RATE, --WARMUP_STEPS or "
                "--ON_NON_FINITE skip under a new name"
            )
        progress.skipped += 1
        if self.accelerator.is_main_process:
            tqdm.write(f"warning: {what}; the step is skipped", file=sys.stderr)
