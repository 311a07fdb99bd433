#include "explain/baseline.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "explain/tokens.h"
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

static const graph *source_of(const explainer *of)
{
    return network_graph(of->engine.of->net);
}

static const char *name_of(const explainer *of, size_t input)
{
    const graph *source = source_of(of);
    return source->values[source->inputs[input]].name;
}

/* Whether an integer of type `from` is one of type `to`. */
static bool integer_fits(int64_t value, int32_t from, int32_t to)
{
    int64_t stored = 0;
    tensor one = {.dtype = to, .shape = {.rank = 0}, .data = &stored};
    if (from == to)
        return true;
    if (value < 0 && (from == DTYPE_UINT64 || to == DTYPE_UINT64))
        return false; /* beyond int64, or negative */
    tensor_set_int(&one, 0, value);
    return tensor_get_int(&one, 0) == value;
}

static xai_status check_integers(const char *option, const explainer *of, const tensor *given,
                                 size_t at, int32_t wanted, xai_error **error)
{
    const char *name = name_of(of, at);
    char place[160], where[SHAPE_TEXT_SIZE];
    snprintf(place, sizeof place, "%s of input '%.120s'", option, name);
    if (!dtype_is_integer(given->dtype) && given->dtype != wanted)
        return error_set(error, XAI_ERROR_ARGUMENT, place, "integers are needed (%s), not %s",
                         dtype_name(wanted), dtype_name(given->dtype));
    for (size_t i = 0; i < tensor_count(given); i++)
        if (!integer_fits(tensor_get_int(given, i), given->dtype, wanted))
            return error_set(error, XAI_ERROR_ARGUMENT, place, "the value at %s does not fit %s",
                             shape_position(&given->shape, i, where), dtype_name(wanted));
    return tokens_check(source_of(of), at, given, place, error);
}

/* An array of the option for input `at`, and its number of rows. */
static xai_status check_tensor(const char *option, const explainer *of, const tensor *given,
                               const tensor *input, size_t at, size_t *rows, xai_error **error)
{
    char got[SHAPE_TEXT_SIZE], wanted[SHAPE_TEXT_SIZE];
    if (dtype_is_float(input->dtype) && !dtype_is_float(given->dtype))
        return error_set(error, XAI_ERROR_ARGUMENT, option, "an array of floats is needed, not %s",
                         dtype_name(given->dtype));
    *rows = given->shape.rank == 0 ? 1 : rows_of(given, input);
    if (*rows == 0)
        return error_set(error, XAI_ERROR_SHAPE, option,
                         "shape %s does not fit input '%.80s', whose rows are those of %s",
                         shape_text(&given->shape, got), name_of(of, at),
                         shape_text(&input->shape, wanted));
    if (!dtype_is_float(input->dtype))
        return check_integers(option, of, given, at, input->dtype, error);
    if (tensor_find_nonfinite(given) != SIZE_MAX)
        return error_set(error, XAI_ERROR_NUMERIC, option, "it holds a NaN or an infinity");
    return XAI_OK;
}

/* A number (or its absence) as the id that stands for an absent token. */
static xai_status check_id(const explainer *of, size_t at, int32_t dtype, xai_error **error)
{
    const option_value *given = option_given(&of->options, "baseline");
    const double largest = 9007199254740992; /* 2^53: whole numbers are exact up to it */
    char place[160];
    snprintf(place, sizeof place, "baseline of input '%.120s'", name_of(of, at));
    if (given == NULL)
        return error_set(error, XAI_ERROR_ARGUMENT, place,
                         "it holds integers, for which no value is absence by itself: name the one "
                         "that stands for it, such as the id of [MASK] or [PAD]");
    if (given->kind == OPTION_TEXT)
        return error_set(error, XAI_ERROR_ARGUMENT, place,
                         "'%s' is not to be had of integers: name the one that stands for absence, "
                         "such as the id of [MASK] or [PAD]",
                         given->text);
    if (given->number != floor(given->number) || fabs(given->number) > largest ||
        !integer_fits((int64_t)given->number, DTYPE_INT64, dtype))
        return error_set(error, XAI_ERROR_ARGUMENT, place, "%.17g is not an integer of type %s%s",
                         given->number, dtype_name(dtype),
                         fabs(given->number) > largest ? " (above 2^53 give it as an array)" : "");
    int64_t id = (int64_t)given->number;
    const tensor one = {.dtype = DTYPE_INT64, .shape = {.rank = 0}, .data = &id};
    return tokens_check(source_of(of), at, &one, place, error);
}

static xai_status check_array(const attribution_inputs *inputs, const explainer *of, size_t at,
                              xai_error **error)
{
    const tensor *array = option_tensor(&of->options, "baseline", at);
    size_t rows = 0;
    if (array == NULL)
        return error_set(error, XAI_ERROR_ARGUMENT, "baseline", "none was given for input '%.80s'",
                         name_of(of, at));
    const xai_status status =
        check_tensor("baseline", of, array, inputs->rows->inputs[at], at, &rows, error);
    if (status == XAI_OK && rows != 1 && rows != inputs->rows->rows)
        return error_set(error, XAI_ERROR_SHAPE, "baseline",
                         "%zu rows for %zu rows of input '%.80s'; give one for all or "
                         "one for each",
                         rows, inputs->rows->rows, name_of(of, at));
    return status;
}

static xai_status check_part(const attribution_inputs *inputs, const explainer *of, size_t part,
                             xai_error **error)
{
    const option_value *given = option_given(&of->options, "baseline");
    const size_t at = inputs->inputs[part];
    const tensor *input = inputs->rows->inputs[at];
    if (given != NULL && given->kind == OPTION_TENSOR)
        return check_array(inputs, of, at, error);
    if (!dtype_is_float(input->dtype))
        return check_id(of, at, input->dtype, error);
    if (given == NULL || given->kind != OPTION_TEXT)
        return XAI_OK;
    const bool blur = strcmp(given->text, "blur") == 0;
    const int rank = inputs->spaces[part].rank;
    if (rank == 0 || (rank > 2 && blur))
        return error_set(error, XAI_ERROR_UNSUPPORTED, "baseline",
                         "'%s' needs an input with %s spatial axes, which '%.80s' has not",
                         given->text, blur ? "one or two" : "one to three", name_of(of, at));
    return XAI_OK;
}

static bool has_part(const attribution_inputs *inputs, size_t input)
{
    for (size_t p = 0; p < inputs->part_count; p++)
        if (inputs->inputs[p] == input)
            return true;
    return false;
}

/* A reference for an input that the method cannot attribute to would be ignored in silence. */
static xai_status check_others(const attribution_inputs *inputs, const explainer *of,
                               const char *option, xai_error **error)
{
    for (size_t i = 0; i < inputs->count; i++)
        if (!has_part(inputs, i) && option_tensor(&of->options, option, i) != NULL)
            return error_set(error, XAI_ERROR_ARGUMENT, option,
                             "one was given for input '%.80s', but '%s' attributes to "
                             "floating-point inputs alone (integers have no gradient) and keeps "
                             "its values: leave it out, or mask it with kernel_shap or another "
                             "method that masks",
                             name_of(of, i), of->method->name);
    return XAI_OK;
}

static void append_quoted(text *out, const char *before, const char *name)
{
    text_append(out, before);
    text_append(out, "'");
    text_append(out, name);
    text_append(out, "'");
}

/* "0", "the mean of each channel", "the given array". */
static void append_value(text *out, const explainer *of, size_t input)
{
    const option_value *given = option_given(&of->options, "baseline");
    const tensor *array = option_tensor(&of->options, "baseline", input);
    if (given == NULL || given->kind == OPTION_NUMBER) {
        explanation_append_number(out, explainer_number(of, "baseline"));
    } else if (given->kind == OPTION_TEXT) {
        text_append(out, strcmp(given->text, "mean") == 0 ? "the mean of each channel"
                                                          : "the blurred input");
    } else if (array != NULL && array->shape.rank == 0) {
        char number[32];
        if (dtype_is_float(array->dtype))
            explanation_append_number(out, tensor_get(array, 0));
        else if (snprintf(number, sizeof number, "%lld", (long long)tensor_get_int(array, 0)) > 0)
            text_append(out, number);
    } else {
        text_append(out, "the given array");
    }
}

/* Models with integer inputs: what stands for absence in each, and which keep their values. */
static void append_inputs(text *out, const attribution_inputs *inputs, const explainer *of,
                          size_t background)
{
    const char *before = "";
    char rows[64];
    background_name(background, rows, sizeof rows);
    for (size_t p = 0; p < inputs->part_count; p++, before = ", ") {
        append_quoted(out, before, name_of(of, inputs->inputs[p]));
        text_append(out, ": ");
        if (background > 0)
            text_append(out, rows);
        else
            append_value(out, of, inputs->inputs[p]);
    }
    before = "; as they are: ";
    for (size_t i = 0; i < inputs->count; i++)
        if (!has_part(inputs, i)) {
            append_quoted(out, before, name_of(of, i));
            before = ", ";
        }
}

/* Token ids that could have been masked, and were not. */
static xai_status warn_of_tokens(const attribution_inputs *inputs, const explainer *of,
                                 explanation *out, xai_error **error)
{
    const char *table = NULL;
    xai_status status = XAI_OK;
    for (size_t p = 0; p < inputs->part_count; p++)
        if (!dtype_is_float(inputs->rows->inputs[inputs->inputs[p]]->dtype))
            return XAI_OK; /* which ones are masked was chosen */
    for (size_t i = 0; status == XAI_OK && i < inputs->count; i++)
        if (!has_part(inputs, i) && tokens_table(source_of(of), i, &table) > 0)
            status = explanation_warn(out, -1, error,
                                      "input '%.80s' holds token ids and keeps its values: nothing "
                                      "is attributed to it. To mask it, give a baseline by name",
                                      name_of(of, i));
    return status;
}

xai_status baseline_name(const attribution_inputs *inputs, const explainer *of, size_t background,
                         explanation *out, xai_error **error)
{
    text name = {0};
    bool integers = false;
    for (size_t i = 0; i < inputs->count; i++)
        integers = integers || !dtype_is_float(inputs->rows->inputs[i]->dtype);
    if (integers && (inputs->count > 1 || background == 0)) {
        append_inputs(&name, inputs, of, background);
    } else if (background > 0) {
        char rows[64];
        background_name(background, rows, sizeof rows);
        text_append(&name, rows);
    } else {
        append_value(&name, of, inputs->inputs[0]);
    }
    xai_status status = name.failed ? error_memory(error, "the name of a baseline", 0)
                                    : explanation_set_baseline(out, name.bytes, error);
    text_free(&name);
    return status == XAI_OK && integers ? warn_of_tokens(inputs, of, out, error) : status;
}

xai_status baseline_check(const attribution_inputs *inputs, const explainer *of, explanation *out,
                          xai_error **error)
{
    xai_status status = check_others(inputs, of, "baseline", error);
    for (size_t p = 0; status == XAI_OK && p < inputs->part_count; p++)
        status = check_part(inputs, of, p, error);
    return status == XAI_OK ? baseline_name(inputs, of, 0, out, error) : status;
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

/* One row of an array that was given; a scalar is one value for all of it. */
static void read_array(const tensor *array, const tensor *input, size_t row, size_t count,
                       float *out)
{
    if (array->shape.rank == 0) {
        for (size_t i = 0; i < count; i++)
            out[i] = (float)tensor_get(array, 0);
        return;
    }
    tensor_read_floats(array, rows_of(array, input) == 1 ? 0 : row * count, count, out);
}

static xai_status read_part(const attribution_inputs *inputs, const explainer *of, size_t row,
                            size_t part, float *out, xai_error **error)
{
    const option_value *given = option_given(&of->options, "baseline");
    const size_t count = inputs->sizes[part], at = inputs->inputs[part];
    xai_status status = XAI_OK;
    if (given == NULL || given->kind == OPTION_NUMBER) {
        const float number = (float)explainer_number(of, "baseline");
        for (size_t i = 0; i < count; i++)
            out[i] = number;
        return XAI_OK;
    }
    if (given->kind == OPTION_TENSOR) {
        read_array(option_tensor(&of->options, "baseline", at), inputs->rows->inputs[at], row,
                   count, out);
        return XAI_OK;
    }
    float *original = memory_allocate(count, sizeof *original);
    if (original == NULL)
        return error_memory(error, "a baseline", count * sizeof *original);
    attribution_read_row(inputs, row, part, original);
    if (strcmp(given->text, "mean") == 0)
        fill_mean(&inputs->spaces[part], original, out);
    else
        status = fill_blur(&inputs->spaces[part], original, out, error);
    memory_free(original);
    return status;
}

xai_status baseline_row(const attribution_inputs *inputs, const explainer *of, size_t row,
                        float *const *values, xai_error **error)
{
    xai_status status = XAI_OK;
    for (size_t p = 0; status == XAI_OK && p < inputs->part_count; p++)
        status = read_part(inputs, of, row, p, values[p], error);
    return status;
}

/* Integers of an array from element `first` on, or its one scalar, into all of `out`. */
static void write_integers(const tensor *array, size_t first, tensor *out)
{
    const size_t count = tensor_count(out), width = dtype_size(out->dtype);
    const bool one = array->shape.rank == 0;
    if (array->dtype == out->dtype && !one) {
        memcpy(out->data, (const char *)array->data + first * width, count * width);
        return;
    }
    for (size_t i = 0; i < count; i++)
        tensor_set_int(out, i, tensor_get_int(array, one ? 0 : first + i));
}

xai_status baseline_write(const attribution_inputs *inputs, const explainer *of, size_t row,
                          size_t part, tensor *out, xai_error **error)
{
    const size_t at = inputs->inputs[part], count = inputs->sizes[part];
    const tensor *array = option_tensor(&of->options, "baseline", at);
    if (!dtype_is_float(out->dtype)) {
        int64_t id = (int64_t)explainer_number(of, "baseline");
        const tensor one = {.dtype = DTYPE_INT64, .shape = {.rank = 0}, .data = &id};
        const bool all =
            array != NULL && array->shape.rank > 0 && rows_of(array, inputs->rows->inputs[at]) > 1;
        write_integers(array != NULL ? array : &one, all ? row * count : 0, out);
        return XAI_OK;
    }
    float *values = memory_allocate(count, sizeof *values);
    if (values == NULL)
        return error_memory(error, "a baseline", count * sizeof *values);
    const xai_status status = read_part(inputs, of, row, part, values, error);
    if (status == XAI_OK)
        tensor_write_floats(out, values);
    memory_free(values);
    return status;
}

xai_status background_write(const attribution_inputs *inputs, const explainer *of, size_t part,
                            size_t index, tensor *out, xai_error **error)
{
    const size_t count = inputs->sizes[part];
    const tensor *given = option_tensor(&of->options, "background", inputs->inputs[part]);
    if (!dtype_is_float(out->dtype)) {
        write_integers(given, index * count, out);
        return XAI_OK;
    }
    float *values = memory_allocate(count, sizeof *values);
    if (values == NULL)
        return error_memory(error, "a background", count * sizeof *values);
    background_read(inputs, of, part, index, values);
    tensor_write_floats(out, values);
    memory_free(values);
    return XAI_OK;
}

xai_status background_rows(const attribution_inputs *inputs, const explainer *of, size_t *count,
                           xai_error **error)
{
    *count = 0;
    if (option_given(&of->options, "background") == NULL)
        return XAI_OK;
    xai_status status = check_others(inputs, of, "background", error);
    for (size_t p = 0; status == XAI_OK && p < inputs->part_count; p++) {
        const size_t at = inputs->inputs[p];
        const tensor *given = option_tensor(&of->options, "background", at);
        size_t rows = 0;
        if (given == NULL || given->shape.rank == 0)
            return error_set(error, XAI_ERROR_ARGUMENT, "background",
                             "no rows were given for input '%.80s'", name_of(of, at));
        status = check_tensor("background", of, given, inputs->rows->inputs[at], at, &rows, error);
        if (status == XAI_OK && p > 0 && rows != *count)
            return error_set(error, XAI_ERROR_SHAPE, "background",
                             "%zu rows for input '%.80s', but %zu for the first", rows,
                             name_of(of, at), *count);
        *count = rows;
    }
    return status;
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

bool baseline_is_shared(const attribution_inputs *inputs, const explainer *of)
{
    const option_value *given = option_given(&of->options, "baseline");
    if (given == NULL || given->kind == OPTION_NUMBER)
        return true;
    for (size_t p = 0; given->kind == OPTION_TENSOR && p < inputs->part_count; p++) {
        const size_t input = inputs->inputs[p];
        const tensor *array = option_tensor(&of->options, "baseline", input);
        if (array->shape.rank > 0 && rows_of(array, inputs->rows->inputs[input]) != 1)
            return false;
    }
    return given->kind == OPTION_TENSOR;
}
