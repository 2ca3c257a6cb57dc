/* Resize, crop, normalise and lay out one picture, in one pass.
 *
 * The resize is TensorFlow's legacy bilinear: output position i reads input position i * in / out
 * (no half-pixel centres), between its floor and the next pixel (no antialiasing), in float32.
 * Only the pixels of the crop are computed, and only the source rows they need are read.
 *
 * The caller vouches for every size and pointer; image_fits says what it vouches for.
 */
#ifndef EDGED_IMAGE_RESIZE_H
#define EDGED_IMAGE_RESIZE_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const uint8_t *pixels; /* first byte of the first row */
    size_t row_bytes;      /* from one row to the next */
    int pixel_bytes;       /* 1: grey; 3 or 4: red, green, blue first, a fourth byte is not read */
    int height, width;
} image_picture;

typedef struct {
    int resized_height, resized_width; /* what the whole picture is resized to */
    int top, left;                     /* of the part that is computed */
    int height, width;
    int reverse;               /* blue, green, red in the result */
    int channels_last;         /* result [height][width][3], else [3][height][width] */
    float gain[3], offset[3];  /* result = pixel * gain + offset, in the result's order of channels */
} image_transform;

/* Whether every read and write of image_apply stays in bounds: sizes from 1 to 2^24 (float32 holds
 * every position), the part inside the resized picture, rows that hold their pixels. */
int image_fits(const image_picture *picture, const image_transform *transform);

/* Bytes of scratch memory that image_apply needs, aligned for float. */
size_t image_scratch_bytes(const image_transform *transform);

/* Writes height * width * 3 floats to out. */
void image_apply(const image_picture *picture, const image_transform *transform, void *scratch,
                 float *out);

#endif
