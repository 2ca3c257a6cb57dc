"""One place that has a repository: the registry itself or its mirror."""

from __future__ import annotations

from collections.abc import Mapping

from edged.oci.registries import Registries
from edged.oci.registry.http import Answer, Http
from edged.oci.registry.token import Credentials


class Endpoint:
    """Sends requests about one repository, logging in when asked to.

    Args:
        host: ``HOST[:PORT]``.
        name: of the repository there.
        registries: how hosts are spoken to.
    """

    def __init__(self, host: str, name: str, registries: Registries) -> None:
        self.host = host
        # Docker's name for its registry is not where that is.
        server = "registry-1.docker.io" if host == "docker.io" else host
        scheme = "http" if registries.plain(host) else "https"
        self._base = f"{scheme}://{server}/v2/{name}"
        self._http = Http(registries, registries.of(host).ca_file)
        self._credentials = Credentials(self._http, registries, host, f"repository:{name}:pull")

    def get(self, path: str, headers: Mapping[str, str], what: str) -> Answer:
        """The answer to a request below the repository, whatever its status but 401.

        Raises:
            PassingError: it may work later.
            FetchError: it will not.
        """
        obtained = False
        while True:
            sent = self._credentials.authorization
            answer = self._http.get(f"{self._base}/{path}", headers, sent)
            if answer.status != 401 or answer.redirected:
                return answer
            answer.close()
            if obtained:  # and it does not help
                raise self._credentials.refused(what)
            self._credentials.obtain(answer, what)
            obtained = True
