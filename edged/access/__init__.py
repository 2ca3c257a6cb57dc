"""Who may call and do what: roles, tokens, certificates, and the record of what was done.

Nothing here knows gRPC: ``edged.rpc`` asks, and the command line and the doctor look.

- ``roles``: what a method needs; ``tokens``: the file of them; ``certificates``: the daemon's own,
  callers', and those denied;
- ``attempts``: how wrong credentials are slowed; ``audit``: administrative acts, kept;
- ``watched``: files that are read again when they change.
"""
