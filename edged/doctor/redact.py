"""Takes secrets out of text that goes to others.

Two nets, since each has holes. What is known to be secret (the configuration's passwords, what is
in its files of secrets) is found wherever it stands, also as it is written in URLs, in JSON and in
HTTP's Basic. What merely looks like a secret (private keys, tokens, SAS keys, passwords in URLs, a
name such as ``password`` with a value) is found though nobody knows it.

Too much is hidden rather than too little; digests, public keys and certificates stay.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterable
from typing import Any

HIDDEN = "[hidden]"
SHORTEST = 4  # characters of a known secret; shorter ones are in every second word
_KEY_LIMIT = 16 * 1024  # characters of a private key whose end is missing

# Every repetition has a bound: logs are written by whoever likes to see a pattern run for hours.
_NAMES = (
    r"(?:pass(?:word|wd|phrase)|secret|credential|api[_-]?key|access[_-]?key|account[_-]?key"
    r"|private[_-]?key|group[_-]?key|shared[_-]?key|connection[_-]?string"
    r"|(?<![a-z0-9])(?:token|pwd|sig|sas|auth|authorization|bearer)(?![a-z0-9]))[\w.-]{0,40}"
)
# A name of a file or a folder is none of its content, and a number of tokens is no token.
_HARMLESS = re.compile(r"(?:file|dir|path|folder|limit|count|ttl)$", re.IGNORECASE)
_IS_NAME = re.compile(_NAMES, re.IGNORECASE)
_VALUE = r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|["\']?[^\s"\']+'
_NAMED = re.compile(
    rf"(?P<name>{_NAMES})(?P<between>[\"']?\s{{0,8}}(?:[:=]|=>)\s{{0,8}})(?P<value>{_VALUE})",
    re.IGNORECASE,
)
_SCHEMES = re.compile(
    r"\b((?i:Bearer|Basic|SharedAccessSignature))(\s{1,8})(?=[^\s\"',;]*[A-Z0-9])[^\s\"',;]{6,}"
)
_FLAG = re.compile(r"(\s--?[\w-]{0,40}(?:token|password|passphrase|secret)(?:\s{1,8}|=))[^\s-]\S*")
_SAS = re.compile(
    r"(?P<name>\b(?:sig|SharedAccessKey|SharedAccessSignature|AccountKey|PrimaryKey|SecondaryKey)"
    r"(?:\s{0,8}=\s{0,8}|%3D))[^\s\"'&;,]+",
    re.IGNORECASE,
)
_URL = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]{0,20}://)[^\s/@\"'<>]{1,1024}@", re.IGNORECASE)
# The same without a scheme; NAME:TAG@sha256:... is none.
_LOGIN = re.compile(
    r"(?<![\w.+-])(?P<user>[\w.+-]{1,64}):[^\s/@\"'<>]{1,256}@(?!sha\d+:)(?=[\w\[])"
)
_WEB_TOKEN = re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)?")
_BEGIN, _END = (
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----",
    r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----",
)
# To its end, or as far as one may be long where the end was cut off.
_KEY = re.compile(rf"{_BEGIN}(?:.{{0,{_KEY_LIMIT}}}?{_END}|.{{0,{_KEY_LIMIT}}})", re.DOTALL)
_KEYS_TAIL = re.compile(rf"\A.{{0,{_KEY_LIMIT}}}?{_END}", re.DOTALL)


class Redactor:
    """Hides secrets.

    Args:
        known: those that are known; with their lines each, if they have several.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        forms = {form for secret in known for form in _forms(secret)}
        # The longest first: a password may begin another.
        ordered = sorted(forms, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        """Returns the text without secrets."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        # Of one whose head was cut off, by a file's limit for one, the tail is left.
        text = _KEYS_TAIL.sub(HIDDEN, _KEY.sub(HIDDEN, text))
        text = _URL.sub(rf"\g<scheme>{HIDDEN}@", text)
        text = _LOGIN.sub(rf"\g<user>:{HIDDEN}@", text)
        text = _SCHEMES.sub(rf"\1\2{HIDDEN}", text)
        text = _SAS.sub(rf"\g<name>{HIDDEN}", text)
        text = _WEB_TOKEN.sub(HIDDEN, text)
        text = _FLAG.sub(rf"\1{HIDDEN}", text)
        return _NAMED.sub(_hide_value, text)

    def document(self, value: Any, name: str = "") -> Any:
        """Returns a JSON document without secrets; it stays a document.

        Args:
            value: of any JSON type.
            name: under which it stands.
        """
        if isinstance(value, dict):
            return {self(str(key)): self.document(each, str(key)) for key, each in value.items()}
        if isinstance(value, list):
            return [self.document(each, name) for each in value]
        if isinstance(value, bool) or value in (None, "") or not isinstance(value, str | int):
            return value
        if _IS_NAME.search(name) and not _HARMLESS.search(name):
            return HIDDEN
        return self(value) if isinstance(value, str) else value


def _hide_value(match: re.Match[str]) -> str:
    name, between, value = match["name"], match["between"], match["value"]
    if _HARMLESS.search(name) or HIDDEN in value or value in ("true", "false", "null", "None"):
        return match[0]
    quote = value[0] if value[0] in "\"'" else ""
    return f"{name}{between}{quote}{HIDDEN}{quote}"


def _forms(secret: str) -> Iterable[str]:
    """Yields a secret as it may stand in texts."""
    for line in {secret.strip(), *(line.strip() for line in secret.splitlines())}:
        if len(line) < SHORTEST:
            continue
        yield line
        yield urllib.parse.quote(line, safe="")
        yield urllib.parse.quote_plus(line)
        yield json.dumps(line)[1:-1]
        yield json.dumps(line, ensure_ascii=False)[1:-1]
        yield repr(line)[1:-1]
        yield base64.b64encode(line.encode()).decode().rstrip("=")


def basic(username: str, password: str) -> str:
    """Returns what HTTP's Basic makes of both (RFC 7617), which hides the password from no one."""
    return base64.b64encode(f"{username}:{password}".encode()).decode().rstrip("=")
