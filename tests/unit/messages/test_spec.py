"""A request names the one model there is, or none; whatever else it names is said back to it."""

from __future__ import annotations

import pytest

from edged.errors import RequestError
from edged.messages import ModelSpec
from edged.messages.spec import check, cut, number


def spec(name: str = "", version: int | None = None, label: str = "") -> ModelSpec:
    made = ModelSpec(name=name)
    if version is not None:
        made.version.value = version
    if label:
        made.version_label = label
    return made


@pytest.mark.parametrize("asked", [None, spec(), spec("m"), spec("m", 3), spec("", 3)])
def test_the_model_is_meant_by_its_name_or_by_none(asked: ModelSpec | None) -> None:
    check(asked, "m", "3", strict=False)


@pytest.mark.parametrize("asked", [spec("m"), spec("m", 3)])
def test_strictly_by_its_name(asked: ModelSpec) -> None:
    check(asked, "m", "3", strict=True)


@pytest.mark.parametrize(
    ("asked", "strict", "code", "text"),
    [
        (None, True, "INVALID_ARGUMENT", "Missing ModelSpec"),
        (spec(), True, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (spec("n"), False, "NOT_FOUND", "Servable not found for request: Latest(n); expected"),
        (spec("m", 4), False, "NOT_FOUND", "Servable not found for request: Specific(m, 4)"),
        (spec("", 4), False, "NOT_FOUND", "Servable not found for request: Specific(m, 4)"),
        (spec("n", 3), True, "NOT_FOUND", "Servable not found for request: Specific(n, 3)"),
        (spec("m", 0), False, "NOT_FOUND", "Servable not found for request: Specific(m, 0)"),
        (spec("m", label="x"), False, "INVALID_ARGUMENT", "Unrecognized servable version label: x"),
    ],
)
def test_another_one_is_refused(
    asked: ModelSpec | None, strict: bool, code: str, text: str
) -> None:
    with pytest.raises(RequestError) as caught:
        check(asked, "m", "3", strict=strict)
    assert caught.value.code == code
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0", 0),
        ("17", 17),
        ("1.2", None),
        ("", None),
        ("-1", None),
        ("\u0663", None),
        ("9" * 19, None),
    ],
)
def test_only_integers_can_be_asked_for(version: str, expected: int | None) -> None:
    assert number(version) == expected


def test_a_model_without_a_number_has_no_version_to_ask_for() -> None:
    with pytest.raises(RequestError, match=r"version '1\.2'"):
        check(spec("m", 1), "m", "1.2", strict=False)


def test_a_long_name_does_not_hide_what_was_expected() -> None:
    assert cut("x" * 101) == "x" * 100 + "..."
    with pytest.raises(RequestError, match="expected model 'm'"):
        check(spec("x" * 100_000), "m", "1", strict=False)
