"""What an application gets from any server of TensorFlow Serving's Predict, and from none."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from edged import messages
from edged.client import Class, Client
from edged.errors import RequestError
from edged.messages.arrays import to_tensor

Answer = Callable[[messages.PredictRequest, Any], messages.PredictResponse]


class Server:
    """A server that answers as the test says."""

    def __init__(self, answer: Answer, credentials: grpc.ServerCredentials | None = None) -> None:
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
            (grpc.method_handlers_generic_handler(service, {"Predict": handler}),)
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


def test_a_token_goes_with_every_call() -> None:
    server = Server(scores("p"))
    with Client(server.target, token="secret") as client:
        client.predict({"x": b""})
    server.stop()
    assert server.metadata[0]["authorization"] == "bearer secret"


def test_a_server_is_believed_only_with_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: cannot make certificates")
    for name in ("server", "stranger"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
        command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"]
        command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        command += ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")]
        subprocess.run(command, check=True, capture_output=True)
    pair = ((tmp_path / "server.key").read_bytes(), (tmp_path / "server.pem").read_bytes())
    server = Server(scores("p"), grpc.ssl_server_credentials([pair]))
    with Client(server.target, tls=tmp_path / "server.pem") as client:
        assert client.predict({"x": b""}).model == "surface"
    with (
        Client(server.target, tls=tmp_path / "stranger.pem") as client,
        pytest.raises(RequestError) as caught,
    ):
        client.predict({"x": b""})
    assert caught.value.code == "UNAVAILABLE"
    server.stop()
