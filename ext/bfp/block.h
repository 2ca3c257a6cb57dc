/* The arithmetic of a block's scale, for every set of kernels. */
#ifndef EDGED_BFP_BLOCK_H
#define EDGED_BFP_BLOCK_H

#include <stdint.h>
#include <string.h>

/* The scale of a block (NPU.md 1.3) whose largest magnitude has these float16 bits; returns its
 * inverse. Both are powers of two. */
static inline float bfp_block_scale(unsigned largest, int mantissa, float *scale)
{
    int exponent = (int)(largest >> 10);
    exponent = exponent < 1 ? 1 : exponent; /* a subnormal counts as 1 */
    int shift = exponent - 15 - (mantissa - 1);
    uint32_t up = (uint32_t)(127 - shift) << 23, down = (uint32_t)(127 + shift) << 23;
    float inverse;
    memcpy(&inverse, &up, sizeof inverse);
    memcpy(scale, &down, sizeof down);
    return inverse;
}

#endif
