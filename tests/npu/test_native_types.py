"""The types beside the extension say what the extension has."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

from edged.npu import _native

STUB = ast.parse(Path(_native.__file__).with_name("_native.pyi").read_text())


def arguments(function: ast.FunctionDef) -> list[str]:
    return [a.arg for a in function.args.args if a.arg != "self"]


def test_functions_have_the_stub_s_arguments() -> None:
    for node in STUB.body:
        if isinstance(node, ast.FunctionDef):
            found = inspect.signature(getattr(_native, node.name))
            assert list(found.parameters) == arguments(node), node.name


def test_classes_have_the_stub_s_methods_and_no_others() -> None:
    classes = [node for node in STUB.body if isinstance(node, ast.ClassDef)]
    public = {name for name in vars(_native) if inspect.isclass(getattr(_native, name))}
    assert {node.name for node in classes} == public
    for node in classes:
        found = getattr(_native, node.name)
        methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
        has = {name for name in vars(found) if not name.startswith("_")}
        assert methods - {"__init__"} == has, node.name
        for each in node.body:
            if isinstance(each, ast.FunctionDef) and each.name in has and not each.decorator_list:
                signature = inspect.signature(getattr(found, each.name))
                assert list(signature.parameters)[1:] == arguments(each), each.name
