#include "pool.h"

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

enum { SPINS_BEFORE_YIELD = 1024 };

/* The present job as one number, so that an item is claimed by one atomic addition and a thread that
 * comes late can neither take an item twice nor one of a job that is over: a job number of 16 bits, how
 * many items, how many were claimed. */
typedef uint64_t ticket;

static ticket make_ticket(unsigned job, int items)
{
    return (ticket)(uint16_t)job << 48 | (ticket)items << 24;
}

static int ticket_items(ticket t)
{
    return (int)(t >> 24 & 0xffffff);
}

static int ticket_claimed(ticket t)
{
    return (int)(t & 0xffffff);
}

struct pool {
    int threads;
    pthread_t *handles;
    int started;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    _Atomic int awake; /* written under the lock */
    int closing;       /* under the lock */

    pool_work *work; /* of the present job; stands until all its items are done */
    void *job;
    unsigned number;
    _Atomic ticket ticket;
    _Atomic int done; /* items of the present job */
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

/* Claims and does items of the present job until none is left. Whoever holds an unfinished item keeps
 * the job from ending, so `work` and `job` are read safely after the claim. */
static void take_items(struct pool *pool, int thread)
{
    for (;;) {
        ticket t = atomic_load_explicit(&pool->ticket, memory_order_relaxed);
        if (ticket_claimed(t) >= ticket_items(t))
            return;
        t = atomic_fetch_add_explicit(&pool->ticket, 1, memory_order_acquire);
        if (ticket_claimed(t) >= ticket_items(t))
            return;
        pool->work(pool->job, ticket_claimed(t), thread);
        atomic_fetch_add_explicit(&pool->done, 1, memory_order_release);
    }
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
    free(member);
    fesetenv(FE_DFL_ENV); /* subnormals count, whatever the starting thread had set */
    while (sleep_until_awake(pool))
        while (atomic_load_explicit(&pool->awake, memory_order_relaxed)) {
            take_items(pool, thread);
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
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, NULL);
    for (int i = 1; pool->handles != NULL && i < threads; i++) {
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
    if (pool->handles == NULL || pool->started != threads - 1) {
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
    pool->work = work;
    pool->job = job;
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->ticket, make_ticket(++pool->number, items), memory_order_release);
    take_items(pool, 0);
    while (atomic_load_explicit(&pool->done, memory_order_acquire) != items)
        relax(&spins);
}
