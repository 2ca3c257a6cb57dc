"""What callers of a running device get, and what they are told when they get nothing."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import Future

import grpc
import pytest

from edged.errors import RequestError
from edged.messages import PredictRequest
from tests.e2e.busy import Busy
from tests.e2e.device import Device, call, raw, refusal
from tests.fakes import images


def test_the_daemon_passes_bytes_both_ways_as_they_are(serving: Device) -> None:
    body = bytes(range(256)) * 3000
    assert serving.predict(body) == b"fake:" + body


def test_both_sockets_reach_the_same_model(serving: Device) -> None:
    with serving.channel(f"unix:{serving.run}/grpc.sock") as channel:
        assert call(channel, b"a") == b"fake:a"
    with serving.channel(serving.address) as channel:
        assert call(channel, b"b") == b"fake:b"


def test_the_way_of_a_request_is_in_the_trailing_metadata(serving: Device) -> None:
    with serving.channel() as channel:
        _, first = raw(channel).with_call(b"a", timeout=30)
        _, second = raw(channel).with_call(b"b", timeout=30, metadata=(("edged-top", "3"),))
    said = dict(first.trailing_metadata())
    assert said["edged-model-digest"] == serving.status().model.digest
    assert json.loads(said["edged-times-us"]) == {"npu": 1234, "onnx": 5}
    assert json.loads(said["edged-top"]) == [{"index": 1, "label": "dent", "score": 0.75}]
    assert int(said["edged-queued-us"]) >= int(said["edged-parked-us"]) >= 0
    assert said["edged-request-id"] != dict(second.trailing_metadata())["edged-request-id"]
    assert len(json.loads(dict(second.trailing_metadata())["edged-top"])) == 3


def test_without_a_model_callers_are_told_so(device: Device) -> None:
    device.start()
    error = refusal(device, b"x")
    assert error.code == "NOT_FOUND"
    assert "Servable not found for request" in str(error)
    assert "edged deploy" in str(error)
    assert device.status().counters.refused == 1


def test_an_error_of_the_worker_reaches_the_caller_with_its_code(serving: Device) -> None:
    error = refusal(serving, b"refuse INVALID_ARGUMENT input 'x' has shape [3], expected [4]")
    assert error.code == "INVALID_ARGUMENT"
    assert str(error) == "input 'x' has shape [3], expected [4]"
    assert serving.predict(b"next") == b"fake:next"


def test_a_code_that_does_not_exist_is_internal(serving: Device) -> None:
    assert refusal(serving, b"refuse NO_SUCH_CODE text").code == "INTERNAL"


def test_a_long_error_is_cut(serving: Device) -> None:
    error = refusal(serving, b"refuse INVALID_ARGUMENT " + b"x" * 3000)
    assert str(error).endswith("...TRUNCATED")
    assert len(str(error)) < 1100


def test_a_message_over_the_limit_is_refused_and_the_next_is_served(serving: Device) -> None:
    options = (("grpc.max_send_message_length", -1),)
    with grpc.insecure_channel(serving.address, options=options) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            raw(channel)(bytes(64 * 1024 * 1024 + 1), timeout=60)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "67108865" in str(caught.value.details())
        assert call(channel, b"next") == b"fake:next"
    assert serving.ran() == [b"next"]


def test_a_message_at_the_limit_is_served(serving: Device) -> None:
    body = bytes(64 * 1024 * 1024)
    options = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
    with grpc.insecure_channel(serving.address, options=options) as channel:
        with pytest.raises(RequestError) as caught:
            # The answer repeats the request and its name: it does not fit any more.
            call(channel, body)
        assert caught.value.code in ("RESOURCE_EXHAUSTED", "INTERNAL")
        assert len(call(channel, b"size 60000000")) == 60000000


def test_an_unknown_method_is_unimplemented(serving: Device) -> None:
    with serving.channel() as channel:
        for method in ("/tensorflow.serving.PredictionService/Regress", "/no.such.Service/Method"):
            with pytest.raises(grpc.RpcError) as caught:
                raw(channel, method)(b"", timeout=30)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_operators_methods_are_not_on_the_data_edge(serving: Device) -> None:
    with serving.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        raw(channel, "/edged.control.v1.Control/Undeploy")(b"", timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_requests_run_one_at_a_time_in_the_order_they_came(busy: Busy) -> None:
    later: list[Future[bytes]] = []
    for number in range(5):
        later.append(busy.submit(b"%d" % number))
        busy.wait_until_queued(number + 1)
    busy.open()
    assert busy.running.result(30) == b"fake:" + busy.body
    assert [future.result(30) for future in later] == [b"fake:%d" % n for n in range(5)]
    assert busy.device.ran() == [busy.body, b"0", b"1", b"2", b"3", b"4"]


def test_a_request_that_was_cancelled_while_it_waited_never_runs(busy: Busy) -> None:
    # The worker has the first of them at hand already; both are taken back.
    waiting = []
    for number in range(2):
        waiting.append(raw(busy.channel).future(b"cancelled %d" % number, timeout=60))
        busy.wait_until_queued(number + 1)
    last = busy.submit(b"last")
    busy.wait_until_queued(3)
    for each in waiting:
        each.cancel()
    busy.wait_until_queued(2)  # what is at hand waits until the worker has skipped it
    busy.open()
    busy.running.result(30)
    assert last.result(30) == b"fake:last"
    assert call(busy.channel, b"next") == b"fake:next"
    assert busy.device.ran() == [busy.body, b"last", b"next"]
    assert busy.device.status().counters.cancelled == 2


def test_requests_that_expire_while_they_wait_never_run(busy: Busy) -> None:
    # One that the worker has at hand already, and one that it has not.
    expiring = [busy.submit(b"expired", 2.0) for _ in range(2)]
    busy.wait_until_queued(2)
    for each in expiring:
        error = each.exception(30)
        assert isinstance(error, RequestError)
        assert error.code == "DEADLINE_EXCEEDED"
    busy.wait_until_queued(1)
    # The server's clock for a call begins later than the caller's, and gRPC rounds up.
    time.sleep(0.3)
    busy.open()
    busy.running.result(30)
    assert call(busy.channel, b"next") == b"fake:next"
    assert busy.device.ran() == [busy.body, b"next"]
    counters = busy.device.status().counters
    assert (counters.expired, counters.cancelled, counters.failed) == (2, 0, 0)


def test_a_full_queue_refuses_and_says_how_full_it_is(busy: Busy) -> None:
    waiting = [raw(busy.channel).future(b"w", timeout=60) for _ in range(256)]
    busy.wait_until_queued(256)
    error = refusal(busy.device, b"one too many")
    assert error.code == "RESOURCE_EXHAUSTED"
    assert "256" in str(error)
    busy.open()
    assert busy.running.result(30)
    assert all(future.result() == b"fake:w" for future in waiting)
    counters = busy.device.status().counters
    assert (counters.answered, counters.refused, counters.queued) == (257, 1, 0)


def test_a_worker_that_breaks_the_protocol_is_replaced(serving: Device) -> None:
    pid = serving.status().model.worker_pid
    assert refusal(serving, b"garbage").code == "INTERNAL"
    assert serving.predict(b"next") == b"fake:next"
    assert serving.status().model.worker_pid != pid


def test_health_says_what_the_daemon_is(device: Device) -> None:
    from edged import messages

    device.start()
    with device.channel() as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            messages.HealthCheckRequest.SerializeToString,
            messages.HealthCheckResponse.FromString,
        )
        service = "tensorflow.serving.PredictionService"
        for name in ("", service):
            health = check(messages.HealthCheckRequest(service=name), timeout=30)
            assert health.status == messages.ServingStatus.NOT_SERVING
        device.deploy(images.write(device.folder / "image"))
        health = check(messages.HealthCheckRequest(service=service), timeout=30)
        assert health.status == messages.ServingStatus.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            check(messages.HealthCheckRequest(service="no.such"), timeout=30)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_client_waits_until_there_is_a_model(device: Device) -> None:
    device.start()
    with device.client() as client:
        with pytest.raises(RequestError) as caught:
            client.wait_ready(0.3)
        assert caught.value.code == "DEADLINE_EXCEEDED"
        waiter = threading.Thread(target=client.wait_ready, args=(60,))
        waiter.start()
        device.deploy(images.write(device.folder / "image"))
        waiter.join(30)
        assert not waiter.is_alive()
        client.wait_ready(5)


def test_a_request_of_nothing_is_passed_on(serving: Device) -> None:
    assert serving.predict(PredictRequest().SerializeToString()) == b"fake:"
