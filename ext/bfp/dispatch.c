/* Which kernels this CPU can run: the only file that asks it. */

#include <string.h>
#if defined(EDGED_ARM64)
#include <sys/auxv.h>
#endif

#include "kernels.h"

#if defined(EDGED_X86)

/* gcc's own checks include that the operating system saves the registers (OSXSAVE, then XCR0 by
 * XGETBV): without it no feature that needs ymm or zmm counts as supported. */
static int has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c") && __builtin_cpu_supports("popcnt");
}

static int can_run(const struct bfp_kernels *kernels)
{
    __builtin_cpu_init();
    if (kernels == &bfp_avx512vnni)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vnni");
    if (kernels == &bfp_avxvnni)
        return has_avx2() && __builtin_cpu_supports("avxvnni");
    if (kernels == &bfp_avx2)
        return has_avx2();
    return kernels == &bfp_portable;
}

#elif defined(EDGED_ARM64)

static int can_run(const struct bfp_kernels *kernels)
{
    if (kernels == &bfp_neon) /* Advanced SIMD with the dot product, as the kernel tells */
        return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
    return kernels == &bfp_portable;
}

#else

static int can_run(const struct bfp_kernels *kernels)
{
    return kernels == &bfp_portable;
}

#endif

/* Best first. */
static const struct bfp_kernels *const all[] = {
#if defined(EDGED_X86)
    &bfp_avx512vnni,
    &bfp_avxvnni,
    &bfp_avx2,
#elif defined(EDGED_ARM64)
    &bfp_neon,
#endif
    &bfp_portable,
};

enum { COUNT = sizeof all / sizeof *all };

const struct bfp_kernels *bfp_select(const char *name)
{
    for (int i = 0; i < COUNT; i++)
        if (can_run(all[i]) && (name == NULL || strcmp(name, all[i]->name) == 0))
            return all[i];
    return NULL;
}

const char *const *bfp_available(void)
{
    static const char *names[COUNT + 1];
    int n = 0;
    for (int i = 0; i < COUNT; i++)
        if (can_run(all[i]))
            names[n++] = all[i]->name;
    names[n] = NULL;
    return names;
}
