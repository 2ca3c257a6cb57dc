/* A fixed set of threads that work through numbered items together.
 *
 * Between pool_wake and pool_rest the threads spin for the next job, because jobs of a run follow each
 * other within microseconds; outside they sleep and cost nothing. The caller never waits for a thread
 * that holds no item: on a busy machine it does the work of one that was not scheduled. One caller at a
 * time. */
#ifndef EDGED_NPU_POOL_H
#define EDGED_NPU_POOL_H

struct pool;

/* Does item `item` of a job; `thread` is 0 (the caller) to threads - 1. */
typedef void pool_work(void *job, int item, int thread);

/* A pool of that many threads, the caller's among them; NULL when they cannot be started. */
struct pool *pool_open(int threads);
void pool_close(struct pool *pool);
int pool_threads(const struct pool *pool);

void pool_wake(struct pool *pool);
void pool_rest(struct pool *pool);

/* Returns when all items, at most 2^24 - 1, are done. Each thread begins with a range of neighbouring
 * items, the same for jobs of as many items, so that what it wrote in one job it finds in its own cache
 * in the next; one that has done its range takes items from the ends of others'. */
void pool_run(struct pool *pool, pool_work *work, void *job, int items);

#endif
