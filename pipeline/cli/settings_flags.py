"""Flags from declared settings, and settings from flags and configuration files.

Each field of a settings dataclass is declared once (`models.declaration`). This module makes a flag of it, in upper
case, with the type, range and help of the declaration.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models import ModelSettings
from models.declaration import Setting, SettingError, declared
from pipeline.cli import types
from pipeline.experiments.training_settings import TrainingSettings
from pipeline.runtime.errors import UserError
from pipeline.runtime.files import read_json

RATE = ("target_rate", "rate_path")  # settings that ask for a rate


def flag(name: str) -> str:
    """Flag of the setting `name`."""
    return f"--{name.upper()}"


def add_setting(
    group: argparse._ArgumentGroup, setting: Setting, help: str, default: Any = None, none: bool = False
) -> None:
    """Add the flag of one setting.

    Args:
        group: group of flags in `--help`.
        setting: its declaration.
        help: text for `--help`.
        default: value of a flag that is not given.
        none: True if the word `None` is taken for no value, which a text of the user's own may not be.
    """
    options: dict[str, Any] = {"choices": setting.choices} if setting.choices else {"type": _type_of(setting)}
    if setting.form == "reading":
        options = {"nargs": "+", "action": types.Reading, "metavar": "READING"}
    if none:
        options |= {"type": types.OrNone(options["type"]), "action": types.Optional}
    if setting.several:
        options["nargs"] = "+"
    if setting.distinct:
        options["action"] = types.Distinct
    group.add_argument(flag(setting.name), default=default, help=help, **options)


def add_fields(group: argparse._ArgumentGroup, *settings: type, leave_out: Sequence[str] = ()) -> None:
    """Add a flag for each field of some dataclasses. A flag that is not given is None, and its help shows the default.

    Args:
        group: group of flags in `--help`.
        settings: dataclasses of declared settings, which may have fields in common.
        leave_out: names of fields without a flag.
    """
    declarations: dict[str, Setting] = {}
    defaults: dict[str, dict[str, object]] = {}
    for kind in settings:
        for setting in declared(kind):
            if setting.flag and setting.name not in leave_out:
                declarations.setdefault(setting.name, setting)
                defaults.setdefault(setting.name, {})[getattr(kind, "name", "")] = setting.default
    for name, by_kind in defaults.items():
        values = list(dict.fromkeys(by_kind.values()))
        default = values[0] if len(values) == 1 else ", ".join(f"{value} of {kind}" for kind, value in by_kind.items())
        only = f"{', '.join(by_kind)} only; " if 0 < len(by_kind) < len(settings) else ""
        setting = declarations[name]
        add_setting(group, setting, f"{setting.help} ({only}default: {default})", none=setting.optional)


def _type_of(setting: Setting) -> Any:
    """Argparse type of a setting without choices."""
    if setting.kind is bool:
        return types.boolean
    if setting.bounds is not None:
        return types.Bounded(setting.bounds)
    if setting.form == "name":
        return types.name
    return {"sentence": types.sentence, "label": types.label, "base": types.base}.get(setting.form or "", str)


def given_fields(
    arguments: argparse.Namespace, settings: type[ModelSettings] | type[TrainingSettings], *others: type[ModelSettings]
) -> dict[str, Any]:
    """Values of the flags that were given for the fields of a dataclass.

    Args:
        arguments: the command line.
        settings: the dataclass.
        others: dataclasses whose other fields must not be given.

    Raises:
        UserError: if a flag was given that only `others` have.
    """
    own = [setting.name for setting in declared(settings)]
    for kind in others:
        for setting in declared(kind):
            if setting.name not in own and getattr(arguments, setting.name.upper(), None) is not None:
                raise UserError(
                    f"{flag(setting.name)} means nothing for --MODEL {getattr(settings, 'name', '')}; leave it out"
                )
    given = {name: getattr(arguments, name.upper(), None) for name in own}
    return {name: value for name, value in given.items() if value is not None}


def model_fields(arguments: argparse.Namespace, models: Mapping[str, type[ModelSettings]]) -> dict[str, Any]:
    """Values of the flags that were given for the settings of `--MODEL`.

    Raises:
        UserError: if a flag was given that only other models have, or if two settings contradict each other.
    """
    chosen = models[arguments.MODEL]
    given = given_fields(arguments, chosen, *models.values())
    try:
        chosen(vocabulary_size=1, **given)  # a check; the prepared data determines the vocabulary
    except SettingError as error:
        raise UserError(error.named(flag)) from None
    return given


def training_settings(arguments: argparse.Namespace) -> TrainingSettings:
    """Settings of training from the flags that were given.

    Raises:
        UserError: if two settings contradict each other.
    """
    try:
        return TrainingSettings(**given_fields(arguments, TrainingSettings))
    except SettingError as error:
        raise UserError(error.named(flag)) from None


def check_batches(given: Mapping[str, Any]) -> None:
    """Check the flags of the size of a batch.

    Args:
        given: settings by name, None for a flag that was not given.

    Raises:
        UserError: batches by tokens are asked for beside another size, or without the grouping that they need.
    """
    if given["batch_tokens"] is None:
        return
    if given["batch_size"] is not None:
        raise UserError("--BATCH_SIZE and --BATCH_TOKENS both set the size of a batch; leave one out")
    if given["group_by_length"] is False:
        raise UserError("--BATCH_TOKENS groups sentences by length; leave --GROUP_BY_LENGTH False out")


def flags_of_batches(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the values of the flags that `check_batches` compares."""
    return {name: getattr(arguments, name.upper()) for name in ("batch_size", "batch_tokens", "group_by_length")}


def fill_from_config(arguments: argparse.Namespace, path: Path, models: Mapping[str, type[ModelSettings]]) -> None:
    """Set the flags that were not given to the values of a configuration file. `None` is given if it is typed out.

    `tune.py` writes such a file, and the `config.json` of an experiment is one.

    Raises:
        UserError: if the file is damaged, or contains an unknown model or setting, or a value that is out of range.
    """
    config = read_json(path, "--CONFIG takes a file with the settings of a model and of training")
    model_part, training_part = (_part(config, name) for name in ("model", "training"))
    if model_part is None or training_part is None:
        raise UserError(f'{path} is no configuration: it needs {{"model": {{…}}, "training": {{…}}}}')
    values = {**training_part, **model_part}
    model = values.pop("name", "T")
    if model not in list(models):
        raise UserError(f"{path} names the model {model!r}; it must be one of {', '.join(models)}")
    arguments.MODEL = arguments.MODEL or model
    overruled = _overruled(arguments, values)
    known = {setting.name: setting for kind in (*models.values(), TrainingSettings) for setting in declared(kind)}
    for name in ("vocabulary_size", "base_sha256"):  # determined by the prepared data and by the pretrained model
        values.pop(name, None)
    for name, value in values.items():
        if name not in known or not hasattr(arguments, name.upper()):
            raise UserError(f"{path} has {name!r}, which is no setting of a model or of training; remove it")
        try:
            value = known[name].checked(value)
        except SettingError as error:
            raise UserError(f"{path}: {error}") from None
        if not _typed(arguments, name) and name not in overruled:
            setattr(arguments, name.upper(), value)


def _typed(arguments: argparse.Namespace, name: str) -> bool:
    return getattr(arguments, name.upper()) is not None or name.upper() in types.typed_none(arguments)


def _overruled(arguments: argparse.Namespace, values: Mapping[str, Any]) -> set[str]:
    """Return the names of settings of a file that no longer hold, since a flag overrules what they follow from."""
    overruled: set[str] = set()
    if arguments.BATCH_SIZE is not None:  # the flag, and not the file's batch_tokens, sets the size of a batch
        overruled.add("batch_tokens")
    if values.get("batch_tokens") is not None and ("batch_tokens" in overruled or _typed(arguments, "batch_tokens")):
        overruled.add("group_by_length")  # True with batch_tokens, which may stay
    asked = [name for name in RATE if values.get(name) is not None]
    asked_now = [
        name for name in RATE if getattr(arguments, name.upper()) or (name in asked and not _typed(arguments, name))
    ]
    # The weighting of a file that is not what follows from its rate was chosen, and stays.
    if bool(asked) != bool(asked_now) and values.get("kl_weighting") == ("component" if asked else "share"):
        overruled.add("kl_weighting")
    return overruled


def _part(config: Any, name: str) -> dict[str, Any] | None:
    part = config.get(name) if isinstance(config, dict) else None
    return part if isinstance(part, dict) else None
