"""Hostile requests to a real model: each is refused by name of what was wrong, nothing else ends.

What must hold of every single one is in ``tests.e2e.hostile.Target``.
"""

from __future__ import annotations

import io
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edged.messages import DataType, PredictRequest
from edged.messages.arrays import to_tensor
from tests.e2e import hostile
from tests.e2e.device import Device, call, raw
from tests.e2e.hostile import GOOD, PICTURES, UNLIMITED, Target, request, scores
from tests.unit.worker.pictures import (
    encoded,
    noise,
    of_many_scans,
    png,
    png_header,
    rotated,
)
from tests.unit.worker.test_wire import field, tensor

MESSAGE_LIMIT = 64 * 1024 * 1024


@pytest.fixture(scope="module")
def pictures(surface_image: str, served: Callable[[str], Device]) -> Iterator[Target]:
    """The demo's model, which takes pictures."""
    target = Target(served(surface_image), request(GOOD))
    yield target
    target.close()


@pytest.fixture(scope="module")
def tensors(
    tmp_path_factory: pytest.TempPathFactory, served: Callable[[str], Device]
) -> Iterator[Target]:
    """The demo's model for tensors."""
    reference = hostile.build(f"oci:{tmp_path_factory.mktemp('tensors')}", pictures=False)
    target = Target(served(reference), numbers(ZEROS))
    yield target
    target.close()


# -- pictures that are refused

NOISE = noise(64, 64)
JPEG = "cannot decode picture: expected JPEG or PNG, got "
REFUSED: dict[str, tuple[Callable[[], bytes], tuple[str, ...]]] = {
    "nothing": (lambda: b"", (JPEG + "no bytes",)),
    "text": (lambda: b"not a picture", (JPEG + "13 bytes that begin with 6e 6f 74 20",)),
    "a GIF": (lambda: encoded(NOISE, "GIF"), (JPEG, "bytes that begin with 47 49 46 38")),
    "a TIFF": (lambda: encoded(NOISE, "TIFF"), (JPEG, "bytes that begin with 49 49 2a 00")),
    "a WebP": (lambda: encoded(NOISE, "WEBP"), (JPEG, "bytes that begin with 52 49 46 46")),
    "half a JPEG": (lambda: GOOD[: len(GOOD) // 2], ("cannot decode picture: ", "truncated")),
    "a JPEG's beginning": (lambda: GOOD[:30], ("cannot decode picture: ",)),
    "half a PNG": (lambda: encoded(NOISE)[:4000], ("cannot decode picture: ", "truncated")),
    "a PNG with a wrong sum": (
        lambda: encoded(NOISE)[:20] + b"\x01" + encoded(NOISE)[21:],
        ("cannot decode picture: ", "checksum"),
    ),
    "a bomb": (
        lambda: png_header(100_000, 100_000),
        ("100000 x 100000 pixels, expected at most 50000000",),
    ),
    "the largest bomb": (lambda: png_header(2**31 - 1, 2**31 - 1), ("expected at most 50000000",)),
    "a bomb of real pixels": (
        lambda: encoded(Image.new("L", (7_100, 7_100)), compress_level=9),
        ("7100 x 7100 pixels, expected at most 50000000",),
    ),
    "very many scans": (
        lambda: of_many_scans(4000),
        ("scans of 262144 pixels, expected at most 1000000000 pixels",),
    ),
    "very many marks": (
        lambda: b"\xff\xd8" + b"\xff\xe0\x00\x02" * 2_000_000,
        ("cannot decode picture: more than 200000 marks",),
    ),
    "a line": (
        lambda: encoded(noise(1, 200_000, 1)),
        ("200000 x 1 pixels, expected at least 128 x 128", "no side that is out of all proportion"),
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_picture_or_too_large_is_refused(pictures: Target, what: str) -> None:
    make, says = REFUSED[what]
    data = make()
    pictures.refused(request(data), *says)
    error = pictures.refused(request(GOOD, GOOD, data, GOOD), *says)
    assert error.startswith("item 3 of 4: ")


# -- pictures that are served


def good() -> Image.Image:
    with Image.open(PICTURES[0]) as picture:
        return picture.convert("RGB")


def grey() -> Image.Image:
    return good().convert("L").convert("RGB")


def wide(picture: Image.Image) -> npt.NDArray[np.uint16]:
    """The pixels in 16 bits, the lower ones noise."""
    pixels = np.asarray(picture).astype(np.uint16)
    return np.asarray(pixels << 8 | noise(*pixels.shape), np.uint16)


EXACT: dict[str, tuple[Callable[[], bytes], Callable[[], Image.Image]]] = {
    "grey": (lambda: encoded(good().convert("L")), grey),
    "with an alpha channel": (lambda: encoded(with_alpha(good())), good),
    "grey with an alpha channel": (lambda: encoded(with_alpha(good().convert("L"))), grey),
    "of 16 bits": (lambda: png(wide(good())), good),
    "of 16 bits, grey": (lambda: png(wide(grey())[:, :, :1]), grey),
    "of 16 bits, interlaced": (lambda: png(wide(good()), interlaced=True), good),
    "with a palette": (
        lambda: encoded(good().quantize(64)),
        lambda: good().quantize(64).convert("RGB"),
    ),
    "with a palette that is transparent": (
        lambda: encoded(good().quantize(64), transparency=bytes(range(64))),
        lambda: good().quantize(64).convert("RGB"),
    ),
    "of one bit": (
        lambda: encoded(good().convert("1")),
        lambda: good().convert("1").convert("RGB"),
    ),
    "turned by EXIF": (lambda: rotated(good()), lambda: as_jpeg(good())),
    "progressive": (
        lambda: encoded(good(), "JPEG", progressive=True),
        lambda: as_jpeg(good()),
    ),
}


def with_alpha(picture: Image.Image) -> Image.Image:
    made = picture.copy()
    made.putalpha(Image.fromarray(noise(picture.height, picture.width, 1)))
    return made


def as_jpeg(picture: Image.Image) -> Image.Image:
    with Image.open(io.BytesIO(encoded(picture, "JPEG"))) as opened:
        return opened.convert("RGB")


@pytest.mark.parametrize("kind", EXACT)
def test_a_picture_of_any_kind_is_served_as_its_colours(pictures: Target, kind: str) -> None:
    make, colours = EXACT[kind]
    expected = scores(pictures.served(request(encoded(colours()))))
    np.testing.assert_array_equal(scores(pictures.served(request(make()))), expected)
    pictures.serves_on()


def test_pictures_for_print_are_served(pictures: Target) -> None:
    for path in PICTURES:
        with Image.open(path) as picture:
            printed = encoded(picture.convert("RGB").convert("CMYK"), "JPEG", quality=95)
        plain = scores(pictures.served(request(path.read_bytes())))
        got = scores(pictures.served(request(printed)))
        assert np.abs(got - plain).max() < 0.5, path.name
    pictures.serves_on()


def test_a_picture_of_48_megapixels_is_served(pictures: Target) -> None:
    large = good().resize((8000, 6000))
    plain = scores(pictures.served(request(encoded(large, "JPEG"))))
    progressive = scores(pictures.served(request(encoded(large, "JPEG", progressive=True))))
    np.testing.assert_array_equal(plain, progressive)
    pictures.serves_on()


# -- requests


def changed(change: Callable[[PredictRequest], object]) -> PredictRequest:
    made = request(GOOD)
    change(made)
    return made


def with_inputs(*names: str) -> PredictRequest:
    made = PredictRequest()
    for name in names:
        made.inputs[name].CopyFrom(request(GOOD).inputs["images"])
    return made


SHAPE = "has shape [{}], expected [-1] (-1 is any size)"
REQUESTS: dict[str, tuple[Callable[[], PredictRequest | bytes], tuple[str, ...]]] = {
    "no message": (lambda: b"\xff\xfe\xfd", ("cannot parse PredictRequest",)),
    "a message of something else": (lambda: b"\x12\x03abc", ("cannot parse PredictRequest",)),
    "nothing": (lambda: b"", ("0!=1", "len({images})", "Missing but required: {images}")),
    "a wrong type": (
        lambda: changed(lambda r: setattr(r.inputs["images"], "dtype", DataType.DT_FLOAT)),
        ("input 'images' is of type DT_FLOAT, expected DT_STRING",),
    ),
    "a type that does not exist": (
        lambda: changed(lambda r: setattr(r.inputs["images"], "dtype", 99)),
        ("input 'images' is of type number 99, expected DT_STRING",),
    ),
    "a wrong shape": (
        lambda: changed(lambda r: r.inputs["images"].tensor_shape.dim.add(size=1)),
        ("input 'images' " + SHAPE.format("1, 1"),),
    ),
    "no shape": (
        lambda: changed(lambda r: r.inputs["images"].ClearField("tensor_shape")),
        ("input 'images' " + SHAPE.format(""),),
    ),
    "more items said than sent": (
        lambda: changed(lambda r: setattr(r.inputs["images"].tensor_shape.dim[0], "size", 3)),
        ("tensor parsing error: images: 1 strings in string_val, expected 3",),
    ),
    "items without number": (
        lambda: changed(lambda r: setattr(r.inputs["images"].tensor_shape.dim[0], "size", 2**62)),
        ("1 strings in string_val, expected 4611686018427387904",),
    ),
    "an empty batch": (
        request,
        ("inputs have batches of {'images': 0}, expected one size from 1 up",),
    ),
    "a wrong name": (
        lambda: with_inputs("pictures"),
        ("Inputs sent: {pictures}", "expected to be in the set {Placeholder:0,images}"),
    ),
    "a name and its alias": (
        lambda: with_inputs("images", "Placeholder:0"),
        ("input size does not match signature: 2!=1", "Sent extra: {}"),
    ),
    "too many inputs": (
        lambda: with_inputs("images", *(f"x{number}" for number in range(500))),
        ("501!=1", "Sent extra: {x0,x1,", "and 4"),
    ),
    "a name of a megabyte": (
        lambda: with_inputs("\N{GRINNING FACE}" * 250_000),
        ("...}. Inputs expected to be in the set {Placeholder:0,images}",),
    ),
    "an output that there is not": (
        lambda: changed(lambda r: r.output_filter.append("features")),
        ("alias not found in signature: features", "the set {output_alias,probabilities}"),
    ),
    "an output twice": (
        lambda: changed(lambda r: r.output_filter.extend(["probabilities"] * 2)),
        ("duplicate output tensor alias: probabilities",),
    ),
    "dimensions without number": (
        lambda: tensor(field(2, b"\x12\x00" * (MESSAGE_LIMIT // 2 - 100))),
        ("more than 262144 fields in all; send fewer items",),
    ),
    "inputs without number": (
        lambda: b"\x12\x00" * (MESSAGE_LIMIT // 2),
        ("more than 262144 fields in all; send fewer items",),
    ),
    "64 MiB that are no picture": (
        lambda: request(bytes(MESSAGE_LIMIT - 100)),
        ("expected JPEG or PNG, got 67108764 bytes that begin with 00 00",),
    ),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_what_does_not_fit_the_signature_is_refused(pictures: Target, what: str) -> None:
    make, says = REQUESTS[what]
    pictures.refused(make(), *says)


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (lambda spec: setattr(spec, "name", "other"), "NOT_FOUND", "expected model 'surface'"),
        (
            lambda spec: setattr(spec.version, "value", 2),
            "NOT_FOUND",
            "Specific(surface, 2); expected model 'surface', version '1'",
        ),
        (
            lambda spec: setattr(spec, "signature_name", "train"),
            "FAILED_PRECONDITION",
            'Serving signature key "train" not found. Expected "serving_default"',
        ),
    ],
)
def test_what_is_for_another_model_is_refused(
    pictures: Target, change: Callable[[object], object], code: str, says: str
) -> None:
    pictures.refused(changed(lambda r: change(r.model_spec)), says, code=code)


@pytest.mark.long
def test_a_batch_of_a_thousand_is_served_as_its_pictures_alone(pictures: Target) -> None:
    sent = [PICTURES[index % len(PICTURES)].read_bytes() for index in range(1000)]
    alone = [scores(pictures.served(request(data))) for data in sent[: len(PICTURES)]]
    together = scores(pictures.served(request(*sent)))
    assert together.shape == (1000, 5)
    expected = np.concatenate([alone[index % len(alone)] for index in range(1000)])
    np.testing.assert_array_equal(together, expected)
    pictures.refused(request(*sent[:-1], b"x"), "item 1000 of 1000: ", JPEG + "1 bytes")


def test_a_message_over_the_limit_is_refused(pictures: Target) -> None:
    before = pictures.device.status().counters
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        # Compressed it has 200 kB, and is a bomb for whoever opens it.
        body = bytes(MESSAGE_LIMIT + 1 if not compression.value else 3 * MESSAGE_LIMIT)
        with grpc.insecure_channel(pictures.device.address, options=UNLIMITED) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                raw(channel)(body, timeout=60, compression=compression)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "larger than max" in str(caught.value.details())
            assert call(channel, pictures.good) == pictures.expected
    pictures.serves_on()
    after = pictures.device.status().counters
    assert after.answered - before.answered == 3
    assert after.failed == before.failed


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", bytes(70_000)]
)
def test_what_is_no_grpc_is_hung_up_on(pictures: Target, data: bytes) -> None:
    host, port = pictures.device.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except TimeoutError:
            raise
        except OSError:  # hung up on before all of it was sent
            pass
    pictures.serves_on()


@pytest.mark.long
def test_hostile_requests_do_not_make_the_worker_grow(pictures: Target) -> None:
    bodies = [request(make()).SerializeToString() for make, _ in REFUSED.values()]
    made = [make() for make, _ in REQUESTS.values()]
    bodies += [each if isinstance(each, bytes) else each.SerializeToString() for each in made]
    small = [body for body in bodies if len(body) < 1_000_000]
    assert len(small) > 20
    sizes = []
    for _ in range(3):
        for _ in range(20):
            for body in small:
                with pytest.raises(Exception, match=r"."):
                    pictures.send(body)
            pictures.send(pictures.good)
        sizes.append(resident(pictures.worker))
    pictures.serves_on()
    assert sizes[-1] - sizes[0] < 4_000_000, sizes


def resident(pid: int) -> int:
    """Returns the bytes of memory that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


# -- tensors

ZEROS = np.zeros((1, 3, 128, 128), np.float32)


def numbers(array: npt.NDArray[Any]) -> PredictRequest:
    """A request about a tensor."""
    made = PredictRequest()
    made.inputs["image"].CopyFrom(to_tensor(array))
    return made


def typed(shape: tuple[int, ...], values: int) -> PredictRequest:
    """A request with so many values in the typed field."""
    made = PredictRequest()
    sent = made.inputs["image"]
    sent.dtype = DataType.DT_FLOAT
    for size in shape:
        sent.tensor_shape.dim.add(size=size)
    sent.float_val.extend([0.5] * values)
    return made


TENSORS: dict[str, tuple[Callable[[], PredictRequest], tuple[str, ...]]] = {
    "another type": (
        lambda: numbers(ZEROS.astype(np.float64)),
        ("input 'image' is of type DT_DOUBLE, expected DT_FLOAT",),
    ),
    "pictures": (
        lambda: request(GOOD, name="image"),
        ("input 'image' is of type DT_STRING, expected DT_FLOAT",),
    ),
    "another size": (
        lambda: numbers(np.zeros((1, 3, 128, 127), np.float32)),
        ("has shape [1, 3, 128, 127], expected [-1, 3, 128, 128]",),
    ),
    "another layout": (
        lambda: numbers(np.zeros((1, 128, 128, 3), np.float32)),
        ("has shape [1, 128, 128, 3], expected [-1, 3, 128, 128]",),
    ),
    "no batch": (
        lambda: numbers(ZEROS[0]),
        ("has shape [3, 128, 128], expected [-1, 3, 128, 128]",),
    ),
    "an empty batch": (
        lambda: numbers(ZEROS[:0]),
        ("inputs have batches of {'image': 0}, expected one size from 1 up",),
    ),
    "too few values": (
        lambda: typed(ZEROS.shape, 49_151),
        ("49151 values in float_val, expected 49152",),
    ),
    "too many values": (
        lambda: typed(ZEROS.shape, 49_153),
        ("49153 values in float_val, expected 49152",),
    ),
    "a batch that nobody could send": (
        lambda: typed((2**40, 3, 128, 128), 1),
        ("has shape [1099511627776, 3, 128, 128]: more than the 67108864 bytes allowed",),
    ),
    "a batch of a thousand out of one number": (
        lambda: typed((1000, 3, 128, 128), 1),
        ("has shape [1000, 3, 128, 128]: more than the 67108864 bytes allowed",),
    ),
    "not a number": (
        lambda: numbers(np.full_like(ZEROS, np.nan)),
        ("input 'image' holds a value that is NaN, infinite or beyond float16",),
    ),
    "a number beyond float16": (
        lambda: numbers(np.full_like(ZEROS, 1e30)),
        ("input 'image' holds a value that is NaN, infinite or beyond float16",),
    ),
}


@pytest.mark.parametrize("what", TENSORS)
def test_tensors_that_do_not_fit_the_signature_are_refused(tensors: Target, what: str) -> None:
    make, says = TENSORS[what]
    tensors.refused(make(), *says)


def test_a_batch_of_tensors_is_served(tensors: Target) -> None:
    got = scores(tensors.served(typed((300, 3, 128, 128), 1)))
    assert got.shape == (300, 5)
    assert (got == got[0]).all()
    tensors.serves_on()
