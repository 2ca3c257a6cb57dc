"""Work of a program, and the time a board would take for it (NPU.md 1.9).

The model, for each chain::

    seconds = max(tile operations / clock, weight bytes / bandwidth) / efficiency

A tile operation is one 128 x 128 tile of weights times one pixel, and a board starts one a cycle
(its 16,384 multipliers are the tile). Weights stream from DRAM while the chain before computes, so
the slower of the two counts. Chains without a matrix (pools, sums, copies) are not counted: on a
board they run in the chains beside them.

Where the constants of ``bw-cnn-a10`` come from (its JSON, ``edged/npu/skus``):

- 16,384 multipliers, 128 wide, 300 MHz: the public description of the Arria 10 build, 8 engines of
  16 lanes of 128 (NPU.md 2.4); 2 GiB and 19.2 GB/s: one channel of DDR4-2400.
- A weight takes a byte in DRAM and a block's exponent 5 bits, whatever the format: no public source
  says how narrower weights are packed. So a program's time does not depend on its format.
- Efficiency: fitted, once, so that the zoo's ``resnet50`` takes the 1.8 ms that were published for
  that board (NPU.md 2.6). Everything else that the model says is a prediction.

What was found in fitting. The published 1.8 ms is of the original firmware, which pools VALID and
strides in the last unit of a block, as the zoo's network does: 1,460 tiles, 293,525 operations,
3.46 GMAC: 0.978 ms of arithmetic. Its sum of the slower ones is 1.728 ms, because 31 of the 53
layers, the late ones with few pixels, wait for their weights; so efficiency is 0.960. The row of
NPU.md 2.5 (333,464 tile operations, 3.83 GMAC) strides in the first 1 x 1 of a block's first unit:
the same weights meet more pixels, 1.91 ms by this model. Counted from the layers' sizes, that row,
ResNet-152's and DenseNet-121's come out to the operation; VGG-16's and SSD's have two tiles a pixel
in the first layer, whose windows of 27 values fit one. Had weights been counted at the 6 bits of
ms-fp11, which that board ran, 12 layers would wait and efficiency would be 0.80; networks with more
pixels a tile (VGG-16, SSD) would come out a fifth slower. That is how far the model can be trusted.

Never mixed with measured time: this is of a board, ``Device.times_us`` is of the emulator.
"""

from __future__ import annotations

import math

from edged.npu.chains import Chain, Convolution
from edged.npu.listing import Listing
from edged.npu.sku import Sku

EXPONENT_BITS = 5
"""Of a block's exponent, in every format (NPU.md 1.2)."""


def tiles(chain: Chain, native: int = 128) -> int:
    """Returns the tiles of weights that one output pixel meets; 0 for a chain without a matrix.

    Args:
        chain: of a program.
        native: the device's native dimension.
    """
    if not isinstance(chain, Convolution):
        return 0
    outputs, height, width, inputs = chain.weights.shape
    if chain.expander:
        blocks = -(-height * width * inputs // native)
    else:
        blocks = height * width * -(-inputs // native)
    return int(blocks * -(-outputs // native))


def tile_operations(listing: Listing, chain: Chain) -> int:
    """Returns how often a tile meets a pixel in a chain."""
    return tiles(chain, listing.device_build.native_dimension) * _pixels(listing, chain)


def macs(listing: Listing, chain: Chain) -> int:
    """Returns the multiplications and additions of a chain's matrix, its padding not counted."""
    if not isinstance(chain, Convolution):
        return 0
    return _pixels(listing, chain) * math.prod(chain.weights.shape)


def weight_bytes(sku: Sku, chain: Chain) -> int:
    """Returns the bytes that a device fetches from DRAM for a chain, whole tiles."""
    native = sku.native_dimension
    tile_bits = native * (native * sku.weight_bits + EXPONENT_BITS)
    return -(-tiles(chain, native) * tile_bits // 8)


def predicted_us(listing: Listing) -> list[float]:
    """Returns the microseconds that the program's board would take for each chain.

    In the order of ``listing.chains``; their sum is the prediction for the whole program.
    """
    sku = listing.device_build
    return [1e6 * _seconds(listing, sku, chain) for chain in listing.chains]


def _seconds(listing: Listing, sku: Sku, chain: Chain) -> float:
    compute = tile_operations(listing, chain) / _tiles_per_second(sku)
    fetch = weight_bytes(sku, chain) / sku.dram_bytes_per_second
    return max(compute, fetch) / sku.efficiency


def _tiles_per_second(sku: Sku) -> float:
    return sku.clock_hz * sku.macs / sku.native_dimension**2


def _pixels(listing: Listing, chain: Chain) -> int:
    target = listing.tensors[chain.target]
    return target.height * target.width
