#include "resize.h"

#define LIMIT (1 << 24)

/* Where one output position reads along an axis: a + (b - a) * weight. */
typedef struct {
    int low, high;
    float weight;
} tap;

static tap tap_at(int position, int in, int out)
{
    float scale = (float)in / (float)out;
    float at = (float)position * scale;
    int low = (int)at;
    tap result;

    /* position * (in / out) may round up to in itself. */
    if (low > in - 1)
        low = in - 1;
    result.low = low;
    result.high = low + 1 < in ? low + 1 : low;
    result.weight = at - (float)low;
    return result;
}

int image_fits(const image_picture *p, const image_transform *t)
{
    if (p->height < 1 || p->width < 1 || p->height > LIMIT || p->width > LIMIT)
        return 0;
    if (p->pixel_bytes != 1 && p->pixel_bytes != 3 && p->pixel_bytes != 4)
        return 0;
    if (p->row_bytes / (size_t)p->pixel_bytes < (size_t)p->width)
        return 0;
    if (t->resized_height < 1 || t->resized_width < 1 || t->resized_height > LIMIT ||
        t->resized_width > LIMIT)
        return 0;
    return t->top >= 0 && t->left >= 0 && t->height >= 1 && t->width >= 1 &&
           t->height <= t->resized_height - t->top && t->width <= t->resized_width - t->left;
}

/* Scratch: a tap for each column, then two rows of three planes. */
size_t image_scratch_bytes(const image_transform *t)
{
    return (size_t)t->width * (sizeof(tap) + 2 * 3 * sizeof(float));
}

/* Interpolates one source row at every column of the result, into three planes. What will be read
 * of the row `ahead` is fetched meanwhile: of a large picture every pixel is a cache miss of its own. */
static inline void row_at(const uint8_t *source, const uint8_t *ahead, int pixel_bytes,
                          const tap *columns, int width, float *row)
{
    int green = pixel_bytes == 1 ? 0 : 1, blue = pixel_bytes == 1 ? 0 : 2;
    float *g = row + width, *b = g + width;

    for (int x = 0; x < width; x++) {
        const uint8_t *low = source + (size_t)columns[x].low * (size_t)pixel_bytes;
        const uint8_t *high = source + (size_t)columns[x].high * (size_t)pixel_bytes;
        float weight = columns[x].weight;

        __builtin_prefetch(ahead + (low - source));
        row[x] = (float)low[0] + (float)(high[0] - low[0]) * weight;
        g[x] = (float)low[green] + (float)(high[green] - low[green]) * weight;
        b[x] = (float)low[blue] + (float)(high[blue] - low[blue]) * weight;
    }
}

static void row_of(const image_picture *p, int y, int ahead_y, const tap *columns, int width,
                   float *row)
{
    const uint8_t *source = p->pixels + (size_t)y * p->row_bytes;
    const uint8_t *ahead = p->pixels + (size_t)ahead_y * p->row_bytes;

    /* Constant pixel sizes: each call is compiled for its own. */
    if (p->pixel_bytes == 4)
        row_at(source, ahead, 4, columns, width, row);
    else if (p->pixel_bytes == 3)
        row_at(source, ahead, 3, columns, width, row);
    else
        row_at(source, ahead, 1, columns, width, row);
}

/* Interpolates between two rows and writes one row of one channel. */
static void write_plane(const float *above, const float *below, float weight, float gain,
                        float offset, int width, float *restrict out)
{
    for (int x = 0; x < width; x++)
        out[x] = (above[x] + (below[x] - above[x]) * weight) * gain + offset;
}

/* The same for all three channels, side by side. */
static void write_pixels(const image_transform *t, const float *above, const float *below,
                         float weight, float *restrict out)
{
    int width = t->width, first = t->reverse ? 2 * width : 0, last = 2 * width - first;
    float gain0 = t->gain[0], gain1 = t->gain[1], gain2 = t->gain[2];
    float offset0 = t->offset[0], offset1 = t->offset[1], offset2 = t->offset[2];

    for (int x = 0; x < width; x++) {
        float a0 = above[first + x], a1 = above[width + x], a2 = above[last + x];
        float b0 = below[first + x], b1 = below[width + x], b2 = below[last + x];

        out[3 * x + 0] = (a0 + (b0 - a0) * weight) * gain0 + offset0;
        out[3 * x + 1] = (a1 + (b1 - a1) * weight) * gain1 + offset1;
        out[3 * x + 2] = (a2 + (b2 - a2) * weight) * gain2 + offset2;
    }
}

static void write_row(const image_transform *t, const float *above, const float *below,
                      float weight, int y, float *out)
{
    size_t width = (size_t)t->width, plane = (size_t)t->height * width;

    if (t->channels_last) {
        write_pixels(t, above, below, weight, out + 3 * (size_t)y * width);
        return;
    }
    for (int c = 0; c < 3; c++) {
        size_t from = (size_t)(t->reverse ? 2 - c : c) * width;

        write_plane(above + from, below + from, weight, t->gain[c], t->offset[c], t->width,
                    out + (size_t)c * plane + (size_t)y * width);
    }
}

void image_apply(const image_picture *p, const image_transform *t, void *scratch, float *out)
{
    tap *columns = scratch;
    float *above = (float *)(columns + t->width), *below = above + 3 * (size_t)t->width;
    int above_y = -1, below_y = -1; /* source rows that the two hold */
    tap row, next = tap_at(t->top, p->height, t->resized_height);

    for (int x = 0; x < t->width; x++)
        columns[x] = tap_at(t->left + x, p->width, t->resized_width);

    for (int y = 0; y < t->height; y++) {
        row = next;
        if (y + 1 < t->height)
            next = tap_at(t->top + y + 1, p->height, t->resized_height);

        /* When the picture grows, the row below becomes the row above. */
        if (row.low != above_y && row.low == below_y) {
            float *swap = above;
            above = below, below = swap;
            below_y = above_y, above_y = row.low;
        }
        if (row.low != above_y)
            row_of(p, above_y = row.low, next.low, columns, t->width, above);
        if (row.high != below_y)
            row_of(p, below_y = row.high, next.high, columns, t->width, below);
        write_row(t, above, below, row.weight, y, out);
    }
}
