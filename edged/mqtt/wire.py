"""One connection as paho makes it, in a thread of its own.

Invariants:
- The client is made, used and closed in that one thread; the event loop hands it work through a
  queue and is told what happened by ``call_soon_threadsafe``. So it never matters what of paho is
  safe from which thread.
- paho never connects again by itself, and keeps no message for later: a wire is for one connection.
- Every wait has a limit: to connect, to shake hands, until CONNACK and SUBACK, until PUBACK, until
  PINGRESP. The thread always ends, and its descriptors with it. Only a look-up of a name cannot be
  cut short; the resolver's own limit ends it.
- A broker that sends faster than the event loop takes is not read from: TCP slows it down.

paho's own loops wait with ``select()``, which knows no descriptor above 1023, and a daemon with
many callers has those. So this is its "external event loop", with ``poll()``.
"""

from __future__ import annotations

import collections
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edged.errors import LinkError
from edged.mqtt import refusal
from edged.mqtt.dialect import Endpoint, Message

PACKET_LIMIT = 256 * 1024 + 4096  # bytes of one packet that a broker may send
RECEIVE_BUFFER = 64 * 1024  # bytes that the kernel keeps for us; paho reads up to 100 times that
RECEIVED_LIMIT = 256  # messages that the event loop has not taken yet
_FAREWELL = 1.0  # seconds for a DISCONNECT to leave


@dataclass(frozen=True)
class Times:
    """How long a connection's steps may take, in seconds.

    Attributes:
        connect: to each of a name's addresses.
        answer: until the broker has let us in and confirmed the subscriptions.
        acknowledge: until it has acknowledged a message.
        take: until the event loop has taken a message.
    """

    connect: float = 10.0
    answer: float = 10.0
    acknowledge: float = 60.0
    take: float = 30.0


class Events(Protocol):
    """Who is told what happens, in the event loop."""

    def opened(self) -> None:
        """The broker has let us in and confirmed the subscriptions."""

    def arrived(self, message: Message) -> None:
        """A message came."""

    def acknowledged(self, token: int) -> None:
        """The broker has a message."""

    def ended(self, why: LinkError | None) -> None:
        """The last of it; None if it was asked for."""


class Outgoing(NamedTuple):
    """A message to publish; ``token`` is what the acknowledgement names."""

    token: int
    topic: str
    payload: bytes
    retain: bool


class Wire:
    """One connection.

    Args:
        endpoint: where to.
        subscriptions: filters of topics.
        events: who is told.
        post: has a function called in the event loop; safe from any thread, never raises.
        times: limits.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        subscriptions: Sequence[str],
        events: Events,
        post: Callable[..., None],
        times: Times,
    ) -> None:
        self._endpoint = endpoint
        self._subscriptions = subscriptions
        self._events = events
        self._post = post
        self._times = times
        self._queue: collections.deque[Outgoing] = collections.deque()
        self._room = threading.Semaphore(RECEIVED_LIMIT)
        self._stopping = threading.Event()
        self._wake = -1
        self._wake_lock = threading.Lock()
        # Of the thread alone, from here on.
        self._socket: Any = None
        self._up = False
        self._said = ""  # how paho calls why the connection ended
        self._refused: LinkError | None = None
        self._unconfirmed: dict[int, str] = {}
        self._sent: dict[int, tuple[int, float]] = {}
        self._thread = threading.Thread(target=self._run, name="edged-mqtt", daemon=True)

    # -- from the event loop

    def start(self) -> None:
        """Begins to connect."""
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self._thread.start()
        except BaseException:
            os.close(self._wake)
            self._wake = -1
            raise

    def send(self, outgoing: Outgoing) -> None:
        """Has a message published; its sender bounds how many are on their way."""
        self._queue.append(outgoing)
        self._rouse()

    def stop(self) -> None:
        """Has it end in an orderly way: the broker does not publish our will."""
        self._stopping.set()
        self._rouse()

    def join(self) -> None:
        """Waits for the thread, which has told of its end already."""
        self._thread.join(1.0)

    def _rouse(self) -> None:
        with self._wake_lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    # -- the thread

    def _run(self) -> None:
        why: LinkError | None = None
        try:
            self._connect_and_serve()
        except LinkError as exc:
            why = exc
        except Exception as exc:  # noqa: BLE001 - of paho: what it makes of bytes we do not know
            why = refusal.unintelligible(self._endpoint, repr(exc))
        finally:
            self._close()
            self._post(self._events.ended, None if self._stopping.is_set() else _bare(why))

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        with self._wake_lock:
            os.close(self._wake)
            self._wake = -1

    def _connect_and_serve(self) -> None:
        endpoint = self._endpoint
        client = self._make()
        try:
            client.connect(endpoint.host, endpoint.port, endpoint.keepalive)
        except OSError as exc:
            raise refusal.connecting(endpoint, exc) from exc
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if client.socket() is not None:  # it may have been closed while we said hello
            poller.register(self._socket, select.POLLIN)
        deadline = time.monotonic() + self._times.answer
        while client.socket() is not None and not self._stopping.is_set():
            if not self._opened and time.monotonic() > deadline:
                raise refusal.silent(endpoint, "answer to our log-in", self._times.answer)
            self._turn(client, poller, deadline)
        if self._refused is not None:
            raise self._refused
        if self._stopping.is_set():
            self._say_goodbye(client, poller)
            return
        if self._said == "Protocol error":
            raise refusal.unintelligible(endpoint, "what it says is not MQTT 3.1.1")
        fault = getattr(self._socket, "fault", None)
        asked = self._said == "Keep alive timeout"
        raise refusal.ended(endpoint, fault, up=self._up, asked=asked)

    @property
    def _opened(self) -> bool:
        return self._up and not self._unconfirmed

    def _make(self) -> paho.Client:
        endpoint = self._endpoint
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=endpoint.client_id,
            clean_session=True,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = self._times.connect
        client.max_inflight_messages = 0  # whoever sends has a bound
        if endpoint.tls is not None:
            client.tls_set_context(endpoint.tls)
        if endpoint.username:
            client.username_pw_set(endpoint.username, endpoint.password)
        if (will := endpoint.will) is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        client.on_socket_open = self._on_socket_open
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        return client

    def _turn(self, client: paho.Client, poller: select.poll, deadline: float) -> None:
        """Sends what is queued, then waits for the socket once and does what it is ready for."""
        while self._queue and client.socket() is not None:
            self._publish(client, self._queue.popleft())
        sock = self._socket
        if client.socket() is None:
            return
        poller.modify(sock, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
        # What TLS has decrypted already no poll tells of.
        buffered = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        ready = dict(poller.poll(0 if buffered else self._patience(deadline) * 1e3))
        if self._wake in ready:
            os.eventfd_read(self._wake)
        events = ready.get(sock.fileno(), 0)
        if buffered or events & ~select.POLLOUT:
            client.loop_read()
            self._check_size(client)
        if events & select.POLLOUT:
            client.loop_write()
        client.loop_misc()
        self._check_acknowledgements()

    def _patience(self, deadline: float) -> float:
        """Seconds until something is due though nothing happens."""
        now = time.monotonic()
        due = now + min(max(self._endpoint.keepalive / 8, 0.1), 5.0)
        if not self._opened:
            due = min(due, deadline)
        for _, until in self._sent.values():  # the first is the oldest
            due = min(due, until)
            break
        return max(due - now, 0.0) + 0.001

    def _publish(self, client: paho.Client, outgoing: Outgoing) -> None:
        info = client.publish(outgoing.topic, outgoing.payload, qos=1, retain=outgoing.retain)
        self._sent[info.mid] = (outgoing.token, time.monotonic() + self._times.acknowledge)

    def _check_acknowledgements(self) -> None:
        for _, until in self._sent.values():
            if time.monotonic() > until:
                what = "acknowledgement of a message"
                raise refusal.silent(self._endpoint, what, self._times.acknowledge)
            return

    def _check_size(self, client: paho.Client) -> None:
        """Refuses what would fill the memory, before it is there; paho has no limit of its own."""
        size = client._in_packet["remaining_length"]  # noqa: SLF001
        if size > PACKET_LIMIT:
            raise refusal.oversized(self._endpoint, size, PACKET_LIMIT)
        if client._in_messages:  # noqa: SLF001
            raise refusal.unintelligible(
                self._endpoint, "it sends at QoS 2, which nobody asked for"
            )

    def _say_goodbye(self, client: paho.Client, poller: select.poll) -> None:
        """Sends DISCONNECT, after which paho closes the socket."""
        deadline = time.monotonic() + _FAREWELL
        client.disconnect()
        while client.socket() is not None and (left := deadline - time.monotonic()) > 0:
            poller.modify(self._socket, select.POLLOUT)
            poller.poll(left * 1e3)
            client.loop_write()

    # -- called by paho, in the thread

    def _on_socket_open(self, _client: paho.Client, _data: object, sock: Any) -> None:
        self._socket = sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _on_connect(
        self, client: paho.Client, _data: object, _flags: object, code: Any, _properties: object
    ) -> None:
        if code.is_failure:
            self._refused = refusal.connack(self._endpoint, code.value)
            return
        self._up = True
        for topic in self._subscriptions:
            _, mid = client.subscribe(topic, qos=1)
            if mid is not None:
                self._unconfirmed[mid] = topic
        self._tell_opened()

    def _on_subscribe(
        self, _client: paho.Client, _data: object, mid: int, codes: Sequence[Any], _: object
    ) -> None:
        topic = self._unconfirmed.pop(mid, None)
        if topic is None:
            return
        if any(code.is_failure for code in codes):
            self._refused = refusal.subscription(self._endpoint, topic)
            raise self._refused
        self._tell_opened()

    def _tell_opened(self) -> None:
        if not self._unconfirmed:
            self._post(self._events.opened)

    def _on_publish(
        self, _client: paho.Client, _data: object, mid: int, _code: object, _properties: object
    ) -> None:
        sent = self._sent.pop(mid, None)
        if sent is not None:
            self._post(self._events.acknowledged, sent[0])

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if len(message.payload) > PACKET_LIMIT:  # it came faster than its size was looked at
            raise refusal.oversized(self._endpoint, len(message.payload), PACKET_LIMIT)
        if not self._room.acquire(timeout=self._times.take):
            raise LinkError("cannot take messages: the daemon is too busy", "look at its load")
        try:
            topic = message.topic
        except UnicodeDecodeError as exc:
            self._room.release()
            raise refusal.unintelligible(self._endpoint, "a topic that is no UTF-8") from exc
        self._post(self._take, Message(topic, bytes(message.payload), message.retain))

    def _take(self, message: Message) -> None:
        """In the event loop."""
        self._room.release()
        self._events.arrived(message)

    def _on_disconnect(
        self, _client: paho.Client, _data: object, _flags: object, code: Any, _properties: object
    ) -> None:
        self._said = code.getName()


def _bare(error: LinkError | None) -> LinkError | None:
    """The error without what led to it: that would keep the client and its buffers."""
    return error and LinkError(error.reason, error.fix, after=error.after, kind=error.kind)
