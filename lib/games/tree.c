/* Binary trees over players. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "games/private.h"

#define MAX_AXES 8

static xai_status create(player_tree *self, size_t players, xai_error **error)
{
    *self = (player_tree){.players = players};
    self->order = memory_allocate(players, sizeof *self->order);
    self->nodes = memory_allocate(2 * players - 1, sizeof *self->nodes);
    if (self->order == NULL || self->nodes == NULL) {
        player_tree_free(self);
        return error_memory(error, "a tree", players * sizeof *self->nodes);
    }
    return XAI_OK;
}

void player_tree_free(player_tree *self)
{
    memory_free(self->order);
    memory_free(self->nodes);
    *self = (player_tree){0};
}

/* Boxes of an array */

typedef struct box {
    size_t begin[MAX_AXES], end[MAX_AXES];
} box;

static int longest_axis(const box *of, int rank, int channels)
{
    int best = -1;
    for (int axis = 0; axis < rank; axis++) {
        const size_t length = of->end[axis] - of->begin[axis];
        if (axis != channels && length > 1 &&
            (best < 0 || length > of->end[best] - of->begin[best]))
            best = axis;
    }
    if (best < 0 && channels >= 0 && of->end[channels] - of->begin[channels] > 1)
        best = channels;
    return best;
}

typedef struct grid_build {
    player_tree *tree;
    const size_t *dims;
    int rank, channels;
    size_t nodes, leaves;
} grid_build;

static size_t add_box(grid_build *self, const box *of)
{
    const size_t at = self->nodes++;
    player_tree_node *nodes = self->tree->nodes;
    const int axis = longest_axis(of, self->rank, self->channels);
    nodes[at] = (player_tree_node){.begin = self->leaves, .left = SIZE_MAX, .right = SIZE_MAX};
    if (axis < 0) {
        size_t index = 0;
        for (int a = 0; a < self->rank; a++)
            index = index * self->dims[a] + of->begin[a];
        self->tree->order[self->leaves++] = index;
    } else {
        box half = *of;
        const size_t middle = of->begin[axis] + (of->end[axis] - of->begin[axis]) / 2;
        half.end[axis] = middle;
        nodes[at].left = add_box(self, &half); /* as deep as the logarithm of the size */
        half = *of;
        half.begin[axis] = middle;
        nodes[at].right = add_box(self, &half);
    }
    nodes[at].end = self->leaves;
    return at;
}

xai_status player_tree_grid(player_tree *self, const size_t *dims, int rank, int channels,
                            xai_error **error)
{
    box all = {{0}, {0}};
    size_t players = 1;
    for (int axis = 0; axis < rank; axis++) {
        all.end[axis] = dims[axis];
        players *= dims[axis];
    }
    const xai_status status = create(self, players, error);
    if (status != XAI_OK)
        return status;
    grid_build build = {.tree = self, .dims = dims, .rank = rank, .channels = channels};
    (void)add_box(&build, &all);
    return XAI_OK;
}

/* Points */

typedef struct point_build {
    player_tree *tree;
    const double *points;
    int rank;
    size_t nodes;
} point_build;

/* Sort a stretch of the order by one coordinate, equal ones by player (heap sort). */
static bool comes_before(const point_build *self, size_t a, size_t b, int axis)
{
    const double x = self->points[a * (size_t)self->rank + (size_t)axis];
    const double y = self->points[b * (size_t)self->rank + (size_t)axis];
    return x < y || (x == y && a < b);
}

static void sink(const point_build *self, size_t *heap, size_t at, size_t count, int axis)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count)
            return;
        if (child + 1 < count && comes_before(self, heap[child], heap[child + 1], axis))
            child++;
        if (!comes_before(self, heap[at], heap[child], axis))
            return;
        const size_t kept = heap[at];
        heap[at] = heap[child];
        heap[child] = kept;
        at = child;
    }
}

static void sort_by(const point_build *self, size_t *order, size_t count, int axis)
{
    for (size_t i = count / 2; i-- > 0;)
        sink(self, order, i, count, axis);
    for (size_t end = count; end > 1; end--) {
        const size_t kept = order[0];
        order[0] = order[end - 1];
        order[end - 1] = kept;
        sink(self, order, 0, end - 1, axis);
    }
}

static int widest_axis(const point_build *self, size_t begin, size_t end)
{
    int best = 0;
    double widest = -1;
    for (int axis = 0; axis < self->rank; axis++) {
        double low = 0, high = 0;
        for (size_t i = begin; i < end; i++) {
            const double x = self->points[self->tree->order[i] * (size_t)self->rank + (size_t)axis];
            low = i == begin || x < low ? x : low;
            high = i == begin || x > high ? x : high;
        }
        if (high - low > widest) {
            widest = high - low;
            best = axis;
        }
    }
    return best;
}

static size_t add_points(point_build *self, size_t begin, size_t end)
{
    const size_t at = self->nodes++;
    player_tree_node *node = &self->tree->nodes[at];
    *node = (player_tree_node){.begin = begin, .end = end, .left = SIZE_MAX, .right = SIZE_MAX};
    if (end - begin > 1) {
        sort_by(self, self->tree->order + begin, end - begin, widest_axis(self, begin, end));
        const size_t middle = begin + (end - begin) / 2;
        node->left = add_points(self, begin, middle);
        node->right = add_points(self, middle, end);
    }
    return at;
}

xai_status player_tree_points(player_tree *self, const double *points, size_t players, int rank,
                              xai_error **error)
{
    const xai_status status = create(self, players, error);
    if (status != XAI_OK)
        return status;
    for (size_t i = 0; i < players; i++)
        self->order[i] = i;
    point_build build = {.tree = self, .points = points, .rank = rank};
    (void)add_points(&build, 0, players);
    return XAI_OK;
}
