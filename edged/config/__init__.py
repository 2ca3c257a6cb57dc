"""The daemon's configuration: where it comes from, what is valid, where edged's folders are."""

from edged.config.settings import (
    KEYS,
    Config,
    default_run_dir,
    load,
    split_address,
    unknown_variables,
)

__all__ = ["KEYS", "Config", "default_run_dir", "load", "split_address", "unknown_variables"]
