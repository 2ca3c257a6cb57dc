"""The daemon: what joins the parts, and nothing else.

``parts`` builds them, ``daemon`` starts and stops them in order, ``status`` says how they are, and
``supervision`` tells the service manager. ``operations`` is what operators may ask for, ``remote``
what a controller far away may, over MQTT; what both may change is in ``changes``, and is recorded.
"""

from edged.daemon.daemon import run

__all__ = ["run"]
