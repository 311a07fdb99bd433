#include "ops/mapping.h"

#include <string.h>

mapping mapping_identity(const shape *in)
{
    return (mapping){.in = *in, .out = *in};
}

xai_status mapping_axis(const operator_call *call, mapping *self, int axis, int64_t out_size)
{
    self->out.dims[axis] = out_size;
    self->maps[axis] = memory_allocate((size_t)out_size, sizeof *self->maps[axis]);
    if (!self->maps[axis])
        return operator_error(call, XAI_ERROR_MEMORY, "out of memory for %lld indices",
                              (long long)out_size);
    return XAI_OK;
}

void mapping_drop(mapping *self)
{
    for (int i = 0; i < SHAPE_MAX_RANK; i++)
        memory_free(self->maps[i]);
    *self = (mapping){0};
}

/* A line of the output: all indices but the last fixed. `index` is over the first rank - 1 axes. */
typedef struct line_walk {
    const mapping *self;
    size_t strides[SHAPE_MAX_RANK]; /* of the input, elements */
    int64_t index[SHAPE_MAX_RANK];
    int last; /* the last axis; -1 for scalars */
} line_walk;

static line_walk walk_begin(const mapping *self)
{
    line_walk walk = {.self = self, .last = self->out.rank - 1};
    size_t step = 1;
    for (int i = walk.last; i >= 0; i--) {
        walk.strides[i] = step;
        step *= (size_t)self->in.dims[i];
    }
    return walk;
}

/* Input offset of the line's indices; false when one of them is fill. */
static bool walk_offset(const line_walk *walk, size_t *offset)
{
    *offset = 0;
    for (int i = 0; i < walk->last; i++) {
        const int64_t at =
            walk->self->maps[i] ? walk->self->maps[i][walk->index[i]] : walk->index[i];
        if (at == MAPPING_FILL)
            return false;
        *offset += (size_t)at * walk->strides[i];
    }
    return true;
}

static bool walk_next(line_walk *walk)
{
    for (int i = walk->last - 1; i >= 0; i--) {
        if (++walk->index[i] < walk->self->out.dims[i])
            return true;
        walk->index[i] = 0;
    }
    return false;
}

static void fill_elements(unsigned char *out, size_t count, size_t size, const void *fill)
{
    if (!fill)
        memset(out, 0, count * size);
    for (size_t i = 0; i < count && fill; i++)
        memcpy(out + i * size, fill, size);
}

/* Length of the run of consecutive input indices that begins at map[begin]. */
static size_t run_length(const int64_t *map, size_t begin, size_t end)
{
    size_t length = 1;
    while (begin + length < end && map[begin + length] == map[begin] + (int64_t)length)
        length++;
    return length;
}

static void copy_line(const int64_t *map, size_t width, size_t size, const unsigned char *in,
                      const void *fill, unsigned char *out)
{
    if (!map) {
        memcpy(out, in, width * size);
        return;
    }
    for (size_t i = 0; i < width;) {
        size_t length = 1;
        if (map[i] == MAPPING_FILL) {
            fill_elements(out + i * size, 1, size, fill);
        } else {
            length = run_length(map, i, width);
            memcpy(out + i * size, in + (size_t)map[i] * size, length * size);
        }
        i += length;
    }
}

void mapping_forward(const mapping *self, const tensor *in, const void *fill, tensor *out)
{
    const size_t size = dtype_size(out->dtype), count = tensor_count(out);
    const unsigned char *from = in->data;
    unsigned char *to = out->data;
    line_walk walk = walk_begin(self);
    if (count == 0)
        return;
    if (tensor_count(in) == 0) { /* all of it is fill */
        fill_elements(to, count, size, fill);
        return;
    }
    if (walk.last < 0) {
        memcpy(to, from, size);
        return;
    }
    const size_t width = (size_t)self->out.dims[walk.last];
    do {
        size_t offset;
        if (walk_offset(&walk, &offset))
            copy_line(self->maps[walk.last], width, size, from + offset * size, fill, to);
        else
            fill_elements(to, width, size, fill);
        to += width * size;
    } while (walk_next(&walk));
}

xai_status mapping_backward(const operator_call *call, const mapping *self, const tensor *given,
                            tensor *wanted)
{
    double *sums = NULL, *slopes = NULL;
    xai_status status = XAI_OK;
    line_walk walk = walk_begin(self);
    if (!given || tensor_count(given) == 0 || tensor_count(wanted) == 0) {
        operator_zero(wanted);
        return XAI_OK;
    }
    const size_t width = walk.last < 0 ? 1 : (size_t)self->out.dims[walk.last];
    const int64_t *map = walk.last < 0 ? NULL : self->maps[walk.last];
    status = operator_allocate(call, tensor_count(wanted), &sums);
    if (status == XAI_OK)
        status = operator_allocate(call, width, &slopes);
    if (status != XAI_OK)
        goto done;
    size_t position = 0, offset;
    do {
        if (walk_offset(&walk, &offset)) {
            tensor_read_doubles(given, position, width, slopes);
            for (size_t i = 0; i < width; i++)
                if (!map)
                    sums[offset + i] += slopes[i];
                else if (map[i] != MAPPING_FILL)
                    sums[offset + (size_t)map[i]] += slopes[i];
        }
        position += width;
    } while (walk_next(&walk));
    tensor_write_doubles(wanted, 0, tensor_count(wanted), sums);
done:
    memory_free(sums);
    memory_free(slopes);
    return status;
}

xai_status movement_check(const operator_call *call, int i)
{
    if (dtype_size(call->inputs[i]->dtype) > 0)
        return XAI_OK;
    return operator_error(call, XAI_ERROR_UNSUPPORTED,
                          "input %d has type %s, which %s does not take", i,
                          dtype_name(call->inputs[i]->dtype), call->definition->name);
}

xai_status movement_infer(const operator_call *call, const shape *out)
{
    return operator_set_output(call, 0, call->inputs[0]->dtype, out);
}

xai_status movement_ints(const operator_call *call, bool attribute, const char *name, int input,
                         int64_t *out, size_t capacity, size_t *count, bool *given)
{
    const int64_t *values;
    *count = 0;
    *given = false;
    if (!attribute) {
        *given = operator_has_input(call, input);
        return *given ? operator_constant_ints(call, input, out, capacity, count) : XAI_OK;
    }
    const xai_status status = operator_attribute_ints(call, name, &values, count);
    if (status == XAI_OK && *count > capacity)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "%s has %zu values where at most %zu make sense", name, *count,
                              capacity);
    *given = status == XAI_OK && operator_attribute(call, name);
    if (*given && *count > 0)
        memcpy(out, values, *count * sizeof *out);
    return status;
}

xai_status movement_run(operator_call *call,
                        xai_status (*make)(const operator_call *call, mapping *out), bool back)
{
    mapping map;
    tensor *wanted = back ? operator_wanted_gradient(call, 0) : NULL;
    if (back && !wanted)
        return XAI_OK;
    xai_status status = make(call, &map);
    if (status == XAI_OK && back)
        status = mapping_backward(call, &map, operator_output_gradient(call, 0), wanted);
    else if (status == XAI_OK)
        mapping_forward(&map, call->inputs[0], NULL, call->outputs[0]);
    mapping_drop(&map);
    return status;
}
