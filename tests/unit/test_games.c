/* Shapley, Owen and LIME values of set functions, against all orders of the players, closed forms,
 * the cases computed by hand in Captum's tests, and scikit-learn. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "explain_models.h"
#include "games/games.h"

/* v by table: bit i of the index = player i is there. */
typedef struct table_game {
    size_t players, asked, largest;
    double v[1 << 12];
} table_game;

static size_t index_of(const uint8_t *coalition, size_t players)
{
    size_t index = 0;
    for (size_t i = 0; i < players; i++)
        index |= (size_t)coalition[i] << i;
    return index;
}

static xai_status look_up(void *user, const uint8_t *coalitions, size_t count, double *scores,
                          xai_error **error)
{
    table_game *game = user;
    (void)error;
    for (size_t i = 0; i < count; i++)
        scores[i] = game->v[index_of(coalitions + i * game->players, game->players)];
    game->asked += count;
    game->largest = count > game->largest ? count : game->largest;
    return XAI_OK;
}

static table_game random_game(size_t players, unsigned seed)
{
    table_game game = {.players = players};
    for (size_t s = 0; s < (size_t)1 << players; s++)
        game.v[s] = 3 * (double)model_uniform(&seed);
    return game;
}

/* Shapley values by their first definition: the mean marginal contribution over all orders. */
static void add_orders(const table_game *game, size_t there, double weight, double *out)
{
    size_t left = 0;
    for (size_t i = 0; i < game->players; i++)
        left += (there >> i & 1) == 0;
    for (size_t i = 0; i < game->players; i++) {
        const size_t with = there | (size_t)1 << i;
        if (with == there)
            continue;
        out[i] += weight / (double)left * (game->v[with] - game->v[there]);
        add_orders(game, with, weight / (double)left, out);
    }
}

static void assert_near(const double *found, const double *expected, size_t count, double tolerance)
{
    for (size_t i = 0; i < count; i++)
        ck_assert_double_eq_tol(found[i], expected[i], tolerance);
}

typedef xai_status (*solver)(const set_function *of, const game_options *options, game_values *out,
                             xai_error **error);

static void solve(solver with, table_game *game, game_options options, game_values *out)
{
    const set_function of = {.players = game->players, .score = look_up, .user = game};
    game->asked = 0;
    ck_ok(with(&of, &options, out, error));
    ck_assert_uint_eq(out->evaluations, game->asked);
}

START_TEST(exact_values_are_the_mean_over_all_orders)
{
    for (size_t m = 1; m <= 7; m++) {
        table_game game = random_game(m, (unsigned)m);
        double expected[7] = {0};
        add_orders(&game, 0, 1, expected);
        game_values found;
        solve(shapley_exact, &game, (game_options){0}, &found);
        assert_near(found.values, expected, m, 1e-12);
        ck_assert_uint_eq(found.evaluations, (size_t)1 << m);
        game_values_free(&found);
    }
}
END_TEST

START_TEST(exact_refuses_too_many_players)
{
    const set_function of = {.players = 21};
    const game_options options = {0};
    game_values found = {0};
    ck_fails(shapley_exact(&of, &options, &found, error), XAI_ERROR_ARGUMENT, "2^21 evaluations");
}
END_TEST

/* v = 2 x0 + 3 x1 x2 - 4 x0 x1 x3: each product is shared evenly, and its interaction index is the
 * product's factor times 1, or 1/2 for each pair of three (half of that in either triangle). */
START_TEST(interactions_of_products)
{
    table_game game = {.players = 4};
    for (size_t s = 0; s < 16; s++)
        game.v[s] = 2.0 * (s & 1) + 3.0 * ((s & 6) == 6) - 4.0 * ((s & 11) == 11);
    game_values found;
    solve(shapley_exact, &game, (game_options){.interactions = true}, &found);
    const double values[] = {2 - 4.0 / 3, 1.5 - 4.0 / 3, 1.5, -4.0 / 3};
    assert_near(found.values, values, 4, 1e-12);
    const double pairs[16] = {0, -1, 0, -1, -1, 0, 1.5, -1, 0, 1.5, 0, 0, -1, -1, 0, 0};
    for (size_t i = 0; i < 4; i++) {
        double sum = 0;
        for (size_t j = 0; j < 4; j++) {
            sum += found.interactions[i * 4 + j];
            if (i != j)
                ck_assert_double_eq_tol(found.interactions[i * 4 + j], pairs[i * 4 + j], 1e-12);
        }
        ck_assert_double_eq_tol(sum, values[i], 1e-12);
    }
    game_values_free(&found);
}
END_TEST

/* 2^M - 2 samples enumerate everything: then the regression is exact. */
START_TEST(kernel_with_all_coalitions_is_exact)
{
    for (size_t m = 1; m <= 10; m++) {
        table_game game = random_game(m, 40 + (unsigned)m);
        game_values exact, found;
        solve(shapley_exact, &game, (game_options){0}, &exact);
        solve(shapley_kernel, &game, (game_options){.samples = 5000}, &found);
        assert_near(found.values, exact.values, m, 1e-9);
        ck_assert_uint_eq(found.evaluations, m == 1 ? 2 : (size_t)1 << m);
        for (size_t i = 0; i < m; i++)
            ck_assert_double_eq(found.errors[i], 0);
        game_values_free(&exact);
        game_values_free(&found);
    }
}
END_TEST

/* The true error over many seeds, divided by the error that is reported. */
static double error_ratio(solver with, table_game *game, game_options options, size_t seeds,
                          double *mean_bias)
{
    const size_t m = game->players;
    game_values exact;
    solve(shapley_exact, game, (game_options){0}, &exact);
    double actual = 0, reported = 0, bias[12] = {0};
    for (size_t seed = 0; seed < seeds; seed++) {
        game_values found;
        options.seed = seed;
        solve(with, game, options, &found);
        double sum = 0;
        for (size_t i = 0; i < m; i++) {
            const double off = found.values[i] - exact.values[i];
            actual += off * off;
            bias[i] += off;
            reported += found.errors[i] * found.errors[i];
            sum += found.values[i];
        }
        ck_assert_double_eq_tol(sum, found.full - found.empty, 1e-9); /* efficiency */
        game_values_free(&found);
    }
    *mean_bias = 0;
    for (size_t i = 0; i < m; i++)
        *mean_bias += bias[i] * bias[i] / (double)(seeds * seeds);
    /* In units of the standard error that a mean over the seeds has: about 1 when unbiased. */
    *mean_bias = sqrt(*mean_bias / (actual / (double)(seeds * seeds)));
    game_values_free(&exact);
    return sqrt(actual / reported);
}

/* Reported standard errors are those seen over 200 seeds, and the values are right in the mean. */
START_TEST(standard_errors_are_what_repetition_shows)
{
    table_game game = random_game(10, 7);
    for (size_t s = 0; s < 1024; s++)
        game.v[s] += (s & 1) + 0.5 * (double)(s >> 3 & 1);
    double bias = 0, ratio = error_ratio(shapley_permutation, &game,
                                         (game_options){.samples = 18 * 20}, 200, &bias);
    ck_assert_double_eq_tol(ratio, 1, 0.1);
    ck_assert_double_lt(bias, 1.7);
    ratio = error_ratio(shapley_sampling, &game, (game_options){.samples = 800}, 200, &bias);
    ck_assert_double_eq_tol(ratio, 1, 0.15);
    ck_assert_double_lt(bias, 1.7);
    for (int leverage = 0; leverage < 2; leverage++) {
        ratio = error_ratio(shapley_kernel, &game,
                            (game_options){.samples = 300, .leverage = leverage}, 200, &bias);
        ck_assert_double_eq_tol(ratio, 1, 0.25);
        ck_assert_double_lt(bias, 2.5); /* ratio estimators have a small bias */
    }
}
END_TEST

START_TEST(permutation_is_exact_without_triple_interactions)
{
    table_game game = {.players = 9};
    unsigned seed = 3;
    double single[9], pairs[9][9];
    for (size_t i = 0; i < 9; i++) {
        single[i] = (double)model_uniform(&seed);
        for (size_t j = 0; j < i; j++)
            pairs[i][j] = (double)model_uniform(&seed);
    }
    double expected[9] = {0};
    for (size_t s = 0; s < 512; s++)
        for (size_t i = 0; i < 9; i++) {
            game.v[s] += (s >> i & 1) ? single[i] : 0;
            for (size_t j = 0; j < i; j++)
                game.v[s] += (s >> i & 1) && (s >> j & 1) ? pairs[i][j] : 0;
        }
    for (size_t i = 0; i < 9; i++) {
        expected[i] += single[i];
        for (size_t j = 0; j < i; j++) {
            expected[i] += pairs[i][j] / 2;
            expected[j] += pairs[i][j] / 2;
        }
    }
    game_values found;
    solve(shapley_permutation, &game, (game_options){.samples = 1}, &found);
    ck_assert_uint_eq(found.evaluations, 2 + 16);
    assert_near(found.values, expected, 9, 1e-12);
    game_values_free(&found);
}
END_TEST

/* Players 2 and 5 play the same part, player 7 none. */
START_TEST(equal_players_get_the_same_and_a_dummy_nothing)
{
    table_game game = random_game(8, 11);
    for (size_t s = 0; s < 256; s++) {
        const size_t both = (s >> 2 & 1) + (s >> 5 & 1);
        const size_t rest = s & ~(size_t)(1 << 2 | 1 << 5 | 1 << 7);
        game.v[s] = sin((double)rest) + (double)(both * both);
    }
    const solver solvers[] = {shapley_exact, shapley_kernel, shapley_permutation, shapley_sampling};
    for (size_t i = 0; i < 4; i++) {
        game_values found;
        solve(solvers[i], &game, (game_options){0}, &found);
        ck_assert_double_eq_tol(found.values[7], 0, i == 3 ? 0.05 : 1e-12);
        if (i < 2)
            ck_assert_double_eq_tol(found.values[2], found.values[5], 1e-12);
        game_values_free(&found);
    }
}
END_TEST

/* The network of Captum's tests on (20, 50, 30): f = relu(s - 10) + 3 (s + 1) - 1 with s the sum of
 * the inputs that are there. */
static xai_status captum_score(void *user, const uint8_t *coalitions, size_t count, double *scores,
                               xai_error **error)
{
    const double *inputs = user;
    (void)error;
    for (size_t i = 0; i < count; i++) {
        double s = 0;
        for (size_t k = 0; inputs[k] != 0; k++)
            s += coalitions[i * (inputs[2] != 0 ? 3 : 2) + k] ? inputs[k] : 0;
        scores[i] = (s > 10 ? s - 10 : 0) + 3 * (s + 1) - 1;
    }
    return XAI_OK;
}

START_TEST(kernel_gives_the_values_of_captums_tests)
{
    double inputs[] = {20, 50, 30, 0}, grouped[] = {70, 30, 0, 0};
    const double expected[] = {76.66666667, 196.66666667, 116.66666667}, groups[] = {275, 115};
    game_options options = {0};
    game_values found;
    set_function of = {.players = 3, .score = captum_score, .user = inputs};
    ck_ok(shapley_kernel(&of, &options, &found, error));
    assert_near(found.values, expected, 3, 1e-7);
    game_values_free(&found);
    of = (set_function){.players = 2, .score = captum_score, .user = grouped};
    ck_ok(shapley_kernel(&of, &options, &found, error));
    assert_near(found.values, groups, 2, 1e-9);
    game_values_free(&found);
}
END_TEST

START_TEST(leaving_one_out_is_what_all_lose)
{
    table_game game = random_game(6, 9);
    const set_function of = {.players = 6, .score = look_up, .user = &game};
    game_values found;
    ck_ok(leave_one_out(&of, &found, error));
    for (size_t i = 0; i < 6; i++)
        ck_assert_double_eq_tol(found.values[i], game.v[63] - game.v[63 & ~((size_t)1 << i)],
                                1e-15);
    ck_assert_uint_eq(found.evaluations, 8);
    game_values_free(&found);
}
END_TEST

START_TEST(tolerance_stops_early)
{
    table_game game = random_game(12, 5);
    for (size_t s = 0; s < 4096; s++)
        for (size_t i = 0; i < 12; i++)
            game.v[s] = 0.02 * game.v[s] + (double)(s >> i & 1) * (double)(i + 1);
    const solver solvers[] = {shapley_kernel, shapley_permutation, shapley_sampling};
    for (size_t i = 0; i < 3; i++) {
        game_values found;
        solve(solvers[i], &game, (game_options){.samples = 3000, .tolerance = 0.05}, &found);
        ck_assert_double_le(game_values_relative_error(&found), 0.05);
        ck_assert_uint_lt(found.evaluations, 1500);
        game_values_free(&found);
    }
}
END_TEST

START_TEST(same_seed_same_bits_other_seed_other_bits)
{
    table_game game = random_game(12, 6);
    const solver solvers[] = {shapley_kernel, shapley_permutation, shapley_sampling};
    for (size_t i = 0; i < 3; i++) {
        game_values a, b, c;
        solve(solvers[i], &game, (game_options){.samples = 400, .seed = 1}, &a);
        solve(solvers[i], &game, (game_options){.samples = 400, .seed = 1}, &b);
        solve(solvers[i], &game, (game_options){.samples = 400, .seed = 2}, &c);
        ck_assert_mem_eq(a.values, b.values, 12 * sizeof(double));
        ck_assert_mem_ne(a.values, c.values, 12 * sizeof(double));
        game_values_free(&a);
        game_values_free(&b);
        game_values_free(&c);
    }
}
END_TEST

/* Owen values by definition: the mean over all orders in which each group of the tree stays
 * together, which are 2 orders a node. */
static void owen_orders(const table_game *game, const player_tree *tree, size_t node, size_t there,
                        double weight, double *out)
{
    const player_tree_node *at = &tree->nodes[node];
    size_t left_bits = 0, right_bits = 0, all = 0;
    for (size_t i = at->begin; i < at->end; i++)
        all |= (size_t)1 << tree->order[i];
    if (at->left == SIZE_MAX) {
        out[tree->order[at->begin]] += weight * (game->v[there | all] - game->v[there]);
        return;
    }
    for (size_t i = tree->nodes[at->left].begin; i < tree->nodes[at->left].end; i++)
        left_bits |= (size_t)1 << tree->order[i];
    right_bits = all & ~left_bits;
    owen_orders(game, tree, at->left, there, weight / 2, out);
    owen_orders(game, tree, at->left, there | right_bits, weight / 2, out);
    owen_orders(game, tree, at->right, there, weight / 2, out);
    owen_orders(game, tree, at->right, there | left_bits, weight / 2, out);
}

START_TEST(partition_gives_owen_values_also_of_odd_sizes)
{
    static const size_t shapes[][3] = {{1, 3, 3}, {1, 1, 5}, {2, 1, 5}, {3, 3, 1}, {1, 2, 4}};
    for (size_t i = 0; i < 5; i++) {
        player_tree tree;
        ck_ok(player_tree_grid(&tree, shapes[i], 3, 2, error));
        table_game game = random_game(tree.players, 20 + (unsigned)i);
        double expected[12] = {0};
        owen_orders(&game, &tree, 0, 0, 1, expected);
        const set_function of = {.players = tree.players, .score = look_up, .user = &game};
        const game_options options = {.samples = 100000};
        game_values found;
        ck_ok(shapley_partition(&of, &tree, &options, &found, error));
        assert_near(found.values, expected, tree.players, 1e-12);
        ck_assert_uint_eq(found.unresolved, 0);
        game_values_free(&found);
        player_tree_free(&tree);
    }
}
END_TEST

/* 5 x 4 x 2 with two channels last: rows 0-1 and 2-4 first; channels never before pixels. */
START_TEST(grid_trees_halve_rows_then_columns_then_channels)
{
    const size_t dims[] = {5, 4, 2};
    player_tree tree;
    ck_ok(player_tree_grid(&tree, dims, 3, 2, error));
    ck_assert_uint_eq(tree.players, 40);
    const player_tree_node *nodes = tree.nodes, *left = &nodes[nodes[0].left];
    ck_assert_uint_eq(left->end - left->begin, 16); /* two rows of four pixels */
    ck_assert_uint_eq(nodes[left->left].end - nodes[left->left].begin, 8); /* then two columns */
    uint8_t seen[40] = {0};
    for (size_t i = 0; i < 40; i++)
        seen[tree.order[i]]++;
    for (size_t i = 0; i < 40; i++)
        ck_assert_uint_eq(seen[i], 1);
    for (size_t n = 0; n < 79; n++)
        if (nodes[n].end - nodes[n].begin == 2) /* the channels of one pixel */
            ck_assert_uint_eq(tree.order[nodes[n].begin] / 2, tree.order[nodes[n].begin + 1] / 2);
    player_tree_free(&tree);
}
END_TEST

START_TEST(point_trees_halve_the_wider_axis)
{
    const double points[] = {0, 0, 1, 9, 0, 10, 1, 1, 2, 0};
    player_tree tree;
    ck_ok(player_tree_points(&tree, points, 5, 2, error));
    ck_assert_uint_eq(tree.nodes[tree.nodes[0].left].end, 2);
    ck_assert_uint_eq(tree.order[0] + tree.order[1], 0 + 4); /* the two at y = 0 */
    player_tree_free(&tree);
}
END_TEST

START_TEST(partition_spreads_what_it_does_not_split)
{
    const size_t dims[] = {1, 8, 1};
    player_tree tree;
    ck_ok(player_tree_grid(&tree, dims, 3, 2, error));
    table_game game = {.players = 8};
    for (size_t s = 0; s < 256; s++)
        for (size_t i = 0; i < 8; i++)
            game.v[s] += (s >> i & 1) * (double)(i < 4 ? 1 : 2 * i);
    const set_function of = {.players = 8, .score = look_up, .user = &game};
    const game_options options = {.samples = 2};
    game_values found;
    ck_ok(shapley_partition(&of, &tree, &options, &found, error));
    for (size_t i = 0; i < 8; i++)
        ck_assert_double_eq_tol(found.values[i], i < 4 ? 1 : 11,
                                1e-12); /* (8 + 10 + 12 + 14) / 4 */
    ck_assert_uint_eq(found.evaluations, 4);
    ck_assert_uint_eq(found.unresolved, 4);
    game_values_free(&found);
    player_tree_free(&tree);
}
END_TEST

/* scikit-learn 1.9.1, x, y and w as below:
 *   model = Ridge(alpha=1, fit_intercept=True).fit(x, y, sample_weight=w)
 *   model.coef_, model.intercept_, model.score(x, y, w) */
START_TEST(ridge_is_scikit_learns)
{
    static const uint8_t x[] = {1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0};
    static const double y[] = {3, 1.5, 2.25, -0.5, 2.75, 0.125};
    static const double w[] = {1, 0.9, 0.5, 0.4, 0.8, 0.05};
    static const double expected[] = {0.907665943769, 0.327903531872, 0.028246262877};
    game_values found;
    ck_ok(game_values_create(&found, 3, error));
    ck_ok(ridge_fit(x, y, w, 6, 3, 1, &found, error));
    assert_near(found.values, expected, 3, 1e-9);
    ck_assert_double_eq_tol(found.intercept, 1.283024165440, 1e-9);
    ck_assert_double_eq_tol(found.r2, 0.581640396216, 1e-9);
    game_values_free(&found);
}
END_TEST

/* sqrt(exp(-d^2 / 0.25^2)), d = sklearn's cosine distance to the row of ones. */
START_TEST(lime_weights_are_cosine_kernels)
{
    ck_assert_double_eq_tol(lime_weight(4, 4, 0.25), 1, 1e-15);
    ck_assert_double_eq_tol(lime_weight(1, 4, 0.25), sqrt(exp(-0.25 / 0.0625)), 1e-12);
    ck_assert_double_eq_tol(lime_weight(0, 4, 0.25), sqrt(exp(-1 / 0.0625)), 1e-12);
}
END_TEST

/* A linear function is fitted up to the shrinking by alpha. */
START_TEST(lime_recovers_a_linear_function)
{
    table_game game = {.players = 6};
    for (size_t s = 0; s < 64; s++)
        for (size_t i = 0; i < 6; i++)
            game.v[s] += (s >> i & 1) * ((double)i - 2);
    const set_function of = {.players = 6, .score = look_up, .user = &game};
    const game_options options = {.samples = 4000};
    const lime_options kernel = {.width = 0.25, .alpha = 1e-6};
    game_values found;
    ck_ok(lime_fit(&of, &options, &kernel, &found, error));
    for (size_t i = 0; i < 6; i++)
        ck_assert_double_eq_tol(found.values[i], (double)i - 2, 1e-4);
    ck_assert_double_eq_tol(found.r2, 1, 1e-9);
    ck_assert_uint_eq(found.evaluations, 2 + 3999); /* row 0 is v(all) */
    game_values_free(&found);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("games");
    TCase *exact = tcase_create("exact");
    tcase_add_test(exact, exact_values_are_the_mean_over_all_orders);
    tcase_add_test(exact, exact_refuses_too_many_players);
    tcase_add_test(exact, interactions_of_products);
    tcase_add_test(exact, leaving_one_out_is_what_all_lose);
    suite_add_tcase(suite, exact);
    TCase *sampled = tcase_create("sampled");
    tcase_add_test(sampled, kernel_with_all_coalitions_is_exact);
    tcase_add_test(sampled, standard_errors_are_what_repetition_shows);
    tcase_add_test(sampled, permutation_is_exact_without_triple_interactions);
    tcase_add_test(sampled, equal_players_get_the_same_and_a_dummy_nothing);
    tcase_add_test(sampled, kernel_gives_the_values_of_captums_tests);
    tcase_add_test(sampled, tolerance_stops_early);
    tcase_add_test(sampled, same_seed_same_bits_other_seed_other_bits);
    suite_add_tcase(suite, sampled);
    TCase *partition = tcase_create("partition");
    tcase_add_test(partition, partition_gives_owen_values_also_of_odd_sizes);
    tcase_add_test(partition, grid_trees_halve_rows_then_columns_then_channels);
    tcase_add_test(partition, point_trees_halve_the_wider_axis);
    tcase_add_test(partition, partition_spreads_what_it_does_not_split);
    suite_add_tcase(suite, partition);
    TCase *lime = tcase_create("lime");
    tcase_add_test(lime, ridge_is_scikit_learns);
    tcase_add_test(lime, lime_weights_are_cosine_kernels);
    tcase_add_test(lime, lime_recovers_a_linear_function);
    suite_add_tcase(suite, lime);
    return run_suite(suite);
}
