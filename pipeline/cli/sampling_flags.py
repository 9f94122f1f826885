"""Flags of `sample.py`, from the declarations of `SamplingSettings`."""

import argparse
import dataclasses

from models.declaration import SettingError, declared
from models.sampling import SamplingSettings
from pipeline.cli.parser import Parser, add_batch_option
from pipeline.cli.settings_flags import add_setting, flag
from pipeline.runtime.errors import UserError


def add_sampling_options(parser: Parser) -> None:
    """Add the flags for the source of latents, their noise, the lengths and the choice of tokens."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for setting in declared(SamplingSettings):
        if setting.group not in groups:
            groups[setting.group] = parser.add_argument_group(setting.group)
        add_setting(groups[setting.group], setting, setting.help, setting.default)
    add_batch_option(groups["decoding"])


def sampling_settings(arguments: argparse.Namespace) -> SamplingSettings:
    """Read the settings from the command line.

    Raises:
        UserError: if two flags contradict each other, or one has no effect beside another.
    """
    names = [field.name for field in dataclasses.fields(SamplingSettings)]
    try:
        return SamplingSettings(**{name: getattr(arguments, name.upper()) for name in names})
    except SettingError as error:
        raise UserError(error.named(flag)) from None
