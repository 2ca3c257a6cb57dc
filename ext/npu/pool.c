#include "pool.h"

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    SPINS_BEFORE_YIELD = 1024,
    LINES = 128 /* bytes: neighbouring cache lines are fetched in pairs */
};

/* Items of a job that a thread has still to do, as one number, so that its own claims at the front and
 * those of idle threads at the back are one atomic exchange, and none can take an item of a job that is
 * over: a job number of 16 bits, the end, the next. */
typedef uint64_t ticket;

static ticket make_ticket(unsigned job, int next, int end)
{
    return (ticket)(uint16_t)job << 48 | (ticket)end << 24 | (ticket)next;
}

static int ticket_end(ticket t)
{
    return (int)(t >> 24 & 0xffffff);
}

static unsigned ticket_job(ticket t)
{
    return (unsigned)(t >> 48);
}

static int ticket_next(ticket t)
{
    return (int)(t & 0xffffff);
}

/* What one thread does: in cache lines of its own, for a line that two threads write costs as much as
 * hundreds of instructions. */
struct share {
    _Alignas(LINES) _Atomic ticket ticket;
    pool_work *work; /* of the present job; stands until all its items are done */
    void *job;
    _Alignas(LINES) _Atomic uint64_t done; /* items done ever */
};

struct pool {
    int threads;
    pthread_t *handles;
    int started;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    _Atomic int awake; /* written under the lock */
    int closing;       /* under the lock */

    unsigned number;
    uint64_t items; /* of all jobs ever */
    struct share *shares;
};

struct member {
    struct pool *pool;
    int thread;
};

static inline void relax(int *spins)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
    if (++*spins >= SPINS_BEFORE_YIELD) {
        *spins = 0;
        sched_yield();
    }
}

/* Claims an item of a share: its owner at the front, others at the back. Whoever holds an unfinished
 * item keeps the job from ending, so `work` and `job` are read safely after the claim. */
static int claim(struct share *share, int owner)
{
    ticket t = atomic_load_explicit(&share->ticket, memory_order_relaxed);
    while (ticket_next(t) < ticket_end(t)) {
        ticket left = owner ? t + 1 : t - ((ticket)1 << 24);
        if (atomic_compare_exchange_weak_explicit(&share->ticket, &t, left, memory_order_acquire,
                                                  memory_order_relaxed))
            return owner ? ticket_next(t) : ticket_end(left);
    }
    return -1;
}

/* Does the items that are left of a share. */
static void do_share(struct pool *pool, int owner, int thread)
{
    struct share *share = &pool->shares[owner], *own = &pool->shares[thread];
    for (int item; (item = claim(share, owner == thread)) >= 0;) {
        share->work(share->job, item, thread);
        uint64_t done = atomic_load_explicit(&own->done, memory_order_relaxed);
        atomic_store_explicit(&own->done, done + 1, memory_order_release);
    }
}

/* Does items of the present job until none is left to claim, a thread's own first; once a job, so that
 * threads that wait for the next look at their own share only. `seen` is the last job's number. */
static void take_items(struct pool *pool, int thread, unsigned *seen)
{
    ticket own = atomic_load_explicit(&pool->shares[thread].ticket, memory_order_relaxed);
    if (ticket_job(own) == *seen)
        return;
    *seen = ticket_job(own);
    for (int i = 0; i < pool->threads; i++)
        do_share(pool, (thread + i) % pool->threads, thread);
}

static uint64_t items_done(const struct pool *pool)
{
    uint64_t done = 0;
    for (int i = 0; i < pool->threads; i++)
        done += atomic_load_explicit(&pool->shares[i].done, memory_order_acquire);
    return done;
}

/* Sleeps until the pool is awake; returns 0 when it closes. */
static int sleep_until_awake(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (!atomic_load(&pool->awake) && !pool->closing)
        pthread_cond_wait(&pool->changed, &pool->lock);
    int open = !pool->closing;
    pthread_mutex_unlock(&pool->lock);
    return open;
}

static void *serve(void *argument)
{
    struct member *member = argument;
    struct pool *pool = member->pool;
    int thread = member->thread, spins = 0;
    unsigned seen = 0;
    free(member);
    fesetenv(FE_DFL_ENV); /* subnormals count, whatever the starting thread had set */
    while (sleep_until_awake(pool))
        while (atomic_load_explicit(&pool->awake, memory_order_relaxed)) {
            take_items(pool, thread, &seen);
            relax(&spins);
        }
    return NULL;
}

struct pool *pool_open(int threads)
{
    struct pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return NULL;
    pool->threads = threads;
    pool->handles = calloc((size_t)threads, sizeof *pool->handles);
    pool->shares = aligned_alloc(LINES, (size_t)threads * sizeof *pool->shares);
    if (pool->shares != NULL)
        memset(pool->shares, 0, (size_t)threads * sizeof *pool->shares);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, NULL);
    for (int i = 1; pool->handles != NULL && pool->shares != NULL && i < threads; i++) {
        struct member *member = malloc(sizeof *member);
        if (member == NULL)
            break;
        *member = (struct member){pool, i};
        if (pthread_create(&pool->handles[i], NULL, serve, member) != 0) {
            free(member);
            break;
        }
        pool->started++;
    }
    if (pool->handles == NULL || pool->shares == NULL || pool->started != threads - 1) {
        pool_close(pool);
        return NULL;
    }
    return pool;
}

void pool_close(struct pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = 1;
    atomic_store(&pool->awake, 0);
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i <= pool->started; i++)
        pthread_join(pool->handles[i], NULL);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    free(pool->handles);
    free(pool->shares);
    free(pool);
}

int pool_threads(const struct pool *pool)
{
    return pool->threads;
}

static void set_awake(struct pool *pool, int awake)
{
    if (pool->threads == 1)
        return;
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->awake, awake);
    if (awake)
        pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

void pool_wake(struct pool *pool)
{
    set_awake(pool, 1);
}

void pool_rest(struct pool *pool)
{
    set_awake(pool, 0);
}

void pool_run(struct pool *pool, pool_work *work, void *job, int items)
{
    if (pool->threads == 1 || items == 1) {
        for (int item = 0; item < items; item++)
            work(job, item, 0);
        return;
    }
    int spins = 0;
    pool->number = (uint16_t)(pool->number + 1);
    pool->items += (uint64_t)items;
    for (int i = pool->threads - 1; i >= 0; i--) {
        struct share *share = &pool->shares[i];
        int next = (int)((int64_t)items * i / pool->threads);
        int end = (int)((int64_t)items * (i + 1) / pool->threads);
        share->work = work;
        share->job = job;
        atomic_store_explicit(&share->ticket, make_ticket(pool->number, next, end),
                              memory_order_release);
    }
    unsigned seen = pool->number - 1;
    take_items(pool, 0, &seen);
    while (items_done(pool) != pool->items)
        relax(&spins);
}
