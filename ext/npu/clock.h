/* What steps take is measured by the monotonic clock. */
#ifndef EDGED_NPU_CLOCK_H
#define EDGED_NPU_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Nanoseconds since the time that is handed over, which becomes now. */
static inline uint64_t lap(uint64_t *since)
{
    uint64_t now = nanoseconds(), took = now - *since;
    *since = now;
    return took;
}

#endif
