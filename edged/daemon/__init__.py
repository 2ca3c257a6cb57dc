"""The daemon: what joins the parts, and nothing else.

``parts`` builds them, ``daemon`` starts and stops them in order, ``status`` says how they are,
``supervision`` tells the service manager, and ``remote`` lets a controller far away see and steer
them over MQTT.
"""

from edged.daemon.daemon import run

__all__ = ["run"]
