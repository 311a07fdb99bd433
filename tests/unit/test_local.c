/* Local edits, against the portable kernels on the edited images. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "engine/local.h"
#include "engine/primitive.h"
#include "explain_models.h"

enum { SIDE = 40, CHANNELS = 3, EDITS = 21 };

/* A stem with a strided convolution and a padded max pool, a residual block whose sum begins with
 * ScaleShift, a concatenation, an average pool and the head. */
static model_builder *builder(void)
{
    static const int64_t image[] = {1, CHANNELS, SIDE, SIDE}, stem[] = {16, 3, 5, 5},
                         square[] = {16, 16, 3, 3}, one[] = {16, 32, 1, 1}, sixteen[] = {16},
                         head[] = {4, 16}, pads2[] = {2, 2, 2, 2}, pads1[] = {1, 1, 1, 1},
                         twos[] = {2, 2}, threes[] = {3, 3};
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 4, image);
    model_random(m, "w0", 4, stem, 1);
    model_random(m, "b0", 1, sixteen, 2);
    model_random(m, "w1", 4, square, 3);
    model_random(m, "w2", 4, square, 4);
    model_random(m, "w3", 4, one, 5);
    model_random(m, "w4", 2, head, 6);
    model_positive(m, "scale", 1, sixteen, 7);
    model_random(m, "shift", 1, sixteen, 8);
    model_random(m, "mean", 1, sixteen, 9);
    model_positive(m, "variance", 1, sixteen, 10);
    model_node(m, "Conv", "x w0 b0", "stem");
    model_ints_attribute(m, "pads", 4, pads2);
    model_node(m, "Relu", "stem", "relu0");
    model_node(m, "MaxPool", "relu0", "pool");
    model_ints_attribute(m, "kernel_shape", 2, threes);
    model_ints_attribute(m, "strides", 2, twos);
    model_ints_attribute(m, "pads", 4, pads1);
    model_node(m, "BatchNormalization", "pool scale shift mean variance", "norm");
    model_node(m, "Relu", "norm", "relu1");
    model_node(m, "Conv", "relu1 w1", "conv1");
    model_ints_attribute(m, "pads", 4, pads1);
    model_node(m, "Add", "conv1 pool", "sum");
    model_node(m, "Tanh", "sum", "bent");
    model_node(m, "Conv", "bent w2", "conv2");
    model_ints_attribute(m, "pads", 4, pads1);
    model_node(m, "Concat", "pool conv2", "both");
    model_int_attribute(m, "axis", 1);
    model_node(m, "Conv", "both w3", "mixed");
    model_node(m, "AveragePool", "mixed", "half");
    model_ints_attribute(m, "kernel_shape", 2, twos);
    model_ints_attribute(m, "strides", 2, twos);
    model_node(m, "GlobalAveragePool", "half", "mean1");
    model_node(m, "Flatten", "mean1", "flat");
    model_node(m, "Gemm", "flat w4", "y");
    model_int_attribute(m, "transB", 1);
    model_output(m, "y");
    return m;
}

typedef struct edit_job {
    const float *image;
    const local_box *edits;
} edit_job;

static float replaced(size_t index, size_t c, int64_t y, int64_t x)
{
    return (float)sin((double)index + (double)c * 3 + (double)(y * 7 + x));
}

static float pixel(const edit_job *job, size_t index, size_t c, int64_t y, int64_t x)
{
    const local_box *own = &job->edits[index];
    const bool inside =
        y >= own->y && y < own->y + own->height && x >= own->x && x < own->x + own->width;
    return inside ? replaced(index, c, y, x)
                  : job->image[(c * SIDE + (size_t)y) * SIDE + (size_t)x];
}

static void content(void *user, size_t index, const local_box *box, float *out)
{
    for (size_t c = 0; c < CHANNELS; c++)
        for (int64_t y = box->y; y < box->y + box->height; y++)
            for (int64_t x = box->x; x < box->x + box->width; x++)
                *out++ = pixel(user, index, c, y, x);
}

/* Boxes of several sizes, at borders, corners and inside. */
static void make_edits(local_box edits[EDITS])
{
    for (int e = 0; e < EDITS; e++) {
        edits[e] = (local_box){(e * 13) % 33, (e * 7) % 35, 2 + e % 4, 1 + e % 5};
        if (e % 5 == 0)
            edits[e].y = SIDE - edits[e].height;
        if (e % 7 == 0)
            edits[e].x = SIDE - edits[e].width;
    }
    edits[1].y = edits[1].x = 0;
}

START_TEST(boxes_give_what_the_whole_image_gives)
{
    static float image[CHANNELS * SIDE * SIDE];
    unsigned seed = 3;
    for (size_t i = 0; i < CHANNELS * SIDE * SIDE; i++)
        image[i] = model_uniform(&seed);
    local_box edits[EDITS];
    make_edits(edits);
    model_builder *m = builder();
    onnx_model *file = NULL;
    graph *g = model_graph(m, &file), *whole = NULL;
    network *net = NULL;
    const shape dims = {4, {1, CHANNELS, SIDE, SIDE}};
    ck_ok(network_create(g, &net, error));
    ck_ok(graph_specialise(g, &dims, NULL, 0, GRAPH_REWRITES_NEEDED, &whole, error));
    local *first = NULL, *second = NULL;
    xai_error *refusal = NULL;
    const xai_status status = local_create(net, &dims, 0, edits, EDITS, 0, 1, &first, &refusal);
    if (status == XAI_ERROR_UNSUPPORTED) { /* a build without oneDNN */
        ck_assert(!primitive_available());
        xai_error_free(refusal);
        goto done;
    }
    ck_assert_int_eq(status, XAI_OK);
    ck_ok(local_create(net, &dims, 0, edits, EDITS, 0, 3, &second, error));
    ck_assert_double_lt(local_work(first), 0.75);
    const int *values = NULL;
    const shape *shapes = NULL;
    const size_t count = local_frontier(first, &values, &shapes);
    ck_assert_uint_ge(count, 1);
    ck_assert_uint_le(count, 4);
    float *out[4] = {NULL}, *again[4] = {NULL};
    for (size_t f = 0; f < count; f++) {
        size_t elements = 0;
        ck_assert(shape_count(&shapes[f], &elements));
        out[f] = memory_allocate(EDITS * elements, sizeof(float));
        again[f] = memory_allocate(EDITS * elements, sizeof(float));
    }
    const edit_job job = {image, edits};
    ck_ok(local_set_row(first, image, error));
    ck_ok(local_run(first, 0, EDITS, content, (void *)&job, NULL, out, error));
    ck_ok(local_set_row(second, image, error));
    ck_ok(local_run(second, 0, EDITS, content, (void *)&job, NULL, again, error));
    for (size_t at = 0; at < EDITS; at++) {
        const size_t e = local_edit_at(first, at);
        static float edited[CHANNELS * SIDE * SIDE];
        for (size_t c = 0; c < CHANNELS; c++)
            for (int64_t y = 0; y < SIDE; y++)
                for (int64_t x = 0; x < SIDE; x++)
                    edited[(c * SIDE + (size_t)y) * SIDE + (size_t)x] = pixel(&job, e, c, y, x);
        const tensor input = {.dtype = DTYPE_FLOAT, .shape = dims, .data = edited};
        tensor expected[4] = {{0}};
        model_evaluate(whole, &input, values, count, expected);
        for (size_t f = 0; f < count; f++) {
            const size_t elements = tensor_count(&expected[f]);
            double scale = 0; /* float32 against double: rounding grows with the layer's values */
            for (size_t i = 0; i < elements; i++)
                scale = fmax(scale, fabs(tensor_get(&expected[f], i)));
            for (size_t i = 0; i < elements; i++) {
                const double right = tensor_get(&expected[f], i);
                ck_assert_double_eq_tol(out[f][at * elements + i], right, 5e-6 * scale);
            }
            ck_assert_mem_eq(out[f] + at * elements, again[f] + at * elements,
                             elements * sizeof(float)); /* any number of threads */
            tensor_free(&expected[f]);
        }
    }
    for (size_t f = 0; f < count; f++) {
        memory_free(out[f]);
        memory_free(again[f]);
    }
done:
    local_free(first);
    local_free(second);
    graph_free(whole);
    network_free(net);
    onnx_model_free(file);
    model_free(m);
}
END_TEST

static void read_box(void *user, size_t index, const local_box *box, float *out)
{
    const float *image = user;
    (void)index;
    for (size_t c = 0; c < CHANNELS; c++)
        for (int64_t y = box->y; y < box->y + box->height; y++)
            for (int64_t x = box->x; x < box->x + box->width; x++)
                *out++ = image[(c * SIDE + (size_t)y) * SIDE + (size_t)x];
}

/* Largest difference over the largest value, of all frontier values. */
static double distance(const graph *whole, const float *image, const local *of, float *const *found)
{
    const int *values = NULL;
    const shape *shapes = NULL;
    const size_t count = local_frontier(of, &values, &shapes);
    const shape dims = {4, {1, CHANNELS, SIDE, SIDE}};
    const tensor input = {.dtype = DTYPE_FLOAT, .shape = dims, .data = (void *)(uintptr_t)image};
    tensor expected[4] = {{0}};
    double most = 0;
    model_evaluate(whole, &input, values, count, expected);
    for (size_t f = 0; f < count; f++) {
        double scale = 0, error = 0;
        for (size_t i = 0; i < tensor_count(&expected[f]); i++) {
            const double right = tensor_get(&expected[f], i);
            scale = fmax(scale, fabs(right));
            error = fmax(error, fabs(found[f][i] - right));
        }
        most = fmax(most, error / scale);
        tensor_free(&expected[f]);
    }
    return most;
}

/* Edit after edit, three times over: as if each image had been computed whole, and no worse at the end. */
START_TEST(a_walk_gives_what_the_images_on_its_way_give)
{
    static float image[CHANNELS * SIDE * SIDE], first[4][32 * SIDE * SIDE],
        second[4][32 * SIDE * SIDE];
    float *const out[4] = {first[0], first[1], first[2], first[3]};
    float *const again[4] = {second[0], second[1], second[2], second[3]};
    unsigned seed = 5;
    for (size_t i = 0; i < CHANNELS * SIDE * SIDE; i++)
        image[i] = model_uniform(&seed);
    local_box edits[EDITS];
    make_edits(edits);
    model_builder *m = builder();
    onnx_model *file = NULL;
    graph *g = model_graph(m, &file), *whole = NULL;
    network *net = NULL;
    local *made = NULL;
    local_state *state = NULL, *other = NULL;
    const shape dims = {4, {1, CHANNELS, SIDE, SIDE}};
    ck_ok(network_create(g, &net, error));
    ck_ok(graph_specialise(g, &dims, NULL, 0, false, &whole, error));
    if (primitive_available()) {
        ck_ok(local_create(net, &dims, 0, edits, EDITS, 3, 1, &made, error));
        ck_assert_double_lt(local_work(made), 0.75);
        ck_ok(local_state_create(made, &state, error));
        ck_ok(local_state_create(made, &other, error));
        ck_ok(local_state_set(state, image, error));
        ck_ok(local_state_set(other, image, error));
        for (size_t at = 0; at < 3 * EDITS; at++) {
            const local_box *own = &edits[at * 5 % EDITS];
            for (int64_t c = 0; c < CHANNELS; c++)
                for (int64_t y = own->y; y < own->y + own->height; y++)
                    for (int64_t x = own->x; x < own->x + own->width; x++)
                        image[(c * SIDE + y) * SIDE + x] = 4 * model_uniform(&seed);
            ck_ok(local_state_step(state, at * 5 % EDITS, read_box, image, error));
            ck_ok(local_state_step(other, at * 5 % EDITS, read_box, image, error));
            local_state_frontier(state, out);
            local_state_frontier(other, again);
            ck_assert_double_lt(distance(whole, image, made, out), 5e-6);
            ck_assert_mem_eq(first, second, sizeof first);
        }
    }
    local_state_free(state);
    local_state_free(other);
    local_free(made);
    graph_free(whole);
    network_free(net);
    onnx_model_free(file);
    model_free(m);
}
END_TEST

static void overflow(void *user, size_t index, const local_box *box, float *out)
{
    (void)user;
    (void)index;
    for (int64_t i = 0; i < CHANNELS * box->height * box->width; i++)
        out[i] = i % 2 ? 3e38F : -3e38F;
}

START_TEST(an_overflow_is_an_error_and_not_hidden_by_relu)
{
    static float image[CHANNELS * SIDE * SIDE], out[4][16 * SIDE * SIDE];
    float *const places[4] = {out[0], out[1], out[2], out[3]};
    model_builder *m = builder();
    onnx_model *file = NULL;
    network *net = NULL;
    local *made = NULL;
    local_state *state = NULL;
    const shape dims = {4, {1, CHANNELS, SIDE, SIDE}};
    const local_box box = {10, 10, 4, 4};
    ck_ok(network_create(model_graph(m, &file), &net, error));
    if (primitive_available()) {
        ck_ok(local_create(net, &dims, 0, &box, 1, 0, 1, &made, error));
        ck_ok(local_set_row(made, image, error));
        ck_fails(local_run(made, 0, 1, overflow, NULL, NULL, places, error), XAI_ERROR_NUMERIC,
                 "may overflow here");
        local_free(made);
        ck_ok(local_create(net, &dims, 0, &box, 1, 1, 1, &made, error));
        ck_ok(local_state_create(made, &state, error));
        ck_ok(local_state_set(state, image, error));
        ck_fails(local_state_step(state, 0, overflow, NULL, error), XAI_ERROR_NUMERIC,
                 "may overflow here");
    }
    local_state_free(state);
    local_free(made);
    network_free(net);
    onnx_model_free(file);
    model_free(m);
}
END_TEST

typedef struct watch_job {
    int asked, last;
} watch_job;

static xai_status count_down(void *user, xai_error **error)
{
    watch_job *job = user;
    return ++job->asked == job->last
               ? error_set(error, XAI_ERROR_CANCELLED, NULL, "cancelled for the test")
               : XAI_OK;
}

/* 21 edits are the work of 21 * local_work() evaluations: asked as often at least, and not again after a no. */
START_TEST(edits_can_be_stopped_within_the_work_of_an_evaluation)
{
    static float image[CHANNELS * SIDE * SIDE];
    local_box edits[EDITS];
    make_edits(edits);
    model_builder *m = builder();
    onnx_model *file = NULL;
    network *net = NULL;
    const shape dims = {4, {1, CHANNELS, SIDE, SIDE}};
    const edit_job job = {image, edits};
    float *out[4] = {NULL};
    ck_ok(network_create(model_graph(m, &file), &net, error));
    for (int threads = 1; threads <= 3 && primitive_available(); threads++) {
        const int *values = NULL;
        const shape *shapes = NULL;
        local *made = NULL;
        watch_job counter = {0};
        const local_watch watch = {count_down, &counter};
        ck_ok(local_create(net, &dims, 0, edits, EDITS, 0, threads, &made, error));
        const size_t count = local_frontier(made, &values, &shapes);
        for (size_t f = 0; f < count && out[f] == NULL; f++) {
            size_t elements = 0;
            ck_assert(shape_count(&shapes[f], &elements));
            out[f] = memory_allocate(EDITS * elements, sizeof(float));
        }
        ck_ok(local_set_row(made, image, error));
        ck_ok(local_run(made, 0, EDITS, content, (void *)&job, &watch, out, error));
        if (threads == 1)
            ck_assert_int_ge(counter.asked, (int)(EDITS * local_work(made)) - 1);
        ck_assert_int_ge(counter.asked, 2);
        counter = (watch_job){.last = 2};
        ck_fails(local_run(made, 0, EDITS, content, (void *)&job, &watch, out, error),
                 XAI_ERROR_CANCELLED, "cancelled for the test");
        ck_assert_int_eq(counter.asked, 2);
        local_free(made);
    }
    for (size_t f = 0; f < 4; f++)
        memory_free(out[f]);
    network_free(net);
    onnx_model_free(file);
    model_free(m);
}
END_TEST

START_TEST(edits_must_lie_within_the_image)
{
    model_builder *m = builder();
    onnx_model *file = NULL;
    network *net = NULL;
    local *made = NULL;
    const shape dims = {4, {1, CHANNELS, SIDE, SIDE}};
    const local_box outside = {38, 0, 3, 3};
    ck_ok(network_create(model_graph(m, &file), &net, error));
    ck_fails(local_create(net, &dims, 0, &outside, 1, 0, 1, &made, error), XAI_ERROR_ARGUMENT,
             "not within the image");
    network_free(net);
    onnx_model_free(file);
    model_free(m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("local");
    TCase *all = tcase_create("all");
    tcase_add_test(all, boxes_give_what_the_whole_image_gives);
    tcase_add_test(all, a_walk_gives_what_the_images_on_its_way_give);
    tcase_add_test(all, an_overflow_is_an_error_and_not_hidden_by_relu);
    tcase_add_test(all, edits_can_be_stopped_within_the_work_of_an_evaluation);
    tcase_add_test(all, edits_must_lie_within_the_image);
    suite_add_tcase(suite, all);
    return run_suite(suite);
}
