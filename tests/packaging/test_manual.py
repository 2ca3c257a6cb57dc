"""The manual pages tell what the command line and the settings are, and man shows them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edged import cli
from edged.config import keys
from edged.config.settings import Config
from edged.events import EVENTS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manual")
    command = [sys.executable, str(ROOT / "packaging/manual.py"), str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    return folder


def words(page: Path) -> str:
    """What a page says, without the language it is written in."""
    return page.read_text().replace("\\-", "-").replace("\\e", "\\")


def test_there_is_a_page_for_every_command_and_the_first_names_them(pages: Path) -> None:
    expected = {"edged.1", "edged.toml.5", *(f"edged-{verb}.1" for verb in cli.verbs())}
    assert {path.name for path in pages.iterdir()} == expected
    first = words(pages / "edged.1")
    for verb in cli.verbs():
        assert f"edged-{verb}(1)" in first


def test_a_page_has_every_option_with_its_help(pages: Path) -> None:
    page = words(pages / "edged-deploy.1")
    for option in ("--force", "--trust FILE", "--allow-downgrade", "--json", "REF"):
        assert f".B {option}\n" in page
    assert "First trust the public key in FILE" in page


def test_a_page_has_what_a_command_does_in_parts(pages: Path) -> None:
    page = words(pages / "edged-keys.1")
    for part in ("generate", "trust", "list"):
        assert f".SS edged keys {part}\n" in page


def test_every_setting_is_there_with_its_meaning(pages: Path) -> None:
    page = words(pages / "edged.toml.5")
    for key in keys.keys(Config):
        assert f".B {key.name}\n" in page, key.name
        assert key.meaning.split(".", maxsplit=1)[0] in page


def test_man_has_nothing_to_complain_of(pages: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("there is no groff: apt-get install groff-base")
    for page in sorted(pages.iterdir()):
        command = ["groff", "-man", "-Tutf8", "-ww", "-z", "-k", str(page)]
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        # Long words of a synopsis that stays as it is may stand out.
        said = [line for line in result.stderr.splitlines() if "cannot adjust" not in line]
        assert not said, f"{page.name}: {said}"


def test_the_journals_catalogue_has_every_event() -> None:
    command = [sys.executable, str(ROOT / "packaging/catalogue.py")]
    text = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert re.findall("^-- ([0-9a-f]{32})$", text, re.MULTILINE) == [e.id for e in EVENTS.values()]
    assert text.count("\nSubject: ") == len(EVENTS)
