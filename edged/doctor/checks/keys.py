"""Whose models may run here, and whether those that are here still may."""

from __future__ import annotations

import stat

from edged.deploy.admission import Trust
from edged.deploy.store import pointed
from edged.doctor.check import Check, Finding, Group, error, ok, warning
from edged.doctor.skip import SkipError
from edged.doctor.world import World
from edged.errors import ConfigError, VerifyError
from edged.oci import keys
from edged.oci.digest import Digest
from edged.oci.image import load_image
from edged.oci.spec import MANIFEST, Descriptor


def verify(world: World) -> Finding:
    """Signatures are asked for."""
    if world.config.verify == "required":
        return ok("images must be signed")
    fix = 'set verify = "required" and trust the key that signs (edged keys trust)'
    return warning("signatures are not verified: whoever can deploy decides what runs", fix)


def trusted(world: World) -> Finding:
    """There is a key to verify with, and every file is one."""
    folder = world.config.keys_dir
    found = keys.TrustedKeys.load(folder).keys
    if found:
        named = ", ".join(str(key) for key in found[:5])
        return ok(f"{folder} trusts {named}{', ...' if len(found) > 5 else ''}")
    if world.config.verify != "required":
        raise SkipError(f"no keys in {folder}, and none are asked for")
    fix = "edged keys trust FILE.pub"
    return error(f"no keys in {folder}: no image can be deployed", fix)


def rights(world: World) -> list[Finding]:
    """Nobody else decides whom the device trusts, and no private key lies about."""
    folder = world.config.keys_dir
    if not folder.is_dir():
        raise SkipError(f"{folder} is not there")
    found = [
        error(f"everybody may write {path}, and so have models of theirs run", f"chmod o-w {path}")
        for path in (folder, *folder.glob(f"*{keys.PUBLIC}"))
        if path.stat().st_mode & stat.S_IWOTH
    ]
    found += [
        warning(
            f"{path} is a private key, which no device needs",
            "move it to where images are signed; make a new one if others had access here",
        )
        for path in sorted(folder.glob(f"*{keys.PRIVATE}"))
    ]
    return found or [ok(f"nobody else may write to {folder}")]


def signatures(world: World) -> list[Finding]:
    """The models at hand are signed by a key that is trusted now."""
    if world.config.verify != "required":
        raise SkipError("signatures are not asked for")
    layout, trust = world.layout, Trust(world.config.keys_dir)
    found = []
    for text, role in pointed(world.state).items():
        digest = Digest.parse(text)
        path = layout.blob_path(digest)
        if not path.is_file():
            continue  # which the store's check says
        image = load_image(layout, Descriptor(MANIFEST, digest, path.stat().st_size))
        try:
            key = trust.signer(image)
            found.append(ok(f"the {role} model is signed by the trusted key {key[:12]}"))
        except (VerifyError, ConfigError) as exc:
            fix = "edged will not load it again: trust its key, or deploy another model"
            bad = error if role == "current" else warning
            found.append(bad(f"the {role} model: {exc}", fix))
    if not found:
        raise SkipError("no model was deployed yet")
    return found


GROUP = Group(
    "keys",
    (
        Check("verify", verify),
        Check("trusted", trusted),
        Check("rights", rights),
        Check("signatures", signatures),
    ),
)
