/* Written in assembler, so that no instruction set's flags are needed here: a body is called only where
 * `bfp_select` says that the CPU can run it. Vector registers belong to the caller of any function, so
 * bodies take them all and tell the compiler of those it knows without those flags. */

#include "peak.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels.h"

enum {
    TURNS = 4096,    /* of a body's loop between two looks at the clock: some 50 microseconds */
    STRETCHES = 501, /* at most; the median of these is the figure */
};

typedef void body(long turns);

struct peak {
    const char *name;
    body *run;
    long macs; /* of one turn */
};

#if defined(EDGED_X86)

/* Accumulators are told apart by 5 (latency) x 2 (a cycle) at most: 12 and 24 are enough. */
#define ACCUMULATE_12(M) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
#define ACCUMULATE_24(M)                                                                           \
    M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15) M(16) M(17) M(18) M(19) M(20) M(21) M(22) M(23)  \
    M(24) M(25) M(26) M(27) M(28) M(29) M(30) M(31)

#define CLOBBERED                                                                                  \
    "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

#define BODY(NAME, CLEAR, STEPS)                                                                   \
    static void NAME(long turns)                                                                   \
    {                                                                                              \
        __asm__ volatile(CLEAR "1:\n" STEPS "dec %0\n\tjnz 1b\n\tvzeroupper\n"                     \
                         : "+r"(turns)                                                             \
                         :                                                                         \
                         : CLOBBERED);                                                             \
    }

#define ZERO_512(r) "vpxord %%zmm" #r ", %%zmm" #r ", %%zmm" #r "\n\t"
#define DOT_512(r) "vpdpbusd %%zmm1, %%zmm0, %%zmm" #r "\n\t"
BODY(avx512vnni, ZERO_512(0) ZERO_512(1) ACCUMULATE_24(ZERO_512), ACCUMULATE_24(DOT_512))

#define ZERO_256(r) "vpxor %%ymm" #r ", %%ymm" #r ", %%ymm" #r "\n\t"
#define DOT_256(r) "%{vex%} vpdpbusd %%ymm1, %%ymm0, %%ymm" #r "\n\t"
BODY(avxvnni, ZERO_256(0) ZERO_256(1) ACCUMULATE_12(ZERO_256),
     ACCUMULATE_12(DOT_256) ACCUMULATE_12(DOT_256))

#define MULTIPLY_AVX2(r) "vpmaddubsw %%ymm1, %%ymm0, %%ymm" #r "\n\t"
BODY(avx2, ZERO_256(0) ZERO_256(1), ACCUMULATE_12(MULTIPLY_AVX2) ACCUMULATE_12(MULTIPLY_AVX2))

static const struct peak peaks[] = {
    {"avx512vnni", avx512vnni, 24 * 64},
    {"avxvnni", avxvnni, 24 * 32},
    {"avx2", avx2, 24 * 32},
};

#elif defined(__aarch64__)

#define ACCUMULATE_16(M)                                                                           \
    M(16) M(17) M(18) M(19) M(20) M(21) M(22) M(23) M(24) M(25) M(26) M(27) M(28) M(29) M(30) M(31)
#define CLEAR_NEON(r) "movi v" #r ".4s, #0\n\t"
#define DOT_NEON(r) "udot v" #r ".4s, v0.16b, v1.16b\n\t"

static void neon(long turns)
{
    __asm__ volatile(".arch armv8.2-a+dotprod\n\t" CLEAR_NEON(0) CLEAR_NEON(1)
                         ACCUMULATE_16(CLEAR_NEON) "1:\n" ACCUMULATE_16(DOT_NEON)
                             ACCUMULATE_16(DOT_NEON) "subs %0, %0, #1\n\tb.ne 1b\n"
                     : "+r"(turns)
                     :
                     : "cc", "v0", "v1", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23",
                       "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
}

static const struct peak peaks[] = {{"neon", neon, 32 * 16}};

#else

static const struct peak peaks[] = {{NULL, NULL, 0}};

#endif

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_rate(const struct peak *peak, double seconds)
{
    double rates[STRETCHES], began = now(), before = began;
    int count = 0;
    peak->run(TURNS); /* the clock of the core may have to rise first */
    do {
        double from = now();
        /* One look at the clock for a share of the time, so that a short run has stretches enough. */
        long runs = 0;
        do {
            peak->run(TURNS);
            runs++;
            before = now();
        } while (before - from < seconds / STRETCHES);
        rates[count++] = (double)(runs * TURNS * peak->macs) / (before - from);
    } while (count < STRETCHES && before - began < seconds);
    qsort(rates, (size_t)count, sizeof *rates, by_size);
    return rates[count / 2];
}

double bfp_peak(const char *name, double seconds)
{
    if (bfp_select(name) == NULL)
        return 0.0;
    for (size_t i = 0; i < sizeof peaks / sizeof *peaks; i++)
        if (peaks[i].name != NULL && strcmp(peaks[i].name, name) == 0)
            return median_rate(&peaks[i], seconds);
    return 0.0;
}
