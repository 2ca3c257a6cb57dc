/* How fast this core multiplies at most: the dot product instructions of an instruction set, alone. */
#ifndef EDGED_BFP_PEAK_H
#define EDGED_BFP_PEAK_H

/* Multiplications and additions of 8-bit numbers a second on the calling thread, the median of many
 * stretches of a run that takes `seconds`. 0 where this CPU cannot run those kernels, or where they
 * have no such instruction (portable).
 *
 *   avx512vnni  vpdpbusd on 512 bits
 *   avxvnni     vpdpbusd on 256 bits, VEX form
 *   avx2        vpmaddubsw on 256 bits, without the additions that have to follow it
 *   neon        udot on 128 bits
 *
 * Operands stay in registers and every accumulator is independent, so nothing but the multipliers (and
 * the clock) limits it. */
double bfp_peak(const char *name, double seconds);

#endif
