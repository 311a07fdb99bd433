/* Finds softmax(scale q k' + masks) v in the graph, with the nodes around it that only move heads or multiply by a number: those are
 * read as strides, so that q, k and v stay where the product before them wrote them, and the result is written where the one behind
 * reads it. A node is taken in only when nobody else reads what it makes. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "engine/lower_attention.h"
#include "engine/strided.h"

/* Nodes above an operand that can be read as strides. */
#define CHAIN 16

typedef struct chain {
    int top;                           /* value that the product reads */
    int nodes[CHAIN];                  /* from the product upwards */
    int inputs[CHAIN], outputs[CHAIN]; /* positions within the node */
    int count;
} chain;

typedef struct match {
    builder *b;
    int products[2], softmax, transpose; /* node indices; transpose GRAPH_NONE when not taken in */
    int between[CHAIN], between_count;   /* from the first product to the softmax */
    chain chains[3];                     /* of q, k, v */
    bool keys_in_rows;                   /* the first product reads k as (keys, depth) */
} match;

static bool is_free(const builder *b, int value)
{
    const graph_value *v = &b->graph->values[value];
    return v->dtype == DTYPE_FLOAT && !v->is_constant && !b->values[value].wanted &&
           b->values[value].primary == LAYOUT_PLAIN;
}

static bool is_view(const graph *g, const graph_node *node)
{
    return (node->definition->flags & OPERATOR_VIEW) != 0 && node->inputs[0] != GRAPH_NONE &&
           g->values[node->inputs[0]].dtype == DTYPE_FLOAT;
}

/* Mul or Div by a finite number other than 0, which makes *factor; the position of the other operand, or -1. */
static int scaled_operand(const graph *g, const graph_node *node, float *factor)
{
    const bool divide = node_is(node, "", "Div");
    if (!divide && !node_is(node, "", "Mul"))
        return -1;
    for (int i = 0; i < 2; i++) {
        const graph_value *c = &g->values[node->inputs[1 - i]];
        const int x = node->inputs[i];
        if (!c->is_constant || tensor_count(&c->constant) != 1 || (divide && i == 1) ||
            !shape_equal(&g->values[x].shape, &g->values[node->outputs[0]].shape))
            continue;
        const float number = (float)tensor_get(&c->constant, 0);
        *factor = divide ? 1 / number : number;
        return isfinite(*factor) && *factor != 0 ? i : -1;
    }
    return -1;
}

/* A batch of matrix products: a MatMul, or an Einsum that says the same with letters, "bhid,bhdj->bhij", or with the second operand
 * transposed, "bhid,bhjd->bhij" (*transposed). */
static bool is_product(const graph_node *node, bool *transposed)
{
    char letters[3][SHAPE_MAX_RANK + 1] = {{0}};
    size_t counts[3] = {0};
    const char *at = NULL;
    int term = 0;
    *transposed = false;
    if (node_is(node, "", "MatMul"))
        return true;
    for (size_t i = 0; node_is(node, "", "Einsum") && i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, "equation") == 0 &&
            node->attributes[i].type == ONNX_ATTRIBUTE_STRING)
            at = node->attributes[i].s;
    if (!at || node->input_count != 2)
        return false;
    for (; *at; at++) {
        if (*at == ',' || *at == '-') {
            if (++term > 2)
                return false;
        } else if (*at != ' ' && *at != '>') {
            if (*at == '.' || counts[term] == SHAPE_MAX_RANK)
                return false;
            letters[term][counts[term]++] = *at;
        }
    }
    const size_t n = counts[0];
    if (term != 2 || n < 2 || counts[1] != n || counts[2] != n ||
        strncmp(letters[0], letters[1], n - 2) != 0 || strncmp(letters[0], letters[2], n - 2) != 0)
        return false;
    const char i = letters[0][n - 2], d = letters[0][n - 1], j = letters[2][n - 1];
    *transposed = letters[1][n - 1] == d;
    if (letters[2][n - 2] != i || i == d || i == j || j == d)
        return false;
    for (size_t k = 0; k + 2 < n; k++)
        for (size_t l = k + 1; l < n; l++)
            if (letters[0][k] == letters[0][l] || letters[0][k] == j)
                return false;
    return *transposed ? letters[1][n - 2] == j : letters[1][n - 2] == d && letters[1][n - 1] == j;
}

static int output_index(const graph_node *node, int value)
{
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] == value)
            return i;
    return 0;
}

/* Follow an operand upwards as long as strides can say what the nodes do, and through numbers where those may be taken in. */
static void follow(const builder *b, int value, bool numbers, chain *out)
{
    const graph *g = b->graph;
    *out = (chain){.top = value};
    while (out->count < CHAIN && is_free(b, value) && g->values[value].producer != GRAPH_NONE) {
        const int index = g->values[value].producer;
        const graph_node *node = &g->nodes[index];
        float number;
        int from = 0;
        if (!is_view(g, node) && !node_is(node, "", "Transpose") && !node_is(node, "", "Split") &&
            !node_is(node, "", "Slice") && !node_is(node, "", "Gather"))
            from = numbers ? scaled_operand(g, node, &number) : -1;
        if (from < 0 || b->node_done[index] || g->values[node->inputs[from]].is_constant)
            return;
        out->nodes[out->count] = index;
        out->inputs[out->count] = from;
        out->outputs[out->count++] = output_index(node, value);
        value = node->inputs[from];
    }
}

static int source_of(const builder *b, const chain *self)
{
    return self->count == 0 ? self->top
                            : b->graph->nodes[self->nodes[self->count - 1]]
                                  .inputs[self->inputs[self->count - 1]];
}

/* ---- strides ---- */

/* The chain's top as a part of its source; *failed = the position in the chain that strides cannot say, or -1. */
static xai_status compose(const match *m, const chain *self, strided *out, int *failed)
{
    const graph *g = m->b->graph;
    *failed = -1;
    *out = strided_whole(&g->values[source_of(m->b, self)].shape);
    for (int i = self->count - 1; i >= 0; i--) {
        const graph_node *node = &g->nodes[self->nodes[i]];
        const shape *to = &g->values[node->outputs[self->outputs[i]]].shape;
        movement how;
        bool good = true, known = false;
        if (is_view(g, node)) {
            good = strided_reshape(out, to);
        } else if (!node_is(node, "", "Mul") && !node_is(node, "", "Div")) {
            const xai_status status = movement_of(m->b, node, self->outputs[i], &how, &known);
            if (status != XAI_OK)
                return status;
            good = known && strided_move(out, &how, to);
        }
        if (!good) {
            *failed = i;
            return XAI_OK;
        }
    }
    return XAI_OK;
}

static matrices matrices_of(const strided *self, bool transposed)
{
    const int rank = self->dims.rank;
    matrices out = {.rank = rank - 2,
                    .start = self->start,
                    .row = self->strides[transposed ? rank - 1 : rank - 2],
                    .column = self->strides[transposed ? rank - 2 : rank - 1]};
    memcpy(out.dims, self->dims.dims, sizeof out.dims);
    memcpy(out.steps, self->strides, sizeof out.steps);
    return out;
}

/* ---- from the softmax up to the first product ---- */

/* A value added to scores of `to`'s shape, its last axis a row of them. */
static bool mask_matrices(const builder *b, int mask, const shape *to, matrices *out)
{
    const graph_value *v = &b->graph->values[mask];
    const int missing = to->rank - v->shape.rank;
    if (v->dtype != DTYPE_FLOAT || v->shape.rank < 1 || missing < 0 ||
        v->shape.dims[v->shape.rank - 1] != to->dims[to->rank - 1] ||
        (b->any_gradient && b->values[mask].needs_gradient) ||
        (!v->is_constant && b->values[mask].primary != LAYOUT_PLAIN))
        return false;
    const strided own = strided_whole(&v->shape);
    strided repeated = {.dims = *to};
    for (int i = missing; i < to->rank; i++)
        repeated.strides[i] = v->shape.dims[i - missing] == 1 ? 0 : own.strides[i - missing];
    *out = matrices_of(&repeated, false);
    out->column = 1;
    return true;
}

static bool ends_alike(const shape *a, const shape *b)
{
    return a->rank >= 2 && b->rank >= 2 && a->dims[a->rank - 1] == b->dims[b->rank - 1] &&
           a->dims[a->rank - 2] == b->dims[b->rank - 2];
}

/* Which operand of an Add the scores are: what a product, or a step behind one, made. */
static int scores_operand(const builder *b, const graph_node *add)
{
    const graph *g = b->graph;
    static const char *const makers[] = {"MatMul", "Einsum", "Add", "Mul", "Div"};
    for (int i = 0; i < 2; i++) {
        const graph_value *v = &g->values[add->inputs[i]];
        if (!is_free(b, add->inputs[i]) || v->producer == GRAPH_NONE ||
            !shape_equal(&v->shape, &g->values[add->outputs[0]].shape))
            continue;
        const graph_node *maker = &g->nodes[v->producer];
        bool makes = is_view(g, maker);
        for (size_t k = 0; k < sizeof makers / sizeof makers[0]; k++)
            makes = makes || node_is(maker, "", makers[k]);
        if (makes)
            return i;
    }
    return -1;
}

static bool climb(match *m, fused_attention *out)
{
    const builder *b = m->b;
    const graph *g = b->graph;
    int value = g->nodes[m->softmax].inputs[0];
    while (m->between_count < CHAIN) {
        float factor = 1;
        if (!is_free(b, value) || builder_only_consumer(b, value) == GRAPH_NONE ||
            g->values[value].producer == GRAPH_NONE)
            return false;
        const int index = g->values[value].producer;
        const graph_node *node = &g->nodes[index];
        int from = 0;
        if (b->node_done[index] || b->attentions[index] != NULL)
            return false;
        if (is_product(node, &m->keys_in_rows)) {
            m->products[0] = index;
            return true;
        }
        if (node_is(node, "", "Add")) {
            from = scores_operand(b, node);
            /* A factor behind a mask would have to reach it too. */
            if (from < 0 || out->shape.scale != 1 || out->shape.mask_count == ATTENTION_MASKS ||
                !mask_matrices(b, node->inputs[1 - from], &g->values[value].shape,
                               &out->shape.masks[out->shape.mask_count]))
                return false;
            out->masks[out->shape.mask_count++] = node->inputs[1 - from];
        } else if (!is_view(g, node)) {
            from = scaled_operand(g, node, &factor);
            if (from < 0)
                return false;
            out->shape.scale *= factor;
        } else if (!ends_alike(&g->values[value].shape, &g->values[node->inputs[0]].shape)) {
            return false;
        }
        m->between[m->between_count++] = index;
        value = node->inputs[from];
    }
    return false;
}

/* ---- what may be taken in ---- */

static bool holds(const chain *self, int node)
{
    for (int i = 0; i < self->count; i++)
        if (self->nodes[i] == node)
            return true;
    return false;
}

static bool inside(const match *m, int node)
{
    return node == m->products[0] || node == m->products[1] || holds(&m->chains[0], node) ||
           holds(&m->chains[1], node) || holds(&m->chains[2], node);
}

/* Nobody outside reads what the node makes. */
static bool can_vanish(const match *m, int index)
{
    const graph *g = m->b->graph;
    const graph_node *node = &g->nodes[index];
    for (int i = 0; i < node->output_count; i++) {
        int readers[8];
        if (node->outputs[i] == GRAPH_NONE || !is_free(m->b, node->outputs[i]))
            return false;
        const size_t count = graph_consumers(g, node->outputs[i], readers, 8);
        if (count > 8)
            return false;
        for (size_t k = 0; k < count; k++)
            if (!inside(m, readers[k]))
                return false;
    }
    return true;
}

/* Shorten the chains to what vanishes and strides can say. */
static xai_status settle(match *m, strided parts[3])
{
    for (bool changed = true; changed;) {
        changed = false;
        for (int c = 0; c < 3; c++)
            for (int i = 0; i < m->chains[c].count; i++)
                if (!can_vanish(m, m->chains[c].nodes[i])) {
                    m->chains[c].count = i;
                    changed = true;
                }
        for (int c = 0; !changed && c < 3; c++) {
            int failed;
            const xai_status status = compose(m, &m->chains[c], &parts[c], &failed);
            if (status != XAI_OK)
                return status;
            if (failed >= 0) {
                m->chains[c].count = failed;
                changed = true;
            }
        }
    }
    return XAI_OK;
}

static float chain_factor(const graph *g, const chain *self)
{
    float factor = 1, number;
    for (int i = 0; i < self->count; i++)
        if (scaled_operand(g, &g->nodes[self->nodes[i]], &number) >= 0)
            factor *= number;
    return factor;
}

/* Counts the elements of a part in `marks`; false when one is marked already. */
static bool mark_part(const matrices *part, size_t items, size_t rows, size_t columns,
                      uint8_t *marks, size_t *count)
{
    for (size_t item = 0; item < items; item++) {
        const int64_t start = matrices_start(part, item);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < columns; c++) {
                uint8_t *mark = marks + start + (int64_t)r * part->row + (int64_t)c * part->column;
                if (*mark)
                    return false;
                *mark = 1;
            }
    }
    *count += items * rows * columns;
    return true;
}

/* Parts of one value may not overlap, because their gradients are written side by side. */
static xai_status check_parts(const match *m, fused_attention *f, bool *apart)
{
    const builder *b = m->b;
    const attention *a = &f->shape;
    const matrices *parts[3] = {&a->q, &a->k, &a->v};
    const size_t rows[3] = {a->queries, a->keys, a->keys},
                 columns[3] = {a->depth, a->depth, a->width};
    *apart = true;
    for (int i = 0; i < 3; i++) {
        size_t total = 0, count = 0;
        bool first = b->any_gradient && b->values[f->sources[i]].needs_gradient;
        for (int k = 0; k < i; k++)
            first = first && f->sources[k] != f->sources[i];
        if (!first)
            continue;
        shape_count(&b->graph->values[f->sources[i]].shape, &total);
        uint8_t *marks = memory_allocate_zeroed(total + 1, 1);
        if (!marks)
            return error_memory(b->error, "plan", total);
        for (int k = i; *apart && k < 3; k++)
            if (f->sources[k] == f->sources[i])
                *apart = mark_part(parts[k], a->items, rows[k], columns[k], marks, &count);
        memory_free(marks);
        for (int k = i; k < 3; k++)
            if (f->sources[k] == f->sources[i])
                f->covered[k] = count == total;
    }
    return XAI_OK;
}

/* Where the second product's result goes: straight behind a Transpose of its only reader. */
static xai_status find_output(match *m, fused_attention *f)
{
    builder *b = m->b;
    const graph *g = b->graph;
    const int y = g->nodes[m->products[1]].outputs[0], next = builder_only_consumer(b, y);
    const shape *dims = &g->values[y].shape;
    const strided own = strided_whole(dims);
    strided placed = own;
    m->transpose = GRAPH_NONE;
    f->output = y;
    if (next != GRAPH_NONE && is_free(b, y) && !b->node_done[next] &&
        node_is(&g->nodes[next], "", "Transpose") &&
        b->values[g->nodes[next].outputs[0]].primary == LAYOUT_PLAIN) {
        movement how;
        bool known;
        const xai_status status = movement_of(b, &g->nodes[next], 0, &how, &known);
        if (status != XAI_OK)
            return status;
        for (int i = 0; i < dims->rank; i++)
            for (int k = 0; k < how.rank; k++)
                if (dims->dims[i] != 1 && how.dims[k] != 1 && how.from[k] == own.strides[i])
                    placed.strides[i] = how.to[k];
        m->transpose = next;
        f->output = g->nodes[next].outputs[0];
    }
    f->shape.y = matrices_of(&placed, false);
    return XAI_OK;
}

/* The leading axes of two operands and of the result, the same for both. */
static bool multiplies_alike(const graph *g, const graph_node *node)
{
    const shape *a = &g->values[node->inputs[0]].shape, *c = &g->values[node->inputs[1]].shape;
    if (a->rank < 2 || a->rank != c->rank)
        return false;
    for (int i = 0; i < a->rank - 2; i++)
        if (a->dims[i] != c->dims[i])
            return false;
    return true;
}

static bool find_products(match *m, fused_attention *f)
{
    const builder *b = m->b;
    const graph *g = b->graph;
    const int weights = g->nodes[m->softmax].outputs[0], next = builder_only_consumer(b, weights);
    bool transposed;
    if (!is_free(b, weights) || next == GRAPH_NONE || b->node_done[next] ||
        !is_product(&g->nodes[next], &transposed) || transposed ||
        g->nodes[next].inputs[0] != weights || !multiplies_alike(g, &g->nodes[next]))
        return false;
    m->products[1] = next;
    f->shape.scale = 1;
    if (!climb(m, f))
        return false;
    const graph_node *first = &g->nodes[m->products[0]];
    const int q = first->inputs[0], k = first->inputs[1], v = g->nodes[next].inputs[1];
    if (!multiplies_alike(g, first) || g->values[q].is_constant || g->values[k].is_constant ||
        g->values[v].is_constant || g->values[first->outputs[0]].dtype != DTYPE_FLOAT)
        return false;
    attention *a = &f->shape;
    const shape *left = &g->values[q].shape, *right = &g->values[v].shape;
    size_t all = 0;
    shape_count(left, &all);
    a->queries = (size_t)left->dims[left->rank - 2];
    a->depth = (size_t)left->dims[left->rank - 1];
    a->keys = (size_t)right->dims[right->rank - 2];
    a->width = (size_t)right->dims[right->rank - 1];
    if (a->queries * a->depth * a->keys * a->width == 0 || all == 0)
        return false;
    a->items = all / a->queries / a->depth;
    follow(b, q, true, &m->chains[0]);
    follow(b, k, true, &m->chains[1]);
    follow(b, v, false, &m->chains[2]);
    return true;
}

static bool readable(const builder *b, int value)
{
    const graph_value *v = &b->graph->values[value];
    return v->dtype == DTYPE_FLOAT && !v->is_constant && b->values[value].primary == LAYOUT_PLAIN;
}

static xai_status take_in(match *m, const fused_attention *found)
{
    builder *b = m->b;
    fused_attention *kept = memory_pool_allocate(b->program->pool, 1, sizeof *kept);
    if (!kept)
        return error_memory(b->error, "plan", sizeof *kept);
    *kept = *found;
    b->attentions[m->products[1]] = kept;
    b->node_done[m->products[0]] = b->node_done[m->softmax] = true;
    if (m->transpose != GRAPH_NONE)
        b->node_done[m->transpose] = true;
    for (int i = 0; i < m->between_count; i++)
        b->node_done[m->between[i]] = true;
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < m->chains[c].count; i++)
            b->node_done[m->chains[c].nodes[i]] = true;
    return XAI_OK;
}

static xai_status match_softmax(builder *b, int index)
{
    match m = {.b = b, .softmax = index};
    fused_attention f = {.weights = OPERAND_NONE};
    strided parts[3];
    bool last = false, apart = false;
    float unused;
    xai_status status = rows_over_last_axis(b, &b->graph->nodes[index], &last, &unused);
    if (status != XAI_OK || !last || !find_products(&m, &f))
        return status;
    status = settle(&m, parts);
    if (status != XAI_OK)
        return status;
    for (int i = 0; i < 3; i++) {
        f.sources[i] = source_of(b, &m.chains[i]);
        if (!readable(b, f.sources[i]))
            return XAI_OK;
    }
    f.shape.q = matrices_of(&parts[0], false);
    f.shape.k = matrices_of(&parts[1], !m.keys_in_rows);
    f.shape.v = matrices_of(&parts[2], false);
    f.shape.scale *= chain_factor(b->graph, &m.chains[0]) * chain_factor(b->graph, &m.chains[1]);
    if (!isfinite(f.shape.scale) || f.shape.scale == 0)
        return XAI_OK;
    status = find_output(&m, &f);
    if (status == XAI_OK)
        status = check_parts(&m, &f, &apart);
    return status == XAI_OK && apart ? take_in(&m, &f) : status;
}

xai_status match_attentions(builder *b)
{
    const graph *g = b->graph;
    if (b->reference || b->rule == ENGINE_RULE_LRP || b->rule == ENGINE_RULE_DEEPLIFT ||
        !attention_worthwhile())
        return XAI_OK;
    for (size_t n = 0; n < g->node_count; n++) {
        const graph_node *node = &g->nodes[n];
        if (node->removed || !node_is(node, "", "Softmax") ||
            g->values[node->outputs[0]].dtype != DTYPE_FLOAT)
            continue;
        const xai_status status = match_softmax(b, (int)n);
        if (status != XAI_OK)
            return status;
    }
    return XAI_OK;
}
