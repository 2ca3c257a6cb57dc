"""What an application gets from any server of TensorFlow Serving's Predict, and from none."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from edged import messages
from edged.__main__ import main
from edged.client import Class, Client, Retry, TensorInfo, VersionStatus
from edged.errors import RequestError
from edged.messages.arrays import to_tensor

Answer = Callable[[messages.PredictRequest, Any], messages.PredictResponse]


class Server:
    """A server that answers as the test says."""

    def __init__(
        self,
        answer: Answer,
        credentials: grpc.ServerCredentials | None = None,
        further: Sequence[grpc.GenericRpcHandler] = (),
    ) -> None:
        self.requests: list[messages.PredictRequest] = []
        self.metadata: list[dict[str, Any]] = []
        self._answer = answer
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        handler = grpc.unary_unary_rpc_method_handler(
            self._predict,
            messages.PredictRequest.FromString,
            messages.PredictResponse.SerializeToString,
        )
        service = "tensorflow.serving.PredictionService"
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"Predict": handler}), *further)
        )
        if credentials is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self.target = f"127.0.0.1:{port}"
        self._server.start()

    def _predict(self, request: messages.PredictRequest, context: Any) -> messages.PredictResponse:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        return self._answer(request, context)

    def stop(self) -> None:
        self._server.stop(None).wait()


def scores(*names: str, said: dict[str, str] | None = None) -> Answer:
    """Returns an answer with three scores under each name, and what is said beside it."""

    def answer(request: messages.PredictRequest, context: Any) -> messages.PredictResponse:
        response = messages.PredictResponse()
        response.model_spec.name = "surface"
        response.model_spec.version.value = 3
        for index, name in enumerate(names):
            values = np.array([[0.25, 0.5, 0.25 + (index if name.startswith("other") else 0)]])
            response.outputs[name].CopyFrom(to_tensor(values.astype(np.float32)))
        context.set_trailing_metadata(tuple((said or {}).items()))
        return response

    return answer


@pytest.fixture
def served() -> Iterator[Callable[[Answer], tuple[Server, Client]]]:
    ends: list[Callable[[], None]] = []

    def serve(answer: Answer) -> tuple[Server, Client]:
        server = Server(answer)
        client = Client(server.target)
        ends.extend([client.close, server.stop])
        return server, client

    yield serve
    for end in ends:
        end()


def test_inputs_are_sent_as_they_are_given(served: Any) -> None:
    server, client = served(scores("p"))
    client.predict(
        {"image": b"jpeg", "size": np.array([2, 3], np.int32)},
        outputs=["p"],
        model="m",
        signature="s",
        top=3,
    )
    (request,) = server.requests
    assert request.inputs["image"].string_val == [b"jpeg"]
    assert request.inputs["size"].dtype == messages.DataType.DT_INT32
    assert list(request.output_filter) == ["p"]
    assert (request.model_spec.name, request.model_spec.signature_name) == ("m", "s")
    assert server.metadata[0]["edged-top"] == "3"


def test_nothing_is_said_that_was_not_asked(served: Any) -> None:
    server, client = served(scores("p"))
    client.predict({"x": np.zeros(1, np.float32)})
    assert not server.requests[0].HasField("model_spec")
    assert "edged-top" not in server.metadata[0]
    assert "authorization" not in server.metadata[0]


def test_what_edged_says_beside_its_answer_is_in_the_prediction(served: Any) -> None:
    said = {
        "edged-top": json.dumps([{"index": 1, "label": "d\u00e9nt", "score": 0.5}]),
        "edged-times-us": '{"npu": 900}',
        "edged-queued-us": "70",
        "edged-parked-us": "60",
        "edged-model-digest": "sha256:1",
        "edged-request-id": "abc-1",
    }
    _, client = served(scores("p", said=said))
    answer = client.predict({"x": b""})
    assert answer.top == (Class(1, "d\u00e9nt", 0.5),)
    assert answer.times_us == {"npu": 900}
    assert (answer.queued_us, answer.parked_us) == (70, 60)
    assert (answer.digest, answer.request_id) == ("sha256:1", "abc-1")
    assert (answer.model, answer.version) == ("surface", 3)
    assert answer.total_us > 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("edged-top", "{"),
        ("edged-top", "7"),
        ("edged-top", '[{"index": 1}]'),
        ("edged-top", '[{"index": "x", "label": "", "score": 1}]'),
        ("edged-times-us", "[" * 5000),
        ("edged-queued-us", "soon"),
    ],
)
def test_metadata_that_makes_no_sense_is_an_answer_that_makes_none(
    served: Any, key: str, value: str
) -> None:
    _, client = served(scores("p", said={key: value}))
    with pytest.raises(RequestError, match="cannot read the answer's metadata") as caught:
        client.predict({"x": b""})
    assert caught.value.code == "INTERNAL"


def test_another_server_says_nothing_and_is_fine(served: Any) -> None:
    _, client = served(lambda request, context: messages.PredictResponse())
    answer = client.predict({"x": b""})
    assert (answer.outputs, answer.top, answer.times_us, answer.version) == ({}, (), {}, None)


def test_a_file_is_scored_without_the_batch(served: Any, tmp_path: Path) -> None:
    server, client = served(scores("p"))
    (tmp_path / "a.jpg").write_bytes(b"jpeg")
    np.testing.assert_array_equal(client.score_file(tmp_path / "a.jpg"), [0.25, 0.5, 0.25])
    assert server.requests[0].inputs["images"].string_val == [b"jpeg"]
    client.score_file(str(tmp_path / "a.jpg"), "Placeholder:0", outputs=["p"])
    assert list(server.requests[1].inputs) == ["Placeholder:0"]
    with pytest.raises(FileNotFoundError):
        client.score_file(tmp_path / "none.jpg")


def test_two_names_of_one_output_are_one_and_two_outputs_are_two(served: Any) -> None:
    _, client = served(scores("p", "alias"))
    assert client.score_numpy_arrays({"x": np.zeros(1, np.float32)}).shape == (1, 3)
    _, client = served(scores("p", "other"))
    both = client.score_numpy_arrays({"x": np.zeros(1, np.float32)})
    assert sorted(both) == ["other", "p"]


def test_an_error_has_the_servers_code_and_words(served: Any) -> None:
    def refuse(request: messages.PredictRequest, context: Any) -> messages.PredictResponse:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "input 'x' has shape [3]")
        raise AssertionError

    _, client = served(refuse)
    with pytest.raises(RequestError, match=r"input 'x' has shape \[3\]") as caught:
        client.predict({"x": b""})
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_server_that_does_not_answer_in_time_is_a_deadline(served: Any) -> None:
    release = threading.Event()

    def slow(request: messages.PredictRequest, context: Any) -> messages.PredictResponse:
        release.wait(30)
        return messages.PredictResponse()

    server, client = served(slow)
    with pytest.raises(RequestError, match=f"no answer from {server.target} in time") as caught:
        client.predict({"x": b""}, timeout=0.1)
    assert caught.value.code == "DEADLINE_EXCEEDED"
    release.set()


def test_a_servers_own_words_about_the_time_are_kept(served: Any) -> None:
    def late(request: messages.PredictRequest, context: Any) -> messages.PredictResponse:
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "it waited too long")
        raise AssertionError

    _, client = served(late)
    with pytest.raises(RequestError, match="it waited too long") as caught:
        client.predict({"x": b""})
    assert caught.value.code == "DEADLINE_EXCEEDED"


def test_no_server_is_said(tmp_path: Path) -> None:
    with Client(f"unix:{tmp_path}/none.sock") as client:
        with pytest.raises(RequestError, match="cannot reach unix:") as caught:
            client.predict({"x": b""})
        assert caught.value.code == "UNAVAILABLE"
        with pytest.raises(RequestError) as caught:
            client.wait_ready(0.2)
        assert caught.value.code == "DEADLINE_EXCEEDED"


def test_a_server_without_health_is_ready_when_it_is_there(served: Any) -> None:
    _, client = served(scores("p"))
    client.wait_ready(10)


def refusing(code: str, times: int, **said: str) -> Answer:
    """Returns an answer that refuses so many times, with metadata, and then has scores."""
    left = iter(range(times))

    def answer(request: messages.PredictRequest, context: Any) -> messages.PredictResponse:
        if next(left, None) is not None:
            context.set_trailing_metadata(
                tuple((key.replace("_", "-"), value) for key, value in said.items())
            )
            context.abort(grpc.StatusCode[code], "not now")
        return scores("p")(request, context)

    return answer


def test_a_busy_server_is_asked_again_when_it_says_so(served: Any) -> None:
    server, client = served(refusing("RESOURCE_EXHAUSTED", 2, grpc_retry_pushback_ms="30"))
    began = time.monotonic()
    answer = client.predict({"x": b""})
    assert time.monotonic() - began >= 0.06
    assert (answer.model, answer.attempts, len(server.requests)) == ("surface", 3, 3)


def test_a_server_that_was_away_is_asked_again(served: Any) -> None:
    server, client = served(refusing("UNAVAILABLE", 1))
    assert client.predict({"x": b""}).attempts == 2
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("INTERNAL", {}),
        ("DEADLINE_EXCEEDED", {}),
        ("INTERNAL", {"grpc_retry_pushback_ms": "1"}),
        ("RESOURCE_EXHAUSTED", {}),
        ("UNAVAILABLE", {"grpc_retry_pushback_ms": "-1"}),
    ],
)
def test_what_must_not_be_asked_again_is_not(served: Any, code: str, said: dict[str, str]) -> None:
    server, client = served(refusing(code, 1, **said))
    with pytest.raises(RequestError) as caught:
        client.predict({"x": b""})
    assert caught.value.code == code
    assert len(server.requests) == 1


def test_a_server_that_stays_away_is_given_up(served: Any) -> None:
    server = served(refusing("UNAVAILABLE", 100))[0]
    with (
        Client(server.target, retry=Retry(attempts=3, first=0.01)) as client,
        pytest.raises(RequestError, match="not now") as caught,
    ):
        client.predict({"x": b""}, timeout=None)
    assert caught.value.code == "UNAVAILABLE"
    assert len(server.requests) == 3


def test_no_pause_takes_longer_than_the_caller_has(served: Any) -> None:
    server, client = served(refusing("UNAVAILABLE", 100, grpc_retry_pushback_ms="5000"))
    began = time.monotonic()
    with pytest.raises(RequestError, match="not now") as caught:
        client.predict({"x": b""}, timeout=2.0)
    # The cause, at once; not a deadline, later.
    assert time.monotonic() - began < 1.0
    assert caught.value.code == "UNAVAILABLE"
    assert len(server.requests) == 1


def test_all_tries_share_the_callers_time(served: Any) -> None:
    left: list[float] = []

    def refuse(request: messages.PredictRequest, context: Any) -> messages.PredictResponse:
        left.append(context.time_remaining())
        context.set_trailing_metadata((("grpc-retry-pushback-ms", "200"),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        raise AssertionError

    client = served(refuse)[1]
    with pytest.raises(RequestError):
        client.predict({"x": b""}, timeout=9.0)
    assert len(left) == 5
    # Four pauses of 0.2 s at least; on the wire a deadline has two or three digits.
    assert left[-1] <= left[0] - 0.6


def test_a_client_that_is_closed_gives_up_its_pause(served: Any) -> None:
    asked = threading.Event()

    def refuse(request: messages.PredictRequest, context: Any) -> messages.PredictResponse:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", "50000"),))
        asked.set()
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        raise AssertionError

    client = served(refuse)[1]
    with futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.predict, {"x": b""}, timeout=None)
        assert asked.wait(30)
        client.close()
        # Closed during the call, or during the pause after it.
        with pytest.raises(RequestError) as caught:
            call.result(30)
    assert caught.value.code in ("UNAVAILABLE", "CANCELLED")


def test_one_output_may_be_named_without_a_list(served: Any) -> None:
    server, client = served(scores("probabilities"))
    client.score_numpy_arrays({"x": np.zeros(1, np.float32)}, outputs="probabilities")
    assert list(server.requests[0].output_filter) == ["probabilities"]


def test_tensors_are_sent_as_they_are(served: Any) -> None:
    server, client = served(scores("p"))
    typed = messages.TensorProto(dtype=messages.DataType.DT_FLOAT, float_val=[1.0, 2.0])
    typed.tensor_shape.dim.add(size=2)
    values = np.array([[3, 4]], np.int32)
    sent = {
        "typed": typed,
        "picture": (b"jpeg", [1], 7),
        "raw": (values.tobytes(), [1, 2], messages.DataType.DT_INT32),
    }
    np.testing.assert_array_equal(client.score_tensors(sent), [[0.25, 0.5, 0.25]])
    (request,) = server.requests
    assert request.inputs["typed"] == typed
    assert request.inputs["picture"].string_val == [b"jpeg"]
    assert [dim.size for dim in request.inputs["picture"].tensor_shape.dim] == [1]
    assert request.inputs["raw"] == to_tensor(values)


def test_tensors_of_another_librarys_messages_are_tensors_too(served: Any) -> None:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="other.proto", package="other", syntax="proto3")
    file.message_type.add(name="T").field.add(name="dtype", number=1, type=5, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    other = message_factory.GetMessageClass(pool.FindMessageTypeByName("other.T"))
    server, client = served(scores("p"))
    client.score_tensors({"x": other(dtype=9)})
    assert server.requests[0].inputs["x"].dtype == messages.DataType.DT_INT64


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        ((b"jpeg", [2], 7), r"shape \[2\]: it has 2 strings, got 1"),
        ((b"1234567", [2], 1), r"shape \[2\]: it has 8 bytes, got 7"),
        ((b"", [-1, 0], 1), r"shape \[-1, 0\]"),
        ((b"", [0], 8), "type number 8"),
        ((b"", [0], 99), "type number 99"),
    ],
)
def test_tensors_that_cannot_be_are_not_sent(served: Any, tensor: Any, text: str) -> None:
    server, client = served(scores("p"))
    with pytest.raises(RequestError, match=text) as caught:
        client.score_tensors({"x": tensor})
    assert caught.value.code == "INVALID_ARGUMENT"
    assert not server.requests


def test_the_best_class_has_its_label(served: Any) -> None:
    top = [{"index": 1, "label": "dent", "score": 0.5}, {"index": 0, "label": "ok", "score": 0.4}]
    _, client = served(scores("p", said={"edged-top": json.dumps(top)}))
    assert client.predict({"x": b""}, top=2).label == "dent"
    _, client = served(scores("p"))
    assert client.predict({"x": b""}).label == ""


def about(
    metadata: messages.GetModelMetadataResponse | None = None,
    status: messages.GetModelStatusResponse | None = None,
) -> tuple[list[grpc.GenericRpcHandler], list[Any]]:
    """Returns services that say this about a model, and the requests they were asked."""
    asked: list[Any] = []

    def say(service: str, method: str, request: Any, reply: Any) -> grpc.GenericRpcHandler:
        def answer(question: Any, context: Any) -> Any:
            asked.append(question)
            return reply

        handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
            answer, request.FromString, lambda message: message.SerializeToString()
        )
        return grpc.method_handlers_generic_handler(service, {method: handler})

    prediction, model = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
    first = say(prediction, "GetModelMetadata", messages.GetModelMetadataRequest, metadata)
    second = say(model, "GetModelStatus", messages.GetModelStatusRequest, status)
    return [first, second], asked


def test_the_models_inputs_and_outputs_are_known_before_it_is_asked() -> None:
    reply, known = messages.GetModelMetadataResponse(), messages.SignatureDefMap()
    reply.model_spec.name = "surface"
    reply.model_spec.version.value = 3
    signature = known.signature_def["serving_default"]
    signature.inputs["images"].name = "images:0"
    signature.inputs["images"].dtype = messages.DataType.DT_STRING
    signature.inputs["images"].tensor_shape.dim.add(size=-1)
    signature.outputs["p"].dtype = messages.DataType.DT_FLOAT
    signature.outputs["p"].tensor_shape.unknown_rank = True
    signature.outputs["odd"].dtype = 14
    reply.metadata["signature_def"].Pack(known)
    further, asked = about(reply)
    server = Server(scores("p"), further=further)
    with Client(server.target) as client:
        model = client.metadata()
        client.metadata("surface")
    server.stop()
    assert (model.model, model.version) == ("surface", 3)
    assert model.inputs == {"images": TensorInfo("images:0", "string", (-1,))}
    assert model.outputs["p"] == TensorInfo("", "float32", None)
    assert model.outputs["odd"].type == "number 14"
    assert not asked[0].HasField("model_spec")
    assert asked[1].model_spec.name == "surface"


@pytest.mark.parametrize("value", [b"", b"\xff\xff"])
def test_metadata_that_makes_no_sense_is_said(value: bytes) -> None:
    reply = messages.GetModelMetadataResponse()
    packed = reply.metadata["signature_def"]
    packed.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    packed.value = value
    server = Server(scores("p"), further=about(reply)[0])
    with Client(server.target) as client, pytest.raises(RequestError, match="no signature"):
        client.metadata()
    server.stop()


def test_the_states_of_the_models_versions_have_names() -> None:
    reply = messages.GetModelStatusResponse()
    reply.model_version_status.add(version=3, state=messages.VersionState.AVAILABLE)
    ended = reply.model_version_status.add(version=4, state=messages.VersionState.END)
    ended.status.error_code = messages.ErrorCode.UNAVAILABLE
    ended.status.error_message = "it does not load"
    reply.model_version_status.add(version=5, state=99)
    further, asked = about(status=reply)
    server = Server(scores("p"), further=further)
    with Client(server.target) as client:
        assert client.status("surface") == (
            VersionStatus(3, "AVAILABLE"),
            VersionStatus(4, "END", "it does not load", "UNAVAILABLE"),
            VersionStatus(5, "UNKNOWN"),
        )
    server.stop()
    assert asked[0].model_spec.name == "surface"


def test_a_server_that_knows_nothing_of_its_model_says_so(served: Any) -> None:
    _, client = served(scores("p"))
    for ask in (client.metadata, client.status):
        with pytest.raises(RequestError) as caught:
            ask()
        assert caught.value.code == "UNIMPLEMENTED"


def test_a_token_goes_with_every_call() -> None:
    server = Server(scores("p"))
    with Client(server.target, token="secret") as client:
        client.predict({"x": b""})
    server.stop()
    assert server.metadata[0]["authorization"] == "Bearer secret"


def certificate(folder: Path, name: str) -> None:
    """Makes NAME.pem, signed by itself, and NAME.key."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
    command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
    subprocess.run(command, check=True, capture_output=True)


def test_a_server_is_believed_only_with_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: cannot make certificates")
    for name in ("server", "stranger"):
        certificate(tmp_path, name)
    pair = ((tmp_path / "server.key").read_bytes(), (tmp_path / "server.pem").read_bytes())
    server = Server(scores("p"), grpc.ssl_server_credentials([pair]))
    with Client(server.target, tls=tmp_path / "server.pem") as client:
        assert client.predict({"x": b""}).model == "surface"
    given = grpc.ssl_channel_credentials((tmp_path / "server.pem").read_bytes())
    with Client(server.target, tls=given, token="secret") as client:
        client.predict({"x": b""})
    assert server.metadata[-1]["authorization"] == "Bearer secret"
    with (
        Client(server.target, tls=tmp_path / "stranger.pem") as client,
        pytest.raises(RequestError) as caught,
    ):
        client.predict({"x": b""})
    assert caught.value.code == "UNAVAILABLE"
    server.stop()


def test_a_server_that_wants_to_know_its_callers_is_shown_a_certificate(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: cannot make certificates")
    for name in ("server", "caller"):
        certificate(tmp_path, name)
    files = [tmp_path / name for name in ("server.pem", "caller.pem", "caller.key")]
    pair = ((tmp_path / "server.key").read_bytes(), files[0].read_bytes())
    wants = grpc.ssl_server_credentials([pair], files[1].read_bytes(), require_client_auth=True)
    server = Server(scores("p"), wants)
    with Client(server.target, tls=files) as client:
        assert client.predict({"x": b""}).model == "surface"
    with Client(server.target, tls=files[0]) as client, pytest.raises(RequestError) as caught:
        client.predict({"x": b""}, timeout=20)
    assert caught.value.code == "UNAVAILABLE"
    server.stop()


def test_the_command_line_trusts_and_is_known_as_the_client_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: cannot make certificates")
    for name in ("server", "caller"):
        certificate(tmp_path, name)
    files = [tmp_path / name for name in ("server.pem", "caller.pem", "caller.key")]
    pair = ((tmp_path / "server.key").read_bytes(), files[0].read_bytes())
    wants = grpc.ssl_server_credentials([pair], files[1].read_bytes(), require_client_auth=True)
    server = Server(scores("p"), wants)
    (tmp_path / "a.jpg").write_bytes(b"jpeg")
    (tmp_path / "token").write_text("secret\n")
    asked = ["predict", str(tmp_path / "a.jpg"), "--json", "--target", server.target]
    tls = [argument for file in files for argument in ("--tls", str(file))]
    assert main([*asked, *tls, "--token", str(tmp_path / "token")]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "surface"
    assert server.metadata[-1]["authorization"] == "Bearer secret"
    assert main([*asked, *tls[:2], "--timeout", "5"]) == 1
    server.stop()


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (None, "cannot read "),
        (b"", "expected 1 to 4096 bytes, got none"),
        (b"x" * 4097, "got more"),
        (b"\xff", "it is not text"),
        (b"two\nlines", "expected printable ASCII"),
        (b"good", "in the clear"),
    ],
)
def test_a_token_that_cannot_be_used_is_said_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], token: bytes | None, says: str
) -> None:
    file = tmp_path / "token"
    if token is not None:
        file.write_bytes(token)
    asked = ["predict", "a.jpg", "--target", "edge-7:50051", "--token", str(file)]
    assert main(asked) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "two" not in error
