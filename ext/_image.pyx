# cython: language_level=3, boundscheck=False, wraparound=False, binding=True, embedsignature=False
"""The image stage's pixels: from a decoded picture to a tensor, see ext/image/resize.h.

Invariants:
- ``image_fits`` holds before ``image_apply`` runs; nothing else is read or written.
- An Arrow array is read only while its capsules, which own it, are alive.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport strcmp


cdef extern from "image/resize.h" nogil:
    ctypedef struct image_picture:
        const uint8_t *pixels
        size_t row_bytes
        int pixel_bytes, height, width

    ctypedef struct image_transform:
        int resized_height, resized_width, top, left, height, width, reverse, channels_last
        float gain[3]
        float offset[3]

    int image_fits(const image_picture *picture, const image_transform *transform)
    size_t image_scratch_bytes(const image_transform *transform)
    void image_apply(const image_picture *picture, const image_transform *transform,
                     void *scratch, float *out)


# The Arrow C data interface (arrow.apache.org/docs/format/CDataInterface.html): a fixed layout.
cdef extern from *:
    """
    struct edged_arrow_schema {
        const char *format, *name, *metadata;
        int64_t flags, n_children;
        struct edged_arrow_schema **children, *dictionary;
        void (*release)(struct edged_arrow_schema *);
        void *private_data;
    };
    struct edged_arrow_array {
        int64_t length, null_count, offset, n_buffers, n_children;
        const void **buffers;
        struct edged_arrow_array **children, *dictionary;
        void (*release)(struct edged_arrow_array *);
        void *private_data;
    };
    """
    ctypedef struct arrow_schema "struct edged_arrow_schema":
        const char *format
        int64_t n_children
        arrow_schema **children

    ctypedef struct arrow_array "struct edged_arrow_array":
        int64_t length, offset, n_buffers, n_children
        const void **buffers
        arrow_array **children


def from_bytes(const uint8_t[::1] pixels not None, int pixel_bytes, int height, int width,
               transform not None, float[::1] out not None):
    """Transforms a picture whose rows lie one after the other.

    Args:
        pixels: ``height * width * pixel_bytes`` bytes.
        pixel_bytes: 1 for grey, 3 or 4 for red, green, blue (and a byte that is not read).
        height: of the picture.
        width: of the picture.
        transform: resized height and width, top, left, height, width, whether channels are reversed
            and last, then gain and offset of each channel, as one sequence of 14 numbers.
        out: where ``height * width * 3`` values of the transform go.

    Raises:
        ValueError: sizes do not fit each other.
    """
    if pixel_bytes not in (1, 3, 4) or height < 1 or width < 1:
        raise ValueError(f"cannot transform {height} x {width} pixels of {pixel_bytes} bytes")
    if <size_t>pixels.shape[0] != <size_t>height * <size_t>width * <size_t>pixel_bytes:
        raise ValueError(f"{pixels.shape[0]} bytes are not {height} x {width} x {pixel_bytes}")
    cdef image_picture picture
    picture.pixels = &pixels[0]
    picture.pixel_bytes = pixel_bytes
    picture.height, picture.width = height, width
    apply(&picture, transform, out)


def from_arrow(schema, array, int height, int width, transform not None, float[::1] out not None):
    """Transforms a picture that an Arrow array holds, in place.

    Args:
        schema: the capsule ``arrow_schema``.
        array: the capsule ``arrow_array``: bytes for grey, lists of four bytes for colours.
        height: of the picture.
        width: of the picture.
        transform: as for ``from_bytes``.
        out: as for ``from_bytes``.

    Raises:
        ValueError: the array is not such a picture, or sizes do not fit each other.
    """
    cdef arrow_schema *kind = <arrow_schema *>PyCapsule_GetPointer(schema, b"arrow_schema")
    cdef arrow_array *data = <arrow_array *>PyCapsule_GetPointer(array, b"arrow_array")
    cdef image_picture picture
    cdef int64_t pixels = <int64_t>height * <int64_t>width
    if height < 1 or width < 1 or data.length != pixels or data.offset != 0:
        raise ValueError(f"the array does not hold {height} x {width} pixels")
    picture.pixel_bytes = 1
    if strcmp(kind.format, b"+w:4") == 0 and kind.n_children == 1 and data.n_children == 1:
        picture.pixel_bytes = 4
        kind, data = kind.children[0], data.children[0]
    if strcmp(kind.format, b"C") != 0 or data.n_buffers != 2 or data.buffers[1] == NULL:
        raise ValueError(f"the array's items are {kind.format!r}, not bytes")
    if data.length != pixels * picture.pixel_bytes or data.offset != 0:
        raise ValueError(f"the array does not hold {height} x {width} pixels")
    picture.pixels = <const uint8_t *>data.buffers[1]
    picture.height, picture.width = height, width
    apply(&picture, transform, out)


cdef int apply(image_picture *picture, transform, float[::1] out) except -1:
    cdef image_transform to
    cdef void *scratch
    picture.row_bytes = <size_t>picture.width * <size_t>picture.pixel_bytes
    (to.resized_height, to.resized_width, to.top, to.left, to.height, to.width, to.reverse,
     to.channels_last, to.gain[0], to.gain[1], to.gain[2],
     to.offset[0], to.offset[1], to.offset[2]) = transform
    if not image_fits(picture, &to):
        raise ValueError(f"the transform {transform} does not fit {picture.height} x {picture.width}")
    if <size_t>out.shape[0] != <size_t>to.height * <size_t>to.width * 3:
        raise ValueError(f"{out.shape[0]} values are not {to.height} x {to.width} x 3")
    scratch = malloc(image_scratch_bytes(&to))
    if scratch == NULL:
        raise MemoryError
    with nogil:
        image_apply(picture, &to, scratch, &out[0])
    free(scratch)
    return 0
