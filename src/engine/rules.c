/* Guided backpropagation and deconvnet: the gradient, but for the ReLUs on its way. */
#include "base/error.h"
#include "base/memory.h"
#include "engine/lower.h"
#include "engine/steps.h"

bool rule_is_guided(const builder *b)
{
    return b->rule == ENGINE_RULE_GUIDED || b->rule == ENGINE_RULE_DECONVNET;
}

bool rule_reads_input(const builder *b, int value)
{
    return (b->rule == ENGINE_RULE_DEEPLIFT || b->rule == ENGINE_RULE_LRP) &&
           b->values[value].needs_gradient;
}

xai_status rule_note_unruled(builder *b, const graph_node *node)
{
    plan *p = b->program;
    const char *name = node->definition->name;
    for (size_t i = 0; i < p->unruled_count; i++)
        if (p->unruled[i] == name)
            return XAI_OK;
    if (!array_reserve((void **)&p->unruled, &p->unruled_capacity, p->unruled_count + 1,
                       sizeof *p->unruled))
        return error_memory(b->error, "plan", sizeof *p->unruled);
    p->unruled[p->unruled_count++] = name;
    return XAI_OK;
}

size_t plan_unruled(const plan *self, const char *const **names)
{
    *names = self->unruled;
    return self->unruled_count;
}

/* ReLU and ReLU6 */
static bool is_relu(const activation *f)
{
    return f->kind == ACTIVATION_RELU ||
           (f->kind == ACTIVATION_CLIP && f->alpha == 0 && f->beta > 0);
}

/* 1 = max(0, 0) */
static xai_status step_positive(const step *self, run *state, xai_error **error)
{
    (void)error;
    kernel_positive(run_address(state, self->operands[0]), run_address(state, self->operands[1]),
                    self->count, state->program->threads);
    return XAI_OK;
}

xai_status rule_guide(builder *b, const unit *self, operand *gradient, activation *post)
{
    const value_state *state = &b->values[self->output];
    const size_t bytes = layout_bytes(b, self->output, state->primary);
    step *s = NULL;
    if (!rule_is_guided(b) || !is_relu(post))
        return XAI_OK;
    const operand target = state->wants_gradient ? builder_buffer(b, bytes) : *gradient;
    if (target.buffer == BUFFER_NONE)
        return XAI_ERROR_MEMORY;
    const xai_status status = builder_step(b, step_positive, self->node, "positive", &s);
    if (status != XAI_OK)
        return status;
    s->count = bytes / sizeof(float);
    builder_read(b, s, 0, *gradient);
    builder_write(b, s, 1, target, bytes);
    *gradient = target;
    if (b->rule == ENGINE_RULE_DECONVNET)
        post->kind = ACTIVATION_NONE;
    return XAI_OK;
}
