"""What a worker says of itself is believed only as far as it makes sense."""

from __future__ import annotations

from edged.model.process import _facts


def test_facts_are_texts_and_counts() -> None:
    facts = _facts({"name": "m", "version": 3, "isa": "z" * 999, "memory": 7, "pid": 1})
    assert (facts.name, facts.version, facts.isa, facts.memory_bytes) == ("m", "", "z" * 256, 7)
    assert _facts({"memory_bytes": -7}).memory_bytes == 0


def test_a_predicted_time_is_a_number_or_none_is_said() -> None:
    assert _facts({"predicted_us": 1799.5}).predicted_us == 1799.5
    for nonsense in (-1, True, "7", None, 1e300, float("nan")):
        assert _facts({"predicted_us": nonsense}).predicted_us == 0
