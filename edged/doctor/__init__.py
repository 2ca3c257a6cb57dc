"""``edged doctor``: looks at the whole device and says what is wrong with it, and what to do.

- ``check``: what a check is, and what it says.
- ``checks/``: the checks, one module a group; a new one is a function and a line in its group.
- ``examine``: runs them, each by itself and within its time.
- ``world``: everything a check may look at. Tests put another one in its place.
- ``endpoints``: where the configuration names certificates and other machines, in one place.
- ``reach``, ``selftest``, ``unit``: what takes more than a glance.

Nothing is changed on the device, and no daemon is needed.
"""
