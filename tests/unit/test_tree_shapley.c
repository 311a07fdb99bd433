/* Shapley values of trees against the definition: all subsets, by brute force. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "explain/tree_shapley.h"

enum { FEATURES = 6, OUTPUTS = 3, ROWS = 7, BACKGROUND = 9, SUBSETS = 1 << FEATURES };
#define MAX_NODES 4096

static unsigned state;

static double uniform(double low, double high)
{
    state = state * 1664525u + 1013904223u;
    return low + (high - low) * (double)(state >> 8) / 16777216.0;
}

/* A random forest in static arrays. */
typedef struct forest {
    trees of;
    trees_node nodes[MAX_NODES];
    int32_t roots[16];
    uint32_t leaf_weights[MAX_NODES + 1];
    trees_weight weights[MAX_NODES * OUTPUTS];
    double covers[MAX_NODES], leaf_covers[MAX_NODES], base[OUTPUTS];
    size_t weight_count;
} forest;

static forest grown;

static int32_t grow(forest *f, int depth, int modes)
{
    if (depth == 0 || uniform(0, 1) < 0.1) {
        const size_t leaf = f->of.leaf_count++;
        f->leaf_covers[leaf] = floor(uniform(1, 30));
        f->leaf_weights[leaf] = (uint32_t)f->weight_count;
        for (int k = 0; k < OUTPUTS; k++)
            if (uniform(0, 1) < 0.7)
                f->weights[f->weight_count++] = (trees_weight){k, uniform(-1, 1)};
        f->leaf_weights[leaf + 1] = (uint32_t)f->weight_count;
        return ~(int32_t)leaf;
    }
    const size_t at = f->of.node_count++;
    ck_assert(at < MAX_NODES);
    f->nodes[at] = (trees_node){.threshold = floor(uniform(-3, 4)) / 2,
                                .feature = (int32_t)uniform(0, FEATURES),
                                .mode = (uint8_t)uniform(0, modes),
                                .missing_yes = uniform(0, 1) < 0.5};
    const int32_t yes = grow(f, depth - 1, modes), no = grow(f, depth - 1, modes);
    f->nodes[at].yes = yes;
    f->nodes[at].no = no;
    f->covers[at] = (yes < 0 ? f->leaf_covers[~yes] : f->covers[yes]) +
                    (no < 0 ? f->leaf_covers[~no] : f->covers[no]);
    return (int32_t)at;
}

static const trees *make_forest(unsigned seed, int count, int depth, int modes, bool average)
{
    forest *f = &grown;
    memset(f, 0, sizeof *f);
    state = seed;
    f->of = (trees){.nodes = f->nodes,
                    .roots = f->roots,
                    .leaf_weights = f->leaf_weights,
                    .weights = f->weights,
                    .covers = f->covers,
                    .leaf_covers = f->leaf_covers,
                    .base = f->base,
                    .outputs = OUTPUTS,
                    .features = FEATURES,
                    .max_depth = depth,
                    .aggregate = average ? TREES_AVERAGE : TREES_SUM,
                    .transform = "NONE"};
    for (int t = 0; t < count; t++)
        f->roots[f->of.tree_count++] = grow(f, depth, modes);
    for (int k = 0; k < OUTPUTS; k++)
        f->base[k] = uniform(-1, 1);
    return &f->of;
}

static void fill_rows(double *x, size_t rows, double missing)
{
    for (size_t i = 0; i < rows * FEATURES; i++)
        x[i] = uniform(0, 1) < missing ? NAN : floor(uniform(-6, 7)) / 4;
}

/* E[f | x_S] by walking both ways at tests of absent features. */
static double covered(const trees *of, int32_t at, const double *x, unsigned subset, int output)
{
    if (at < 0) {
        double sum = 0;
        for (uint32_t i = of->leaf_weights[~at]; i < of->leaf_weights[~at + 1]; i++)
            sum += of->weights[i].output == output ? of->weights[i].value : 0;
        return sum;
    }
    const trees_node *node = &of->nodes[at];
    if (subset >> node->feature & 1)
        return covered(of, trees_decide(of, node, x[node->feature]) ? node->yes : node->no, x,
                       subset, output);
    const double yes = node->yes < 0 ? of->leaf_covers[~node->yes] : of->covers[node->yes];
    const double no = node->no < 0 ? of->leaf_covers[~node->no] : of->covers[node->no];
    return (yes * covered(of, node->yes, x, subset, output) +
            no * covered(of, node->no, x, subset, output)) /
           (yes + no);
}

/* The game: v[subset]. */
static void play(const trees *of, const double *x, const double *background, int output,
                 double v[SUBSETS])
{
    for (unsigned s = 0; s < SUBSETS; s++) {
        v[s] = 0;
        for (size_t r = 0; background && r < BACKGROUND; r++) {
            double mixed[FEATURES], scores[OUTPUTS];
            for (int f = 0; f < FEATURES; f++)
                mixed[f] = s >> f & 1 ? x[f] : background[r * FEATURES + (size_t)f];
            trees_scores(of, mixed, scores);
            v[s] += scores[output] / BACKGROUND;
        }
        for (size_t t = 0; !background && t < of->tree_count; t++)
            v[s] += covered(of, of->roots[t], x, s, output) /
                    (of->aggregate == TREES_AVERAGE ? (double)of->tree_count : 1);
    }
}

static double factorial(int n)
{
    return n < 2 ? 1 : n * factorial(n - 1);
}

static double shapley(const double v[SUBSETS], int i)
{
    double sum = 0;
    for (unsigned s = 0; s < SUBSETS; s++) {
        const int size = __builtin_popcount(s);
        if (!(s >> i & 1))
            sum += factorial(size) * factorial(FEATURES - size - 1) / factorial(FEATURES) *
                   (v[s | 1u << i] - v[s]);
    }
    return sum;
}

static double interaction(const double v[SUBSETS], int i, int j)
{
    double sum = 0;
    const unsigned a = 1u << i, b = 1u << j;
    for (unsigned s = 0; s < SUBSETS; s++) {
        const int size = __builtin_popcount(s);
        if (!(s & (a | b)))
            sum += factorial(size) * factorial(FEATURES - size - 2) / factorial(FEATURES - 1) *
                   (v[s | a | b] - v[s | a] - v[s | b] + v[s]);
    }
    return sum / 2;
}

static tree_shapley *create(const trees *of, const double *background, bool covers)
{
    const tree_shapley_setup setup = {.of = of,
                                      .background = background,
                                      .rows = background ? BACKGROUND : 0,
                                      .features = FEATURES,
                                      .path_dependent = covers};
    tree_shapley *self = NULL;
    xai_error *error = NULL;
    ck_assert_msg(tree_shapley_create(&setup, &self, &error) == XAI_OK, "%s",
                  error ? xai_error_message(error) : "");
    return self;
}

static void explain(const tree_shapley *self, tree_shapley_task task)
{
    xai_error *error = NULL;
    ck_assert_msg(tree_shapley_explain(self, &task, &error) == XAI_OK, "%s",
                  error ? xai_error_message(error) : "");
}

static const size_t two_outputs[] = {2, 0};

static void compare(const trees *of, bool covers, double missing)
{
    static double x[ROWS * FEATURES], background[BACKGROUND * FEATURES];
    static double values[ROWS * 2 * FEATURES], pairs[ROWS * 2 * FEATURES * FEATURES];
    double v[SUBSETS];
    fill_rows(x, ROWS, missing);
    fill_rows(background, BACKGROUND, missing);
    tree_shapley *self = create(of, covers ? NULL : background, covers);
    tree_shapley_task task = {.x = x,
                              .rows = ROWS,
                              .outputs = two_outputs,
                              .output_count = 2,
                              .threads = 2,
                              .values = values};
    explain(self, task);
    task.interactions = true;
    task.values = pairs;
    explain(self, task);
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t k = 0; k < 2; k++) {
            const int output = (int)two_outputs[k];
            play(of, x + r * FEATURES, covers ? NULL : background, output, v);
            ck_assert_double_eq_tol(tree_shapley_base(self)[output],
                                    v[0] + (covers ? of->base[output] : 0), 1e-12);
            for (int i = 0; i < FEATURES; i++) {
                ck_assert_double_eq_tol(values[(r * 2 + k) * FEATURES + (size_t)i], shapley(v, i),
                                        1e-12);
                double diagonal = shapley(v, i);
                for (int j = 0; j < FEATURES; j++) {
                    if (j == i)
                        continue;
                    ck_assert_double_eq_tol(
                        pairs[((r * 2 + k) * FEATURES + (size_t)i) * FEATURES + (size_t)j],
                        interaction(v, i, j), 1e-12);
                    diagonal -= interaction(v, i, j);
                }
                ck_assert_double_eq_tol(
                    pairs[((r * 2 + k) * FEATURES + (size_t)i) * FEATURES + (size_t)i], diagonal,
                    1e-12);
            }
        }
    }
    tree_shapley_free(self);
}

START_TEST(interventional_values_are_those_of_all_subsets)
{
    compare(make_forest((unsigned)_i + 1, 4, 1 + _i % 5, 6, _i % 2), false, _i % 3 ? 0.2 : 0);
}
END_TEST

START_TEST(path_dependent_values_are_those_of_all_subsets)
{
    compare(make_forest((unsigned)_i + 100, 4, 1 + _i % 5, 6, _i % 2), true, _i % 3 ? 0.2 : 0);
}
END_TEST

/* Deeper than a chunk shares: a row at a time. */
START_TEST(deep_trees)
{
    compare(make_forest(300, 2, 11, 6, false), false, 0.1);
    compare(make_forest(301, 2, 11, 1, false), true, 0);
}
END_TEST

START_TEST(rows_do_not_depend_on_their_company_or_on_threads)
{
    enum { MANY = 600 };
    static double x[MANY * FEATURES], background[BACKGROUND * FEATURES];
    static double all[MANY * FEATURES], one[FEATURES];
    const trees *of = make_forest(7, 5, 6, 1, false);
    fill_rows(x, MANY, 0);
    fill_rows(background, BACKGROUND, 0);
    for (int covers = 0; covers < 2; covers++) {
        tree_shapley *self = create(of, background, covers != 0);
        explain(self, (tree_shapley_task){.x = x,
                                          .rows = MANY,
                                          .outputs = two_outputs,
                                          .output_count = 1,
                                          .threads = 3,
                                          .values = all});
        for (size_t r = 0; r < MANY; r += 37) {
            explain(self, (tree_shapley_task){.x = x + r * FEATURES,
                                              .rows = 1,
                                              .outputs = two_outputs,
                                              .output_count = 1,
                                              .threads = 1,
                                              .values = one});
            ck_assert(memcmp(one, all + r * FEATURES, sizeof one) == 0);
        }
        tree_shapley_free(self);
    }
}
END_TEST

/* Covers that are not given are counted: the value of no feature is then the background's mean when
 * one feature is all there is. */
START_TEST(covers_counted_on_the_background)
{
    static double background[BACKGROUND * FEATURES];
    trees *of = (trees *)make_forest(9, 1, 1, 1, false);
    double mean = 0;
    of->covers = of->leaf_covers = NULL;
    fill_rows(background, BACKGROUND, 0);
    for (size_t r = 0; r < BACKGROUND; r++) {
        double scores[OUTPUTS];
        trees_scores(of, background + r * FEATURES, scores);
        mean += scores[1] / BACKGROUND;
    }
    tree_shapley *self = create(of, background, true);
    ck_assert_double_eq_tol(tree_shapley_base(self)[1], mean, 1e-12);
    tree_shapley_free(self);
}
END_TEST

/* Sums to p(x) - mean p(r), for either sign; the scores' own values otherwise. */
START_TEST(probabilities_are_complete)
{
    static double x[ROWS * FEATURES], background[BACKGROUND * FEATURES], values[ROWS * FEATURES];
    const trees *of = make_forest(11, 5, 5, 1, false);
    fill_rows(x, ROWS, 0);
    fill_rows(background, BACKGROUND, 0);
    tree_shapley *self = create(of, background, false);
    for (int sign = -1; sign <= 1; sign += 2) {
        explain(self, (tree_shapley_task){.x = x,
                                          .rows = ROWS,
                                          .outputs = two_outputs,
                                          .output_count = 1,
                                          .sigmoid_sign = sign,
                                          .threads = 1,
                                          .values = values});
        for (size_t r = 0; r < ROWS; r++) {
            double scores[OUTPUTS], sum = tree_shapley_sigmoid_base(self, 2, sign);
            trees_scores(of, x + r * FEATURES, scores);
            for (size_t f = 0; f < FEATURES; f++)
                sum += values[r * FEATURES + f];
            ck_assert_double_eq_tol(sum, 1 / (1 + exp(-sign * scores[2])), 1e-12);
        }
    }
    tree_shapley_free(self);
}
END_TEST

START_TEST(what_cannot_be_explained_is_refused)
{
    static double background[BACKGROUND * FEATURES];
    tree_shapley *self = NULL;
    trees *of = (trees *)make_forest(12, 2, 3, 1, false);
    tree_shapley_setup setup = {.of = of, .features = FEATURES};
    ck_assert_int_eq(tree_shapley_create(&setup, &self, NULL), XAI_ERROR_ARGUMENT);
    setup.background = background;
    setup.rows = BACKGROUND;
    of->aggregate = TREES_MAX;
    ck_assert_int_eq(tree_shapley_create(&setup, &self, NULL), XAI_ERROR_UNSUPPORTED);
    of->aggregate = TREES_SUM;
    setup.features = 1;
    ck_assert_int_eq(tree_shapley_create(&setup, &self, NULL), XAI_ERROR_SHAPE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tree_shapley");
    TCase *values = tcase_create("values");
    tcase_set_timeout(values, 120);
    tcase_add_loop_test(values, interventional_values_are_those_of_all_subsets, 0, 20);
    tcase_add_loop_test(values, path_dependent_values_are_those_of_all_subsets, 0, 20);
    tcase_add_test(values, deep_trees);
    tcase_add_test(values, rows_do_not_depend_on_their_company_or_on_threads);
    tcase_add_test(values, covers_counted_on_the_background);
    tcase_add_test(values, probabilities_are_complete);
    tcase_add_test(values, what_cannot_be_explained_is_refused);
    suite_add_tcase(suite, values);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
