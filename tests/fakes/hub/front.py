"""The hub's door: TLS, who may come in, and the rules that no ordinary broker has.

Behind it is a mosquitto, which does MQTT: sessions, acknowledgements, keep-alive, wills, and the
eviction of a connection by another with the same identifier. What mosquitto cannot do, tried with
its password files and access lists: a signature that carries its own expiry is no password that a
file could have; ``$iothub/twin/GET/`` is the same topic for every device, and a subscriber is not
told who published; nothing closes a connection at QoS 2, at a sixth subscription, at 256 KB, at a
topic that does not exist, or when a signature expires. So each connection passes through here, and
its topics lie in a place of its own on the broker: ``up/PLACE/...`` from it, ``down/PLACE/...`` to
it, ``will/PLACE/...`` for its last will.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tests.fakes.hub.identities import RefusedError
from tests.fakes.hub.packets import Connect, Kind, MalformedError, Publish, connack, read
from tests.fakes.hub.rules import Passage, RuleError, Who, admit, inward

T = TypeVar("T")
LIMIT = 30.0  # seconds for what a test asks of the front's thread
CONNECT_LIMIT = 30.0  # seconds for TLS and CONNECT


@dataclasses.dataclass(eq=False)
class Link:
    """A connection that stands: the device's side is outside, the broker's inside."""

    passage: Passage
    up: asyncio.StreamWriter
    down: asyncio.StreamWriter
    inside: asyncio.StreamReader
    outside: asyncio.StreamReader

    @property
    def place(self) -> str:
        """Whose it is."""
        return self.passage.who.place


class Front:
    """Listens with TLS; runs on a thread of its own.

    Args:
        find: gives who a user name stands for, or raises RefusedError.
        inner: the port of the broker inside.
        context: of TLS; its certificate may be exchanged while it listens.
        accepted: is called with identity and message when an event has been acknowledged.
        changed: is called after connections came, subscribed or went.
        now: the hub's clock.
        port: 0 for any.

    Attributes:
        refused: why connections were not let in, in order.
        closed: which rules were broken, in order.
        connects: how many CONNECT packets were accepted, by identity's place.
        allowance: seconds that a signature may have expired already: clocks differ.
        code: what CONNECT is answered with before anything is checked, for ``refuse_next`` times.
    """

    def __init__(
        self,
        find: Callable[[str], Who],
        inner: int,
        context: ssl.SSLContext,
        accepted: Callable[[Who, Publish], None],
        changed: Callable[[], None],
        now: Callable[[], float] = time.time,
        port: int = 0,
    ) -> None:
        self.refused: list[str] = []
        self.closed: list[str] = []
        self.connects: Counter[str] = Counter()
        self.allowance = 300.0
        self.code, self.refuse_next = 3, 0
        self.port = port
        self._find = find
        self._inner = inner
        self._context = context
        self._accepted = accepted
        self._changed = changed
        self._now = now
        self._links: dict[str, Link] = {}
        self._sessions: dict[str, set[str]] = {}  # what is subscribed outlives a connection
        self._silent: dict[str, asyncio.Event] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    # -- what a test asks for, on its own thread

    def open(self) -> None:
        """Listens; on the same port as before, if it did before."""
        self._do(self._open())

    def shut(self) -> None:
        """Listens no more, and cuts all connections without a word."""
        self._do(self._shut())

    def close(self) -> None:
        """Ends it."""
        self.shut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT)
        self._loop.close()

    def connected(self, who: Who) -> bool:
        """Whether it has a connection."""
        return who.place in self._links

    def listens(self, who: Who, topic_filter: str) -> bool:
        """Whether it has subscribed to that and the broker has confirmed it."""
        link = self._links.get(who.place)
        return link is not None and topic_filter in link.passage.confirmed

    def cut(self, who: Who) -> None:
        """Ends a connection without a word."""

        async def cut() -> None:
            if link := self._links.get(who.place):
                link.down.transport.abort()

        self._do(cut())

    def silence(self, who: Who, silent: bool) -> None:
        """Swallows all that passes either way, while connections stand; or no more."""

        async def change() -> None:
            if silent:
                self._silent.setdefault(who.place, asyncio.Event())
            elif event := self._silent.pop(who.place, None):
                event.set()

        self._do(change())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT)

    # -- on its thread

    async def _open(self) -> None:
        self._server = await asyncio.start_server(
            self._serve,
            "127.0.0.1",
            self.port,
            ssl=self._context,
            ssl_handshake_timeout=CONNECT_LIMIT,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for link in self._links.values():
            link.down.transport.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sessions.clear()  # as does the broker inside, which is killed

    async def _serve(self, outside: asyncio.StreamReader, down: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass(outside, down)
        except RuleError as exc:
            self.closed.append(str(exc))
        except (MalformedError, OSError, asyncio.TimeoutError) as exc:
            self.closed.append(f"{type(exc).__name__}: {exc}")
        except asyncio.CancelledError:
            pass  # the end of the front
        finally:
            self._tasks.discard(task)
            down.transport.abort()
            self._changed()

    async def _pass(self, outside: asyncio.StreamReader, down: asyncio.StreamWriter) -> None:
        packet = await asyncio.wait_for(read(outside), CONNECT_LIMIT)
        if packet is None:
            return
        if packet.kind is not Kind.CONNECT:
            raise RuleError(f"the first packet is {packet.kind.name}")
        connect = Connect.parse(packet)
        try:
            who, expires = self._admit(connect, down.get_extra_info("peercert"))
        except RefusedError as exc:
            self.refused.append(str(exc))
            down.write(connack(exc.code))
            await down.drain()
            down.close()
            await down.wait_closed()
            return
        inside, up = await asyncio.open_connection("127.0.0.1", self._inner)
        if connect.clean:
            self._sessions.pop(who.place, None)
        confirmed = self._sessions.setdefault(who.place, set())
        link = Link(Passage(who, confirmed, self._accepted), up, down, inside, outside)
        up.write(inward(connect, who).encode())
        self.connects[who.place] += 1
        self._links[who.place] = link
        try:
            await self._both(link, expires)
        finally:
            if self._links.get(who.place) is link:
                del self._links[who.place]
            up.transport.abort()

    def _admit(self, connect: Connect, peer: Any) -> tuple[Who, float | None]:
        """Returns who that is, and when its right ends."""
        if self.refuse_next:
            self.refuse_next -= 1
            raise RefusedError("refused because the test wants it", self.code)
        return admit(connect, peer, self._find, self._now() - self.allowance)

    async def _both(self, link: Link, expires: float | None) -> None:
        tasks: set[asyncio.Task[None]] = {
            asyncio.create_task(self._upward(link)),
            asyncio.create_task(self._downward(link)),
        }
        if expires is not None:
            tasks.add(asyncio.create_task(self._expire(expires)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _expire(self, expires: float) -> None:
        await asyncio.sleep(max(expires + self.allowance - self._now(), 0))
        raise RuleError("the signature has expired")

    async def _upward(self, link: Link) -> None:
        while (packet := await read(link.outside)) is not None:
            if link.place in self._silent:
                continue
            link.up.write(link.passage.inward(packet).encode())
            await link.up.drain()
            if packet.kind is Kind.DISCONNECT:
                # The broker ends the connection then; ended by us it would be a case for the will.
                await self._loop.create_future()

    async def _downward(self, link: Link) -> None:
        while (packet := await read(link.inside)) is not None:
            if link.place in self._silent:
                continue
            link.down.write(link.passage.outward(packet).encode())
            await link.down.drain()
            if packet.kind in (Kind.CONNACK, Kind.SUBACK):
                self._changed()
        if silent := self._silent.get(link.place):
            await silent.wait()  # the broker gave it up, of which nobody is told


def tls(certificate: str, key: str, ca: str) -> ssl.SSLContext:
    """A server's context; clients may show a certificate of ``ca``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def port_is_free(port: int) -> bool:
    """Whether somebody could listen there."""
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False
