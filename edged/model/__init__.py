"""The daemon's one model: the process that holds it, the link to it, and keeping it in service."""
