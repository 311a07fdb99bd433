/* One model, many threads: the results have the bits that one thread gives, whatever the order
 * of calls and frees. */
#include <pthread.h>
#include <stdlib.h>

#include "../unit/explain_models.h"

#define THREADS 4
#define ROUNDS 25

typedef struct worker {
    xai_model *model; /* a reference of its own */
    const float *expected_scores, *expected_map;
    int32_t threads, mode;
    const char *failure; /* NULL = all rounds gave the expected bits */
} worker;

/* Check's assertions belong to the main thread: a worker only notes what went wrong. */
static const char *one_round(const worker *self)
{
    const char *failure = NULL;
    xai_session_options *settings = NULL;
    xai_explainer_options *options = NULL;
    xai_session *session = NULL;
    xai_explainer *explainer = NULL;
    xai_explanation *explanation = NULL;
    xai_tensor *scores = NULL, *input = NULL;
    float values[48];
    const int64_t dims[] = {3, 1, 4, 4};
    for (int i = 0; i < 48; i++)
        values[i] = (float)(i % 16) + (float)(i / 16);
    if (xai_tensor_create(XAI_DTYPE_FLOAT32, 4, dims, values, &input, NULL) != XAI_OK ||
        xai_session_options_create(&settings, NULL) != XAI_OK ||
        xai_session_options_set_threads(settings, self->threads, NULL) != XAI_OK ||
        xai_session_options_set_mode(settings, self->mode, NULL) != XAI_OK ||
        xai_session_create(self->model, settings, &session, NULL) != XAI_OK ||
        xai_explainer_options_create(&options, NULL) != XAI_OK ||
        xai_explainer_options_set_session(options, settings, NULL) != XAI_OK ||
        xai_explainer_create(self->model, "gradcam", options, &explainer, NULL) != XAI_OK)
        failure = "could not be set up";
    const xai_tensor *inputs[] = {input};
    if (failure == NULL && xai_session_scores(session, inputs, 1, &scores, 1, NULL) != XAI_OK)
        failure = "no scores";
    if (failure == NULL &&
        xai_explainer_explain(explainer, input, NULL, &explanation, NULL) != XAI_OK)
        failure = "no explanation";
    xai_explainer_free(explainer);
    xai_session_free(session);
    if (failure == NULL && self->expected_scores != NULL) {
        if (memcmp(xai_tensor_data(scores), self->expected_scores, 12 * sizeof(float)) != 0)
            failure = "other scores";
        if (memcmp(xai_tensor_data(xai_explanation_values(explanation)), self->expected_map,
                   12 * sizeof(float)) != 0)
            failure = "another map";
    }
    xai_explanation_free(explanation);
    xai_tensor_free(scores);
    xai_tensor_free(input);
    xai_explainer_options_free(options);
    xai_session_options_free(settings);
    return failure;
}

static void *work(void *user)
{
    worker *self = user;
    for (int round = 0; round < ROUNDS && self->failure == NULL; round++)
        self->failure = one_round(self);
    xai_model_free(self->model);
    return NULL;
}

START_TEST(threads_that_share_a_model_get_the_bits_of_one_thread)
{
    xai_model *model = convnet("Sigmoid");
    xai_tensor *input = ramp(3, 1), *scores = NULL;
    xai_session *session = NULL;
    xai_explanation *explanation = NULL;
    xai_explainer *explainer = make_explainer(model, "gradcam", NULL, XAI_SCORE_RAW);
    const xai_tensor *inputs[] = {input};
    ck_ok(xai_session_create(model, NULL, &session, error));
    ck_ok(xai_session_scores(session, inputs, 1, &scores, 1, error));
    ck_ok(xai_explainer_explain(explainer, input, NULL, &explanation, error));
    ck_assert_uint_eq(xai_tensor_count(xai_explanation_values(explanation)), 12);
    pthread_t threads[THREADS];
    worker workers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker){.model = xai_model_retain(model),
                              .expected_scores = floats_of(scores),
                              .expected_map = floats_of(xai_explanation_values(explanation)),
                              .threads = 1 + i % 3,
                              .mode = i % 2 ? XAI_MODE_THROUGHPUT : XAI_MODE_LATENCY};
    }
    xai_model_free(model); /* the workers' references keep it alive */
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < THREADS; i++)
        ck_assert_msg(workers[i].failure == NULL, "thread %d: %s", i, workers[i].failure);
    xai_explanation_free(explanation);
    xai_explainer_free(explainer);
    xai_session_free(session);
    xai_tensor_free(scores);
    xai_tensor_free(input);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("threads");
    TCase *sharing = tcase_create("sharing");
    tcase_set_timeout(sharing, 300);
    tcase_add_test(sharing, threads_that_share_a_model_get_the_bits_of_one_thread);
    suite_add_tcase(suite, sharing);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
