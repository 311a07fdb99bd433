/* Layer-wise relevance propagation: the rules of first layers, on the kernels of the layer. src/ops/relevance.c has them
 * in double.
 *     flat: R_x = 1' (R / (1 1))                                            1: ones in place of weights and inputs
 *     box:  R_x = x W' c - low W+' c - high W-' c,   c = R / (W x - W+ low - W- high)
 * R = m z. Lanes that pad a channel block have neither weights nor values: they stay 0. */
#include "base/error.h"
#include "engine/relevance_split.h"

/* 0 = post.alpha */
static xai_status step_fill(const step *self, run *state, xai_error **error)
{
    (void)error;
    float *x = run_address(state, self->operands[0]);
    for (size_t i = 0; i < self->count; i++)
        x[i] = self->post.alpha;
    return XAI_OK;
}

/* 0 = z, 1 = m; 2: the sum of ones becomes c */
static xai_status step_flat(const step *self, run *state, xai_error **error)
{
    (void)error;
    const float *z = run_address(state, self->operands[0]),
                *m = run_address(state, self->operands[1]);
    float *c = run_address(state, self->operands[2]);
    for (size_t i = 0; i < self->count; i++)
        c[i] = c[i] == 0 ? 0 : (float)((double)m[i] * (double)z[i] / (double)c[i]);
    return XAI_OK;
}

/* 0 = z, 1 = m; 2: W x becomes c; 3 = W+ low, 4 = W- high */
static xai_status step_box(const step *self, run *state, xai_error **error)
{
    (void)error;
    const float *z = run_address(state, self->operands[0]),
                *m = run_address(state, self->operands[1]),
                *low = run_address(state, self->operands[3]),
                *high = run_address(state, self->operands[4]);
    float *c = run_address(state, self->operands[2]);
    const double epsilon = (double)self->epsilon;
    for (size_t i = 0; i < self->count; i++) {
        const double sum = (double)c[i] - (double)low[i] - (double)high[i];
        c[i] =
            z[i] == 0
                ? 0
                : (float)((double)m[i] * (double)z[i] / (sum < 0 ? sum - epsilon : sum + epsilon));
    }
    return XAI_OK;
}

/* 0 = x; 1: W' c becomes R; 2 = W+' c, 3 = W-' c; post.alpha = low, post.beta = high */
static xai_status step_box_back(const step *self, run *state, xai_error **error)
{
    (void)error;
    const float *x = run_address(state, self->operands[0]),
                *low = run_address(state, self->operands[2]),
                *high = run_address(state, self->operands[3]);
    float *out = run_address(state, self->operands[1]);
    for (size_t i = 0; i < self->count; i++)
        out[i] = x[i] * out[i] - self->post.alpha * low[i] - self->post.beta * high[i];
    return XAI_OK;
}

/* The layer, without its bias, where every input is `value`. */
static xai_status constant_forward(split *self, double value, part of_weights, operand *out)
{
    operand filled;
    step *s = NULL;
    xai_status status = split_buffer(self, self->x_bytes, &filled);
    if (status == XAI_OK)
        status = builder_step(self->b, step_fill, self->of->node, "fill", &s);
    if (status != XAI_OK)
        return status;
    s->post.alpha = (float)value;
    s->count = self->x_bytes / sizeof(float);
    builder_write(self->b, s, 0, filled, self->x_bytes);
    return split_apply(self, false, filled, of_weights, false, out);
}

/* 0 = z, 1 = m, 2 = `sum`, which is written */
static xai_status weigh(split *self, step_function execute, const char *name, operand m,
                        operand sum, step **out)
{
    operand z;
    xai_status status = builder_input(self->b, self->of->output, self->z_form, &z);
    if (status == XAI_OK)
        status = builder_step(self->b, execute, self->of->node, name, out);
    if (status != XAI_OK)
        return status;
    (*out)->count = self->z_bytes / sizeof(float);
    (*out)->epsilon = (float)self->rule->epsilon;
    builder_read(self->b, *out, 0, z);
    builder_read(self->b, *out, 1, m);
    builder_write(self->b, *out, 2, sum, self->z_bytes);
    return XAI_OK;
}

xai_status split_flat(split *self, operand m, operand *out)
{
    operand c;
    step *s = NULL;
    xai_status status = constant_forward(self, 1, ONES, &c);
    if (status == XAI_OK)
        status = weigh(self, step_flat, "flat rule", m, c, &s);
    return status == XAI_OK ? split_apply(self, true, c, ONES, false, out) : status;
}

xai_status split_box(split *self, operand x, operand m, operand *out)
{
    operand c, low, high;
    step *s = NULL;
    xai_status status = split_apply(self, false, x, WHOLE, false, &c);
    if (status == XAI_OK)
        status = constant_forward(self, self->rule->low, POSITIVE, &low);
    if (status == XAI_OK)
        status = constant_forward(self, self->rule->high, NEGATIVE, &high);
    if (status == XAI_OK)
        status = weigh(self, step_box, "box rule", m, c, &s);
    if (status != XAI_OK)
        return status;
    builder_read(self->b, s, 3, low);
    builder_read(self->b, s, 4, high);
    status = split_apply(self, true, c, WHOLE, false, out);
    if (status == XAI_OK)
        status = split_apply(self, true, c, POSITIVE, false, &low);
    if (status == XAI_OK)
        status = split_apply(self, true, c, NEGATIVE, false, &high);
    if (status == XAI_OK)
        status = builder_step(self->b, step_box_back, self->of->node, "box rule", &s);
    if (status != XAI_OK)
        return status;
    s->count = self->x_bytes / sizeof(float);
    s->post.alpha = (float)self->rule->low;
    s->post.beta = (float)self->rule->high;
    builder_read(self->b, s, 0, x);
    builder_write(self->b, s, 1, *out, self->x_bytes);
    builder_read(self->b, s, 2, low);
    builder_read(self->b, s, 3, high);
    return XAI_OK;
}
