"""Fuzzing of what callers and model images bring: requests, pictures, programs.

- ``targets``: what is called with hostile bytes, and what must hold of it; ``seeds``, ``mutate``:
  the bytes; none of them knows a fuzzer.
- ``harness``: one target under atheris; ``__main__``: runs it and reports (``packaging/fuzz``).
- ``test_replay``: seeds and mutations of them, the same in every run; ``test_fuzz``: the fuzzer,
  for some seconds (``--long``).
"""
