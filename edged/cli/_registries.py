"""How commands speak to registries: as the daemon's configuration says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edged.oci import Registries


def registries(reference: str) -> Registries | None:
    """Returns what the configuration says, if it takes a registry to get there.

    Raises:
        ConfigError: the configuration or the reference cannot be used.
    """
    from edged import config, oci

    if not oci.Reference.parse(reference).remote:
        return None
    return oci.Registries.from_tables(config.load({}).registries)
