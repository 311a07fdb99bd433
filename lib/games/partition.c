/* Owen values over a binary tree of players. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "games/private.h"

#define DEFAULT_SAMPLES 500
#define ROUND \
    8 /* nodes split before the queue is looked at again; fixed, so that no batch size matters */

/* Players that are there while a node is split: those of `node` and of the contexts before. */
typedef struct context {
    size_t node, parent; /* SIZE_MAX ends the list */
} context;

typedef struct task {
    double priority;
    size_t age; /* equal priorities: the older first */
    size_t node, context;
    double without, with; /* v of the context, and with the node's players */
    double weight;
} task;

typedef struct owen {
    const player_tree *tree;
    context *contexts;
    size_t context_count, context_capacity;
    task *heap;
    size_t heap_count, heap_capacity, age;
    double *shares; /* one a node: value of its players together that is not split further */
} owen;

static bool is_urgent(const task *a, const task *b)
{
    return a->priority > b->priority || (a->priority == b->priority && a->age < b->age);
}

static xai_status push(owen *self, task added, xai_error **error)
{
    if (!array_reserve((void **)&self->heap, &self->heap_capacity, self->heap_count + 1,
                       sizeof *self->heap))
        return error_memory(error, "a queue", self->heap_count * sizeof *self->heap);
    added.priority = fabs(added.with - added.without) * added.weight;
    added.age = self->age++;
    size_t at = self->heap_count++;
    while (at > 0 && is_urgent(&added, &self->heap[(at - 1) / 2])) {
        self->heap[at] = self->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    self->heap[at] = added;
    return XAI_OK;
}

static task pop(owen *self)
{
    const task top = self->heap[0], moved = self->heap[--self->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= self->heap_count)
            break;
        if (child + 1 < self->heap_count && is_urgent(&self->heap[child + 1], &self->heap[child]))
            child++;
        if (!is_urgent(&self->heap[child], &moved))
            break;
        self->heap[at] = self->heap[child];
        at = child;
    }
    if (self->heap_count > 0)
        self->heap[at] = moved;
    return top;
}

static xai_status add_context(owen *self, size_t node, size_t parent, size_t *out,
                              xai_error **error)
{
    if (!array_reserve((void **)&self->contexts, &self->context_capacity, self->context_count + 1,
                       sizeof *self->contexts))
        return error_memory(error, "contexts", self->context_count * sizeof *self->contexts);
    *out = self->context_count++;
    self->contexts[*out] = (context){.node = node, .parent = parent};
    return XAI_OK;
}

static void switch_on(const owen *self, size_t node, uint8_t *coalition)
{
    const player_tree_node *of = &self->tree->nodes[node];
    for (size_t i = of->begin; i < of->end; i++)
        coalition[self->tree->order[i]] = 1;
}

/* The context of a task and one child of its node. */
static xai_status add_child(const owen *self, coalition_batch *batch, const task *of, size_t child,
                            xai_error **error)
{
    uint8_t *coalition = NULL;
    const xai_status status = coalition_batch_add(batch, &coalition, error);
    if (status != XAI_OK)
        return status;
    memset(coalition, 0, self->tree->players);
    for (size_t c = of->context; c != SIZE_MAX; c = self->contexts[c].parent)
        switch_on(self, self->contexts[c].node, coalition);
    switch_on(self, child, coalition);
    return XAI_OK;
}

/* Four tasks from one: each child without and with its sibling, half the weight each. */
static xai_status split(owen *self, const task *of, double left_only, double right_only,
                        xai_error **error)
{
    const player_tree_node *node = &self->tree->nodes[of->node];
    const double weight = of->weight / 2;
    size_t with_left = 0, with_right = 0;
    xai_status status = add_context(self, node->left, of->context, &with_left, error);
    if (status == XAI_OK)
        status = add_context(self, node->right, of->context, &with_right, error);
    const task children[] = {
        {.node = node->left, .context = of->context, .without = of->without, .with = left_only},
        {.node = node->right, .context = of->context, .without = of->without, .with = right_only},
        {.node = node->left, .context = with_right, .without = right_only, .with = of->with},
        {.node = node->right, .context = with_left, .without = left_only, .with = of->with},
    };
    for (size_t c = 0; status == XAI_OK && c < 4; c++) {
        task child = children[c];
        child.weight = weight;
        const player_tree_node *at = &self->tree->nodes[child.node];
        if (at->left == SIZE_MAX)
            self->shares[child.node] += (child.with - child.without) * weight;
        else
            status = push(self, child, error);
    }
    return status;
}

static xai_status search(owen *self, size_t samples, coalition_batch *batch, xai_error **error)
{
    size_t left = samples;
    xai_status status = XAI_OK;
    while (status == XAI_OK && self->heap_count > 0 && left >= 2) {
        task round[ROUND];
        double scores[2 * ROUND];
        size_t count = 0;
        coalition_batch_target(batch, scores);
        while (status == XAI_OK && count < ROUND && self->heap_count > 0 && left >= 2) {
            round[count] = pop(self);
            const player_tree_node *node = &self->tree->nodes[round[count].node];
            status = add_child(self, batch, &round[count], node->left, error);
            if (status == XAI_OK)
                status = add_child(self, batch, &round[count], node->right, error);
            count++;
            left -= 2;
        }
        if (status == XAI_OK)
            status = coalition_batch_flush(batch, error);
        for (size_t i = 0; status == XAI_OK && i < count; i++)
            status = split(self, &round[i], scores[2 * i], scores[2 * i + 1], error);
    }
    return status;
}

/* What is not split goes to the players of the node in equal parts. Nodes come before their
 * children. */
static void spread(owen *self, game_values *out)
{
    while (self->heap_count > 0) {
        const task rest = pop(self);
        self->shares[rest.node] += (rest.with - rest.without) * rest.weight;
    }
    for (size_t n = 0; n < 2 * self->tree->players - 1; n++) {
        const player_tree_node *node = &self->tree->nodes[n];
        if (node->left == SIZE_MAX) {
            out->values[self->tree->order[node->begin]] = self->shares[n];
            continue;
        }
        const player_tree_node *left = &self->tree->nodes[node->left];
        const double part = (double)(left->end - left->begin) / (double)(node->end - node->begin);
        if (self->shares[n] != 0)
            out->unresolved = out->unresolved > node->end - node->begin ? out->unresolved
                                                                        : node->end - node->begin;
        self->shares[node->left] += self->shares[n] * part;
        self->shares[node->right] += self->shares[n] * (1 - part);
    }
}

xai_status shapley_partition(const set_function *of, const player_tree *tree,
                             const game_options *options, game_values *out, xai_error **error)
{
    coalition_batch batch = {0};
    owen self = {.tree = tree};
    const size_t samples = options->samples > 0 ? options->samples : DEFAULT_SAMPLES;
    xai_status status = game_values_begin(out, of, error);
    if (status != XAI_OK)
        return status;
    if (of->players == 1) {
        game_values_single(out);
        return XAI_OK;
    }
    self.shares = memory_allocate_zeroed(2 * tree->players - 1, sizeof *self.shares);
    if (self.shares == NULL)
        status = error_memory(error, "Owen values", 2 * tree->players * sizeof *self.shares);
    const task root = {
        .node = 0, .context = SIZE_MAX, .without = out->empty, .with = out->full, .weight = 1};
    if (status == XAI_OK)
        status = push(&self, root, error);
    if (status == XAI_OK)
        status = coalition_batch_init(&batch, of, &out->evaluations, error);
    if (status == XAI_OK)
        status = search(&self, samples, &batch, error);
    if (status == XAI_OK)
        spread(&self, out);
    for (size_t i = 0; status == XAI_OK && out->unresolved > 0 && i < out->players; i++)
        out->errors[i] = NAN; /* how far the even spread is off is not known */
    coalition_batch_free(&batch);
    memory_free(self.shares);
    memory_free(self.heap);
    memory_free(self.contexts);
    return status;
}
