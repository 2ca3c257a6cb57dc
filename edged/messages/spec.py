"""Which model a request is for: ``ModelSpec`` against the one model there is.

Errors have TensorFlow Serving's codes and beginnings, then what is expected. As the predecessor's
clients leave ``model_spec`` out, or its name empty, both are accepted unless ``strict``.
"""

from __future__ import annotations

from edged.errors import RequestError
from edged.messages import ModelSpec

_SHOWN = 100  # characters of a name in an error


def number(version: str) -> int | None:
    """Returns a model's version as callers can ask for it: only integers can be asked for."""
    if not (version.isascii() and version.isdigit() and len(version) <= 18):
        return None
    return int(version)


def check(spec: ModelSpec | None, name: str, version: str, *, strict: bool) -> None:
    """Accepts a request for a model.

    Args:
        spec: what the request says; None if it says nothing.
        name: of the model.
        version: of the model.
        strict: refuse requests without a model's name, as TensorFlow Serving does.

    Raises:
        RequestError: it is for another model, or names none where it must.
    """
    check_form(spec, strict=strict)
    if spec is not None and (mismatch := other(spec, name, version)):
        raise RequestError(
            "NOT_FOUND",
            f"Servable not found for request: {mismatch}; "
            f"expected model {name!r}, version {version!r}",
        )


def check_form(spec: ModelSpec | None, *, strict: bool) -> None:
    """Accepts what can be understood, whichever model it is for; arguments as of ``check``.

    Raises:
        RequestError: INVALID_ARGUMENT.
    """
    if strict and spec is None:
        raise RequestError("INVALID_ARGUMENT", "Missing ModelSpec")
    if strict and spec is not None and not spec.name:
        raise RequestError("INVALID_ARGUMENT", "ModelSpec has no name specified.")
    if spec is not None and spec.WhichOneof("version_choice") == "version_label":
        raise RequestError(
            "INVALID_ARGUMENT",
            f"Unrecognized servable version label: {cut(spec.version_label)}; "
            "versions have no labels here: ask for the model by its name, or by version",
        )


def other(spec: ModelSpec, name: str, version: str) -> str:
    """Returns what is asked for if it is not this model, as TensorFlow Serving writes it."""
    asked = cut(spec.name or name)
    if spec.WhichOneof("version_choice") == "version":
        if spec.name not in ("", name) or spec.version.value != number(version):
            return f"Specific({asked}, {spec.version.value})"
    elif spec.name not in ("", name):
        return f"Latest({asked})"
    return ""


def cut(text: str) -> str:
    """Returns a caller's word short enough for an error."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
