"""A client comes back when the server says so, later each time, and not for ever."""

from __future__ import annotations

import pytest
from google.protobuf import duration_pb2

from edged.client.retry import Retry
from edged.messages import RetryInfo, RpcStatus, StatusProto

SAID = dict[str, "str | bytes"]


def most(low: float, high: float) -> float:
    return high


def least(low: float, high: float) -> float:
    return low


def hint(text: str | bytes) -> SAID:
    return {"grpc-retry-pushback-ms": text}


def info(seconds: int, nanos: int = 0) -> SAID:
    status = RpcStatus(code=14)
    status.details.add().Pack(StatusProto(error_message="another detail"))
    retry = RetryInfo()
    retry.retry_delay.MergeFromString(
        duration_pb2.Duration(seconds=seconds, nanos=nanos).SerializeToString()
    )
    status.details.add().Pack(retry)
    return {"grpc-status-details-bin": status.SerializeToString()}


def test_pauses_are_random_up_to_a_bound_that_doubles() -> None:
    retry = Retry(attempts=9, first=0.1, longest=1.0)
    longest = [retry.pause("UNAVAILABLE", {}, attempt, most) for attempt in range(1, 9)]
    assert longest == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]
    assert retry.pause("UNAVAILABLE", {}, 3, least) == 0.0
    pauses = {retry.pause("UNAVAILABLE", {}, 3) for _ in range(20)}
    assert len(pauses) > 1
    assert all(pause is not None and 0.0 <= pause <= 0.4 for pause in pauses)


def test_the_number_of_tries_is_bounded() -> None:
    assert Retry(attempts=3).pause("UNAVAILABLE", {}, 2) is not None
    assert Retry(attempts=3).pause("UNAVAILABLE", {}, 3) is None
    assert Retry(attempts=1).pause("UNAVAILABLE", hint("1"), 1) is None


@pytest.mark.parametrize(
    "code",
    [
        *("DEADLINE_EXCEEDED", "INTERNAL", "INVALID_ARGUMENT", "NOT_FOUND", "CANCELLED"),
        *("FAILED_PRECONDITION", "UNIMPLEMENTED", "UNKNOWN", "UNAUTHENTICATED", "DATA_LOSS"),
    ],
)
@pytest.mark.parametrize("said", [{}, hint("10")])
def test_what_may_have_run_or_cannot_be_served_is_not_asked_again(code: str, said: SAID) -> None:
    assert Retry().pause(code, said, 1) is None


def test_what_does_not_fit_is_asked_again_only_if_the_server_says_when() -> None:
    assert Retry().pause("RESOURCE_EXHAUSTED", {}, 1) is None
    assert Retry().pause("RESOURCE_EXHAUSTED", hint("100"), 1, least) == 0.1


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (hint("250"), 0.25),
        (hint(b"250"), 0.25),
        (hint("0"), 0.0),
        (info(2), 2.0),
        (info(0, 5_000_000), 0.005),
        (hint("7") | info(9), 0.007),
    ],
)
def test_the_servers_word_comes_before_ours(said: SAID, seconds: float) -> None:
    assert Retry().pause("UNAVAILABLE", said, 1, least) == pytest.approx(seconds)
    longest = Retry(first=0.5).pause("UNAVAILABLE", said, 1, most)
    assert longest == pytest.approx(seconds + 0.5)


@pytest.mark.parametrize(
    "said",
    [hint("-1"), hint(""), hint("soon"), hint("60001"), hint("9" * 50), info(-1), info(3600)],
)
def test_a_server_can_say_never(said: SAID) -> None:
    assert Retry().pause("UNAVAILABLE", said, 1) is None


@pytest.mark.parametrize("details", [b"\xff\xff", b"", b"\x1a\x02\x0a\x00"])
def test_details_that_cannot_be_read_say_nothing(details: bytes) -> None:
    assert Retry().pause("UNAVAILABLE", {"grpc-status-details-bin": details}, 1) is not None
    assert Retry().pause("RESOURCE_EXHAUSTED", {"grpc-status-details-bin": details}, 1) is None
