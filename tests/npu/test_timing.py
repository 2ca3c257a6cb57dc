"""The time model against what was published, and against itself."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from edged import compiler, zoo
from edged.npu import Program, timing
from edged.npu.chains import Chain, Convolution, MaxPool, Tensor, Window
from edged.npu.listing import Listing
from edged.npu.sku import sku_named


def convolutions(layers: list[tuple[int, int, int, int]]) -> Listing:
    """A program of convolutions, each (side of the output, inputs, outputs, kernel)."""
    tensors, chains = [], []
    for number, (side, inputs, outputs, kernel) in enumerate(layers):
        tensors += [Tensor(side, side, inputs), Tensor(side, side, outputs)]
        weights = np.broadcast_to(np.float16(0), (outputs, kernel, kernel, inputs))
        window = Window(kernel=(kernel, kernel), pads=(kernel // 2,) * 4)
        bias = np.zeros(outputs, np.float16)
        chains.append(Convolution(2 * number, 2 * number + 1, window, weights, bias))
    return Listing("ms-fp13", "bw-cnn-a10", tuple(tensors), (), (), tuple(chains))


def resnet(units: tuple[int, ...], *, first: bool) -> Iterator[tuple[int, int, int, int]]:
    """ResNet's layers. A block strides in the first 1 x 1 of its first unit, or, as the original
    firmware does, in the 3 x 3 of its last."""
    yield (112, 3, 64, 7)
    sides, channels, before = (55, 28, 14, 7), 64, 55
    for block, count in enumerate(units):
        width = 64 << block
        for unit in range(count):
            inside = after = sides[block]
            if not first:
                inside, after = before, sides[min(block + (unit == count - 1), 3)]
            if channels != 4 * width:
                yield (after, channels, 4 * width, 1)
            yield (inside, channels, width, 1)
            yield (after, width, width, 3)
            yield (after, width, 4 * width, 1)
            channels, before = 4 * width, after


def total(listing: Listing) -> tuple[int, int, float]:
    return (
        sum(timing.tiles(chain) for chain in listing.chains),
        sum(timing.tile_operations(listing, chain) for chain in listing.chains),
        sum(timing.macs(listing, chain) for chain in listing.chains) / 1e9,
    )


def predicted_ms(listing: Listing) -> float:
    return sum(timing.predicted_us(listing)) / 1e3


@pytest.fixture(scope="module")
def resnet50() -> Program:
    return compiler.partition(compiler.load(zoo.make("resnet50").graph)).program


def test_the_zoo_s_resnet_50_takes_what_was_published(resnet50: Program) -> None:
    assert predicted_ms(resnet50) == pytest.approx(1.8, abs=0.005)
    tiles, operations, gmac = total(resnet50)
    assert (tiles, operations) == (1460, 293_525)
    assert gmac == pytest.approx(3.46, abs=0.005)


@pytest.mark.parametrize(
    ("units", "first", "operations", "gmac", "milliseconds"),
    [
        ((3, 4, 6, 3), True, 333_464, 3.83, 1.91),
        ((3, 8, 36, 3), True, 786_616, 11.26, 3.92),
        ((3, 4, 6, 3), False, 293_525, 3.46, 1.80),
        ((3, 8, 36, 3), False, 746_677, 10.89, 3.81),
    ],
)
def test_work_of_resnets_by_where_they_stride(
    units: tuple[int, ...], first: bool, operations: int, gmac: float, milliseconds: float
) -> None:
    layers = list(resnet(units, first=first))
    listing = convolutions(layers)
    assert len(layers) == 1 + 4 + 3 * sum(units)
    tiles, found, macs = total(listing)
    assert (tiles, found) == ({16: 1460, 50: 3568}[sum(units)], operations)
    assert macs == pytest.approx(gmac, abs=0.005)
    assert predicted_ms(listing) == pytest.approx(milliseconds, abs=0.01)


def test_work_of_vgg_16() -> None:
    widths = [(224, 64, 2), (112, 128, 2), (56, 256, 3), (28, 512, 3), (14, 512, 3)]
    layers, channels = [], 3
    for side, width, count in widths:
        for _ in range(count):
            layers.append((side, channels, width, 3))
            channels = width
    listing = convolutions(layers)
    tiles, operations, gmac = total(listing)
    # The published count has two tiles a pixel in the first layer, whose windows of 27 fit one.
    assert (tiles, operations) == (911 - 1, 1_426_880 - 224 * 224)
    assert gmac == pytest.approx(15.35, abs=0.005)
    # 4.76 ms of arithmetic; only the last layers wait for their weights.
    assert predicted_ms(listing) == pytest.approx(4.9, abs=0.15)


def test_a_chain_takes_the_slower_of_arithmetic_and_weights() -> None:
    sku = sku_named("bw-cnn-a10")
    few, many = convolutions([(1, 256, 256, 1)]), convolutions([(100, 128, 128, 1)])
    assert timing.weight_bytes(sku, few.chains[0]) == 4 * (128 * 128 + 128 * 5 // 8)
    fetched = timing.weight_bytes(sku, few.chains[0]) / 19.2e9
    assert timing.predicted_us(few) == [pytest.approx(1e6 * fetched / sku.efficiency)]
    assert timing.predicted_us(many) == [pytest.approx(1e6 * 10_000 / 300e6 / sku.efficiency)]


def test_chains_without_a_matrix_cost_nothing() -> None:
    pool: Chain = MaxPool(0, 1, Window(kernel=(2, 2), stride=(2, 2)))
    tensors = (Tensor(8, 8, 4), Tensor(4, 4, 4))
    listing = Listing("ms-fp13", "bw-cnn-a10", tensors, (), (), (pool,))
    assert timing.predicted_us(listing) == [0.0]
    assert (timing.macs(listing, pool), timing.tile_operations(listing, pool)) == (0, 0)


def test_the_expander_fills_tiles_with_whole_windows() -> None:
    listing = convolutions([(112, 3, 64, 7)])
    assert timing.tiles(listing.chains[0]) == math.ceil(7 * 7 * 3 / 128) == 2
    assert timing.tile_operations(listing, listing.chains[0]) == 2 * 112 * 112


def test_every_format_takes_the_same_time(resnet50: Program) -> None:
    other = Listing(
        "ms-fp9",
        resnet50.sku,
        resnet50.tensors,
        resnet50.inputs,
        resnet50.outputs,
        resnet50.chains,
    )
    assert timing.predicted_us(other) == timing.predicted_us(resnet50)
