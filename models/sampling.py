"""Settings of sampling: where latents come from, how they are drawn, and how tokens are chosen.

`sample.py` and `TrainedModel.generate` both build `SamplingSettings`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from models.declaration import SettingError, declare, declared

LONGEST = 10_000  # largest number of tokens of a sample, and of vectors of its latent
DEFAULT_COUNT = 200
DEFAULT_DISTRIBUTION = "data"
DEFAULT_BEAMS = 5
DEFAULT_LENGTH_PENALTY = 1.0
OF_TEXT = ("near", "mix")  # sources of latents that encode given sentences
# Words in a row of a training text that make a sample a copy of it. Real sentences share fewer by chance: of held-out
# ones of the Wikipedia sample, 0.5 % share 8 words with a training sentence, 1.3 % share 6, 6.4 % share 5.
LONG_RUN = 8
ROUNDS = 10  # rounds in which samples are drawn again in place of copies


def _length(word: str, rule: str) -> dict[str, object]:
    return declare(
        f"{word} sentence, in tokens, the end token counted, which is {rule}; also the {word} length drawn for a "
        "latent of the prior (default: lengths are the training set's, and the model ends its sentences)",
        low=1,
        high=LONGEST,
        group="sampling",
    )


@dataclass(frozen=True)
class SamplingSettings:
    """Settings of sampling. None means that a setting is not given; the properties resolve it.

    The metadata of each field holds its meaning, unit and range.

    Raises:
        SettingError: if a value is out of its range, if two settings contradict each other, or if a given setting has
            no effect beside another.
    """

    number_samples: int | None = field(
        default=None,
        metadata=declare(
            f"sentences to generate (default: {DEFAULT_COUNT}; 1 with --NEAR or --MIX if neither latents nor tokens "
            "are drawn, because all sentences would be equal)",
            low=1,
            high=10**7,
            group="sampling",
        ),
    )
    sampling_distribution: str | None = field(
        default=None,
        metadata=declare(
            "distribution of the lengths for which latents of the prior are drawn: that of the training set, or "
            f"uniform from MIN_LENGTH to MAX_LENGTH (default: {DEFAULT_DISTRIBUTION})",
            choices=("data", "uniform"),
            group="sampling",
        ),
    )
    min_length: int | None = field(default=None, metadata=_length("shortest", "forbidden before"))
    max_length: int | None = field(default=None, metadata=_length("longest", "forced there"))
    seed: int = field(
        default=42,
        metadata=declare("seed of lengths, latents and tokens", low=0, high=2**32 - 1, group="sampling"),
    )
    label: str | None = field(
        default=None,
        metadata=declare(
            "label of all sentences, for data prepared with --LABEL_COLUMN; an empty text is the missing label "
            "(default: drawn as in the training set)",
            form="label",
            group="sampling",
        ),
    )
    prior: str = field(
        default="plain",
        metadata=declare(
            "prior of the latents: plain, the one of the model's training, or learned, which train_prior.py fitted "
            "after it",
            choices=("plain", "learned"),
            group="latent",
        ),
    )
    prior_top_p: float = field(
        default=1.0,
        metadata=declare(
            "the learned prior draws each token that its latent is of among the most probable ones that make up this "
            "share, in (0, 1]",
            above=0,
            high=1,
            group="latent",
        ),
    )
    prior_temperature: float = field(
        default=1.0,
        metadata=declare(
            "divides the logits of the learned prior before it draws a token that its latent is of; above 0",
            above=0,
            group="latent",
        ),
    )
    vectors: int | None = field(
        default=None,
        metadata=declare(
            "vectors of every latent of the prior; for NVIB a multiple of the draws per component (default: as many as "
            "a sentence of the drawn length has)",
            low=1,
            high=LONGEST,
            group="latent",
        ),
    )
    near: str | None = field(
        default=None,
        metadata=declare(
            "sentence around which latents are drawn, from its posterior (default: latents are drawn from the prior)",
            form="sentence",
            group="latent",
        ),
    )
    mix: Sequence[str] | None = field(
        default=None,
        metadata=declare(
            "two or more sentences whose latents are mixed (default: latents are drawn from the prior)",
            form="sentence",
            distinct=True,
            group="latent",
        ),
    )
    weights: Sequence[float] | None = field(
        default=None,
        metadata=declare(
            "share of each sentence of --MIX; the shares are divided by their sum (default: equal shares)",
            low=0,
            high=1e6,
            group="latent",
        ),
    )
    latent_temperature: float | None = field(
        default=None,
        metadata=declare(
            "scale of the latent's noise: Gaussians are drawn with this multiple of their standard deviation, weights "
            "from Gammas whose pseudo-counts are divided by its square; 0 is the mean latent (default: 1, and 0 with "
            "--MIX)",
            low=0,
            high=100,
            group="latent",
        ),
    )
    keep: float | None = field(
        default=None,
        metadata=declare(
            "share of the vectors of --NEAR or --MIX that the decoder sees, each text another random part, in (0, 1]: "
            "from the sentence over a paraphrase to free text (default: all)",
            above=0,
            high=1,
            group="latent",
        ),
    )
    kappa: int | None = field(
        default=None,
        metadata=declare(
            "vectors drawn per component of a latent, for NVIB (default: as in training)",
            low=1,
            high=1000,
            group="latent",
        ),
    )
    where: str | None = field(
        default=None,
        metadata=declare(
            "conditions that every row of a table satisfies, such as 'age > 30 and sex = F'; the other columns are "
            "drawn given them (default: none)",
            form="label",
            group="sampling",
        ),
    )
    constraints: str | None = field(
        default=None,
        metadata=declare(
            "JSON file of constraints between the columns of a table: inequalities, keys, formulas (default: none)",
            form="label",
            group="sampling",
        ),
    )
    balance: str | None = field(
        default=None,
        metadata=declare(
            "column of a table, categories or booleans, of whose members there are as many rows each (default: as the "
            "model draws them)",
            form="label",
            group="sampling",
        ),
    )
    impute: str | None = field(
        default=None,
        metadata=declare(
            "table in a file whose rows are completed, one sample each: values that it has are kept, missing ones and "
            "columns that it lacks are drawn given them; for a language model of rows (default: all are drawn)",
            form="label",
            group="sampling",
        ),
    )
    novel: bool = field(
        default=False,
        metadata=declare(
            f"True: draw again in place of samples that repeat a training text or {LONG_RUN} of its words in a row, in "
            f"at most {ROUNDS} rounds; those that still do are counted",
            group="sampling",
        ),
    )
    decoding: str = field(
        default="greedy",
        metadata=declare(
            "greedy takes the most probable token, sample draws one, beam searches for the most probable sentence",
            choices=("greedy", "sample", "beam"),
            group="decoding",
        ),
    )
    temperature: float = field(
        default=1.0,
        metadata=declare("divides the logits before a token is drawn; above 0", above=0, group="decoding"),
    )
    top_p: float = field(
        default=1.0,
        metadata=declare(
            "draw among the most probable tokens that make up this share, in (0, 1]", above=0, high=1, group="decoding"
        ),
    )
    beams: int | None = field(
        default=None,
        metadata=declare(
            f"sentences that beam search follows at the same time; 1 is greedy (default: {DEFAULT_BEAMS})",
            low=1,
            high=1000,
            group="decoding",
        ),
    )
    length_penalty: float | None = field(
        default=None,
        metadata=declare(
            "beam search compares log probabilities divided by the number of tokens to this power: 0 favours short "
            f"sentences, larger values favour longer ones (default: {DEFAULT_LENGTH_PENALTY})",
            low=0,
            high=100,
            group="decoding",
        ),
    )

    def __post_init__(self) -> None:
        for setting in declared(type(self)):
            # The value in the field's type: a list of sentences becomes a tuple, for example.
            object.__setattr__(self, setting.name, setting.checked(getattr(self, setting.name)))
        self._check_source()
        self._check_decoding()

    @property
    def count(self) -> int:
        """Number of sentences."""
        if self.number_samples is not None:
            return self.number_samples
        drawn = not self.of_mean or self.decoding == "sample" or self.keep is not None
        return DEFAULT_COUNT if drawn else 1

    @property
    def of_mean(self) -> bool:
        """True if the latents are the mean latents of given sentences, which a model may read in several ways."""
        return (self.near is not None or self.mix is not None) and self.noise_scale == 0

    @property
    def noise_scale(self) -> float:
        """Temperature of the latent: `latent_temperature`, or its default for the source of latents."""
        if self.latent_temperature is not None:
            return self.latent_temperature
        return 1.0 if self.mix is None else 0.0

    @property
    def draws_latents(self) -> bool:
        """True if each sentence has a draw of its own: at temperature 0, only a learned prior draws."""
        return self.noise_scale > 0 or self.prior == "learned"

    @property
    def distribution(self) -> str:
        """Distribution of the lengths: data or uniform."""
        return self.sampling_distribution or DEFAULT_DISTRIBUTION

    @property
    def beam_width(self) -> int:
        """Number of beams."""
        return DEFAULT_BEAMS if self.beams is None else self.beams

    @property
    def beam_length_penalty(self) -> float:
        """Power of the number of tokens that beam search divides by."""
        return DEFAULT_LENGTH_PENALTY if self.length_penalty is None else self.length_penalty

    def _given(self, name: str) -> bool:
        return getattr(self, name) is not None

    def _check_source(self) -> None:
        low, high = self.min_length, self.max_length
        if low is not None and high is not None and low > high:
            raise SettingError(
                "{min_length} {low} is above {max_length} {high}; no length is left to draw", low=low, high=high
            )
        if self._given("near") and self._given("mix"):
            raise SettingError("{near} draws around one sentence and {mix} mixes several; leave one of them out")
        self._check_mixture()
        of_text = next((name for name in OF_TEXT if self._given(name)), None)
        if of_text is None and self._given("keep"):
            raise SettingError("{keep} is the share of a sentence's vectors; name the sentence with {near} or {mix}")
        if of_text is not None and self.novel:
            raise SettingError(
                f"{{novel}} is for the prior: samples of {{{of_text}}} are meant to be like a text; leave it out"
            )
        self._check_impute()
        self._check_prior(of_text)
        for name in ("vectors", "sampling_distribution"):
            if of_text is not None and self._given(name):
                raise SettingError(f"{{{name}}} is for the prior and means nothing for {{{of_text}}}; leave it out")
        if self._given("vectors") and self._given("sampling_distribution"):
            raise SettingError(
                "{sampling_distribution} means nothing for {vectors}, with which no length is drawn; leave it out"
            )
        if self.noise_scale == 0 and self._given("kappa"):
            raise SettingError(
                "{kappa} means nothing where {latent_temperature} is 0, and nothing drawn; raise it above 0"
            )

    def _check_prior(self, of_text: str | None) -> None:
        if self.prior == "plain":
            for name in ("prior_top_p", "prior_temperature"):
                if getattr(self, name) != 1.0:
                    raise SettingError(f"{{{name}}} is for {{prior}} learned; name it, or leave {{{name}}} out")
            return
        if of_text is not None:
            raise SettingError(
                f"{{prior}} is for latents of the prior, and {{{of_text}}} draws them around a text; leave it out"
            )
        if self._given("sampling_distribution"):
            raise SettingError("{prior} learned draws the lengths too; leave {sampling_distribution} out")
        for name in ("where", "balance"):
            if self._given(name):
                raise SettingError(
                    f"{{{name}}} is for {{prior}} plain: a learned prior imagines rows that need not satisfy it; leave "
                    "it out"
                )

    def _check_impute(self) -> None:
        if self.impute is None:
            return
        for name in ("balance", "near", "mix"):
            if self._given(name):
                raise SettingError(
                    f"{{impute}} completes the rows of a file, and {{{name}}} draws others; leave one out"
                )
        if self.novel:
            raise SettingError("{impute} may complete rows of the training data; leave {novel} out")

    def _check_mixture(self) -> None:
        if self.mix is None:
            if self._given("weights"):
                raise SettingError("{weights} are those of the sentences of {mix}; name these, or leave it out")
            return
        if len(self.mix) < 2:
            raise SettingError("{mix} mixes two sentences or more, got one; draw around one with {near}")
        if self.weights is None:
            return
        if len(self.weights) != len(self.mix):
            raise SettingError(
                "{weights} has {given} for the {sentences} sentences of {mix}; give one for each",
                given=len(self.weights),
                sentences=len(self.mix),
            )
        if not any(self.weights):
            raise SettingError("{weights} are all 0; give at least one sentence of {mix} a share")

    def _check_decoding(self) -> None:
        used = {name for name in ("temperature", "top_p") if getattr(self, name) != 1.0}
        used |= {name for name in ("beams", "length_penalty") if self._given(name)}
        for method, names in (("sample", ("temperature", "top_p")), ("beam", ("beams", "length_penalty"))):
            for name in names:
                if name in used and method != self.decoding:
                    raise SettingError(
                        f"{{{name}}} means nothing for {{decoding}} {self.decoding}; leave it out, or take "
                        f"{{decoding}} {method}"
                    )
