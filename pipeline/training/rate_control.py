"""Control of the regulariser's weights: a rate and a share of vectors that are asked for.

The weights are Lagrange multipliers of constraints (Rezende & Viola 2018): a weight rises while its figure is above the
target and falls while it is below.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from models.settings import ModelSettings, perturbs
from models.text_model import Prices
from pipeline.experiments.training_settings import TrainingSettings

INTEGRAL = 0.05  # change of a log weight per step and unit of the log ratio of figure and target
FASTER = 3.0  # times as fast around a pretrained model, whose runs have a few hundred steps
PROPORTIONAL = 1.5  # part of the log weight that follows this ratio at once
STEEPEST = 0.7  # largest log ratio that the proportional part follows: a factor of 2
FOLLOWED = 0.3  # largest log ratio that the integral part sums up, so that a lag behind the target does not wind it up
BOUNDS = (math.log(1e-3), math.log(1e6))  # of the factors of the weights
NEAR = 1.05  # a rate at most so much above a point of the path has reached it
FIRST_COST = 0.2  # nats a token that the rate costs, at most, where control begins
CHECK_STEPS = 50  # steps between two looks at validation sentences
SOON = 10  # steps before the first look around a pretrained model, which reconstructs from the start
SMOOTHING = 0.05  # of the running mean of the rate, per step
CORRECTION = 0.3  # part of the difference between validation and training that a look corrects
PATH = 0.9  # share of the steps after the start in which the target falls along a path
OCTAVE = 300  # steps at most in which the target falls to its half, for a run that stops by itself
APPROACH = 0.6  # share of the steps after the start in which the target falls to the one that is asked for


@dataclass
class State:
    """State of a controller, which checkpoints hold.

    Args:
        started: optimizer step at which the reconstruction was there; -1 before.
        first_rate: rate at that step, nats a vector.
        log_gaussian: integral part of the log factor of lambda_G.
        log_dirichlet: integral part of the log factor of lambda_D.
        gaussian: factor of lambda_G now.
        dirichlet: factor of lambda_D now.
        log_rate: running mean of the logarithm of the training rate.
        excess: rate of validation sentences over that of training sentences.
        validation: rate of validation sentences at the last look, nats a vector; 0 before.
        octaves: points of the path that are saved.
        calibrated: optimizer step after which the posteriors were calibrated; -1 before.
        looks: what each look at validation sentences found, with the prices at that step.
    """

    started: int = -1
    first_rate: float = 0.0
    log_gaussian: float = 0.0
    log_dirichlet: float = 0.0
    gaussian: float = 1.0
    dirichlet: float = 1.0
    log_rate: float = 0.0
    excess: float = 1.0
    validation: float = 0.0
    octaves: int = 0
    calibrated: int = -1
    looks: list[dict[str, float]] = field(default_factory=list)


class RateControl:
    """Controller of the weights of the Gaussian and of the Dirichlet part of the regulariser.

    Args:
        settings: targets; without any the prices remain 1.
        model: settings of the model, whose dropout of vectors and draws of the prior begin with the control.
        total_steps: optimizer steps of the run.
        state: state of an earlier part of the run.
    """

    def __init__(
        self, settings: TrainingSettings, model: ModelSettings, total_steps: int, state: dict[str, Any] | None = None
    ) -> None:
        self.settings, self.total_steps = settings, total_steps
        self.active = settings.controlled
        self._waits = self.active or perturbs(model)
        self._reconstructs = model.pretrained is not None
        self._gain = INTEGRAL * (FASTER if self._reconstructs else 1.0)
        self._gaussian_lambda, self._dim = getattr(model, "kl_gaussian_lambda", 0.0), model.dim_h
        self.state = State(**(state or {}))

    def inherit(self, prices: Prices) -> None:
        """Begin with the prices of the run that this one starts from; resuming replaces them."""
        if self.active:
            self.state.gaussian, self.state.dirichlet = prices.gaussian, prices.dirichlet
            self.state.log_gaussian, self.state.log_dirichlet = math.log(prices.gaussian), math.log(prices.dirichlet)

    @property
    def started(self) -> bool:
        """True once the reconstruction is there."""
        return self.state.started >= 0

    @property
    def prices(self) -> Prices:
        """Factors of the weights now."""
        return Prices(self.state.gaussian, self.state.dirichlet)

    def figures(self) -> dict[str, float]:
        """Return the prices by their keys in `metrics.jsonl`; empty without control."""
        if not self.active:
            return {}
        return {"train/price_gaussian": self.state.gaussian, "train/price_dirichlet": self.state.dirichlet}

    def after_step(
        self,
        step: int,
        sums: Mapping[str, float],
        over_processes: Callable[[list[float]], list[float]],
        check: Callable[[], Mapping[str, float]],
    ) -> None:
        """Begin to control once the reconstruction is there, and then change the prices after every step.

        Args:
            step: optimizer steps so far.
            sums: sums of the step's figures over the sentences of this process, as `Figures` holds them.
            over_processes: adds up values over all processes.
            check: evaluates the model on some validation sentences.
        """
        if not self._waits or "rate" not in sums:
            return
        rate, kept, sentences = over_processes([sums[name] for name in ("rate", "vectors_kept_fraction", "sentences")])
        rate, kept = rate / sentences, kept / sentences
        if self.started:
            self.update(step, rate, kept)
        early = self._reconstructs and step == SOON
        if (step % CHECK_STEPS and not early) or (self.started and not self.active):
            return
        found = check()
        if self.started:
            self.compare(found["rate"])
        elif found["perplexity"] <= self.settings.start_perplexity:
            self.state.started, self.state.first_rate = step, rate
            self.state.log_rate = math.log(max(rate, 1e-6))
            self._begin(math.log(found["perplexity"]), rate)
        if self.active:
            self._note(step, found)

    def _begin(self, cross_entropy: float, rate: float) -> None:
        """Begin with a price at which the rate costs as much as the cross-entropy, at most `FIRST_COST`.

        From the small weights with which a model learns to reconstruct, the price would lag hundreds of steps behind.

        Args:
            cross_entropy: nats a token.
            rate: nats a vector.
        """
        if self.settings.target_rate is None and self.settings.rate_path is None:
            return
        costs = self._gaussian_lambda * rate / self._dim
        factor = math.log(min(max(cross_entropy, 1e-6), FIRST_COST) / costs) if costs else 0.0
        if factor > self.state.log_gaussian:
            self.state.log_gaussian = min(factor, BOUNDS[1])
            self.state.gaussian = math.exp(self.state.log_gaussian)

    def _note(self, step: int, found: Mapping[str, float]) -> None:
        """Note what a look at validation sentences found."""
        seen = {name: found[name] for name in ("rate", "perplexity", "vectors_kept_fraction") if name in found}
        target = self.target_rate(step) if self.started else None
        aim = {} if target is None else {"target_rate": target}
        prices = {"price_gaussian": self.state.gaussian, "price_dirichlet": self.state.dirichlet}
        self.state.looks.append({"step": step, **seen, **aim, **prices})

    def target_rate(self, step: int) -> float | None:
        """Return the rate that is asked for at a step: it falls geometrically, in nats a vector."""
        settings = self.settings
        if settings.rate_path is not None:
            first, last = settings.rate_path
            share = self._share(step, PATH)
        elif settings.target_rate is not None:
            first, last = max(self.state.first_rate, settings.target_rate), settings.target_rate
            share = self._share(step, APPROACH)
        else:
            return None
        return first * (last / first) ** share

    def settled(self, step: int) -> bool:
        """Return True if the rate is controlled and its target no longer falls."""
        return self.started and self._share(step, PATH if self.settings.rate_path is not None else APPROACH) >= 1.0

    def _share(self, step: int, until: float) -> float:
        steps = max(1.0, until * (self.total_steps - self.state.started))
        target = self.settings.target_rate
        if self.settings.patience > 0 and target is not None:  # the total is only a limit
            steps = min(steps, max(1.0, OCTAVE * math.log2(max(self.state.first_rate / target, 1.0))))
        return min(1.0, (step - self.state.started) / steps)

    def update(self, step: int, rate: float, kept: float) -> None:
        """Change the weights after an optimizer step.

        Args:
            step: optimizer steps so far.
            rate: rate of the step's texts, nats a vector.
            kept: share of their vectors that is kept.
        """
        if not self.started:
            return
        self.state.log_rate += SMOOTHING * (math.log(max(rate, 1e-6)) - self.state.log_rate)
        target = self.target_rate(step)
        if target is not None:
            target /= self.state.excess
            self.state.log_gaussian, self.state.gaussian = _controlled(
                self.state.log_gaussian, rate, target, self._gain
            )
        if self.settings.target_kept is not None:
            share = self.settings.target_kept
            changed = _controlled(self.state.log_dirichlet, kept, share, self._gain)
            self.state.log_dirichlet, self.state.dirichlet = changed

    def next_octave(self, finished: bool) -> float | None:
        """Return the next rate of the path once validation sentences have it, the last one at the end; None before.

        Args:
            finished: True after the last step.
        """
        points = octaves(self.settings.rate_path)[self.state.octaves :]
        if not points or not self.started:
            return None
        reached = 0.0 < self.state.validation <= NEAR * points[0] and len(points) > 1
        return points[0] if reached or (finished and len(points) == 1) else None

    def reopen(self) -> None:
        """Let the last point of a path be saved once more, since a run that had ended has steps left again."""
        self.state.octaves = min(self.state.octaves, max(0, len(octaves(self.settings.rate_path)) - 1))

    def compare(self, validation_rate: float) -> None:
        """Correct the target by the rate of validation sentences, which is that of training sentences and some more."""
        self.state.validation = validation_rate
        excess = min(max(validation_rate / math.exp(self.state.log_rate), 0.5), 2.0)
        self.state.excess *= (excess / self.state.excess) ** CORRECTION

    def shortfalls(self, figures: Mapping[str, float]) -> list[str]:
        """Say which targets a finished run has missed by more than 5 %, or what has not begun, and what to do.

        Args:
            figures: figures of the validation split, by their names in `summary.json`.
        """
        if not self._waits:
            return []
        if not self.started:
            limit = f"--START_PERPLEXITY {self.settings.start_perplexity:g}"
            idle = "nothing was controlled" if self.active else "no vector was dropped or replaced"
            return [
                f"{idle}, since no look found a validation perplexity of {limit} or less: give more --MAX_STEPS, "
                "--START_FROM a vanilla Transformer, or a higher --START_PERPLEXITY"
            ]
        last = self.settings.target_rate if self.settings.rate_path is None else self.settings.rate_path[1]
        longer = "more --MAX_STEPS" if self.settings.patience < 0 else "a higher --PATIENCE"
        targets = (
            ("validation/rate", last, "rate (nats a vector)", f"{longer}, or --START_FROM a run nearer to it"),
            (
                "validation/vectors_kept_fraction",
                self.settings.target_kept,
                "share of vectors kept",
                f"{longer}; a lower --DELTA lets more be dropped",
            ),
        )
        return [
            f"the {what} is {figures[key]:.3g}, not the {target:g} asked for; give {remedy}"
            for key, target, what, remedy in targets
            if target is not None and abs(math.log(max(figures[key], 1e-9) / target)) > math.log(NEAR)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return asdict(self.state)


def octaves(path: Sequence[float] | None) -> list[float]:
    """Return the rates of a path that are saved: the first one, its halves down to the last one, and that."""
    if path is None:
        return []
    first, last = path
    points = [first / 2**number for number in range(math.ceil(math.log2(first / last) - 1e-9))]
    return [*points, last]


def _controlled(log_factor: float, figure: float, target: float, gain: float) -> tuple[float, float]:
    """Return the new integral part of a log factor, which changes by `gain` times the error, and the factor."""
    error = math.log(max(figure, 1e-6) / target)
    low, high = BOUNDS
    log_factor = max(low, min(high, log_factor + gain * _limited(error, FOLLOWED)))
    return log_factor, math.exp(max(low, min(high, log_factor + PROPORTIONAL * _limited(error, STEEPEST))))


def _limited(error: float, limit: float) -> float:
    return max(-limit, min(limit, error))
