#include "explain/masking.h"

#include <string.h>

#include "base/error.h"
#include "explain/features.h"
#include "explain/tokens.h"

/* Which inputs */

static bool is_named(const explainer *of, size_t input)
{
    return option_tensor(&of->options, "baseline", input) != NULL ||
           option_tensor(&of->options, "background", input) != NULL;
}

/* Of a model whose inputs are all integers: the only one, or the one with the largest table. */
static xai_status choose_tokens(const explainer *of, const batch *rows, bool *masked,
                                xai_error **error)
{
    const graph *source = network_graph(of->engine.of->net);
    size_t best = SIZE_MAX;
    int64_t largest = 0;
    bool clear = false;
    for (size_t i = 0; i < source->input_count; i++) {
        const char *table = NULL;
        const int64_t found = source->input_count == 1 ? 1 : tokens_table(source, i, &table);
        if (dtype_size(rows->inputs[i]->dtype) == 0 || found < largest || found == 0)
            continue;
        clear = found > largest;
        largest = found;
        best = i;
    }
    if (best == SIZE_MAX || !clear)
        return error_set(error, XAI_ERROR_ARGUMENT, "baseline",
                         "the %zu inputs of the model hold integers and it is not clear which are "
                         "to be masked: give a baseline for each of them by its name ('%.80s')",
                         source->input_count, source->values[source->inputs[0]].name);
    masked[best] = true;
    return XAI_OK;
}

xai_status masking_inputs_init(attribution_inputs *self, explainer *of, const batch *rows,
                               xai_error **error)
{
    const size_t count = network_graph(of->engine.of->net)->input_count;
    bool *masked = memory_allocate_zeroed(count, sizeof *masked), any = false;
    xai_status status = XAI_OK;
    *self = (attribution_inputs){.rows = rows};
    if (masked == NULL)
        return error_memory(error, "the inputs to mask", count * sizeof *masked);
    for (size_t i = 0; i < count; i++) {
        masked[i] = is_named(of, i);
        any = any || masked[i] || dtype_is_float(rows->inputs[i]->dtype);
    }
    if (!any)
        status = choose_tokens(of, rows, masked, error);
    if (status == XAI_OK)
        status = attribution_inputs_init_with(self, of, rows, masked, error);
    memory_free(masked);
    return status;
}

/* Rows */

static const tensor *input_of(const masking *self, size_t part)
{
    return self->inputs->rows->inputs[self->inputs->inputs[part]];
}

static size_t width_of(const masking *self, size_t part)
{
    return dtype_size(input_of(self, part)->dtype);
}

/* Background row `index` of a part, as a list. */
static tensor absent_row(const masking *self, size_t part, size_t index)
{
    const size_t count = self->inputs->sizes[part], width = width_of(self, part);
    const int64_t dims[1] = {(int64_t)count};
    return (tensor){.dtype = input_of(self, part)->dtype,
                    .shape = shape_make(1, dims),
                    .data = (char *)self->absent[part] + index * count * width};
}

void masking_free(masking *self)
{
    for (size_t p = 0; self->inputs != NULL && p < self->inputs->part_count; p++) {
        if (self->there != NULL)
            memory_free(self->there[p]);
        if (self->absent != NULL)
            memory_free(self->absent[p]);
    }
    memory_free((void *)self->there);
    memory_free((void *)self->absent);
    *self = (masking){0};
}

static xai_status allocate(masking *self, xai_error **error)
{
    const size_t parts = self->inputs->part_count;
    self->there = memory_allocate_zeroed(parts, sizeof *self->there);
    self->absent = memory_allocate_zeroed(parts, sizeof *self->absent);
    bool done = self->there != NULL && self->absent != NULL;
    for (size_t p = 0; done && p < parts; p++) {
        size_t elements = 0;
        self->there[p] = memory_allocate(self->inputs->sizes[p], width_of(self, p));
        if (size_multiply(self->inputs->sizes[p], self->backgrounds, &elements))
            self->absent[p] = memory_allocate(elements, width_of(self, p));
        done = self->there[p] != NULL && self->absent[p] != NULL;
    }
    return done ? XAI_OK : error_memory(error, "a masked row", 0);
}

static xai_status read_background(masking *self, xai_error **error)
{
    xai_status status = XAI_OK;
    for (size_t p = 0; p < self->inputs->part_count; p++)
        for (size_t b = 0; status == XAI_OK && b < self->backgrounds; b++) {
            tensor out = absent_row(self, p, b);
            status = background_write(self->inputs, self->of, p, b, &out, error);
        }
    return status;
}

xai_status masking_init(masking *self, const attribution_inputs *inputs, const explainer *of,
                        explanation *const *out, size_t out_count, xai_error **error)
{
    size_t rows = 0;
    *self = (masking){.inputs = inputs, .of = of, .backgrounds = 1};
    xai_status status = background_rows(inputs, of, &rows, error);
    if (status != XAI_OK)
        return status;
    self->background = rows > 0;
    self->backgrounds = rows > 0 ? rows : 1;
    for (size_t t = 0; status == XAI_OK && t < out_count; t++)
        status = self->background ? baseline_name(inputs, of, rows, out[t], error)
                                  : baseline_check(inputs, of, out[t], error);
    if (status == XAI_OK)
        status = allocate(self, error);
    return status == XAI_OK && self->background ? read_background(self, error) : status;
}

xai_status masking_begin(masking *self, size_t row, xai_error **error)
{
    xai_status status = XAI_OK;
    for (size_t p = 0; status == XAI_OK && p < self->inputs->part_count; p++) {
        const size_t bytes = self->inputs->sizes[p] * width_of(self, p);
        if (bytes > 0)
            memcpy(self->there[p], variants_row(self->inputs->rows, row, self->inputs->inputs[p]),
                   bytes);
        if (!self->background) {
            tensor out = absent_row(self, p, 0);
            status = baseline_write(self->inputs, self->of, row, p, &out, error);
        }
    }
    return status;
}

void masking_write_absent(const masking *self, size_t row, size_t background, tensor *inputs)
{
    for (size_t i = 0; i < self->inputs->count; i++)
        variants_copy_row(self->inputs->rows, row, i, &inputs[i]);
    for (size_t p = 0; p < self->inputs->part_count; p++) {
        tensor *out = &inputs[self->inputs->inputs[p]];
        memcpy(out->data, absent_row(self, p, background).data, tensor_bytes(out));
    }
}

/* One loop a width, so that it is a constant in each. */
#define CHOOSE(type)                                                                          \
    do {                                                                                      \
        const type *from = there, *instead = absent;                                          \
        type *to = out->data;                                                                 \
        for (size_t i = 0; i < count; i++)                                                    \
            to[i] = labels[i] == FEATURE_NONE || coalition[labels[i]] ? from[i] : instead[i]; \
    } while (0)

void masking_write_coalition(const masking *self, size_t part, size_t background,
                             const int32_t *labels, const uint8_t *coalition, tensor *out)
{
    const size_t count = self->inputs->sizes[part];
    const void *there = self->there[part], *absent = absent_row(self, part, background).data;
    switch (width_of(self, part)) {
    case 1:
        CHOOSE(uint8_t);
        break;
    case 2:
        CHOOSE(uint16_t);
        break;
    case 4:
        CHOOSE(uint32_t);
        break;
    default:
        CHOOSE(uint64_t);
        break;
    }
}

void masking_hide(const masking *self, size_t part, size_t element, tensor *out)
{
    const size_t width = width_of(self, part);
    memcpy((char *)out->data + element * width, (char *)self->absent[part] + element * width,
           width);
}

const float *masking_floats(const masking *self, size_t part)
{
    return input_of(self, part)->dtype == DTYPE_FLOAT ? self->there[part] : NULL;
}

const float *masking_absent_floats(const masking *self, size_t part)
{
    return input_of(self, part)->dtype == DTYPE_FLOAT ? self->absent[part] : NULL;
}

bool masking_changes(const masking *self, size_t part, size_t background, size_t element)
{
    const float *there = masking_floats(self, part);
    const void *absent = absent_row(self, part, background).data;
    const size_t width = width_of(self, part);
    if (there != NULL)
        return there[element] != ((const float *)absent)[element]; /* 0 is -0 */
    return memcmp((char *)self->there[part] + element * width,
                  (const char *)absent + element * width, width) != 0;
}
