"""What a worker says beside an answer is believed only as far as it makes sense."""

from __future__ import annotations

from typing import Any

import pytest

from edged.messages.link import Frame, Kind
from edged.model.process import _facts, _reply
from edged.rpc.front import Class


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"npu": 5, "onnx": 0}, {"npu": 5, "onnx": 0}),
        ({"npu": -1, "x": "5", "y": True, "z": 1.5, "w": 1 << 70}, {}),
        (None, {}),
        ([1, 2], {}),
        ({"x" * 1000: 1}, {"x" * 256: 1}),
    ],
)
def test_times_are_counts(times: Any, expected: dict[str, int]) -> None:
    assert _reply(Frame(Kind.RESULT, 1, {"times_us": times})).times_us == expected


def test_only_so_many_stages_and_classes_are_kept() -> None:
    times = {str(n): n for n in range(1000)}
    top = [{"index": n, "score": 0.5} for n in range(1000)]
    reply = _reply(Frame(Kind.RESULT, 1, {"times_us": times, "top": top}))
    assert (len(reply.times_us), len(reply.top)) == (64, 16)


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        (None, ()),
        ({"index": 1, "label": "dent", "score": 1}, (Class(1, "dent", 1.0),)),
        ([{"index": 1, "label": None, "score": 0.5}], (Class(1, "", 0.5),)),
        ([{"index": -1, "score": 0.5}, {"index": 1}, {"index": 1, "score": True}, 7], ()),
        ([{"index": 1, "label": "y" * 999, "score": 0.5}], (Class(1, "y" * 256, 0.5),)),
    ],
)
def test_classes_have_index_label_and_score(top: Any, expected: tuple[Class, ...]) -> None:
    assert _reply(Frame(Kind.RESULT, 1, {"top": top})).top == expected


def test_facts_are_texts_and_counts() -> None:
    facts = _facts({"name": "m", "version": 3, "isa": "z" * 999, "memory": 7, "pid": 1})
    assert (facts.name, facts.version, facts.isa, facts.memory_bytes) == ("m", "", "z" * 256, 7)
    assert _facts({"memory_bytes": -7}).memory_bytes == 0
