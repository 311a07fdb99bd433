/* Einsum: y = sum over the letters that are not in the output of the product of the operands.
 *
 * "bij, bjk -> bik"; a letter twice in one operand is its diagonal; "..." are broadcast axes.
 * Every letter becomes one axis of a common index space; an operand has a stride along each, 0
 * where it has no such axis. */
#include <string.h>

#include "ops/families.h"
#include "ops/support.h"

#define MAX_LETTERS 26
#define MAX_AXES (MAX_LETTERS + SHAPE_MAX_RANK) /* letters seen, and the axes of the ellipsis */
#define MAX_OPERANDS 16
#define MAX_PRODUCTS ((size_t)1 << (sizeof(size_t) > 4 ? 40 : 30)) /* hours: no model means it */

typedef struct einsum {
    int axis_count, output_axes; /* axes of the output come first */
    size_t sizes[MAX_AXES];
    size_t strides[MAX_OPERANDS][MAX_AXES]; /* of the operands */
    shape output;
} einsum;

/* One term of the equation: letters as axis codes, the ellipsis as ELLIPSIS. */
enum { ELLIPSIS = -1, MAX_TERM = SHAPE_MAX_RANK + 1 };
typedef struct term {
    int count, codes[MAX_TERM]; /* 'a'..'z' as 0..25, 'A'..'Z' as 26..51 */
    bool has_ellipsis;
} term;

static int letter_code(char c)
{
    if (c >= 'a' && c <= 'z')
        return c - 'a';
    return c >= 'A' && c <= 'Z' ? 26 + c - 'A' : -2;
}

/* Read a term up to ',' or "->" or the end; *at moves behind it. */
static xai_status read_term(const operator_call *call, const char **at, term *out)
{
    *out = (term){0};
    for (; **at && **at != ',' && **at != '-'; (*at)++) {
        if (**at == ' ')
            continue;
        int code = letter_code(**at);
        if (strncmp(*at, "...", 3) == 0 && !out->has_ellipsis) {
            code = ELLIPSIS;
            out->has_ellipsis = true;
            *at += 2;
        }
        if (code < ELLIPSIS)
            return operator_error(call, XAI_ERROR_FORMAT, "the equation has an unexpected '%c'",
                                  **at);
        if (out->count == MAX_TERM)
            return operator_error(call, XAI_ERROR_UNSUPPORTED,
                                  "an operand with more than %d axes in the equation",
                                  SHAPE_MAX_RANK);
        out->codes[out->count++] = code;
    }
    return XAI_OK;
}

typedef struct equation {
    term inputs[MAX_OPERANDS], output;
    int input_count;
    bool has_output;
} equation;

/* Without "->": the letters that occur once, in alphabetical order (capitals first), behind the
 * ellipsis. */
static xai_status implicit_output(const operator_call *call, equation *self)
{
    int seen[52] = {0};
    for (int i = 0; i < self->input_count; i++) {
        for (int k = 0; k < self->inputs[i].count; k++)
            if (self->inputs[i].codes[k] != ELLIPSIS)
                seen[self->inputs[i].codes[k]]++;
        if (self->inputs[i].has_ellipsis && !self->output.has_ellipsis) {
            self->output.codes[self->output.count++] = ELLIPSIS;
            self->output.has_ellipsis = true;
        }
    }
    for (int i = 0; i < 52; i++) {
        const int code = i < 26 ? 26 + i : i - 26;
        if (seen[code] != 1)
            continue;
        if (self->output.count == MAX_TERM)
            return operator_error(call, XAI_ERROR_UNSUPPORTED, "the result has too many axes");
        self->output.codes[self->output.count++] = code;
    }
    return XAI_OK;
}

static xai_status equation_read(const operator_call *call, equation *self)
{
    const char *text;
    *self = (equation){0};
    xai_status status = operator_attribute_text(call, "equation", "", &text);
    const char *at = text;
    while (status == XAI_OK) {
        if (self->input_count == MAX_OPERANDS)
            return operator_error(call, XAI_ERROR_UNSUPPORTED, "more than %d operands",
                                  MAX_OPERANDS);
        status = read_term(call, &at, &self->inputs[self->input_count++]);
        if (status != XAI_OK || *at != ',')
            break;
        at++;
    }
    if (status != XAI_OK)
        return status;
    if (self->input_count != call->input_count)
        return operator_error(call, XAI_ERROR_FORMAT, "the equation '%.80s' has %d operands of %d",
                              text, self->input_count, call->input_count);
    if (*at == '\0')
        return implicit_output(call, self);
    if (strncmp(at, "->", 2) != 0)
        return operator_error(call, XAI_ERROR_FORMAT, "the equation '%.80s' is malformed", text);
    at += 2;
    status = read_term(call, &at, &self->output);
    if (status == XAI_OK && *at != '\0')
        status = operator_error(call, XAI_ERROR_FORMAT, "the equation '%.80s' is malformed", text);
    return status;
}

/* Where the letters and the ellipsis' axes lie in the index space; -1 = not yet. */
typedef struct axis_table {
    int letters[52], ellipsis[SHAPE_MAX_RANK]; /* ellipsis axes counted from the last */
    int ellipsis_count;
} axis_table;

static xai_status new_axis(const operator_call *call, einsum *self, int *out)
{
    if (self->axis_count == MAX_AXES)
        return operator_error(call, XAI_ERROR_UNSUPPORTED, "the equation has too many letters");
    self->sizes[self->axis_count] = 1;
    *out = self->axis_count++;
    return XAI_OK;
}

/* Output letters become the first axes. */
static xai_status place_output(const operator_call *call, const equation *from, einsum *self,
                               axis_table *axes)
{
    xai_status status = XAI_OK;
    for (int k = 0; k < from->output.count && status == XAI_OK; k++) {
        const int code = from->output.codes[k];
        if (code == ELLIPSIS) {
            for (int i = axes->ellipsis_count; i-- > 0 && status == XAI_OK;)
                status = new_axis(call, self, &axes->ellipsis[i]);
        } else if (axes->letters[code] >= 0) {
            status = operator_error(call, XAI_ERROR_FORMAT, "a letter is twice in the result");
        } else {
            status = new_axis(call, self, &axes->letters[code]);
        }
    }
    self->output_axes = self->axis_count;
    return status;
}

static xai_status place_operand(const operator_call *call, const term *from, int operand,
                                einsum *self, axis_table *axes)
{
    char text[SHAPE_TEXT_SIZE];
    const shape *dims = &call->inputs[operand]->shape;
    const int covered = dims->rank - (from->count - from->has_ellipsis);
    xai_status status = XAI_OK;
    size_t strides[SHAPE_MAX_RANK], stride = 1;
    if (covered < 0 || (!from->has_ellipsis && covered != 0))
        return operator_error(call, XAI_ERROR_SHAPE,
                              "operand %d of shape %s does not fit the equation", operand,
                              shape_text(dims, text));
    for (int i = dims->rank; i-- > 0; stride *= (size_t)dims->dims[i])
        strides[i] = stride;
    int at = 0;
    for (int k = 0; k < from->count && status == XAI_OK; k++) {
        const int width = from->codes[k] == ELLIPSIS ? covered : 1;
        for (int i = 0; i < width && status == XAI_OK; i++, at++) {
            int *axis = from->codes[k] == ELLIPSIS ? &axes->ellipsis[covered - 1 - i]
                                                   : &axes->letters[from->codes[k]];
            const size_t size = (size_t)dims->dims[at];
            if (*axis < 0)
                status = new_axis(call, self, axis);
            if (status != XAI_OK)
                break;
            if (self->sizes[*axis] == 1)
                self->sizes[*axis] = size;
            else if (size != 1 && size != self->sizes[*axis])
                return operator_error(call, XAI_ERROR_SHAPE,
                                      "operand %d of shape %s: axis %d does not fit the others",
                                      operand, shape_text(dims, text), at);
            if (size != 1)
                self->strides[operand][*axis] += strides[at];
        }
    }
    return status;
}

static xai_status einsum_make(const operator_call *call, einsum *self)
{
    equation from;
    axis_table axes;
    *self = (einsum){0};
    memset(&axes, 0xff, sizeof axes);
    axes.ellipsis_count = 0;
    xai_status status = equation_read(call, &from);
    if (status != XAI_OK)
        return status;
    for (int i = 0; i < from.input_count; i++) {
        const int covered =
            call->inputs[i]->shape.rank - (from.inputs[i].count - from.inputs[i].has_ellipsis);
        if (from.inputs[i].has_ellipsis && covered > axes.ellipsis_count)
            axes.ellipsis_count = covered;
    }
    status = place_output(call, &from, self, &axes);
    for (int i = 0; i < from.input_count && status == XAI_OK; i++)
        status = place_operand(call, &from.inputs[i], i, self, &axes);
    if (status != XAI_OK)
        return status;
    if (self->output_axes > SHAPE_MAX_RANK)
        return operator_error(call, XAI_ERROR_UNSUPPORTED, "the result has more than %d axes",
                              SHAPE_MAX_RANK);
    size_t products = 1;
    for (int i = 0; i < self->axis_count; i++)
        if (!size_multiply(products, self->sizes[i], &products) || products > MAX_PRODUCTS)
            return operator_error(call, XAI_ERROR_SHAPE, "the equation needs too many products");
    self->output.rank = self->output_axes;
    for (int i = 0; i < self->output_axes; i++)
        self->output.dims[i] = (int64_t)self->sizes[i];
    return XAI_OK;
}

static xai_status einsum_infer(operator_call *call)
{
    einsum self;
    xai_status status = operator_check(call);
    for (int i = 0; i < call->input_count && status == XAI_OK; i++) {
        status = operator_check_type(call, i, TYPES_NUMBER);
        if (status == XAI_OK)
            status = operator_check_same_type(call, 0, i);
    }
    if (status == XAI_OK)
        status = einsum_make(call, &self);
    return status == XAI_OK ? operator_set_output(call, 0, call->inputs[0]->dtype, &self.output)
                            : status;
}

/* Advance the index over axes [begin, end), the last fastest, and the operands' offsets with it;
 * false behind the last. */
static bool advance(const einsum *self, int begin, int end, int operands, size_t *index,
                    size_t *offsets)
{
    for (int axis = end; axis-- > begin;) {
        index[axis]++;
        for (int i = 0; i < operands; i++)
            offsets[i] += self->strides[i][axis];
        if (index[axis] < self->sizes[axis])
            return true;
        for (int i = 0; i < operands; i++)
            offsets[i] -= self->strides[i][axis] * self->sizes[axis];
        index[axis] = 0;
    }
    return false;
}

static bool is_empty(const einsum *self)
{
    for (int i = 0; i < self->axis_count; i++)
        if (self->sizes[i] == 0)
            return true;
    return false;
}

/* Walk the whole index space. Forward: y[o] += product. Backward (`slopes`): the gradient of
 * operand i gets slopes[o] times the product of the others. */
static void walk(const einsum *self, int operands, double *const *x, double *y,
                 const double *slopes, double *const *gradients)
{
    size_t index[MAX_AXES] = {0}, offsets[MAX_OPERANDS] = {0}, out = 0;
    if (is_empty(self))
        return;
    do {
        do {
            if (!slopes) {
                double product = 1;
                for (int i = 0; i < operands; i++)
                    product *= x[i][offsets[i]];
                y[out] += product;
                continue;
            }
            for (int i = 0; i < operands; i++) {
                double product = slopes[out];
                for (int k = 0; gradients[i] && k < operands; k++)
                    product *= k == i ? 1 : x[k][offsets[k]];
                if (gradients[i])
                    gradients[i][offsets[i]] += product;
            }
        } while (advance(self, self->output_axes, self->axis_count, operands, index, offsets));
        out++;
    } while (advance(self, 0, self->output_axes, operands, index, offsets));
}

static xai_status einsum_integers(operator_call *call, const einsum *self)
{
    int64_t *x[MAX_OPERANDS] = {0};
    size_t index[MAX_AXES] = {0}, offsets[MAX_OPERANDS] = {0}, out = 0;
    xai_status status = XAI_OK;
    for (int i = 0; i < call->input_count && status == XAI_OK; i++)
        status = operator_read_ints(call, call->inputs[i], &x[i]);
    operator_zero(call->outputs[0]);
    if (status == XAI_OK && !is_empty(self))
        do {
            uint64_t sum = 0;
            do {
                uint64_t product = 1;
                for (int i = 0; i < call->input_count; i++)
                    product *= (uint64_t)x[i][offsets[i]];
                sum += product;
            } while (advance(self, self->output_axes, self->axis_count, call->input_count, index,
                             offsets));
            tensor_set_int(call->outputs[0], out++, (int64_t)sum);
        } while (advance(self, 0, self->output_axes, call->input_count, index, offsets));
    for (int i = 0; i < call->input_count; i++)
        memory_free(x[i]);
    return status;
}

static xai_status einsum_forward(operator_call *call)
{
    einsum self;
    double *x[MAX_OPERANDS] = {0}, *y = NULL;
    const size_t count = tensor_count(call->outputs[0]);
    xai_status status = einsum_make(call, &self);
    if (status == XAI_OK && !dtype_is_float(call->inputs[0]->dtype))
        return einsum_integers(call, &self);
    for (int i = 0; i < call->input_count && status == XAI_OK; i++)
        status = operator_read_doubles(call, call->inputs[i], &x[i]);
    if (status == XAI_OK)
        status = operator_allocate(call, count, &y);
    if (status == XAI_OK && count > 0) {
        walk(&self, call->input_count, x, y, NULL, NULL);
        tensor_write_doubles(call->outputs[0], 0, count, y);
    }
    for (int i = 0; i < call->input_count; i++)
        memory_free(x[i]);
    memory_free(y);
    return status;
}

static xai_status einsum_backward(operator_call *call)
{
    einsum self;
    double *x[MAX_OPERANDS] = {0}, *gradients[MAX_OPERANDS] = {0}, *slopes = NULL;
    const tensor *given = operator_output_gradient(call, 0);
    if (!given) {
        operator_zero_gradients(call);
        return XAI_OK;
    }
    xai_status status = einsum_make(call, &self);
    if (status == XAI_OK)
        status = operator_read_doubles(call, given, &slopes);
    for (int i = 0; i < call->input_count && status == XAI_OK; i++) {
        status = operator_read_doubles(call, call->inputs[i], &x[i]);
        if (status == XAI_OK && operator_wanted_gradient(call, i))
            status = operator_allocate(call, tensor_count(call->inputs[i]), &gradients[i]);
    }
    if (status == XAI_OK)
        walk(&self, call->input_count, x, NULL, slopes, gradients);
    for (int i = 0; i < call->input_count; i++) {
        if (status == XAI_OK && gradients[i] && tensor_count(call->inputs[i]) > 0)
            tensor_write_doubles(operator_wanted_gradient(call, i), 0,
                                 tensor_count(call->inputs[i]), gradients[i]);
        memory_free(x[i]);
        memory_free(gradients[i]);
    }
    memory_free(slopes);
    return status;
}

const operator_definition operator_einsum = {
    .name = "Einsum",
    .domain = "",
    .min_inputs = 1,
    .max_inputs = MAX_OPERANDS,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 12,
    .backward_reads = 0xffff,
    .infer = einsum_infer,
    .forward = einsum_forward,
    .backward = einsum_backward,
};
