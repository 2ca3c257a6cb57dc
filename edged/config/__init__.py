"""The daemon's configuration: where it comes from, what is valid, where edged's folders are.

- ``keys``, ``kinds``: how a setting is declared; ``settings``, ``tables``: those there are;
- ``document``, ``locate``: the TOML file; ``load``: all sources together; ``consistency``: what
  must fit together; ``change``: what a reload comes to; ``problem``: what is wrong, and where;
  ``shipped``: the file with everything.
"""

from edged.config.change import Change, between
from edged.config.consistency import is_gated, is_loopback, split_address
from edged.config.load import Examined, examine, load
from edged.config.problem import Problem, sentence
from edged.config.setting import Setting
from edged.config.settings import (
    ALL,
    KEYS,
    Config,
    default_run_dir,
    unknown_variables,
    variable,
)

__all__ = [
    "ALL",
    "KEYS",
    "Change",
    "Config",
    "Examined",
    "Problem",
    "Setting",
    "between",
    "default_run_dir",
    "examine",
    "is_gated",
    "is_loopback",
    "load",
    "sentence",
    "split_address",
    "unknown_variables",
    "variable",
]
