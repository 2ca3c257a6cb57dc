"""What time it is, as a hub's web server has it: asked for when a signature was not accepted.

A hub says nothing of why it refuses one, and never tells the time over MQTT. But it listens for
HTTPS too, and every answer there, be it 404, has a ``Date``. The certificate is verified as ever.
"""

from __future__ import annotations

import email.utils
import logging
import ssl

import urllib3

logger = logging.getLogger(__name__)

PORT = 443
LIMIT = 3.0  # seconds


def ask(host: str, context: ssl.SSLContext) -> float | None:
    """Returns seconds since 1970 by the clock of ``host``; None if it cannot be asked.

    It waits for the network: not to be called in the event loop.
    """
    pool = urllib3.HTTPSConnectionPool(host, PORT, ssl_context=context, maxsize=1)
    try:
        answer = pool.request(
            "HEAD", "/", timeout=urllib3.Timeout(total=LIMIT), retries=False, redirect=False
        )
        said = answer.headers.get("Date", "")
        return email.utils.parsedate_to_datetime(said).timestamp()
    except (urllib3.exceptions.HTTPError, ValueError, TypeError, OSError) as exc:
        logger.debug("cannot ask %s for the time: %s", host, exc)
        return None
    finally:
        pool.close()
