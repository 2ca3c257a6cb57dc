/* replay FILE [NAME...]: runs recorded programs on sets of kernels (all that this CPU has, or those
 * named) and compares what comes out with what was recorded (tests/kernels/recorded.py), bit by bit.
 *
 * Ends with 0 and a line a set, the best first; with 1 and the first difference; with 2 where a set
 * cannot be run. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "npu/npu.h"

enum { MOST = 64, THREADS = 2 };

static const int32_t *next; /* of the recording; everything in it is four bytes wide */

static int number(void)
{
    return *next++;
}

static void numbers(int *to, int count)
{
    for (int i = 0; i < count; i++)
        to[i] = number();
}

/* A count, then as many halves, padded to four bytes; NULL for a count of 0. */
static const uint16_t *halves(void)
{
    int count = number();
    const void *found = count > 0 ? next : NULL;
    next += (count + 1) / 2;
    return found;
}

/* A count, then as many floats. */
static const float *floats(int *count)
{
    *count = number();
    const void *found = next;
    next += *count;
    return found;
}

static struct npu_chain read_chain(void)
{
    struct npu_chain chain = {.kind = (enum npu_kind)number()};
    chain.source = number();
    chain.other = number();
    chain.target = number();
    numbers(chain.kernel, 2);
    numbers(chain.stride, 2);
    numbers(chain.pads, 4);
    numbers(chain.dilation, 2);
    chain.expander = number();
    chain.include_pad = number();
    chain.activation = (enum bfp_activation)number();
    numbers(chain.start, 3);
    numbers(chain.step, 3);
    numbers(chain.extent, 3);
    numbers(chain.offset, 3);
    chain.weights = halves();
    chain.bias = halves();
    chain.scale = halves();
    return chain;
}

static struct npu_port read_port(void)
{
    struct npu_port port = {.map = number()};
    port.layout = (enum npu_layout)number();
    return port;
}

/* A specification with an input, and what must come out. */
struct recorded {
    struct npu_specification specification;
    struct npu_map maps[MOST];
    struct npu_chain chains[MOST];
    struct npu_port inputs[MOST], outputs[MOST];
    const float *given[MOST], *expected[MOST];
    int lengths[MOST]; /* of the outputs */
};

static void read_recorded(struct recorded *to)
{
    int counts[5], ignored;
    numbers(counts, 5);
    for (int i = 1; i < 5; i++)
        if (counts[i] > MOST)
            abort();
    for (int i = 0; i < counts[1]; i++) {
        to->maps[i].height = number();
        to->maps[i].width = number();
        to->maps[i].channels = number();
        to->maps[i].memories = number();
    }
    for (int i = 0; i < counts[2]; i++)
        to->chains[i] = read_chain();
    for (int i = 0; i < counts[3]; i++)
        to->inputs[i] = read_port();
    for (int i = 0; i < counts[4]; i++)
        to->outputs[i] = read_port();
    for (int i = 0; i < counts[3]; i++)
        to->given[i] = floats(&ignored);
    for (int i = 0; i < counts[4]; i++)
        to->expected[i] = floats(&to->lengths[i]);
    to->specification = (struct npu_specification){
        .maps = to->maps, .chains = to->chains, .inputs = to->inputs, .outputs = to->outputs,
        .map_count = counts[1], .chain_count = counts[2], .input_count = counts[3],
        .output_count = counts[4], .mantissa = counts[0]};
}

/* Runs a program; returns whether all outputs are the recorded ones. */
static int same(const struct recorded *program, const struct bfp_kernels *kernels, struct pool *pool)
{
    float *outputs[MOST];
    int all = 1;
    struct npu *npu = npu_load(&program->specification, NPU_BFP, kernels, pool);
    if (npu == NULL)
        abort();
    for (int i = 0; i < program->specification.output_count; i++)
        outputs[i] = malloc((size_t)program->lengths[i] * sizeof(float));
    if (npu_run(npu, program->given, outputs) != -1)
        abort();
    for (int i = 0; i < program->specification.output_count; i++) {
        size_t bytes = (size_t)program->lengths[i] * sizeof(float);
        all = all && memcmp(outputs[i], program->expected[i], bytes) == 0;
        free(outputs[i]);
    }
    npu_unload(npu);
    return all;
}

static void *read_file(const char *path, long *size)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0)
        abort();
    *size = ftell(file);
    rewind(file);
    void *content = malloc((size_t)*size);
    if (content == NULL || fread(content, 1, (size_t)*size, file) != (size_t)*size)
        abort();
    fclose(file);
    return content;
}

/* Runs all programs up to `end` on one set of kernels; returns the status to end with. */
static int replay(const int32_t *content, const int32_t *end, const char *name, struct pool *pool)
{
    static struct recorded program;
    const struct bfp_kernels *kernels = bfp_select(name);
    int count = 0;
    if (kernels == NULL) {
        printf("this CPU has no kernels %s\n", name);
        return 2;
    }
    for (next = content; next < end; count++) {
        read_recorded(&program);
        if (!same(&program, kernels, pool)) {
            printf("%s: program %d does not give what was recorded\n", name, count);
            return 1;
        }
    }
    printf("%s gives the bits of %d programs\n", name, count);
    return 0;
}

int main(int argc, char **argv)
{
    long size;
    int status = 0;
    if (argc < 2)
        return 2;
    int32_t *content = read_file(argv[1], &size);
    const int32_t *end = content + size / 4;
    struct pool *pool = pool_open(THREADS);
    const char *const *names = argc > 2 ? (const char *const *)argv + 2 : bfp_available();
    for (; *names != NULL && status == 0; names++)
        status = replay(content, end, *names, pool);
    pool_close(pool);
    free(content);
    return status;
}
