#include "explain/baseline.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "image/image.h"

/* (N or 1, ...) or (...) against one row of an input: how many rows; 0 = it does not fit. */
static size_t rows_of(const tensor *given, const tensor *input)
{
    const shape *a = &given->shape, *b = &input->shape;
    const int skip = a->rank == b->rank ? 1 : 0;
    if (a->rank != b->rank && a->rank + 1 != b->rank)
        return 0;
    for (int axis = 1; axis < b->rank; axis++)
        if (a->dims[axis - 1 + skip] != b->dims[axis])
            return 0;
    return skip == 1 ? (size_t)a->dims[0] : 1;
}

static xai_status check_tensor(const char *option, const tensor *given, const tensor *input,
                               const char *name, size_t *rows, xai_error **error)
{
    char got[SHAPE_TEXT_SIZE], wanted[SHAPE_TEXT_SIZE];
    if (!dtype_is_float(given->dtype))
        return error_set(error, XAI_ERROR_ARGUMENT, option, "an array of floats is needed, not %s",
                         dtype_name(given->dtype));
    *rows = rows_of(given, input);
    if (*rows == 0)
        return error_set(error, XAI_ERROR_SHAPE, option,
                         "shape %s does not fit input '%.80s', whose rows are those of %s",
                         shape_text(&given->shape, got), name, shape_text(&input->shape, wanted));
    if (tensor_find_nonfinite(given) != SIZE_MAX)
        return error_set(error, XAI_ERROR_NUMERIC, option, "it holds a NaN or an infinity");
    return XAI_OK;
}

xai_status baseline_check(const attribution_inputs *inputs, const explainer *of, explanation *out,
                          xai_error **error)
{
    const option_value *given = option_given(&of->options, "baseline");
    text name = {0};
    xai_status status = XAI_OK;
    if (given == NULL || given->kind == OPTION_NUMBER)
        explanation_append_number(&name, explainer_number(of, "baseline"));
    else if (given->kind == OPTION_TEXT)
        text_append(&name, strcmp(given->text, "mean") == 0 ? "the mean of each channel"
                                                            : "the blurred input");
    else
        text_append(&name, "the given array");
    for (size_t p = 0; status == XAI_OK && p < inputs->float_count; p++) {
        const tensor *input = inputs->rows->inputs[inputs->inputs[p]];
        const char *input_name = network_graph(of->engine.of->net)->values[inputs->ids[p]].name;
        size_t rows = 0;
        if (given != NULL && given->kind == OPTION_TENSOR) {
            const tensor *array = option_tensor(&of->options, "baseline", inputs->inputs[p]);
            if (array == NULL)
                status = error_set(error, XAI_ERROR_ARGUMENT, "baseline",
                                   "none was given for input '%.80s'", input_name);
            else
                status = check_tensor("baseline", array, input, input_name, &rows, error);
            if (status == XAI_OK && rows != 1 && rows != inputs->rows->rows)
                status = error_set(error, XAI_ERROR_SHAPE, "baseline",
                                   "%zu rows for %zu rows of input '%.80s'; give one for all or "
                                   "one for each",
                                   rows, inputs->rows->rows, input_name);
        } else if (given != NULL && given->kind == OPTION_TEXT &&
                   (inputs->spaces[p].rank == 0 ||
                    (inputs->spaces[p].rank > 2 && strcmp(given->text, "blur") == 0))) {
            status = error_set(
                error, XAI_ERROR_UNSUPPORTED, "baseline",
                "'%s' needs an input with %s spatial axes, which '%.80s' has not", given->text,
                strcmp(given->text, "blur") == 0 ? "one or two" : "one to three", input_name);
        }
    }
    if (status == XAI_OK && name.failed)
        status = error_memory(error, "the name of a baseline", 0);
    if (status == XAI_OK)
        status = explanation_set_baseline(out, name.bytes, error);
    text_free(&name);
    return status;
}

/* Each channel's mean. */
static void fill_mean(const spatial *space, const float *row, float *out)
{
    for (size_t c = 0; c < space->channels; c++) {
        const size_t first = space->offset + c * space->channel_stride;
        double sum = 0;
        for (size_t p = 0; p < space->pixels; p++)
            sum += row[first + p * space->pixel_stride];
        for (size_t p = 0; p < space->pixels; p++)
            out[first + p * space->pixel_stride] = (float)(sum / (double)space->pixels);
    }
}

static xai_status fill_blur(const spatial *space, const float *row, float *out, xai_error **error)
{
    const size_t width = (size_t)space->dims[space->rank - 1];
    const size_t height = space->rank > 1 ? (size_t)space->dims[0] : 1;
    const double sigma = (double)(width > height ? width : height) / 16;
    float *plane = memory_allocate(space->pixels, sizeof *plane);
    bool done = plane != NULL;
    for (size_t c = 0; done && c < space->channels; c++) {
        const size_t first = space->offset + c * space->channel_stride;
        for (size_t p = 0; p < space->pixels; p++)
            plane[p] = row[first + p * space->pixel_stride];
        done = image_blur_gaussian(plane, height, width, sigma, plane);
        for (size_t p = 0; done && p < space->pixels; p++)
            out[first + p * space->pixel_stride] = plane[p];
    }
    memory_free(plane);
    return done ? XAI_OK : error_memory(error, "a blurred input", space->pixels * sizeof *plane);
}

xai_status baseline_row(const attribution_inputs *inputs, const explainer *of, size_t row,
                        float *const *values, xai_error **error)
{
    const option_value *given = option_given(&of->options, "baseline");
    xai_status status = XAI_OK;
    for (size_t p = 0; status == XAI_OK && p < inputs->float_count; p++) {
        const size_t count = inputs->sizes[p];
        if (given == NULL || given->kind == OPTION_NUMBER) {
            const float number = (float)explainer_number(of, "baseline");
            for (size_t i = 0; i < count; i++)
                values[p][i] = number;
        } else if (given->kind == OPTION_TENSOR) {
            const tensor *array = option_tensor(&of->options, "baseline", inputs->inputs[p]);
            const bool one = rows_of(array, inputs->rows->inputs[inputs->inputs[p]]) == 1;
            tensor_read_floats(array, one ? 0 : row * count, count, values[p]);
        } else {
            float *original = memory_allocate(count, sizeof *original);
            if (original == NULL)
                return error_memory(error, "a baseline", count * sizeof *original);
            attribution_read_row(inputs, row, p, original);
            if (strcmp(given->text, "mean") == 0)
                fill_mean(&inputs->spaces[p], original, values[p]);
            else
                status = fill_blur(&inputs->spaces[p], original, values[p], error);
            memory_free(original);
        }
    }
    return status;
}

xai_status background_rows(const attribution_inputs *inputs, const explainer *of, size_t *count,
                           xai_error **error)
{
    const graph *source = network_graph(of->engine.of->net);
    *count = 0;
    if (option_given(&of->options, "background") == NULL)
        return XAI_OK;
    for (size_t p = 0; p < inputs->float_count; p++) {
        const char *name = source->values[inputs->ids[p]].name;
        const tensor *given = option_tensor(&of->options, "background", inputs->inputs[p]);
        size_t rows = 0;
        if (given == NULL)
            return error_set(error, XAI_ERROR_ARGUMENT, "background",
                             "none was given for input '%.80s'", name);
        const xai_status status = check_tensor(
            "background", given, inputs->rows->inputs[inputs->inputs[p]], name, &rows, error);
        if (status != XAI_OK)
            return status;
        if (p > 0 && rows != *count)
            return error_set(error, XAI_ERROR_SHAPE, "background",
                             "%zu rows for input '%.80s', but %zu for the first", rows, name,
                             *count);
        *count = rows;
    }
    return XAI_OK;
}

void background_name(size_t rows, char *out, size_t size)
{
    snprintf(out, size, "a background of %zu row%s", rows, rows == 1 ? "" : "s");
}

void background_read(const attribution_inputs *inputs, const explainer *of, size_t part,
                     size_t index, float *out)
{
    const tensor *given = option_tensor(&of->options, "background", inputs->inputs[part]);
    tensor_read_floats(given, index * inputs->sizes[part], inputs->sizes[part], out);
}

/* References */

void references_free(references *self)
{
    attribution_inputs_free(&self->inputs);
    memory_free((void *)self->row);
    memory_free(self->layer);
    *self = (references){0};
}

xai_status references_init(references *self, explainer *of, const attribution_inputs *parts,
                           bool takes_background, explanation *const *out, size_t out_count,
                           xai_error **error)
{
    *self = (references){.parts = parts, .count = 1};
    xai_status status = attribution_inputs_init_plain(&self->inputs, of, parts->rows, error);
    size_t rows = 0;
    if (status == XAI_OK && takes_background)
        status = background_rows(&self->inputs, of, &rows, error);
    self->background = rows > 0;
    self->count = rows > 0 ? rows : 1;
    for (size_t t = 0; status == XAI_OK && t < out_count; t++) {
        char name[64];
        background_name(rows, name, sizeof name);
        status = self->background ? explanation_set_baseline(out[t], name, error)
                                  : baseline_check(&self->inputs, of, out[t], error);
    }
    if (status == XAI_OK && (self->row = attribution_rows_create(&self->inputs)) == NULL)
        status = error_memory(error, "a baseline", 0);
    size_t floats = 0;
    if (status == XAI_OK && parts->of_layer &&
        (!size_multiply(self->count, parts->sizes[0], &floats) ||
         (self->layer = memory_allocate(floats, sizeof(float))) == NULL))
        status = error_memory(error, "the values of a layer", floats * sizeof(float));
    return status;
}

/* The layer's values for reference rows of the inputs. */
typedef struct layer_job {
    references *self;
    const explainer *of;
    size_t row;
} layer_job;

static xai_status fill_reference(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const layer_job *job = user;
    const attribution_inputs *plain = &job->self->inputs;
    float **values = attribution_rows_create(plain);
    if (values == NULL)
        return error_memory(error, "a reference", 0);
    for (size_t p = 0; p < plain->float_count; p++) {
        if (job->self->background)
            background_read(plain, job->of, p, index, values[p]);
        else
            memcpy(values[p], job->self->row[p], plain->sizes[p] * sizeof(float));
    }
    attribution_write(plain, job->row, (const float *const *)values, inputs);
    memory_free((void *)values);
    return XAI_OK;
}

static xai_status keep_layer(void *user, const variant *of, xai_error **error)
{
    const layer_job *job = user;
    (void)error;
    memcpy(job->self->layer + of->index * of->counts[0], of->values[0],
           of->counts[0] * sizeof(float));
    return XAI_OK;
}

xai_status references_begin(references *self, explainer *of, size_t row, xai_error **error)
{
    self->evaluations = 0;
    if (self->background && (self->layer == NULL || row > 0))
        return XAI_OK; /* read where it is; the same for every row */
    if (!self->background) {
        const xai_status status = baseline_row(&self->inputs, of, row, self->row, error);
        if (status != XAI_OK)
            return status;
    }
    if (self->layer == NULL)
        return XAI_OK;
    layer_job job = {.self = self, .of = of, .row = row};
    const variants what = {.rows = self->parts->rows,
                           .row = row,
                           .count = self->count,
                           .wrt = self->parts->ids,
                           .wrt_count = 1,
                           .with_values = true,
                           .fill = fill_reference,
                           .body = keep_layer,
                           .user = &job};
    self->evaluations = self->count;
    return evaluator_run_variants(&of->engine, &what, error);
}

bool references_are_shared(const references *self, const explainer *of)
{
    const option_value *given = option_given(&of->options, "baseline");
    if (self->background || given == NULL || given->kind == OPTION_NUMBER)
        return true;
    for (size_t p = 0; given->kind == OPTION_TENSOR && p < self->inputs.float_count; p++) {
        const size_t input = self->inputs.inputs[p];
        const tensor *array = option_tensor(&of->options, "baseline", input);
        if (rows_of(array, self->inputs.rows->inputs[input]) != 1)
            return false;
    }
    return given->kind == OPTION_TENSOR;
}

void references_read(const references *self, const explainer *of, size_t index, float *const *out)
{
    const attribution_inputs *parts = self->parts;
    for (size_t p = 0; p < parts->float_count; p++) {
        if (self->layer != NULL)
            memcpy(out[p], self->layer + index * parts->sizes[p], parts->sizes[p] * sizeof(float));
        else if (self->background)
            background_read(parts, of, p, index, out[p]);
        else
            memcpy(out[p], self->row[p], parts->sizes[p] * sizeof(float));
    }
}
