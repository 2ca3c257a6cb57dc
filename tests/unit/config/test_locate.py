"""The line of a key is where it is set, whatever else looks like it."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.locate import lines

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("a = 1", ("a",), 1),
        ("\n# b = 2\n\nb = 1", ("b",), 4),
        ("  a = 1\r\n\tb = 2\r\n", ("b",), 2),
        ("[t]\na = 1\n[u]\na = 2", ("u", "a"), 4),
        ("[t]\na = 1\n[u]\na = 2", ("u",), 3),
        ("a.b.c = 1\na.b.d = 2", ("a", "b", "d"), 2),
        ("a.b.c = 1\na.b.d = 2", ("a", "b"), 1),
        ("[a]\nb.c = 1", ("a", "b", "c"), 2),
        ("\"a b\" = 1\n'c.d' = 2", ("c.d",), 2),
        ('[ r . "x:5" ]\nu = "v"', ("r", "x:5", "u"), 2),
        ('s = """\nb = 1\n[t]\n"""\nb = 2', ("b",), 5),
        ("s = '''\nb = 1\n\n# c\n'''\nb = 2", ("b",), 6),
        ('s = """x\\"""\nb = 1"""\nb = 2', ("b",), 3),
        ('s = "[t] # b = 1"\nb = 2', ("b",), 2),
        ("l = [\n 1, # ]\n 2,\n]\nb = 1", ("b",), 5),
        ("t = { x = 1, y.z = 2 }", ("t", "y", "z"), 1),
        ("[[p]]\na = 1\n[[p]]\na = 2", ("p", "1", "a"), 4),
        ("[[p]]\n[p.q]\na = 1\n[[p]]\n[p.q]\na = 2", ("p", "1", "q", "a"), 6),
        ("[[p]]\n[[p.q]]\n[[p.q]]\n[[p]]\n[[p.q]]\na = 1", ("p", "1", "q", "0", "a"), 6),
        ("a = '\u2028'\nb = 1", ("b",), 2),
        ('a = "\\u2028"\nb = 1 # x', ("b",), 2),
    ],
)
def test_a_key_is_found_on_its_line(text: str, path: tuple[str, ...], line: int) -> None:
    tomllib.loads(text)
    assert lines(text.replace("\r\n", "\n"))[path] == line


VALUES = st.sampled_from(
    ["1", "'x'", '"k0 = 1"', '"""\nk1 = 1\n[k2]\n"""', "[\n'k3',\n# k4 = 1\n]", "{ in = 1 }"]
)
STATEMENTS = st.lists(st.tuples(st.sampled_from(["", "\n", "# k1 = 1\n"]), VALUES), max_size=12)


@given(STATEMENTS)
def test_every_key_of_any_file_is_found(statements: list[tuple[str, str]]) -> None:
    text, expected = "", {}
    for number, (before, value) in enumerate(statements):
        text += before + (f"[t{number}]\n" if number % 4 == 3 else "")
        table = (f"t{number - (number + 1) % 4}",)
        path = (*table, f"k{number}") if number >= 3 else (f"k{number}",)
        expected[path] = text.count("\n") + 1
        text += f"k{number} = {value}\n"
    found = lines(text)
    assert {path: found[path] for path in expected} == expected
    assert set(tomllib.loads(text)) == {path[0] for path in found}
