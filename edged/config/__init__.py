"""The daemon's configuration: where it comes from, what is valid, where edged's folders are.

- ``keys``, ``kinds``: how a setting is declared; ``settings``, ``tables``: those there are;
- ``document``, ``locate``: the TOML file; ``load``: all sources together; ``consistency``: what
  must fit together; ``problem``: what is wrong, and where; ``shipped``: the file with everything.
"""

from edged.config.consistency import is_loopback, split_address
from edged.config.load import Examined, Setting, examine, load
from edged.config.problem import Problem, sentence
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
    "Config",
    "Examined",
    "Problem",
    "Setting",
    "default_run_dir",
    "examine",
    "is_loopback",
    "load",
    "sentence",
    "split_address",
    "unknown_variables",
    "variable",
]
