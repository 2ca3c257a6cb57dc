"""The project keeps its own promises: README, layout, dependencies, scripts."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edged import cli
from edged.config import settings
from tests.conftest import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

README = (ROOT / "README.md").read_text(encoding="utf-8")
VERBS = cli.verbs()
SCRIPTS = [
    *(".ci/run", "packaging/debian/build", "packaging/fuzz", "packaging/quickstart"),
    "packaging/test",
]
# Where a distribution is not called as what it is imported as.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "google": "protobuf",
    "paho": "paho-mqtt",
    "grpc": "grpcio",
    "systemd": "systemd-python",
    "tomllib": "tomli",
}


def project() -> dict[str, dict[str, object]]:
    document: dict[str, dict[str, object]] = tomllib.loads(
        (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )
    return document


def requirement_names(entries: object) -> set[str]:
    assert isinstance(entries, list)
    return {re.split(r"[^A-Za-z0-9-]", entry)[0] for entry in entries}


def imported_distributions(folder: Path) -> set[str]:
    """What the Python files under a folder import that neither is edged nor comes with Python."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    foreign = found - set(sys.stdlib_module_names) - {"edged"}
    return {DISTRIBUTIONS.get(name, name) for name in foreign}


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, check=False, timeout=30
    )
    if listing.returncode != 0:
        pytest.skip("not a git clone")
    paths = (ROOT / os.fsdecode(name) for name in listing.stdout.split(b"\0") if name)
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("verb", VERBS)
def test_the_readme_shows_every_verb(verb: str) -> None:
    assert re.search(rf"\bedged {verb}\b", README)


def test_the_readme_shows_no_verb_that_does_not_exist() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    shown = re.findall(r"^edged ([a-z][a-z-]*)", "\n".join(blocks), flags=re.MULTILINE)
    assert shown
    assert set(shown) <= set(VERBS)


def test_the_python_in_the_readme_is_python() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")


@pytest.mark.parametrize("key", settings.KEYS)
def test_the_readme_lists_every_setting_as_flag_variable_and_key(key: str) -> None:
    flag = "--" + key.replace("_", "-")
    assert f"| `{flag}` | `{settings.variable(key)}` | `{key}` |" in README


def test_the_layout_in_the_readme_exists() -> None:
    block = README.split("## Layout")[1].split("```")[1]
    section = ROOT
    missing = []
    for line in block.strip().splitlines():
        if line[0] != " ":
            section = ROOT / "edged" if line.startswith("edged/") else ROOT
        names = re.findall(r"(?:^|  )([a-z_]+(?:/|\.py)),?(?: ([a-z_]+/) )?", line)
        missing += [name for pair in names for name in pair if name and not _exists(section, name)]
    assert not missing


def _exists(section: Path, name: str) -> bool:
    return any((folder / name).exists() for folder in (section, ROOT, ROOT / "tests"))


def test_unit_tests_mirror_the_package() -> None:
    folders = [path.name for path in (ROOT / "tests/unit").iterdir() if path.is_dir()]
    known = {path.stem for folder in ("edged", "packaging") for path in (ROOT / folder).iterdir()}
    assert {name for name in folders if not name.startswith((".", "_"))} <= known


def test_all_that_edged_imports_is_declared_and_all_that_is_declared_is_imported() -> None:
    declared = project()["project"]
    always = requirement_names(declared["dependencies"])
    extras = declared["optional-dependencies"]
    assert isinstance(extras, dict)
    optional = requirement_names(extras["build"]) | requirement_names(extras["bench"])
    imported = imported_distributions(ROOT / "edged")

    assert imported - always - optional == set(), "imported, not declared"
    assert always - imported == set(), "declared, not imported"
    assert optional - imported == set(), "declared in an extra, not imported"


def test_the_changelog_is_in_keep_a_changelog_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^(#+) (.*)$", text, flags=re.MULTILINE)

    assert headings[0] == ("#", "Changelog")
    assert ("##", "[Unreleased]") in headings
    kinds = {title for level, title in headings if level == "###"}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("script", [*SCRIPTS, "packaging/prepare.sh"])
def test_scripts_are_sound_shell(script: str) -> None:
    check = subprocess.run(
        ["bash", "-n", ROOT / script], capture_output=True, check=False, timeout=30
    )
    assert (check.returncode, check.stderr) == (0, b"")


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_can_be_run_and_explain_themselves(script: str) -> None:
    answer = subprocess.run(
        [ROOT / script, "--help"], capture_output=True, text=True, check=False, timeout=30
    )
    assert answer.returncode == 0
    assert answer.stdout.startswith("packaging/")
    assert "EDGED_PYTHON" in answer.stdout


def test_nothing_in_the_repository_depends_on_where_it_was_written() -> None:
    machine = re.compile(rb"(?<![\w.~}])/(?:work|root|opt/pypi)/[\w.]")
    found = [
        f"{path.relative_to(ROOT)}: {match.group().decode()}"
        for path in tracked_files()
        if path.suffix not in {".jpg", ".png", ".onnx", ".bin", ".npz"}
        for match in machine.finditer(path.read_bytes())
    ]
    assert not found
