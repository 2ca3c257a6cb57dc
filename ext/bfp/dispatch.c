/* Which kernels this CPU can run: the only file that asks it. */

#include <string.h>

#include "kernels.h"

static int can_run(const struct bfp_kernels *kernels)
{
#if defined(EDGED_X86)
    if (kernels == &bfp_avx512vnni) {
        /* gcc's own check includes that the operating system saves the registers (XCR0). */
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vnni");
    }
#endif
    return kernels == &bfp_portable;
}

/* Best first. */
static const struct bfp_kernels *const all[] = {
#if defined(EDGED_X86)
    &bfp_avx512vnni,
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
