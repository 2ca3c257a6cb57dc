#!/usr/bin/env python3
"""manual.py DIR: writes the manual pages edged(1), edged-VERB(1) and edged.toml(5) to DIR.

They are made of the command line's own definitions and of the settings' declarations, so that a
page cannot tell anything but what the program does.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from edged import cli
from edged.config import keys, version
from edged.config.keys import Key
from edged.config.settings import Config

ABOUT = """\
edged is the runtime daemon of an inspection device. It holds one model on one accelerator (NPU),
answers local applications over gRPC, and swaps the model when a new one is pushed, without losing a
request. Models are signed OCI images, and run apart from the daemon in containers of their own."""
PREPARED = """\
The service runs as the user edged; members of the group edged may use its control socket. Its unit
has drop-ins for other forms in /usr/share/doc/edged/drop-ins."""
FILES = {
    "/etc/edged/edged.toml": "Settings; see edged.toml(5).",
    "/etc/edged/keys": "Public keys of those whose images the device accepts, NAME.pub.",
    "/etc/edged/credentials": "Passwords and private keys, which only root reads: the file NAME is "
    "credential:NAME in edged.toml.",
    "/var/lib/edged": "Models, records, the model's logs.",
    "/run/edged": "Sockets: grpc.sock for applications, control.sock for operators.",
}
STATUS = {
    "0": "Done.",
    "1": "Failed; the reason is on standard error.",
    "2": "Wrong usage, or a configuration that cannot be used.",
}


class Page:
    """A manual page in the language of man(7).

    Args:
        name: of what it describes.
        section: of the manual.
        summary: in a line.
    """

    def __init__(self, name: str, section: int, summary: str) -> None:
        self.file = f"{name}.{section}"
        epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
        date = time.strftime("%Y-%m-%d", time.gmtime(epoch))
        title = f'.TH {escape(name).upper()} {section} "{date}" "edged {version.VERSION}"'
        self._lines = [title, ".SH NAME", f"{escape(name)} \\- {escape(lower(summary))}"]

    def section(self, title: str) -> None:
        """Begins a section."""
        self._lines.append(f".SH {escape(title)}")

    def subsection(self, title: str) -> None:
        """Begins a part of a section."""
        self._lines.append(f".SS {escape(title)}")

    def text(self, words: str) -> None:
        """Adds a paragraph."""
        self._lines += [".PP", escape(words)]

    def plain(self, words: str) -> None:
        """Adds lines that stay as they are."""
        self._lines += [".nf", escape(words), ".fi"]

    def item(self, tag: str, words: str) -> None:
        """Adds an entry to a list: what it is about in bold, then words."""
        self._lines += [".TP", f".B {escape(tag)}", escape(words)]

    def write(self, folder: Path) -> None:
        """Writes the page's file."""
        (folder / self.file).write_text("\n".join(self._lines) + "\n", encoding="utf-8")


def escape(text: str) -> str:
    """Returns text with what troff would act on written out."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def lower(sentence: str) -> str:
    """Returns a line for NAME: without its full stop, and begun as the middle of a sentence."""
    sentence = sentence.rstrip(".")
    return sentence[:1].lower() + sentence[1:]


def command(verbs: dict[str, argparse.ArgumentParser]) -> Page:
    """Returns edged(1)."""
    page = Page("edged", 1, "the runtime daemon of an inspection device")
    page.section("SYNOPSIS")
    page.plain("edged VERB [ARGUMENT...]\nedged VERB --help\nedged --version")
    page.section("DESCRIPTION")
    page.text(ABOUT)
    page.text(PREPARED)
    page.section("COMMANDS")
    for name, parser in verbs.items():
        page.item(f"edged-{name}(1)", first_upper(parser.description or ""))
    page.section("FILES")
    for path, words in FILES.items():
        page.item(path, words)
    end(page, ["edged.toml(5)", "systemctl(1)", "journalctl(1)", "runc(8)"])
    return page


def verb(name: str, parser: argparse.ArgumentParser) -> Page:
    """Returns edged-VERB(1)."""
    page = Page(f"edged-{name}", 1, parser.description or name)
    page.section("SYNOPSIS")
    page.plain(usage(parser))
    page.section("DESCRIPTION")
    page.text(first_upper(parser.description or ""))
    page.section("OPTIONS")
    for action in arguments(parser):
        page.item(*action)
    for action, sub in actions(parser).items():
        page.subsection(f"edged {name} {action}")
        page.plain(usage(sub))
        for argument in arguments(sub):
            page.item(*argument)
    end(page, ["edged(1)", "edged.toml(5)"])
    return page


def usage(parser: argparse.ArgumentParser) -> str:
    """Returns how a command is called."""
    return parser.format_usage().removeprefix("usage: ").rstrip()


def arguments(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Yields a command's arguments as they are written, each with its help."""
    formatter = parser._get_formatter()  # noqa: SLF001 - argparse shows its arguments to nobody else
    for action in parser._actions:  # noqa: SLF001
        if action.help == argparse.SUPPRESS:
            continue
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for choice in action._choices_actions:  # noqa: SLF001
                yield choice.dest, first_upper(choice.help or "")
            continue
        tag = formatter._format_action_invocation(action)  # noqa: SLF001
        words = formatter._expand_help(action) if action.help else ""  # noqa: SLF001
        yield tag, first_upper(words)


def actions(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Returns the parsers of a verb's own verbs, if it has any."""
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}


def first_upper(words: str) -> str:
    """Returns help as a sentence."""
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "?", "!")) else ".")


def end(page: Page, others: list[str]) -> None:
    """Adds the sections that every command's page ends with."""
    page.section("EXIT STATUS")
    for status, words in STATUS.items():
        page.item(status, words)
    page.section("SEE ALSO")
    page.text(", ".join(others))


def settings() -> Page:
    """Returns edged.toml(5)."""
    page = Page("edged.toml", 5, "settings of the edged daemon")
    page.section("SYNOPSIS")
    page.plain("/etc/edged/edged.toml\n~/.config/edged/edged.toml")
    page.section("DESCRIPTION")
    page.text(
        "A file in TOML. A variable EDGED_KEY, or EDGED_TABLE_KEY for what is in a table, goes "
        "before it, and a flag of edged-run(1) before both. An unknown key is an error that names "
        "the nearest one there is. Files are looked for beside this one; credential:NAME is what "
        "systemd hands to the service alone. edged-check-config(1) says what is wrong with the "
        "file, edged-config(1) what is in effect."
    )
    page.section("SETTINGS")
    for key in keys.own(Config).values():
        page.item(*setting(key))
    for name, kind in keys.tables(Config).items():
        page.subsection(f"[{name}]")
        page.text(keys.meaning(Config, name))
        for key in keys.keys(kind, (name,)):
            page.item(*setting(key))
    for name, kind in keys.free(Config).items():
        page.subsection(f'[{name}."{keys.names(Config, name)}"]')
        page.text(keys.meaning(Config, name))
        for key in keys.own(kind, (name,)).values():
            page.item(*setting(dataclasses.replace(key, live=False)))
    page.section("SEE ALSO")
    page.text("edged(1), edged-run(1), edged-check-config(1), edged-config(1)")
    return page


def setting(key: Key) -> tuple[str, str]:
    """Returns a setting's name, and all about it in sentences."""
    unit = f", in {key.unit}" if key.unit and key.unit not in key.kind.expected else ""
    default = key.shown or ("none" if key.default is None else default_of(key))
    words = [key.meaning, f"Expected: {key.kind.expected}{unit}.", f"Default: {default}."]
    if key.live:
        words.append("A reload applies it.")
    return key.name, " ".join(word for word in words if word)


def default_of(key: Key) -> str:
    """Returns a default as the file has it."""
    if isinstance(key.default, bool):
        return str(key.default).lower()
    return f"{key.default:04o}" if key.name.endswith("_mode") else str(key.default)


def pages() -> Iterator[Page]:
    """Yields every page."""
    os.environ.setdefault("COLUMNS", "80")  # of the usage
    parsers = {}
    for name in cli.verbs():
        parsers[name] = actions(cli._parser(name))[name]  # noqa: SLF001 - the parser that is used
    yield command(parsers)
    for name, parser in parsers.items():
        yield verb(name, parser)
    yield settings()


def main() -> int:
    """Writes the pages; returns 2 for wrong usage."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for page in pages():
        page.write(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
