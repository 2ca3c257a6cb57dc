"""Asks a registry whether it is one, and whether it knows us.

``GET /v2/`` is 200, or 401 with a challenge (distribution-spec, "Determining Support").
"""

from __future__ import annotations

from dataclasses import replace

from edged.doctor import endpoints
from edged.doctor.check import Finding, error, ok, warning
from edged.errors import EdgedError
from edged.oci.registries import Registries
from edged.oci.registry.http import Http
from edged.oci.registry.token import Credentials

LIMIT = 5.0  # seconds to connect, and without a byte


def registry(host: str, known: Registries) -> Finding:
    """Says what a registry answers; that it can be reached is known."""
    hurried = replace(known, connect_timeout=LIMIT, read_timeout=LIMIT, patience=LIMIT)
    there = endpoints.of_registry(host, hurried)
    at = f"[{there.host}]" if ":" in there.host else there.host
    scheme = "http" if there.tls is None else "https"
    try:
        return _ask(f"{scheme}://{at}:{there.port}/v2/", host, hurried)
    except EdgedError as exc:
        return error(f"registry {host}: {exc}", "do what the reason says")


def _ask(url: str, host: str, known: Registries) -> Finding:
    access = known.of(host)
    http = Http(known, access.ca_file)
    answer = http.get(url, {})
    status = answer.status
    if status == 401 and access.username:
        credentials = Credentials(http, known, host, "")
        answer.close()
        credentials.obtain(answer, "its greeting")
        again = http.get(url, {}, credentials.authorization)
        status = again.status
        again.close()
    answer.close()
    if status == 200:
        user = f", and knows {access.username!r}" if access.username else ""
        return ok(f"registry {host} answers{user}")
    if status == 401 and access.username:
        fix = f'correct username and password of [registries."{host}"]'
        return error(f"registry {host} does not accept user {access.username!r}", fix)
    if status == 401:
        return ok(f"registry {host} answers, and asks who we are for some images")
    fix = "check the host: it answers, and not as a registry"
    if status == 404:
        return error(f"registry {host} answers 404 to /v2/", fix)
    return warning(f"registry {host} answers {status} to /v2/", "ask whoever runs it")
