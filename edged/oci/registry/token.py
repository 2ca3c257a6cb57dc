"""How a registry learns who we are: Basic, or a token from the server its challenge names.

After distribution's "Token Authentication Specification": ``GET REALM?service=S&scope=C`` with
Basic credentials (or none: an anonymous token) gives JSON with ``token`` or ``access_token``.

Invariants:
- Credentials are sent to the registry they are configured for, and to the token server that this
  very registry names; never in plain unless both may be spoken to in plain.
- A token is kept in memory only, and until it expires.
"""

from __future__ import annotations

import base64
import time
import urllib.parse
from collections.abc import Callable

from edged.errors import ConfigError, FetchError
from edged.oci import spec
from edged.oci.registries import Registries
from edged.oci.registry import challenge
from edged.oci.registry.http import Answer, Http

TOKEN_LIMIT = 64 * 1024  # bytes of the document; registries hand out tokens of several KiB
LIFETIME = 60.0  # seconds, where a token does not say; so the specification
EARLY = 5.0  # seconds before its end that a token is not used any more


class Credentials:
    """What authorizes us at one registry for one repository.

    Args:
        http: to ask the token server with.
        registries: whose credentials.
        host: of the registry.
        scope: what is asked for if a challenge does not say: ``repository:NAME:pull``.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        http: Http,
        registries: Registries,
        host: str,
        scope: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._registries = registries
        self._access = registries.of(host)
        self._host = host
        self._scope = scope
        self._clock = clock
        self._authorization = ""
        self._until = 0.0

    @property
    def authorization(self) -> str:
        """The value of ``Authorization``, empty if there is none yet."""
        return self._authorization if self._clock() < self._until else ""

    def obtain(self, answer: Answer, what: str) -> None:
        """Gets what a 401 asks for.

        Args:
            answer: the 401.
            what: was to be fetched.

        Raises:
            FetchError: the registry wants what we do not have.
            PassingError: the token server could not be reached.
        """
        self._authorization = ""
        for each in challenge.parse(answer.headers.get("WWW-Authenticate", "")):
            if each.scheme == "bearer" and "realm" in each.parameters:
                return self._fetch_token(each)
            if each.scheme == "basic" and self._access.username:
                return self._set(self._basic(), float("inf"))
        raise self.refused(what)

    def _fetch_token(self, wanted: challenge.Challenge) -> None:
        realm = wanted.parameters["realm"]
        parts = urllib.parse.urlsplit(realm)
        hosts = (self._host, parts.netloc.lower())
        plain = parts.scheme == "http" and all(map(self._registries.plain, hosts))
        if not parts.hostname or not (parts.scheme == "https" or plain):
            raise FetchError(
                f"cannot log in to {self._host}: expected a token server with https, "
                f"got {realm[:200]!r}"
            )
        asked = {"scope": wanted.parameters.get("scope") or self._scope}
        if "service" in wanted.parameters:
            asked["service"] = wanted.parameters["service"]
        if self._access.username:
            asked["account"] = self._access.username
        query = "&".join(q for q in (parts.query, urllib.parse.urlencode(asked)) if q)
        url = urllib.parse.urlunsplit(parts._replace(query=query, fragment=""))
        answer = self._http.get(url, {}, self._basic() if self._access.username else "")
        what = f"a token for {self._host}"
        if answer.status in (401, 403):
            answer.close()
            raise FetchError(f"cannot log in to {self._host}: {self._why()}")
        if answer.status != 200:
            raise answer.refusal(what)
        self._keep(spec.parse_json(answer.document(TOKEN_LIMIT, what), what), what)

    def _keep(self, document: dict[str, object], what: str) -> None:
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not (token.isascii() and token.isprintable()):
            raise FetchError(f"cannot fetch {what}: the answer has no token")
        seconds = document.get("expires_in")
        known = isinstance(seconds, int | float) and seconds > 0
        lifetime = min(float(seconds), 86400.0) if known else LIFETIME  # type: ignore[arg-type]
        self._set(f"Bearer {token}", self._clock() + max(lifetime - EARLY, lifetime / 2))

    def _set(self, authorization: str, until: float) -> None:
        self._authorization, self._until = authorization, until

    def _basic(self) -> str:
        if ":" in self._access.username:
            raise ConfigError(f"cannot log in to {self._host}: the username has a colon")
        pair = f"{self._access.username}:{self._access.secret()}"
        return "Basic " + base64.b64encode(pair.encode()).decode()

    def _why(self) -> str:
        if self._access.username:
            return f"it does not accept the credentials of user {self._access.username!r}"
        return f"it wants credentials; set username and password_file for registry {self._host!r}"

    def refused(self, what: str) -> FetchError:
        """The error for a registry that lets us in nowhere."""
        return FetchError(f"cannot fetch {what} from {self._host}: {self._why()}")
