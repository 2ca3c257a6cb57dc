"""The control edge over MQTT: controllers push models, the device reports, through outages.

Read ``dialect`` first: it is the seam between the link, which knows no topic, and the dialects,
which know no socket. Below it: ``link`` keeps one ``session`` with a broker, for ever; ``refusal``
says why it does not stand and what to do; ``outbox`` keeps what was not acknowledged. Above it:
``iothub`` and ``plain`` speak to controllers, and bring what is desired to one ``controller``.

Nothing here delays or stops inference: paho runs in a thread of its own, the disk and the network
are waited for in threads, every queue has a bound and every wait a limit. paho is imported when
the first link is made.
"""
