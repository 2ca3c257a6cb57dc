"""Runs a model's worker apart from the daemon: create, start, state, kill, delete.

``runtime`` is the protocol that the daemon knows, ``process`` the one that needs nothing else on
the host, ``runc`` the one that shuts the worker in.
"""
