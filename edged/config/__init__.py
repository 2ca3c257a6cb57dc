"""The daemon's configuration: where it comes from, what is valid, where edged's folders are."""

from edged.config.settings import Config, default_run_dir, load, split_address, unknown_variables

__all__ = ["Config", "default_run_dir", "load", "split_address", "unknown_variables"]
