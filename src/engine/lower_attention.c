/* The steps of an attention that match_attention.c found: one forward, at the second product's place, and two backward. */
#include "engine/lower_attention.h"

#include "base/error.h"

/* Operands of the forward step: q, k, v, masks, weights, y. */
static xai_status step_attention(const step *self, run *state, xai_error **error)
{
    const float *masks[ATTENTION_MASKS];
    (void)error;
    for (int i = 0; i < ATTENTION_MASKS; i++)
        masks[i] = run_address(state, self->operands[3 + i]);
    kernel_attention(&self->heads->shape, run_address(state, self->operands[0]),
                     run_address(state, self->operands[1]), run_address(state, self->operands[2]),
                     masks, run_address(state, self->operands[5]),
                     run_address(state, self->operands[6]), state->scratchpad,
                     state->program->threads);
    return XAI_OK;
}

/* k, v, weights, gradient of y, slopes, gradient of q */
static xai_status step_attention_queries(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_attention_backward_queries(
        &self->heads->shape, run_address(state, self->operands[0]),
        run_address(state, self->operands[1]), run_address(state, self->operands[2]),
        run_address(state, self->operands[3]), run_address(state, self->operands[4]),
        (attention_gradient){run_address(state, self->operands[5]), self->accumulate},
        state->scratchpad, state->program->threads);
    return XAI_OK;
}

/* q, weights, gradient of y, slopes, gradient of k, gradient of v */
static xai_status step_attention_keys(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_attention_backward_keys(
        &self->heads->shape, run_address(state, self->operands[0]),
        run_address(state, self->operands[1]), run_address(state, self->operands[3]),
        run_address(state, self->operands[2]),
        (attention_gradient){run_address(state, self->operands[4]), self->accumulate},
        (attention_gradient){run_address(state, self->operands[5]), self->accumulate_other},
        state->scratchpad, state->program->threads);
    return XAI_OK;
}

/* Multiplications and additions of one product. */
static double operations_of(const attention *a, size_t columns)
{
    return 2.0 * (double)a->items * (double)a->queries * (double)a->keys * (double)columns;
}

static size_t weights_bytes(const attention *a)
{
    return a->items * a->queries * a->keys * sizeof(float);
}

static xai_status emit(builder *b, const fused_attention *f, step_function execute, int node,
                       step **out)
{
    const xai_status status = builder_step(b, execute, node, "attention", out);
    if (status == XAI_OK)
        (*out)->heads = f;
    return status;
}

/* Places of the gradients of q, k and v, each within that of the value it lies in. */
static xai_status open_gradients(builder *b, const fused_attention *f, operand places[3],
                                 bool accumulate[3])
{
    for (int i = 0; i < 3; i++) {
        const int source = f->sources[i];
        int same = i;
        places[i] = OPERAND_NONE;
        accumulate[i] = false;
        if (!b->values[source].needs_gradient)
            continue;
        for (int k = i - 1; k >= 0; k--)
            same = f->sources[k] == source ? k : same;
        if (same != i) {
            places[i] = places[same];
            accumulate[i] = accumulate[same];
            continue;
        }
        xai_status status = gradient_write(b, source, &places[i], &accumulate[i]);
        if (status == XAI_OK && !accumulate[i] && !f->covered[i])
            status = builder_zero(b, places[i], layout_bytes(b, source, LAYOUT_PLAIN));
        if (status != XAI_OK)
            return status;
    }
    return XAI_OK;
}

static xai_status backward(builder *b, const unit *self)
{
    const fused_attention *f = self->heads;
    const attention *a = &f->shape;
    operand sources[3], targets[3], gradient, slopes = OPERAND_NONE;
    bool accumulate[3];
    step *s = NULL;
    xai_status status = read_plain_gradient(b, self->output, &gradient);
    for (int i = 0; status == XAI_OK && i < 3; i++)
        status = builder_input(b, f->sources[i], LAYOUT_PLAIN, &sources[i]);
    if (status == XAI_OK)
        status = open_gradients(b, f, targets, accumulate);
    if (status != XAI_OK)
        return status;
    const bool q = targets[0].buffer != BUFFER_NONE, k = targets[1].buffer != BUFFER_NONE,
               v = targets[2].buffer != BUFFER_NONE;
    if (q || k) {
        slopes = builder_buffer(b, weights_bytes(a));
        status = slopes.buffer == BUFFER_NONE ? XAI_ERROR_MEMORY
                                              : emit(b, f, step_attention_queries, self->node, &s);
        if (status != XAI_OK)
            return status;
        s->accumulate = accumulate[0];
        s->operations = operations_of(a, a->width + (q ? a->depth : 0));
        builder_read(b, s, 0, sources[1]);
        builder_read(b, s, 1, sources[2]);
        builder_read(b, s, 2, f->weights);
        builder_read(b, s, 3, gradient);
        builder_write(b, s, 4, slopes, weights_bytes(a));
        builder_write(b, s, 5, targets[0], q ? a->items * a->queries * a->depth * 4 : 0);
    }
    if (k || v) {
        status = emit(b, f, step_attention_keys, self->node, &s);
        if (status != XAI_OK)
            return status;
        s->accumulate = accumulate[1];
        s->accumulate_other = accumulate[2];
        s->operations = operations_of(a, (k ? a->depth : 0) + (v ? a->width : 0));
        builder_read(b, s, 0, sources[0]);
        builder_read(b, s, 1, f->weights);
        builder_read(b, s, 2, gradient);
        builder_read(b, s, 3, slopes);
        builder_write(b, s, 4, targets[1], k ? a->items * a->keys * a->depth * 4 : 0);
        builder_write(b, s, 5, targets[2], v ? a->items * a->keys * a->width * 4 : 0);
    }
    return XAI_OK;
}

xai_status lower_attention(builder *b, int index, bool *done)
{
    fused_attention *f = b->attentions[index];
    step *s = NULL;
    operand place;
    bool needs_gradient = false;
    *done = f != NULL;
    if (!f)
        return XAI_OK;
    const attention *a = &f->shape;
    const size_t scratch = attention_scratch_bytes(a, b->program->threads);
    if (scratch > b->program->scratchpad_bytes)
        b->program->scratchpad_bytes = scratch;
    for (int i = 0; i < 3; i++)
        needs_gradient =
            needs_gradient || (b->any_gradient && b->values[f->sources[i]].needs_gradient);
    operand sources[3], masks[ATTENTION_MASKS];
    xai_status status = XAI_OK;
    for (int i = 0; status == XAI_OK && i < 3; i++)
        status = builder_input(b, f->sources[i], LAYOUT_PLAIN, &sources[i]);
    for (int i = 0; status == XAI_OK && i < a->mask_count; i++)
        status = builder_input(b, f->masks[i], LAYOUT_PLAIN, &masks[i]);
    if (status == XAI_OK && needs_gradient) {
        f->weights = builder_buffer(b, weights_bytes(a));
        status = f->weights.buffer == BUFFER_NONE ? XAI_ERROR_MEMORY : XAI_OK;
    }
    if (status == XAI_OK)
        status = builder_output(b, f->output, LAYOUT_PLAIN, &place);
    if (status == XAI_OK)
        status = emit(b, f, step_attention, index, &s);
    if (status != XAI_OK)
        return status;
    s->operations = operations_of(a, a->depth + a->width);
    for (int i = 0; i < 3; i++)
        builder_read(b, s, i, sources[i]);
    for (int i = 0; i < a->mask_count; i++)
        builder_read(b, s, 3 + i, masks[i]);
    builder_write(b, s, 5, f->weights, needs_gradient ? weights_bytes(a) : 0);
    builder_write(b, s, 6, place, layout_bytes(b, f->output, LAYOUT_PLAIN));
    const unit self = {.emit_backward = backward,
                       .node = index,
                       .output = f->output,
                       .other = GRAPH_NONE,
                       .heads = f};
    status = builder_finish(b, f->output, LAYOUT_PLAIN);
    return status == XAI_OK ? builder_unit(b, &self) : status;
}
