"""Whether an image may come into service here: decided from its manifest, before any blob.

Nothing here changes anything, and nothing asks the network but for an image's signatures where the
image itself is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edged.errors import VerifyError

if TYPE_CHECKING:
    from edged.deploy.counters import Counters
    from edged.deploy.device import Npu
    from edged.deploy.quarantine import Quarantine
    from edged.deploy.types import Options, Slot
    from edged.oci.facts import ModelFacts
    from edged.oci.image import Image


@dataclass(frozen=True)
class Admitted:
    """What is known of an image that may come into service.

    Attributes:
        facts: from its annotations.
        key: id of the key that signed it; empty where signatures are not asked for.
    """

    facts: ModelFacts
    key: str


class Trust:
    """Whose images this device runs.

    Args:
        keys_dir: folder of trusted keys, read each time; None if signatures are not asked for.
    """

    def __init__(self, keys_dir: Path | None) -> None:
        self.keys_dir = keys_dir

    def signer(self, image: Image) -> str:
        """Returns the id of the trusted key that signed the image; empty if none is asked for.

        Raises:
            VerifyError: nobody who is trusted did.
            ConfigError: the folder of keys cannot be used.
        """
        if self.keys_dir is None:
            return ""
        from edged.oci import keys, signature

        trusted = keys.TrustedKeys.load(self.keys_dir)
        return signature.verify(image.digest, image.signatures(), trusted).id

    def check_kept(self, slot: Slot) -> None:
        """Raises if whoever signed a model in the store is not trusted any more.

        Raises:
            VerifyError: the key is gone, or the model came in without one.
            ConfigError: the folder of keys cannot be used.
        """
        if self.keys_dir is None:
            return
        from edged.oci import keys

        if slot.key not in [key.id for key in keys.TrustedKeys.load(self.keys_dir).keys]:
            signer = f"the key {slot.key[:12]}" if slot.key else "nobody"
            raise VerifyError(
                f"cannot accept image {slot.digest}: it was signed by {signer}, which is not in "
                f"{self.keys_dir}"
            )


class Admission:
    """Examines images.

    Args:
        npu: that models have to fit.
        trust: whose images may run.
        quarantine: of those that were at fault here.
        counters: against downgrades.
    """

    def __init__(self, npu: Npu, trust: Trust, quarantine: Quarantine, counters: Counters) -> None:
        self._npu = npu
        self._trust = trust
        self._quarantine = quarantine
        self._counters = counters

    def examine(self, image: Image, options: Options) -> Admitted:
        """Returns what is known of an image from elsewhere.

        Raises:
            ModelError: it is for another NPU, or in quarantine.
            VerifyError: nobody who is trusted signed it, or it is older than what was here.
        """
        facts = image.facts
        self._quarantine.check(str(image.digest))
        self._npu.check(facts)
        key = self._trust.signer(image)
        if not options.allow_downgrade:
            self._counters.check(facts.name, key, facts.counter)
        return Admitted(facts, key)

    def examine_kept(self, image: Image, slot: Slot) -> Admitted:
        """Returns what is known of an image in the store, which was in service before.

        Raises:
            ModelError: it is in quarantine.
            VerifyError: whoever signed it is not trusted any more.
        """
        self._quarantine.check(slot.digest)
        self._trust.check_kept(slot)
        return Admitted(image.facts, slot.key)


def check_wanted(digest: str, facts: ModelFacts, options: Options) -> None:
    """Raises if an image is not the one that was insisted on.

    Raises:
        VerifyError: says what was asked for and what is there.
    """
    if options.digest and digest != options.digest:
        raise VerifyError(
            f"cannot accept image {digest}: {options.digest} was asked for; name one that is "
            "there, or leave the digest out"
        )
    if options.counter is not None and facts.counter != options.counter:
        raise VerifyError(
            f"cannot accept image {digest}: it announces counter {facts.counter}, "
            f"{options.counter} was asked for"
        )
