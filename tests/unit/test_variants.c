/* Variants of a row, networks that begin at a layer, and the options of methods. */
#include "explain_models.h"

#include <math.h>

#include "base/error.h"
#include "base/random.h"
#include "explain/method.h"
#include "explain/rows.h"
#include "explain/variants.h"

typedef struct fixture {
    onnx_model *file;
    network *net;
    subject about;
    evaluator engine;
    batch rows;
    float x[8 * 2 * 6 * 6];
    tensor input;
    const tensor *inputs[1];
} fixture;

/* conv -> relu ("a") -> conv -> relu ("b"), b + a ("sum": it bypasses b) -> pool -> Gemm -> 3
 * scores. `batch_size` -1 = free. */
static void open_fixture(fixture *self, int64_t batch_size, size_t rows, int threads,
                         row_progress progress, void *user)
{
    const int64_t image[] = {batch_size, 2, 6, 6}, w1[] = {4, 2, 3, 3}, w2[] = {4, 4, 3, 3},
                  w3[] = {3, 4}, pads[] = {1, 1, 1, 1};
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 4, image);
    model_random(m, "w1", 4, w1, 1);
    model_random(m, "w2", 4, w2, 2);
    model_random(m, "w3", 2, w3, 3);
    model_node(m, "Conv", "x w1", "c1");
    model_ints_attribute(m, "pads", 4, pads);
    model_node(m, "Relu", "c1", "a");
    model_node(m, "Conv", "a w2", "c2");
    model_ints_attribute(m, "pads", 4, pads);
    model_node(m, "Relu", "c2", "b");
    model_node(m, "Add", "b a", "sum");
    model_node(m, "GlobalAveragePool", "sum", "pool");
    model_node(m, "Flatten", "pool", "flat");
    model_node(m, "Gemm", "flat w3", "y");
    model_int_attribute(m, "transB", 1);
    model_output(m, "y");
    *self = (fixture){0};
    xai_error **error = NULL;
    graph *imported = model_graph(m, &self->file);
    ck_assert_int_eq(network_create(imported, &self->net, error), XAI_OK);
    model_free(m);
    self->about = (subject){.net = self->net, .name = ""};
    const evaluator_options options = {
        .threads = threads, .progress = progress, .progress_user = user};
    evaluator_init(&self->engine, &self->about, &options);
    unsigned state = 5;
    for (size_t i = 0; i < rows * 72; i++)
        self->x[i] = model_uniform(&state);
    const int64_t dims[] = {(int64_t)rows, 2, 6, 6};
    self->input = (tensor){.dtype = DTYPE_FLOAT, .shape = shape_make(4, dims), .data = self->x};
    self->inputs[0] = &self->input;
    ck_assert_int_eq(batch_check(&self->engine, self->inputs, 1, &self->rows, error), XAI_OK);
}

static void close_fixture(fixture *self)
{
    batch_free(&self->rows);
    evaluator_free(&self->engine);
    network_free(self->net);
    onnx_model_free(self->file);
}

/* Variant i is the row plus noise of stream i. */
static xai_status add_noise(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const variants *what = *(const variants *const *)user;
    (void)error;
    variants_copy_row(what->rows, what->row, 0, &inputs[0]);
    random_add_normal(1, index, 0.5, 72, inputs[0].data);
    return XAI_OK;
}

typedef struct seen {
    const variants *what;
    size_t next;
    double scores[40 * 2];
    float gradients[40 * 2 * 72], values[40 * 72];
} seen;

static xai_status remember(void *user, const variant *of, xai_error **error)
{
    seen *self = user;
    (void)error;
    ck_assert_uint_eq(of->index, self->next); /* in order */
    self->next++;
    for (size_t t = 0; t < 2; t++) {
        self->scores[of->index * 2 + t] = of->scores[t];
        memcpy(self->gradients + (of->index * 2 + t) * 72, of->gradients[t], 72 * sizeof(float));
    }
    memcpy(self->values + of->index * 72, of->values[0], 72 * sizeof(float));
    ck_assert_uint_eq(of->counts[0], 72);
    return XAI_OK;
}

static void run_noise(fixture *f, size_t row, size_t count, seen *out)
{
    xai_target *one = target_index(1);
    const xai_target *targets[] = {NULL, one};
    fixed_score scores[6];
    const int wrt = network_graph(f->net)->inputs[0];
    ck_assert_int_eq(
        evaluator_fix_scores(&f->engine, &f->rows, targets, 2, XAI_SCORE_RAW, scores, NULL),
        XAI_OK);
    const variants what = {.rows = &f->rows,
                           .row = row,
                           .count = count,
                           .scores = scores + row * 2,
                           .score_count = 2,
                           .wrt = &wrt,
                           .wrt_count = 1,
                           .with_values = true,
                           .fill = add_noise,
                           .body = remember,
                           .user = out};
    *out = (seen){.what = &what};
    ck_assert_int_eq(evaluator_run_variants(&f->engine, &what, NULL), XAI_OK);
    ck_assert_uint_eq(out->next, count);
    xai_target_free(one);
}

/* Scores and gradients of variants are those of the same rows given as a batch, with the target of
 * the original row. */
START_TEST(variants_are_rows_with_the_target_of_the_original)
{
    enum { COUNT = 5 };
    static seen found;
    fixture f, all;
    open_fixture(&f, -1, 1, 1, NULL, NULL);
    run_noise(&f, 0, COUNT, &found);
    fixed_score fixed;
    const xai_target *highest[] = {NULL};
    ck_assert_int_eq(
        evaluator_fix_scores(&f.engine, &f.rows, highest, 1, XAI_SCORE_RAW, &fixed, NULL), XAI_OK);
    for (size_t i = 0; i < COUNT; i++) {
        open_fixture(&all, -1, 1, 1, NULL, NULL);
        random_add_normal(1, i, 0.5, 72, all.x);
        ck_assert_mem_eq(found.values + i * 72, all.x, sizeof(float) * 72);
        const int output = network_graph(all.net)->outputs[0];
        tensor y = {0};
        ck_assert_int_eq(evaluator_values(&all.engine, &all.rows, &output, 1, &y, NULL), XAI_OK);
        ck_assert(found.scores[i * 2] == (double)((float *)y.data)[fixed.chosen.index]);
        ck_assert(found.scores[i * 2 + 1] == (double)((float *)y.data)[1]);
        tensor_free(&y);
        close_fixture(&all);
    }
    close_fixture(&f);
}
END_TEST

START_TEST(threads_and_fixed_batches_do_not_change_a_bit)
{
    static seen one, many;
    fixture f;
    open_fixture(&f, -1, 3, 1, NULL, NULL);
    run_noise(&f, 2, 37, &one);
    close_fixture(&f);
    for (int threads = 2; threads <= 4; threads += 2) {
        open_fixture(&f, -1, 3, threads, NULL, NULL);
        run_noise(&f, 2, 37, &many);
        ck_assert_mem_eq(one.scores, many.scores, sizeof one.scores);
        ck_assert_mem_eq(one.gradients, many.gradients, sizeof one.gradients);
        close_fixture(&f);
    }
    open_fixture(&f, 3, 3, 2, NULL, NULL); /* 37 variants, three a run of the model */
    run_noise(&f, 2, 37, &many);
    for (size_t i = 0; i < 37 * 2; i++)
        ck_assert_double_eq_tol(one.scores[i], many.scores[i], 1e-5);
    for (size_t i = 0; i < 37 * 2 * 72; i++)
        ck_assert_double_eq_tol(one.gradients[i], many.gradients[i], 1e-5);
    close_fixture(&f);
}
END_TEST

/* A variant of layer b: channel `index` is zero. */
typedef struct ablation {
    const batch *rows;
    const float *b; /* (4, 36) */
} ablation;

static xai_status drop_channel(void *user, size_t index, tensor *inputs, xai_error **error)
{
    const ablation *self = user;
    (void)error;
    variants_copy_row(self->rows, 0, 0, &inputs[0]);
    memcpy(inputs[1].data, self->b, 4 * 36 * sizeof(float));
    if (index < 4)
        memset((float *)inputs[1].data + index * 36, 0, 36 * sizeof(float));
    return XAI_OK;
}

/* y = w3 mean(b + a): without channel c of b, score k falls by w3[k][c] mean(b_c), and what
 * bypasses b stays. Variant 4 changes nothing. */
START_TEST(network_from_a_layer_gives_the_scores_of_an_ablation)
{
    fixture f;
    open_fixture(&f, -1, 1, 2, NULL, NULL);
    const graph *g = network_graph(f.net);
    const int b = graph_find(g, "b");
    shape dims;
    tensor value = {0};
    fixed_score fixed[3];
    double scores[5 * 3];
    xai_target *targets[3] = {target_index(0), target_index(1), target_index(2)};
    ck_assert_int_eq(evaluator_value_shape(&f.engine, &f.rows, b, &dims, NULL), XAI_OK);
    ck_assert_int_eq(evaluator_values(&f.engine, &f.rows, &b, 1, &value, NULL), XAI_OK);
    ck_assert_int_eq(evaluator_fix_scores(&f.engine, &f.rows, (const xai_target *const *)targets, 3,
                                          XAI_SCORE_RAW, fixed, NULL),
                     XAI_OK);
    ablation job = {.rows = &f.rows, .b = value.data};
    const variants what = {.rows = &f.rows,
                           .count = 5,
                           .scores = fixed,
                           .score_count = 3,
                           .starts = &b,
                           .start_shapes = &dims,
                           .start_count = 1,
                           .fill = drop_channel,
                           .user = &job};
    ck_assert_int_eq(evaluator_scores_of(&f.engine, &what, scores, NULL), XAI_OK);
    float w3[3 * 4]; /* copied: a view into the file may lie at any byte */
    tensor_read_floats(&g->values[graph_find(g, "w3")].constant, 0, 12, w3);
    for (size_t k = 0; k < 3; k++) {
        ck_assert_double_eq_tol(scores[4 * 3 + k], fixed[k].score, 1e-6);
        for (size_t c = 0; c < 4; c++) {
            double mean = 0;
            for (size_t i = 0; i < 36; i++)
                mean += ((const float *)value.data)[c * 36 + i] / 36;
            ck_assert_double_eq_tol(scores[c * 3 + k], fixed[k].score - w3[k * 4 + c] * mean, 1e-5);
        }
        xai_target_free(targets[k]);
    }
    xai_error *error = NULL;
    const int y = g->outputs[0];
    variants wrong = what;
    wrong.starts = &y;
    ck_assert_int_eq(evaluator_scores_of(&f.engine, &wrong, scores, &error), XAI_ERROR_UNSUPPORTED);
    xai_error_free(error);
    tensor_free(&value);
    close_fixture(&f);
}
END_TEST

static bool stop_at(void *user, size_t done, size_t total)
{
    size_t *last = user;
    ck_assert_uint_le(done, total);
    *last = done;
    return done < 7;
}

START_TEST(variants_stop_within_one_evaluation_of_a_cancellation)
{
    fixture f;
    size_t last = 0;
    open_fixture(&f, -1, 1, 1, stop_at, &last);
    fixed_score fixed;
    const xai_target *highest[] = {NULL};
    evaluator_expect(&f.engine, 41);
    ck_assert_int_eq(
        evaluator_fix_scores(&f.engine, &f.rows, highest, 1, XAI_SCORE_RAW, &fixed, NULL), XAI_OK);
    const variants what = {
        .rows = &f.rows, .count = 40, .scores = &fixed, .score_count = 1, .fill = add_noise};
    const variants *self = &what;
    variants with_user = what;
    double scores[40];
    with_user.user = &self;
    xai_error *error = NULL;
    ck_assert_int_eq(evaluator_scores_of(&f.engine, &with_user, scores, &error),
                     XAI_ERROR_CANCELLED);
    ck_assert_uint_eq(last, 7);
    xai_error_free(error);
    close_fixture(&f);
}
END_TEST

/* Threads of the plan that a call of so many rows takes, and of its loop over them. */
static void check_schedule(size_t rows, int threads, size_t memory_limit, int plan_threads)
{
    fixture f;
    plan *program = NULL;
    const plan_wish outputs = {0};
    open_fixture(&f, -1, rows, threads, NULL, NULL);
    f.engine.options.memory_limit = memory_limit;
    ck_assert_int_eq(evaluator_find_plan(&f.engine, &f.rows, &outputs, &program, NULL), XAI_OK);
    ck_assert_msg(evaluator_entry(&f.engine, program)->threads == plan_threads,
                  "%zu rows, %d threads: a plan for %d, not %d", rows, threads,
                  evaluator_entry(&f.engine, program)->threads, plan_threads);
    close_fixture(&f);
}

static size_t arena_bytes(void)
{
    fixture f;
    plan *program = NULL;
    const plan_wish outputs = {0};
    open_fixture(&f, -1, 1, 1, NULL, NULL);
    ck_assert_int_eq(evaluator_find_plan(&f.engine, &f.rows, &outputs, &program, NULL), XAI_OK);
    const size_t bytes = plan_arena_bytes(program);
    close_fixture(&f);
    return bytes;
}

/* All threads on a row, or a row a thread: what leaves fewer of them idle, as far as the memory goes. */
START_TEST(rows_are_shared_or_dealt_out_as_their_number_asks)
{
    static const struct {
        size_t rows;
        int threads, plan_threads;
    } cases[] = {{1, 2, 2}, {2, 2, 1}, {3, 2, 2}, {4, 2, 1}, {5, 2, 2}, {7, 2, 1},
                 {3, 4, 4}, {4, 4, 1}, {5, 4, 4}, {7, 4, 1}, {8, 1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_schedule(cases[i].rows, cases[i].threads, 0, cases[i].plan_threads);
    const size_t bytes = arena_bytes() + 64;
    check_schedule(4, 2, 2 * bytes, 1);
    check_schedule(4, 2, bytes + bytes / 2, 2); /* one at a time, so it gets both */
}
END_TEST

/* The bits of a row do not tell how many rows came along. */
START_TEST(rows_dealt_out_have_the_bits_of_rows_alone)
{
    fixture all, one;
    tensor together = {0}, alone = {0};
    open_fixture(&all, -1, 7, 2, NULL, NULL);
    const int output = network_graph(all.net)->outputs[0];
    ck_assert_int_eq(evaluator_values(&all.engine, &all.rows, &output, 1, &together, NULL), XAI_OK);
    for (size_t row = 0; row < 7; row++) {
        open_fixture(&one, -1, 1, 2, NULL, NULL);
        memcpy(one.x, all.x + row * 72, 72 * sizeof(float));
        ck_assert_int_eq(evaluator_values(&one.engine, &one.rows, &output, 1, &alone, NULL),
                         XAI_OK);
        ck_assert_mem_eq(alone.data, (const float *)together.data + row * 3, 3 * sizeof(float));
        tensor_free(&alone);
        close_fixture(&one);
    }
    tensor_free(&together);
    close_fixture(&all);
}
END_TEST

START_TEST(options_are_checked_against_the_methods_table)
{
    xai_model *model = convnet(NULL);
    xai_explainer_options *options = NULL;
    xai_explainer *made = NULL;
    ck_ok(xai_explainer_options_create(&options, error));
    ck_ok(xai_explainer_options_set_number(options, "samples", 10, error));
    ck_fails(xai_explainer_create(model, "gradcam", options, &made, error), XAI_ERROR_ARGUMENT,
             "no option 'samples'; it has layer");
    ck_ok(xai_explainer_options_set_text(options, "samples", NULL, error));
    ck_ok(xai_explainer_options_set_number(options, "layer", 1, error));
    ck_fails(xai_explainer_create(model, "gradcam", options, &made, error), XAI_ERROR_ARGUMENT,
             "layer: a text is needed");
    ck_ok(xai_explainer_options_set_text(options, "layer", "conv1", error));
    ck_ok(xai_explainer_create(model, "gradcam", options, &made, error));
    ck_assert_uint_eq(xai_method_option_count("gradcam"), 1);
    ck_assert_str_eq(xai_method_option_name("gradcam", 0), "layer");
    ck_assert_int_eq(xai_method_option_kinds("gradcam", 0), XAI_OPTION_TEXT);
    ck_assert_uint_eq(xai_method_option_count("nothing"), 0);
    ck_assert_str_eq(xai_method_option_name("gradcam", 1), "");
    xai_explainer_free(made);
    xai_explainer_options_free(options);
    xai_model_free(model);
}
END_TEST

/* Ranges, whole numbers and choices, on a table of its own. */
START_TEST(option_values_are_checked)
{
    static const option_definition table[] = {
        OPTION_SAMPLES(20), OPTION_BASELINE, OPTION_SEGMENTS, {0}};
    static const struct {
        const char *name, *text;
        double number;
        const char *part; /* of the message; NULL = it is allowed */
    } cases[] = {
        {"samples", NULL, 5, NULL},          {"samples", NULL, -1, "not in [1"},
        {"samples", NULL, 0, NULL}, /* the default */
        {"samples", NULL, 2.5, "whole"},     {"samples", NULL, NAN, "not in"},
        {"samples", "many", 0, "a number"},  {"baseline", "mean", 0, NULL},
        {"baseline", "median", 0, "mean|b"}, {"baseline", NULL, -1.5, NULL},
        {"segments", "slic:50", 0, NULL},    {"segments", "slic", 0, "not one of"},
        {"segments", NULL, 3, "text or an"}, {"steps", NULL, 3, "it has samples, baseline and seg"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        option_list list = {0};
        xai_error *error = NULL;
        if (cases[i].text != NULL)
            ck_assert_int_eq(option_list_set_text(&list, cases[i].name, cases[i].text, NULL), 0);
        else
            ck_assert_int_eq(option_list_set_number(&list, cases[i].name, cases[i].number, NULL),
                             0);
        const xai_status status = option_list_check(&list, table, "m", &error);
        ck_assert_int_eq(status, cases[i].part != NULL ? XAI_ERROR_ARGUMENT : XAI_OK);
        if (cases[i].part != NULL)
            ck_assert_msg(strstr(xai_error_message(error), cases[i].part) != NULL, "%s lacks %s",
                          xai_error_message(error), cases[i].part);
        xai_error_free(error);
        option_list_free(&list);
    }
    option_list none = {0};
    ck_assert(option_number(&none, table, "samples") == 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("variants");
    TCase *tests = tcase_create("variants");
    tcase_add_test(tests, variants_are_rows_with_the_target_of_the_original);
    tcase_add_test(tests, threads_and_fixed_batches_do_not_change_a_bit);
    tcase_add_test(tests, network_from_a_layer_gives_the_scores_of_an_ablation);
    tcase_add_test(tests, variants_stop_within_one_evaluation_of_a_cancellation);
    tcase_add_test(tests, rows_are_shared_or_dealt_out_as_their_number_asks);
    tcase_add_test(tests, rows_dealt_out_have_the_bits_of_rows_alone);
    tcase_add_test(tests, options_are_checked_against_the_methods_table);
    tcase_add_test(tests, option_values_are_checked);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
