"""The control path: a model comes into service, or what served before serves on.

``states`` is the table, ``steps`` what happens in each state, ``reconciler`` the one who goes from
state to state, ``store`` what is on the disk, ``ports`` what is asked of the rest of the daemon.
"""
