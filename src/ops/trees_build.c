/* Compiling tree ensembles. The two older operators list nodes by (tree, node) ids with leaves
 * among them and weights apart; TreeEnsemble lists nodes and leaves by position. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/classifier.h"
#include "ops/trees.h"

enum {
    MAX_NODES = 1 << 28, /* of all trees; keeps children within int32_t */
    UNSEEN = INT32_MIN,
};

/* A node's attributes as arrays of one length. */
typedef struct columns {
    const operator_call *call;
    memory_pool *pool;
    size_t count; /* nodes */
    const int64_t *tree, *id, *feature, *yes, *no, *missing;
    const double *threshold, *cover;
    size_t leaves; /* entries of weights */
    const int64_t *leaf_tree, *leaf_id, *leaf_output;
    const double *leaf_weight;
} columns;

static xai_status out_of_memory(const columns *self, size_t count)
{
    return error_memory(self->call->error, "a tree ensemble", count * sizeof(double));
}

static void *take(const columns *self, size_t count, size_t size)
{
    return memory_pool_allocate(self->pool, count ? count : 1, size);
}

/* Numbers from a list of floats or, under the name with "_as_tensor" or as it is, a tensor. */
static xai_status read_numbers(const columns *self, const char *name, const double **out,
                               size_t *count)
{
    char as_tensor[64];
    const operator_call *call = self->call;
    const onnx_attribute *found = operator_attribute(call, name);
    *out = NULL;
    *count = 0;
    if (!found) {
        snprintf(as_tensor, sizeof as_tensor, "%s_as_tensor", name);
        found = operator_attribute(call, as_tensor);
    }
    if (!found)
        return XAI_OK;
    const bool is_tensor = found->type == ONNX_ATTRIBUTE_TENSOR;
    if (!is_tensor && found->type != ONNX_ATTRIBUTE_FLOATS)
        return operator_error(call, XAI_ERROR_FORMAT, "attribute '%s' is not a list of numbers",
                              found->name);
    if (is_tensor && dtype_size(found->tensor.dtype) == 0)
        return operator_error(call, XAI_ERROR_UNSUPPORTED, "attribute '%s' has type %s",
                              found->name, dtype_name(found->tensor.dtype));
    *count = is_tensor ? tensor_count(&found->tensor) : found->count;
    double *values = take(self, *count, sizeof *values);
    if (!values)
        return out_of_memory(self, *count);
    if (is_tensor && *count > 0)
        tensor_read_doubles(&found->tensor, 0, *count, values);
    for (size_t i = 0; !is_tensor && i < *count; i++)
        values[i] = (double)found->floats[i];
    *out = values;
    return XAI_OK;
}

static xai_status read_ints(const columns *self, const char *name, size_t expected,
                            const int64_t **out)
{
    size_t count;
    const xai_status status = operator_attribute_ints(self->call, name, out, &count);
    if (status == XAI_OK && count != expected)
        return operator_error(self->call, XAI_ERROR_FORMAT,
                              "attribute '%s' has %zu values where %zu are needed", name, count,
                              expected);
    return status;
}

static xai_status read_doubles(const columns *self, const char *name, size_t expected,
                               bool required, const double **out)
{
    size_t count;
    const xai_status status = read_numbers(self, name, out, &count);
    if (status == XAI_OK && count != expected && (required || count > 0))
        return operator_error(self->call, XAI_ERROR_FORMAT,
                              "attribute '%s' has %zu values where %zu are needed", name, count,
                              expected);
    return status;
}

/* Covers help only when they differ: exporters that do not know them write ones. */
static bool covers_tell(const double *covers, size_t count)
{
    for (size_t i = 0; covers && i < count; i++)
        if (covers[i] != covers[0])
            return true;
    return false;
}

/* --- the ids of the older operators --- */

typedef struct node_key {
    int64_t tree, id;
    int32_t index;
} node_key;

static int compare_keys(const void *left, const void *right)
{
    const node_key *a = left, *b = right;
    if (a->tree != b->tree)
        return a->tree < b->tree ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static int32_t find_node(const node_key *keys, size_t count, int64_t tree, int64_t id)
{
    const node_key wanted = {tree, id, 0};
    const node_key *found = bsearch(&wanted, keys, count, sizeof *keys, compare_keys);
    return found ? found->index : -1;
}

static xai_status make_keys(const columns *self, node_key **out)
{
    node_key *keys = take(self, self->count, sizeof *keys);
    if (!keys)
        return out_of_memory(self, self->count);
    bool sorted = true;
    for (size_t i = 0; i < self->count; i++) {
        keys[i] = (node_key){self->tree[i], self->id[i], (int32_t)i};
        sorted = sorted && (i == 0 || compare_keys(&keys[i - 1], &keys[i]) < 0);
    }
    if (!sorted)
        qsort(keys, self->count, sizeof *keys, compare_keys);
    for (size_t i = 1; !sorted && i < self->count; i++)
        if (compare_keys(&keys[i - 1], &keys[i]) == 0)
            return operator_error(self->call, XAI_ERROR_FORMAT,
                                  "tree %lld has two nodes with the id %lld",
                                  (long long)keys[i].tree, (long long)keys[i].id);
    *out = keys;
    return XAI_OK;
}

static int find_mode(const char *name)
{
    static const char *const names[] = {"BRANCH_LEQ", "BRANCH_LT",  "BRANCH_GTE",   "BRANCH_GT",
                                        "BRANCH_EQ",  "BRANCH_NEQ", "BRANCH_MEMBER"};
    for (int i = 0; i < 6; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

static xai_status check_feature(const columns *self, int64_t feature)
{
    if (feature >= 0 && feature < MAX_NODES)
        return XAI_OK;
    return operator_error(self->call, XAI_ERROR_FORMAT, "a node reads feature %lld",
                          (long long)feature);
}

/* --- leaves and their weights --- */

typedef struct sorted_weight {
    int32_t leaf, position;
} sorted_weight;

static int compare_weights(const void *left, const void *right)
{
    const sorted_weight *a = left, *b = right;
    if (a->leaf != b->leaf)
        return a->leaf < b->leaf ? -1 : 1;
    return (a->position > b->position) - (a->position < b->position);
}

/* Weights in the order of their leaves; leaf_of[i] is the leaf of weight i. */
static xai_status sort_weights(const columns *self, trees *to, const int32_t *leaf_of)
{
    sorted_weight *order = take(self, self->leaves, sizeof *order);
    trees_weight *weights = take(self, self->leaves, sizeof *weights);
    uint32_t *begin = take(self, to->leaf_count + 1, sizeof *begin);
    if (!order || !weights || !begin)
        return out_of_memory(self, self->leaves);
    bool sorted = true;
    for (size_t i = 0; i < self->leaves; i++) {
        order[i] = (sorted_weight){leaf_of[i], (int32_t)i};
        begin[leaf_of[i] + 1]++;
        sorted = sorted && (i == 0 || leaf_of[i - 1] <= leaf_of[i]);
    }
    if (!sorted)
        qsort(order, self->leaves, sizeof *order, compare_weights);
    for (size_t i = 0; i < to->leaf_count; i++)
        begin[i + 1] += begin[i];
    for (size_t i = 0; i < self->leaves; i++) {
        const int64_t output = self->leaf_output[order[i].position];
        if (output < 0 || (to->pair == TREES_SCORES && output >= (int64_t)to->outputs))
            return operator_error(self->call, XAI_ERROR_FORMAT, "a leaf adds to output %lld of %zu",
                                  (long long)output, to->outputs);
        weights[i] = (trees_weight){.output = to->pair == TREES_SCORES ? (int32_t)output : 0,
                                    .value = self->leaf_weight[order[i].position]};
    }
    to->weights = weights;
    to->leaf_weights = begin;
    return XAI_OK;
}

/* --- every node once --- */

/* Depths from the roots; a node or tree reached twice, or never, is an error. */
static xai_status check_shape(const columns *self, trees *to)
{
    int32_t *depths = take(self, to->node_count, sizeof *depths);
    int32_t *stack = take(self, to->node_count, sizeof *stack);
    size_t reached = 0;
    if (!depths || !stack)
        return out_of_memory(self, to->node_count);
    for (size_t t = 0; t < to->tree_count; t++) {
        size_t height = 0;
        if (to->roots[t] < 0)
            continue;
        if (depths[to->roots[t]] != 0)
            return operator_error(self->call, XAI_ERROR_FORMAT, "two trees share a root");
        depths[to->roots[t]] = 1;
        stack[height++] = to->roots[t];
        while (height > 0) {
            const int32_t at = stack[--height];
            const trees_node *node = &to->nodes[at];
            const int32_t children[2] = {node->yes, node->no};
            reached++;
            if (depths[at] > to->max_depth)
                to->max_depth = depths[at];
            for (int k = 0; k < 2; k++) {
                if (children[k] < 0)
                    continue;
                if (depths[children[k]] != 0)
                    return operator_error(self->call, XAI_ERROR_FORMAT,
                                          "tree %zu is no tree: a node is reached twice", t);
                depths[children[k]] = depths[at] + 1;
                stack[height++] = children[k];
            }
        }
    }
    if (reached != to->node_count)
        return operator_error(self->call, XAI_ERROR_FORMAT,
                              "%zu nodes cannot be reached from the root of a tree",
                              to->node_count - reached);
    return XAI_OK;
}

/* --- TreeEnsembleRegressor and TreeEnsembleClassifier --- */

static xai_status read_columns(columns *self, const char *kind)
{
    char names[4][32];
    static const char *const ends[] = {"treeids", "nodeids", "ids", "weights"};
    const int64_t *counted;
    xai_status status =
        operator_attribute_ints(self->call, "nodes_nodeids", &counted, &self->count);
    if (status == XAI_OK && (self->count == 0 || self->count > MAX_NODES))
        return operator_error(self->call, XAI_ERROR_FORMAT, "the ensemble has %zu nodes",
                              self->count);
    const struct {
        const char *name;
        const int64_t **out;
    } lists[] = {{"nodes_treeids", &self->tree},
                 {"nodes_nodeids", &self->id},
                 {"nodes_featureids", &self->feature},
                 {"nodes_truenodeids", &self->yes},
                 {"nodes_falsenodeids", &self->no}};
    for (size_t i = 0; status == XAI_OK && i < sizeof lists / sizeof *lists; i++)
        status = read_ints(self, lists[i].name, self->count, lists[i].out);
    if (status == XAI_OK && operator_attribute(self->call, "nodes_missing_value_tracks_true"))
        status = read_ints(self, "nodes_missing_value_tracks_true", self->count, &self->missing);
    if (status == XAI_OK)
        status = read_doubles(self, "nodes_values", self->count, true, &self->threshold);
    if (status == XAI_OK)
        status = read_doubles(self, "nodes_hitrates", self->count, false, &self->cover);
    for (int i = 0; i < 4; i++)
        snprintf(names[i], sizeof names[i], "%s_%s", kind, ends[i]);
    if (status == XAI_OK)
        status = operator_attribute_ints(self->call, names[2], &self->leaf_output, &self->leaves);
    if (status == XAI_OK && self->leaves > MAX_NODES)
        return operator_error(self->call, XAI_ERROR_FORMAT, "%zu weights", self->leaves);
    if (status == XAI_OK)
        status = read_ints(self, names[0], self->leaves, &self->leaf_tree);
    if (status == XAI_OK)
        status = read_ints(self, names[1], self->leaves, &self->leaf_id);
    if (status == XAI_OK)
        status = read_doubles(self, names[3], self->leaves, true, &self->leaf_weight);
    return status;
}

/* Codes of the listed nodes: position among the inner nodes, or ~position among the leaves. */
static xai_status number_nodes(const columns *self, trees *to, int32_t **out)
{
    const onnx_attribute *modes = operator_attribute(self->call, "nodes_modes");
    int32_t *codes = take(self, self->count, sizeof *codes);
    if (!codes)
        return out_of_memory(self, self->count);
    if (!modes || modes->type != ONNX_ATTRIBUTE_STRINGS || modes->count != self->count)
        return operator_error(self->call, XAI_ERROR_FORMAT,
                              "attribute 'nodes_modes' does not list %zu texts", self->count);
    for (size_t i = 0; i < self->count; i++) {
        const bool leaf = strcmp(modes->strings[i], "LEAF") == 0;
        if (!leaf && find_mode(modes->strings[i]) < 0)
            return operator_error(self->call, XAI_ERROR_UNSUPPORTED, "nodes of mode '%.40s'",
                                  modes->strings[i]);
        codes[i] = leaf ? ~(int32_t)to->leaf_count : (int32_t)to->node_count;
        *(leaf ? &to->leaf_count : &to->node_count) += 1;
    }
    *out = codes;
    return XAI_OK;
}

static xai_status fill_nodes(const columns *self, trees *to, const node_key *keys,
                             const int32_t *codes, bool *has_parent)
{
    const onnx_attribute *modes = operator_attribute(self->call, "nodes_modes");
    trees_node *nodes = take(self, to->node_count, sizeof *nodes);
    double *covers = take(self, to->node_count, sizeof *covers);
    double *leaf_covers = take(self, to->leaf_count, sizeof *leaf_covers);
    if (!nodes || !covers || !leaf_covers)
        return out_of_memory(self, self->count);
    const bool tell = covers_tell(self->cover, self->count);
    for (size_t i = 0; i < self->count; i++) {
        if (tell)
            *(codes[i] < 0 ? &leaf_covers[~codes[i]] : &covers[codes[i]]) = self->cover[i];
        if (codes[i] < 0)
            continue;
        trees_node *node = &nodes[codes[i]];
        const xai_status status = check_feature(self, self->feature[i]);
        if (status != XAI_OK)
            return status;
        *node = (trees_node){.threshold = self->threshold[i],
                             .feature = (int32_t)self->feature[i],
                             .mode = (uint8_t)find_mode(modes->strings[i]),
                             .missing_yes = self->missing && self->missing[i] != 0};
        if (node->feature >= to->features)
            to->features = node->feature + 1;
        const int64_t ids[2] = {self->yes[i], self->no[i]};
        for (int k = 0; k < 2; k++) {
            const int32_t child = find_node(keys, self->count, self->tree[i], ids[k]);
            if (child < 0)
                return operator_error(self->call, XAI_ERROR_FORMAT,
                                      "node %lld of tree %lld leads to node %lld, which the tree "
                                      "does not have",
                                      (long long)self->id[i], (long long)self->tree[i],
                                      (long long)ids[k]);
            if (has_parent[child])
                return operator_error(self->call, XAI_ERROR_FORMAT,
                                      "tree %lld is no tree: two ways lead to node %lld",
                                      (long long)self->tree[i], (long long)ids[k]);
            has_parent[child] = true;
            *(k == 0 ? &node->yes : &node->no) = codes[child];
        }
    }
    to->nodes = nodes;
    to->covers = tell ? covers : NULL;
    to->leaf_covers = tell ? leaf_covers : NULL;
    return XAI_OK;
}

/* The nodes without a parent, in the order of their trees; one a tree. */
static xai_status find_roots(const columns *self, trees *to, const node_key *keys,
                             const int32_t *codes, const bool *has_parent)
{
    int32_t *roots = take(self, self->count, sizeof *roots);
    if (!roots)
        return out_of_memory(self, self->count);
    for (size_t begin = 0; begin < self->count;) {
        size_t end = begin, found = 0;
        for (; end < self->count && keys[end].tree == keys[begin].tree; end++) {
            if (has_parent[keys[end].index])
                continue;
            roots[to->tree_count] = codes[keys[end].index];
            found++;
        }
        if (found != 1)
            return operator_error(self->call, XAI_ERROR_FORMAT,
                                  "tree %lld has %zu roots where a tree has one",
                                  (long long)keys[begin].tree, found);
        to->tree_count++;
        begin = end;
    }
    to->roots = roots;
    return XAI_OK;
}

static xai_status leaves_of_weights(const columns *self, const node_key *keys, const int32_t *codes,
                                    int32_t **out)
{
    int32_t *leaf_of = take(self, self->leaves, sizeof *leaf_of);
    if (!leaf_of)
        return out_of_memory(self, self->leaves);
    for (size_t i = 0; i < self->leaves; i++) {
        const int32_t node = find_node(keys, self->count, self->leaf_tree[i], self->leaf_id[i]);
        if (node < 0 || codes[node] >= 0)
            return operator_error(self->call, XAI_ERROR_FORMAT,
                                  "a weight belongs to node %lld of tree %lld, which is no leaf",
                                  (long long)self->leaf_id[i], (long long)self->leaf_tree[i]);
        leaf_of[i] = ~codes[node];
    }
    *out = leaf_of;
    return XAI_OK;
}

static xai_status compile_listed(columns *self, trees *to)
{
    node_key *keys = NULL;
    int32_t *codes = NULL, *leaf_of = NULL;
    bool *has_parent = take(self, self->count, sizeof *has_parent);
    if (!has_parent)
        return out_of_memory(self, self->count);
    xai_status status = make_keys(self, &keys);
    if (status == XAI_OK)
        status = number_nodes(self, to, &codes);
    if (status == XAI_OK)
        status = fill_nodes(self, to, keys, codes, has_parent);
    if (status == XAI_OK)
        status = find_roots(self, to, keys, codes, has_parent);
    if (status == XAI_OK)
        status = check_shape(self, to);
    if (status == XAI_OK)
        status = leaves_of_weights(self, keys, codes, &leaf_of);
    if (status == XAI_OK)
        status = sort_weights(self, to, leaf_of);
    return status;
}

/* --- outputs, base values, aggregation --- */

static xai_status set_base(const columns *self, trees *to)
{
    const double *given;
    size_t count;
    double *base = take(self, to->outputs, sizeof *base);
    xai_status status = read_numbers(self, "base_values", &given, &count);
    if (status != XAI_OK || !base)
        return base ? status : out_of_memory(self, to->outputs);
    const bool second = to->pair != TREES_SCORES && count == 2; /* of [-s, s] */
    if (count > 0 && count != to->outputs && !second)
        return operator_error(self->call, XAI_ERROR_FORMAT,
                              "attribute 'base_values' has %zu values for %zu outputs", count,
                              to->outputs);
    for (size_t i = 0; i < to->outputs && count > 0; i++)
        base[i] = given[second ? 1 : i];
    to->base = base;
    return XAI_OK;
}

static xai_status set_aggregate(const columns *self, trees *to)
{
    static const char *const names[] = {"AVERAGE", "SUM", "MIN", "MAX"};
    const char *name;
    const xai_status status =
        operator_attribute_text(self->call, "aggregate_function", "SUM", &name);
    for (int i = 0; i < 4 && status == XAI_OK; i++) {
        if (strcmp(name, names[i]) == 0) {
            to->aggregate = i;
            return XAI_OK;
        }
    }
    return status != XAI_OK ? status
                            : operator_error(self->call, XAI_ERROR_UNSUPPORTED,
                                             "aggregate_function '%.40s'", name);
}

static xai_status compile_regressor(columns *self, trees *to)
{
    int64_t targets;
    xai_status status = operator_attribute_int(self->call, "n_targets", 1, &targets);
    if (status == XAI_OK && (targets < 1 || targets > MAX_NODES))
        status =
            operator_error(self->call, XAI_ERROR_FORMAT, "n_targets is %lld", (long long)targets);
    if (status == XAI_OK) {
        to->outputs = (size_t)targets;
        status = set_aggregate(self, to);
    }
    if (status == XAI_OK)
        status = read_columns(self, "target");
    return status == XAI_OK ? compile_listed(self, to) : status;
}

/* Two classes of which the leaves name one: a single score makes both. */
static void set_pair(const columns *self, trees *to)
{
    bool positive = true;
    if (to->outputs != 2)
        return;
    for (size_t i = 0; i < self->leaves; i++) {
        if (self->leaf_output[i] != self->leaf_output[0])
            return;
        positive = positive && self->leaf_weight[i] >= 0;
    }
    to->outputs = 1;
    to->pair = positive ? TREES_COMPLEMENT : TREES_OPPOSITE;
}

static xai_status compile_classifier(columns *self, trees *to)
{
    class_labels labels;
    xai_status status = class_labels_read(self->call, "classlabels_int64s", &labels);
    if (status != XAI_OK)
        return status;
    to->outputs = labels.count;
    to->aggregate = TREES_SUM;
    status = read_columns(self, "class");
    if (status == XAI_OK)
        set_pair(self, to);
    return status == XAI_OK ? compile_listed(self, to) : status;
}

/* --- TreeEnsemble --- */

/* The members of the nodes of mode MEMBER: one list each, ended by NaN. */
static xai_status set_members(const columns *self, trees *to, trees_node *nodes)
{
    const double *values;
    size_t count, at = 0;
    const xai_status status = read_numbers(self, "membership_values", &values, &count);
    if (status != XAI_OK)
        return status;
    for (size_t i = 0; i < to->node_count; i++) {
        if (nodes[i].mode != TREES_MEMBER)
            continue;
        if (at >= count)
            return operator_error(self->call, XAI_ERROR_FORMAT,
                                  "attribute 'membership_values' has fewer lists than nodes of "
                                  "mode MEMBER");
        nodes[i].member_begin = (uint32_t)at;
        while (at < count && !isnan(values[at]))
            at++;
        nodes[i].member_count = (uint32_t)at - nodes[i].member_begin;
        at++;
    }
    to->members = values;
    return XAI_OK;
}

static xai_status place_child(const columns *self, const trees *to, int64_t id, bool leaf,
                              int32_t *out)
{
    const size_t limit = leaf ? to->leaf_count : to->node_count;
    if (id < 0 || (uint64_t)id >= limit)
        return operator_error(self->call, XAI_ERROR_FORMAT, "a node leads to %s %lld of %zu",
                              leaf ? "leaf" : "node", (long long)id, limit);
    *out = leaf ? ~(int32_t)id : (int32_t)id;
    return XAI_OK;
}

static xai_status fill_placed(columns *self, trees *to)
{
    const int64_t *yes_leaf, *no_leaf;
    const double *modes;
    trees_node *nodes = take(self, self->count, sizeof *nodes);
    if (!nodes)
        return out_of_memory(self, self->count);
    xai_status status = read_ints(self, "nodes_featureids", self->count, &self->feature);
    if (status == XAI_OK)
        status = read_ints(self, "nodes_truenodeids", self->count, &self->yes);
    if (status == XAI_OK)
        status = read_ints(self, "nodes_falsenodeids", self->count, &self->no);
    if (status == XAI_OK)
        status = read_ints(self, "nodes_trueleafs", self->count, &yes_leaf);
    if (status == XAI_OK)
        status = read_ints(self, "nodes_falseleafs", self->count, &no_leaf);
    if (status == XAI_OK)
        status = read_doubles(self, "nodes_splits", self->count, true, &self->threshold);
    if (status == XAI_OK)
        status = read_doubles(self, "nodes_modes", self->count, true, &modes);
    if (status == XAI_OK && operator_attribute(self->call, "nodes_missing_value_tracks_true"))
        status = read_ints(self, "nodes_missing_value_tracks_true", self->count, &self->missing);
    for (size_t i = 0; status == XAI_OK && i < self->count; i++) {
        status = check_feature(self, self->feature[i]);
        if (status == XAI_OK && !(modes[i] >= TREES_LEQ && modes[i] <= TREES_MEMBER))
            status =
                operator_error(self->call, XAI_ERROR_UNSUPPORTED, "nodes of mode %g", modes[i]);
        if (status != XAI_OK)
            break;
        nodes[i] = (trees_node){.threshold = self->threshold[i],
                                .feature = (int32_t)self->feature[i],
                                .mode = (uint8_t)modes[i],
                                .missing_yes = self->missing && self->missing[i] != 0};
        if (nodes[i].feature >= to->features)
            to->features = nodes[i].feature + 1;
        status = place_child(self, to, self->yes[i], yes_leaf[i] != 0, &nodes[i].yes);
        if (status == XAI_OK)
            status = place_child(self, to, self->no[i], no_leaf[i] != 0, &nodes[i].no);
    }
    if (status == XAI_OK)
        status = set_members(self, to, nodes);
    to->nodes = nodes;
    return status;
}

static xai_status place_roots(const columns *self, trees *to)
{
    const int64_t *given;
    xai_status status = operator_attribute_ints(self->call, "tree_roots", &given, &to->tree_count);
    if (status == XAI_OK && (to->tree_count == 0 || to->tree_count > MAX_NODES))
        status = operator_error(self->call, XAI_ERROR_FORMAT, "the ensemble has %zu trees",
                                to->tree_count);
    int32_t *roots = status == XAI_OK ? take(self, to->tree_count, sizeof *roots) : NULL;
    if (status == XAI_OK && !roots)
        return out_of_memory(self, to->tree_count);
    for (size_t i = 0; status == XAI_OK && i < to->tree_count; i++)
        status = place_child(self, to, given[i], false, &roots[i]);
    to->roots = roots;
    return status;
}

static xai_status compile_placed(columns *self, trees *to)
{
    int64_t targets, aggregate;
    const int64_t *counted;
    xai_status status = operator_attribute_int(self->call, "n_targets", 1, &targets);
    if (status == XAI_OK)
        status = operator_attribute_int(self->call, "aggregate_function", 1, &aggregate);
    if (status == XAI_OK)
        status = operator_attribute_ints(self->call, "nodes_featureids", &counted, &self->count);
    if (status == XAI_OK)
        status = operator_attribute_ints(self->call, "leaf_targetids", &self->leaf_output,
                                         &self->leaves);
    if (status != XAI_OK)
        return status;
    if (targets < 1 || targets > MAX_NODES || aggregate < TREES_AVERAGE || aggregate > TREES_MAX ||
        self->count > MAX_NODES || self->leaves > MAX_NODES)
        return operator_error(self->call, XAI_ERROR_FORMAT,
                              "%lld targets, aggregate_function %lld, %zu nodes, %zu leaves",
                              (long long)targets, (long long)aggregate, self->count, self->leaves);
    to->outputs = (size_t)targets;
    to->aggregate = (int)aggregate;
    to->node_count = self->count;
    to->leaf_count = self->leaves;
    status = read_doubles(self, "leaf_weights", self->leaves, true, &self->leaf_weight);
    if (status == XAI_OK)
        status = fill_placed(self, to);
    if (status == XAI_OK)
        status = place_roots(self, to);
    if (status == XAI_OK)
        status = check_shape(self, to);
    int32_t *leaf_of = take(self, self->leaves, sizeof *leaf_of);
    if (!leaf_of)
        return out_of_memory(self, self->leaves);
    for (size_t i = 0; i < self->leaves; i++)
        leaf_of[i] = (int32_t)i;
    return status == XAI_OK ? sort_weights(self, to, leaf_of) : status;
}

xai_status trees_compile(const operator_call *call, memory_pool *pool, const trees **out)
{
    columns self = {.call = call, .pool = pool};
    trees *to = memory_pool_allocate(pool, 1, sizeof *to);
    if (!to)
        return out_of_memory(&self, 1);
    xai_status status;
    if (strcmp(call->definition->name, "TreeEnsemble") == 0)
        status = compile_placed(&self, to);
    else if (strcmp(call->definition->name, "TreeEnsembleClassifier") == 0)
        status = compile_classifier(&self, to);
    else
        status = compile_regressor(&self, to);
    if (status == XAI_OK)
        status = set_base(&self, to);
    if (status == XAI_OK)
        status = class_transform_read(call, &to->transform);
    if (status == XAI_OK)
        *out = to;
    return status;
}
