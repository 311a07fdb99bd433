/* Exact Shapley values of tree ensembles.
 *
 * A leaf counts for a row when every test on its path holds. Tests on one feature make one
 * condition; let the path have D of them, o_j = 1 where the explained row x meets condition j, z_j
 * what its absence makes of it: 1 or 0 as a background row r meets it (interventional), or the
 * share of rows that the tests on the feature let through (path-dependent). The leaf's game is the
 * product over j of (o_j if j is in the coalition, else z_j), so that by Owen's integral
 *
 *     phi_j = v (o_j - z_j) integral_0^1 prod_{k != j} [z_k (1 - t) + o_k t] dt
 *     I_ij  = v (o_i - z_i)(o_j - z_j) integral_0^1 prod_{k != i, j} [...] dt
 *
 * For 0 and 1 as z, with a conditions that only x meets and b that only r meets (any that neither
 * meets makes the leaf 0), the integral is a Beta function:
 *
 *     phi_j = v (a - 1)! b! / (a + b)!  (only x)      - v a! (b - 1)! / (a + b)!  (only r)
 *
 * What a leaf gives depends on x by its D bits o alone. So rows are handled in chunks: one walk
 * over a tree finds the bits of all rows of the chunk and of the background, and each different
 * pattern of bits is worked out once for a leaf (Yang 2021 does the same for the path-dependent
 * values of one row). Background rows that cannot matter in a subtree for any row of the chunk are
 * left behind at its root. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/parallel.h"
#include "explain/tree_shapley.h"

enum {
    MOST_CONDITIONS = 63, /* of one path: bits of a pattern; the 64th marks a live row */
    CHUNK = 256,          /* rows that share a walk */
    MEMO_CONDITIONS = 12, /* longest paths whose patterns are remembered */
    NODES = 32,           /* most nodes of a quadrature: exact for MOST_CONDITIONS factors */
};
#define ALIVE ((uint64_t)1 << 63)

/* A clone for each instruction set, chosen when the library is loaded; see engine/kernels_private.h. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(XAI_NO_CLONES)
#define MULTIVERSION \
    __attribute__((noinline, target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"))) static
#else
#define MULTIVERSION static
#endif

struct tree_shapley {
    const trees *of;
    size_t features, rows;        /* of the background */
    double *columns;              /* (features, rows) background, by feature */
    double *margins;              /* (rows, outputs) scores of the background */
    double *covers, *leaf_covers; /* path-dependent; NULL = interventional */
    double *base;
    double scale; /* of a leaf: 1, or 1 / trees */
    /* (a - 1)! b! / (a + b)!: phi[a][b], a >= 1; and (a - 2)! b! / (a + b - 1)! for pairs */
    double single[MOST_CONDITIONS + 2][MOST_CONDITIONS + 2];
    /* Gauss-Legendre on [0, 1] with n nodes: exact to degree 2 n - 1 */
    double nodes[NODES + 1][NODES], weights[NODES + 1][NODES];
};

/* --- tables --- */

/* B(a, b + 1) = (a - 1)! b! / (a + b)! for all small a, b. */
static void fill_beta(tree_shapley *self)
{
    for (int b = 0; b <= MOST_CONDITIONS + 1; b++) {
        self->single[0][b] = 0;
        for (int a = 1; a <= MOST_CONDITIONS + 1;
             a++) /* B(a + 1, b + 1) = B(a, b + 1) a / (a + b + 1) */
            self->single[a][b] =
                a == 1 ? 1.0 / (b + 1) : self->single[a - 1][b] * (a - 1) / (double)(a + b);
    }
}

/* Roots of the Legendre polynomial by Newton's method. */
static void fill_quadrature(tree_shapley *self)
{
    const double pi = 3.14159265358979323846;
    for (int n = 1; n <= NODES; n++) {
        for (int i = 0; i < n; i++) {
            double x = cos(pi * (i + 0.75) / (n + 0.5)), slope = 1;
            for (int step = 0; step < 100; step++) {
                double below = 1, at = x;
                for (int k = 2; k <= n; k++) {
                    const double next = ((2 * k - 1) * x * at - (k - 1) * below) / k;
                    below = at;
                    at = next;
                }
                slope = n * (x * at - below) / (x * x - 1);
                const double change = at / slope;
                x -= change;
                if (fabs(change) < 1e-16)
                    break;
            }
            self->nodes[n][i] = (1 + x) / 2;
            self->weights[n][i] = 1 / ((1 - x * x) * slope * slope);
        }
    }
}

/* --- what is known before any row --- */

static xai_status check_trees(const tree_shapley_setup *setup, xai_error **error)
{
    const trees *of = setup->of;
    if (of->aggregate != TREES_SUM && of->aggregate != TREES_AVERAGE)
        return error_set(error, XAI_ERROR_UNSUPPORTED, "tree_shap",
                         "the ensemble takes the minimum or maximum over its trees: its Shapley "
                         "values are no sum over trees; use kernel_shap");
    if (of->max_depth > TREE_SHAPLEY_DEPTH)
        return error_set(error, XAI_ERROR_UNSUPPORTED, "tree_shap",
                         "a path of %d tests (at most %d are supported)", of->max_depth,
                         TREE_SHAPLEY_DEPTH);
    if ((size_t)of->features > setup->features)
        return error_set(error, XAI_ERROR_SHAPE, "tree_shap",
                         "a tree reads feature %d of rows with %zu features", of->features - 1,
                         setup->features);
    const bool covers = setup->path_dependent && of->covers;
    if (!covers && setup->rows == 0)
        return error_set(error, XAI_ERROR_ARGUMENT, "tree_shap",
                         setup->path_dependent
                             ? "the model does not say how many training rows took each way "
                               "(nodes_hitrates); give a background to count them on"
                             : "a background is needed: rows that stand for an absent feature");
    return XAI_OK;
}

/* How many background rows take each way. */
static void count_covers(tree_shapley *self, const double *background)
{
    const trees *of = self->of;
    for (size_t r = 0; r < self->rows; r++) {
        const double *x = background + r * self->features;
        for (size_t t = 0; t < of->tree_count; t++) {
            int32_t at = of->roots[t];
            while (at >= 0) {
                const trees_node *node = &of->nodes[at];
                self->covers[at]++;
                at = trees_decide(of, node, x[node->feature]) ? node->yes : node->no;
            }
            self->leaf_covers[~at]++;
        }
    }
}

static double cover_of(const tree_shapley *self, int32_t child)
{
    return child >= 0 ? self->covers[child] : self->leaf_covers[~child];
}

/* The share of a node's rows that go to a child; half where no row came at all. */
static double share_of(const tree_shapley *self, int32_t node, int32_t child)
{
    const trees_node *at = &self->of->nodes[node];
    const double sum = cover_of(self, at->yes) + cover_of(self, at->no);
    return sum > 0 ? cover_of(self, child) / sum : 0.5;
}

/* The mean of the leaves by their covers, from the root down. */
static xai_status cover_base(tree_shapley *self, xai_error **error)
{
    const trees *of = self->of;
    const size_t height = (size_t)of->max_depth + 2;
    int32_t *stack = memory_allocate(height, sizeof *stack);
    double *shares = memory_allocate(height, sizeof *shares);
    for (size_t t = 0; stack && shares && t < of->tree_count; t++) {
        size_t top = 0;
        stack[top] = of->roots[t];
        shares[top++] = 1;
        while (top > 0) {
            const int32_t at = stack[--top];
            const double share = shares[top];
            if (at >= 0) {
                const trees_node *node = &of->nodes[at];
                stack[top] = node->yes;
                shares[top++] = share * share_of(self, at, node->yes);
                stack[top] = node->no;
                shares[top++] = share * share_of(self, at, node->no);
                continue;
            }
            for (uint32_t i = of->leaf_weights[~at]; i < of->leaf_weights[~at + 1]; i++)
                self->base[of->weights[i].output] += share * self->scale * of->weights[i].value;
        }
    }
    const bool ok = stack && shares;
    memory_free(stack);
    memory_free(shares);
    return ok ? XAI_OK : error_memory(error, "a walk over trees", height * sizeof *shares);
}

static xai_status fill(tree_shapley *self, const tree_shapley_setup *setup, xai_error **error)
{
    const trees *of = setup->of;
    const size_t rows = setup->rows, features = setup->features;
    self->columns = memory_allocate(rows, features * sizeof *self->columns);
    self->margins = memory_allocate(rows, of->outputs * sizeof *self->margins);
    self->base = memory_allocate_zeroed(of->outputs, sizeof *self->base);
    if (!self->columns || !self->margins || !self->base)
        return error_memory(error, "background rows", rows * features * sizeof *self->columns);
    for (size_t r = 0; r < rows; r++) {
        for (size_t f = 0; f < features; f++)
            self->columns[f * rows + r] = setup->background[r * features + f];
        trees_scores(of, setup->background + r * features, self->margins + r * of->outputs);
    }
    if (setup->path_dependent) {
        const size_t nodes = of->node_count, leaves = of->leaf_count;
        self->covers = memory_allocate_zeroed(nodes, sizeof *self->covers);
        self->leaf_covers = memory_allocate_zeroed(leaves, sizeof *self->leaf_covers);
        if (!self->covers || !self->leaf_covers)
            return error_memory(error, "covers", (nodes + leaves) * sizeof *self->covers);
        if (of->covers) {
            memcpy(self->covers, of->covers, nodes * sizeof *self->covers);
            memcpy(self->leaf_covers, of->leaf_covers, leaves * sizeof *self->leaf_covers);
        } else {
            count_covers(self, setup->background);
        }
        memcpy(self->base, of->base, of->outputs * sizeof *self->base);
        return cover_base(self, error);
    }
    for (size_t k = 0; k < of->outputs; k++) {
        for (size_t r = 0; r < rows; r++)
            self->base[k] += self->margins[r * of->outputs + k];
        self->base[k] /= (double)rows;
    }
    return XAI_OK;
}

xai_status tree_shapley_create(const tree_shapley_setup *setup, tree_shapley **out,
                               xai_error **error)
{
    xai_status status = check_trees(setup, error);
    if (status != XAI_OK)
        return status;
    tree_shapley *self = memory_allocate_zeroed(1, sizeof *self);
    if (!self)
        return error_memory(error, "a tree explainer", sizeof *self);
    self->of = setup->of;
    self->features = setup->features;
    self->rows = setup->rows;
    self->scale = setup->of->aggregate == TREES_AVERAGE ? 1 / (double)setup->of->tree_count : 1;
    fill_beta(self);
    fill_quadrature(self);
    status = fill(self, setup, error);
    if (status == XAI_OK)
        *out = self;
    else
        tree_shapley_free(self);
    return status;
}

void tree_shapley_free(tree_shapley *self)
{
    if (!self)
        return;
    memory_free(self->columns);
    memory_free(self->margins);
    memory_free(self->covers);
    memory_free(self->leaf_covers);
    memory_free(self->base);
    memory_free(self);
}

const double *tree_shapley_base(const tree_shapley *self)
{
    return self->base;
}

static double sigmoid(double z)
{
    return z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
}

double tree_shapley_sigmoid_base(const tree_shapley *self, size_t output, int sign)
{
    double sum = 0;
    for (size_t r = 0; r < self->rows; r++)
        sum += sigmoid(sign * self->margins[r * self->of->outputs + output]);
    return sum / (double)self->rows;
}

/* --- one chunk of rows --- */

/* The rows of one side (explained, or background) at one depth of the walk. Where all rows pass a
 * test, the next depth reads the masks of this one; bits of conditions that the path does not have
 * (left by another path) mean nothing. */
typedef struct side {
    size_t count;
    uint32_t *ids;   /* (count) row numbers; NULL = 0, 1, 2, ... */
    uint64_t *masks; /* (count) bit j: condition j holds so far; 0 = cannot matter any more */
    uint64_t *own_masks;
    uint32_t *own_ids;
} side;

/* The background at a leaf: patterns, each with how many rows have it (or the weight of one). */
typedef struct patterns {
    size_t count;
    uint64_t *masks;
    double *weights;
} patterns;

typedef struct walker {
    const tree_shapley *self;
    const tree_shapley_task *task;
    size_t first, count; /* rows of the chunk */
    double *columns;     /* (features, count) the chunk's rows, by feature */
    double *scales; /* (background rows) weight of each for the one row of the chunk, or NULL */
    /* the path walked so far */
    int conditions;
    int32_t feature[MOST_CONDITIONS];
    double share[MOST_CONDITIONS]; /* z_j, path-dependent */
    /* by depth */
    side *rows, *background;
    uint8_t *goes; /* by depth, twice: (larger of count and background rows) who passes the test */
    /* at a leaf */
    double *leaf_values; /* (output_count) what it says of each wanted output */
    patterns patterns;   /* of the background */
    uint8_t *meets;      /* (background rows) patterns that meet what a row misses */
    uint32_t *tally;     /* (2^MEMO_CONDITIONS) zero; places of patterns while they are counted */
    int16_t *memo;       /* (2^MEMO_CONDITIONS) pattern -> entry of `known`, or MEMO_* */
    double *known;       /* (count, entry) */
    size_t known_count;
    double *direct; /* one entry */
    xai_status status;
    xai_error **error;
} walker;

enum { MEMO_NEW = -1, MEMO_NOTHING = -2 };

/* Values of one pattern: D for each condition, or D x D with interactions. */
static size_t entry_size(const walker *w)
{
    const size_t d = (size_t)w->conditions;
    return w->task->interactions ? d * d : d;
}

static int bits_in(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (int)(x * 0x0101010101010101u >> 56);
}

/* Owen's integral with i and j taken out: t^(a-2) (1-t)^b, - t^(a-1) (1-t)^(b-1), ... for a
 * pattern that meets all that x misses. */
static void add_pairs(const walker *w, uint64_t only_x, uint64_t only_r, double weight, double *out)
{
    const int a = bits_in(only_x), b = bits_in(only_r), d = w->conditions;
    const double(*beta)[MOST_CONDITIONS + 2] = w->self->single;
    const double both_x = a >= 2 ? weight * beta[a - 1][b] : 0;
    const double mixed = a >= 1 && b >= 1 ? -weight * beta[a][b - 1] : 0;
    const double both_r = b >= 2 ? weight * beta[b - 1][a] : 0;
    const uint64_t all = only_x | only_r;
    for (uint64_t i = all; i; i &= i - 1) {
        const int at = __builtin_ctzll(i);
        const bool x = only_x >> at & 1;
        out[at * d + at] += x ? weight * beta[a][b] : -weight * beta[b][a];
        for (uint64_t j = all & ~((uint64_t)1 << at); j; j &= j - 1) {
            const int to = __builtin_ctzll(j);
            const bool y = only_x >> to & 1;
            out[at * d + to] += x != y ? mixed : x ? both_x : both_r;
        }
    }
}

MULTIVERSION bool find_meeting(const uint64_t *masks, size_t count, uint64_t missed, uint8_t *meets)
{
    unsigned any = 0;
    for (size_t i = 0; i < count; i++) {
        meets[i] = (masks[i] & missed) == missed;
        any |= meets[i];
    }
    return any != 0;
}

/* Sum over the background for a row of pattern o; false when the leaf is 0 whatever row stands for
 * absence. Every condition that x misses has to be met by r, so b = D - |o| and a = D - |z|. */
static bool interventional_entry(const walker *w, uint64_t o, double *out)
{
    const int d = w->conditions, b = d - bits_in(o);
    const uint64_t missed = (((uint64_t)1 << d) - 1) & ~o;
    const patterns *background = &w->patterns;
    const double(*beta)[MOST_CONDITIONS + 2] = w->self->single;
    double lost = 0; /* by every condition that only r meets */
    if (!find_meeting(background->masks, background->count, missed, w->meets))
        return false;
    memset(out, 0, entry_size(w) * sizeof *out);
    for (size_t i = 0; i < background->count; i++) {
        if (!w->meets[i])
            continue;
        const uint64_t z = background->masks[i], only_x = o & ~z;
        const double weight = background->weights[i];
        if (w->task->interactions) {
            add_pairs(w, only_x, missed, weight, out);
            continue;
        }
        const int a = d - bits_in(z);
        const double gained = weight * beta[a][b];
        lost += weight * beta[b][a];
        for (uint64_t rest = only_x; rest; rest &= rest - 1)
            out[__builtin_ctzll(rest)] += gained;
    }
    for (uint64_t rest = w->task->interactions ? 0 : missed; rest; rest &= rest - 1)
        out[__builtin_ctzll(rest)] = -lost;
    return true;
}

/* The background's patterns at a leaf, equal ones together on short paths: the same for every row,
 * so that its company does not change the bits. */
static void collect_patterns(walker *w, const side *background)
{
    const bool together = w->conditions <= MEMO_CONDITIONS;
    patterns *to = &w->patterns;
    const uint64_t all = ((uint64_t)1 << w->conditions) - 1;
    const double share = w->self->scale / (double)w->self->rows;
    to->count = 0;
    for (size_t i = 0; i < background->count; i++) {
        const uint64_t z = background->masks[i] & all;
        const size_t id = background->ids ? background->ids[i] : i;
        const double weight = w->scales ? share * w->scales[id] : share;
        if (together && w->tally[z] > 0) {
            to->weights[w->tally[z] - 1] += weight;
            continue;
        }
        to->masks[to->count] = z;
        to->weights[to->count++] = weight;
        if (together)
            w->tally[z] = (uint32_t)to->count;
    }
    for (size_t i = 0; together && i < to->count; i++)
        w->tally[to->masks[i]] = 0;
}

/* By quadrature: at each node t the product of all factors, with one or two divided out. */
static bool path_entry(const walker *w, uint64_t o, double *out)
{
    const int d = w->conditions, n = d / 2 + 1 < NODES ? d / 2 + 1 : NODES;
    memset(out, 0, entry_size(w) * sizeof *out);
    for (int q = 0; q < n; q++) {
        const double t = w->self->nodes[n][q], weight = w->self->scale * w->self->weights[n][q];
        double factor[MOST_CONDITIONS], product = weight;
        int zeros = 0, zero = -1, second = -1;
        for (int k = 0; k < d; k++) {
            factor[k] = w->share[k] * (1 - t) + (o >> k & 1 ? t : 0);
            if (factor[k] != 0) {
                product *= factor[k];
                continue;
            }
            second = zeros++ == 1 ? k : second;
            zero = zero < 0 ? k : zero;
        }
        for (int i = 0; i < d && zeros <= 2; i++) {
            const double slope = (double)(o >> i & 1) - w->share[i];
            const bool without = zeros == 0 || (zeros == 1 && i == zero);
            const double rest = without ? product / (zeros ? 1 : factor[i]) : 0;
            if (!w->task->interactions) {
                out[i] += slope * rest;
                continue;
            }
            out[i * d + i] += slope * rest;
            for (int j = 0; j < d; j++) {
                double pair = product;
                if (j == i || (zeros == 1 && i != zero && j != zero) ||
                    (zeros == 2 && !((i == zero && j == second) || (i == second && j == zero))))
                    continue;
                if (i != zero && i != second)
                    pair /= factor[i];
                if (j != zero && j != second)
                    pair /= factor[j];
                out[i * d + j] += slope * ((double)(o >> j & 1) - w->share[j]) * pair;
            }
        }
    }
    return true;
}

static bool make_entry(const walker *w, uint64_t o, double *out)
{
    return w->self->covers ? path_entry(w, o, out) : interventional_entry(w, o, out);
}

/* The entry of a pattern, remembered where the path is short; NULL when it is nothing. */
static const double *find_entry(walker *w, uint64_t o)
{
    if (!w->memo || w->conditions > MEMO_CONDITIONS)
        return make_entry(w, o, w->direct) ? w->direct : NULL;
    const size_t size = entry_size(w);
    int16_t *at = &w->memo[o];
    if (*at == MEMO_NEW) {
        double *made = w->known + w->known_count * size;
        *at = MEMO_NOTHING;
        if (make_entry(w, o, made))
            *at = (int16_t)w->known_count++;
    }
    return *at == MEMO_NOTHING ? NULL : w->known + (size_t)*at * size;
}

static void add_values(const walker *w, double *to, const double *entry, double value)
{
    const size_t d = (size_t)w->conditions, features = w->self->features;
    if (!w->task->interactions) {
        for (size_t j = 0; j < d; j++)
            to[w->feature[j]] += value * entry[j];
        return;
    }
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < d; j++)
            to[(size_t)w->feature[i] * features + (size_t)w->feature[j]] +=
                value * entry[i * d + j];
}

static void visit_leaf(walker *w, int depth, size_t leaf)
{
    const trees *of = w->self->of;
    const tree_shapley_task *task = w->task;
    const size_t features = w->self->features;
    const size_t plane = features * (task->interactions ? features : 1);
    const side *rows = &w->rows[depth];
    bool any = false;
    if (w->conditions == 0)
        return;
    for (size_t k = 0; k < task->output_count; k++) {
        w->leaf_values[k] = 0;
        for (uint32_t i = of->leaf_weights[leaf]; i < of->leaf_weights[leaf + 1]; i++)
            if ((size_t)of->weights[i].output == task->outputs[k])
                w->leaf_values[k] += of->weights[i].value;
        any = any || w->leaf_values[k] != 0;
    }
    if (!any)
        return;
    const bool remember = w->memo && w->conditions <= MEMO_CONDITIONS;
    const uint64_t all = ((uint64_t)1 << w->conditions) - 1;
    if (!w->self->covers)
        collect_patterns(w, &w->background[depth]);
    if (remember) {
        memset(w->memo, 0xff, sizeof *w->memo << w->conditions); /* MEMO_NEW */
        w->known_count = 0;
    }
    for (size_t i = 0; i < rows->count; i++) {
        if (!(rows->masks[i] & ALIVE))
            continue;
        const double *entry = find_entry(w, rows->masks[i] & all);
        double *to = task->values + (w->first + i) * task->output_count * plane;
        for (size_t k = 0; entry && k < task->output_count; k++)
            if (w->leaf_values[k] != 0)
                add_values(w, to + k * plane, entry, w->leaf_values[k]);
    }
}

MULTIVERSION size_t decide_all(const double *column, double threshold, size_t count, uint8_t *goes)
{
    size_t passed = 0;
    for (size_t i = 0; i < count; i++)
        goes[i] = column[i] <= threshold;
    for (size_t i = 0; i < count; i++)
        passed += goes[i];
    return passed;
}

/* Which way every row of a side goes at a node; how many pass the test. */
static size_t decide(const trees *of, const trees_node *node, const side *of_side,
                     const double *column, uint8_t *goes)
{
    size_t passed = 0;
    if (node->mode == TREES_LEQ && !node->missing_yes && !of_side->ids)
        return decide_all(column, node->threshold, of_side->count, goes);
    for (size_t i = 0; i < of_side->count; i++) {
        goes[i] = trees_decide(of, node, column[of_side->ids ? of_side->ids[i] : i]);
        passed += goes[i];
    }
    return passed;
}

/* Masks of a child: `lost` is cleared where a row does not go its way. */
MULTIVERSION void pass_masks(const uint64_t *from, const uint8_t *goes, uint8_t way, uint64_t lost,
                             size_t count, uint64_t *to)
{
    for (size_t i = 0; i < count; i++)
        to[i] = from[i] & ~(goes[i] == way ? 0 : lost);
}

/* Rows of a child that went its way. */
static void keep_passing(const side *from, side *to, const uint8_t *goes, uint8_t way)
{
    to->ids = to->own_ids;
    to->masks = to->own_masks;
    to->count = 0;
    for (size_t i = 0; i < from->count; i++) {
        if (goes[i] != way)
            continue;
        to->masks[to->count] = from->masks[i];
        to->ids[to->count++] = from->ids ? from->ids[i] : (uint32_t)i;
    }
}

/* All rows, with `lost` cleared in those (`passing` do not lose it) that went the other way. */
static void keep_all(const side *from, side *to, const uint8_t *goes, uint8_t way, size_t passing,
                     uint64_t lost)
{
    to->count = from->count;
    to->ids = from->ids;
    to->masks = passing == from->count ? from->masks : to->own_masks;
    if (passing < from->count)
        pass_masks(from->masks, goes, way, lost, from->count, to->masks);
}

static void visit(walker *w, int depth, int32_t at);

/* Slot of a feature among the conditions of the path; a new one when it is not there. */
static int find_slot(walker *w, int32_t feature)
{
    for (int j = 0; j < w->conditions; j++)
        if (w->feature[j] == feature)
            return j;
    if (w->conditions == MOST_CONDITIONS)
        return -1;
    w->feature[w->conditions] = feature;
    w->share[w->conditions] = 1;
    return w->conditions++;
}

static void visit_child(walker *w, int depth, int32_t child, uint8_t way, const uint8_t *x_goes,
                        size_t x_passing, const uint8_t *r_goes, size_t r_passing, uint64_t bit)
{
    const side *rows = &w->rows[depth], *background = &w->background[depth];
    const bool interventional = !w->self->covers;
    const bool any_r = !interventional || r_passing > 0;
    if (x_passing == 0 && !any_r)
        return;
    keep_all(rows, &w->rows[depth + 1], x_goes, way, x_passing, any_r ? bit : ~(uint64_t)0);
    if (interventional && x_passing == 0)
        keep_passing(background, &w->background[depth + 1], r_goes, way);
    else if (interventional)
        keep_all(background, &w->background[depth + 1], r_goes, way, r_passing, bit);
    visit(w, depth + 1, child);
}

static void visit(walker *w, int depth, int32_t at)
{
    const tree_shapley *self = w->self;
    if (w->status != XAI_OK)
        return;
    if (at < 0) {
        visit_leaf(w, depth, (size_t)~at);
        return;
    }
    const trees_node *node = &self->of->nodes[at];
    const int before = w->conditions, slot = find_slot(w, node->feature);
    if (slot < 0) {
        w->status = error_set(w->error, XAI_ERROR_UNSUPPORTED, "tree_shap",
                              "a path tests more than %d features", MOST_CONDITIONS);
        return;
    }
    const double share = w->share[slot];
    const uint64_t bit = (uint64_t)1 << slot;
    side *rows = &w->rows[depth], *background = &w->background[depth];
    if (slot == before) { /* a new condition holds until a test fails */
        for (size_t i = 0; i < rows->count; i++)
            rows->masks[i] |= rows->masks[i] & ALIVE ? bit : 0;
        for (size_t i = 0; i < background->count; i++)
            background->masks[i] |= bit;
    }
    const size_t widest = w->count > self->rows ? w->count : self->rows;
    uint8_t *x_goes = w->goes + (size_t)depth * 2 * widest, *r_goes = x_goes + widest;
    const size_t x_yes =
        decide(self->of, node, rows, w->columns + (size_t)node->feature * w->count, x_goes);
    const size_t r_yes = self->covers
                             ? 0
                             : decide(self->of, node, background,
                                      self->columns + (size_t)node->feature * self->rows, r_goes);
    for (int way = 1; way >= 0; way--) {
        const int32_t child = way ? node->yes : node->no;
        if (self->covers)
            w->share[slot] = share * share_of(self, at, child);
        visit_child(w, depth, child, (uint8_t)way, x_goes, way ? x_yes : rows->count - x_yes,
                    r_goes, way ? r_yes : background->count - r_yes, bit);
    }
    w->share[slot] = share;
    w->conditions = before;
}

/* [p(x) - p(r)] / [s(x) - s(r)] of every background row; the slope where the scores are equal. */
static void set_scales(const walker *w, const double *x, double *scores)
{
    const tree_shapley *self = w->self;
    const size_t outputs = self->of->outputs, output = w->task->outputs[0];
    const double sign = w->task->sigmoid_sign;
    trees_scores(self->of, x, scores);
    const double here = sign * scores[output], p = sigmoid(here);
    for (size_t r = 0; r < self->rows; r++) {
        const double there = sign * self->margins[r * outputs + output];
        w->scales[r] = sign * (here == there ? p * (1 - p) : (p - sigmoid(there)) / (here - there));
    }
}

/* I_ij as SHAP shows it: half of each interaction at (i, j) and at (j, i), the rest of phi_i at
 * (i, i). */
static void halve_interactions(double *plane, size_t features)
{
    for (size_t i = 0; i < features; i++) {
        double shared = 0;
        for (size_t j = 0; j < features; j++) {
            if (j == i)
                continue;
            plane[i * features + j] /= 2;
            shared += plane[i * features + j];
        }
        plane[i * features + i] -= shared;
    }
}

static void walker_free(walker *self)
{
    memory_free(self->columns);
    memory_free(self->scales);
    memory_free(self->rows);
    memory_free(self->goes);
    memory_free(self->leaf_values);
    memory_free(self->patterns.masks);
    memory_free(self->patterns.weights);
    memory_free(self->meets);
    memory_free(self->tally);
    memory_free(self->memo);
    memory_free(self->known);
    memory_free(self->direct);
}

/* Bytes of the masks of one depth: the chunk's, the background's, and the background's ids. */
static size_t depth_bytes(const walker *self, size_t most)
{
    return (most + 2 * self->self->rows) * sizeof(uint64_t);
}

static xai_status walker_init(walker *self, size_t most)
{
    const tree_shapley *of = self->self;
    const tree_shapley_task *task = self->task;
    const size_t depths = (size_t)of->of->max_depth + 2, widest = most > of->rows ? most : of->rows;
    const size_t entry = task->interactions ? MOST_CONDITIONS : 1;
    self->columns = memory_allocate(most, of->features * sizeof *self->columns);
    self->leaf_values = memory_allocate(task->output_count, sizeof *self->leaf_values);
    self->goes = memory_allocate(depths * 2, widest);
    self->rows = memory_allocate(depths, 2 * sizeof(side) + depth_bytes(self, most));
    self->direct = memory_allocate(MOST_CONDITIONS * entry, sizeof *self->direct);
    self->patterns.masks = memory_allocate(of->rows, sizeof *self->patterns.masks);
    self->patterns.weights = memory_allocate(of->rows, sizeof *self->patterns.weights);
    self->meets = memory_allocate(of->rows, 1);
    self->tally = memory_allocate_zeroed((size_t)1 << MEMO_CONDITIONS, sizeof *self->tally);
    bool ok = self->tally && self->patterns.masks && self->patterns.weights && self->meets &&
              self->columns && self->leaf_values && self->goes && self->rows && self->direct;
    if (task->sigmoid_sign) {
        self->scales = memory_allocate(of->rows + of->of->outputs, sizeof *self->scales);
        ok = ok && self->scales;
    }
    if (most >= 4) { /* fewer rows share no patterns */
        const size_t known = MEMO_CONDITIONS * (task->interactions ? MEMO_CONDITIONS : 1);
        self->memo = memory_allocate((size_t)1 << MEMO_CONDITIONS, sizeof *self->memo);
        self->known = memory_allocate(most, known * sizeof *self->known);
        ok = ok && self->memo && self->known;
    }
    if (!ok)
        return error_memory(self->error, "a walk over trees", depths * depth_bytes(self, most));
    self->background = self->rows + depths;
    uint64_t *masks = (uint64_t *)(self->background + depths);
    for (size_t d = 0; d < depths; d++) {
        self->rows[d] = (side){.masks = masks, .own_masks = masks};
        self->background[d] = (side){.masks = masks + most,
                                     .own_masks = masks + most,
                                     .own_ids = (uint32_t *)(masks + most + of->rows)};
        masks += depth_bytes(self, most) / sizeof *masks;
    }
    return XAI_OK;
}

/* Values of the chunk's rows. */
static xai_status walk_chunk(walker *self, size_t first, size_t count)
{
    const tree_shapley *of = self->self;
    const tree_shapley_task *task = self->task;
    const size_t features = of->features;
    const size_t plane = features * (task->interactions ? features : 1);
    double *values = task->values + first * task->output_count * plane;
    self->first = first;
    self->count = count;
    for (size_t i = 0; i < count; i++)
        for (size_t f = 0; f < features; f++)
            self->columns[f * count + i] = task->x[(first + i) * features + f];
    if (task->sigmoid_sign)
        set_scales(self, task->x + first * features, self->scales + of->rows);
    memset(values, 0, count * task->output_count * plane * sizeof *values);
    for (size_t t = 0; t < of->of->tree_count && self->status == XAI_OK; t++) {
        self->rows[0].count = count;
        self->background[0].count = of->covers ? 0 : of->rows;
        self->rows[0].masks = self->rows[0].own_masks;
        self->background[0].masks = self->background[0].own_masks;
        self->background[0].ids = NULL;
        for (size_t i = 0; i < count; i++)
            self->rows[0].masks[i] = ALIVE;
        memset(self->background[0].masks, 0, of->rows * sizeof(uint64_t));
        self->conditions = 0;
        visit(self, 0, of->of->roots[t]);
    }
    for (size_t i = 0; task->interactions && i < count * task->output_count; i++)
        halve_interactions(values + i * plane, features);
    return self->status;
}

/* --- all rows --- */

static void move_error(xai_error **from, xai_error **to)
{
    if (!to || *to)
        return;
    *to = *from;
    *from = NULL;
}

/* Chunks of one call that run side by side; each thread has a walker. */
typedef struct batch_of_chunks {
    const tree_shapley *self;
    const tree_shapley_task *task;
    size_t first_chunk, chunk; /* rows a chunk */
    walker *walkers;           /* one an item of the loop */
    xai_status *statuses;
    xai_error **errors;
} batch_of_chunks;

static void run_chunks(void *user, size_t begin, size_t end)
{
    const batch_of_chunks *b = user;
    for (size_t i = begin; i < end; i++) {
        const size_t first = (b->first_chunk + i) * b->chunk;
        const size_t left = b->task->rows - first;
        b->statuses[i] = walk_chunk(&b->walkers[i], first, left < b->chunk ? left : b->chunk);
    }
}

xai_status tree_shapley_explain(const tree_shapley *self, const tree_shapley_task *task,
                                xai_error **error)
{
    /* a row at a time where each has weights of its own */
    const size_t threads = task->threads > 0 ? (size_t)task->threads : 1;
    const size_t most = task->sigmoid_sign ? 1 : CHUNK, each = (task->rows + threads - 1) / threads;
    const size_t chunk = each < most ? each : most;
    const size_t chunks = chunk ? (task->rows + chunk - 1) / chunk : 0;
    const size_t together = threads < chunks ? threads : chunks;
    batch_of_chunks b = {.self = self, .task = task, .chunk = chunk};
    xai_status status = XAI_OK;
    b.walkers = memory_allocate_zeroed(together, sizeof *b.walkers);
    b.statuses = memory_allocate_zeroed(together, sizeof *b.statuses);
    b.errors = memory_allocate_zeroed(together, sizeof *b.errors);
    if (!b.walkers || !b.statuses || !b.errors)
        status = error_memory(error, "a walk over trees", together * sizeof *b.walkers);
    for (size_t i = 0; i < together && status == XAI_OK; i++) {
        b.walkers[i] = (walker){.self = self, .task = task, .error = &b.errors[i]};
        status = walker_init(&b.walkers[i], chunk);
        if (status != XAI_OK)
            move_error(&b.errors[i], error);
    }
    for (size_t at = 0; at < chunks && status == XAI_OK; at += together) {
        const size_t now = chunks - at < together ? chunks - at : together;
        b.first_chunk = at;
        parallel_for((int)threads, now, run_chunks, &b);
        for (size_t i = 0; i < now && status == XAI_OK; i++) {
            status = b.statuses[i];
            if (status != XAI_OK)
                move_error(&b.errors[i], error);
        }
        const size_t done = (at + now) * chunk < task->rows ? (at + now) * chunk : task->rows;
        if (status == XAI_OK && task->progress &&
            !task->progress(task->progress_user, done, task->rows))
            status = error_set(error, XAI_ERROR_CANCELLED, "tree_shap", "cancelled after %zu rows",
                               done);
    }
    for (size_t i = 0; b.walkers && i < together; i++) {
        walker_free(&b.walkers[i]);
        if (b.errors)
            error_clear(&b.errors[i]);
    }
    memory_free(b.walkers);
    memory_free(b.statuses);
    memory_free(b.errors);
    return status;
}
