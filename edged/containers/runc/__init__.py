"""The ``runc`` runtime: a worker in a container of its own, which it cannot look out of.

- ``runtime`` makes containers and clears away what a killed daemon left; ``container`` is one.
- ``bundle`` writes what ``runc`` is told: the root folder and config.json, made of ``view`` (what
  is visible inside), ``identity`` (who the worker is), ``seccomp`` (which system calls it has) and
  ``cgroups`` (what it may use).
- ``command`` calls the program, in processes of ``children``.
"""
