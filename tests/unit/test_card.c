/* src/card: metadata, the JSON file beside the model, and clear refusals. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "card/card.h"
#include "model_builder.h"
#include "test_folder.h"

static onnx_model *make_file(const char *const (*entries)[2], size_t count)
{
    model_builder *m = model_create(17);
    model_input(m, "x", DTYPE_FLOAT, 2, (int64_t[]){1, 2});
    model_node(m, "Relu", "x", "y");
    model_output(m, "y");
    for (size_t i = 0; i < count; i++)
        model_metadata(m, entries[i][0], entries[i][1]);
    onnx_model *file = model_parse(m);
    model_free(m);
    return file;
}

/* The card of a model with these entries, which must be good. */
static model_card *load(const char *const (*entries)[2], size_t count, const char *path)
{
    onnx_model *file = make_file(entries, count);
    model_card *card = NULL;
    xai_error *error = NULL;
    const xai_status status = card_load(file, path, &card, &error);
    ck_assert_msg(status == XAI_OK, "%s", error ? xai_error_message(error) : "");
    onnx_model_free(file);
    return card;
}

#define LOAD(...)                               \
    load((const char *const[][2]){__VA_ARGS__}, \
         sizeof((const char *const[][2]){__VA_ARGS__}) / sizeof(const char *[2]), NULL)

/* A bad entry is refused, and the message names its key. */
static void refuse(const char *key, const char *value)
{
    const char *const entries[][2] = {{key, value}};
    onnx_model *file = make_file(entries, 1);
    model_card *card = NULL;
    xai_error *error = NULL;
    const xai_status status = card_load(file, NULL, &card, &error);
    ck_assert_msg(status == XAI_ERROR_FORMAT, "%s = %s is accepted", key, value);
    ck_assert_ptr_null(card);
    ck_assert_msg(strstr(xai_error_message(error), key), "%s", xai_error_message(error));
    xai_error_free(error);
    onnx_model_free(file);
}

START_TEST(model_without_card_has_an_empty_one)
{
    model_card *card = load(NULL, 0, "/nonexistent/model.onnx");
    ck_assert_uint_eq(card->label_count, 0);
    ck_assert(!card->has_range);
    ck_assert_uint_eq(card->mean_count, 0);
    ck_assert_int_eq(card->height, 0);
    ck_assert_int_eq(card->score, CARD_SCORE_UNKNOWN);
    card_free(card);
    card_free(NULL);
}
END_TEST

START_TEST(labels_are_a_json_list_or_lines_or_commas)
{
    static const char *const texts[] = {"[\"Effusion\", \"Nodule, solid\"]",
                                        "Effusion\nNodule, solid\n",
                                        " Effusion \r\n Nodule, solid"};
    for (size_t i = 0; i < 3; i++) {
        model_card *card = LOAD({"xai.labels", texts[i]});
        ck_assert_uint_eq(card->label_count, 2);
        ck_assert_str_eq(card->labels[0], "Effusion");
        ck_assert_str_eq(card->labels[1], "Nodule, solid");
        card_free(card);
    }
    model_card *card = LOAD({"xai.labels", "a, b \"c\",\xc3\xa9"});
    ck_assert_uint_eq(card->label_count, 3);
    ck_assert_str_eq(card->labels[1], "b \"c\"");
    ck_assert_str_eq(card->labels[2], "\xc3\xa9");
    card_free(card);
}
END_TEST

START_TEST(numbers_are_a_json_list_or_separated)
{
    static const char *const ranges[] = {"-1024 1024", "[-1024, 1024]", "-1024,1024",
                                         " -1.024e3;1024 "};
    for (size_t i = 0; i < 4; i++) {
        model_card *card =
            LOAD({"xai.input.range", ranges[i]}, {"xai.input.mean", "0.485, 0.456, 0.406"},
                 {"xai.input.std", "[0.229]"}, {"xai.input.size", "224 320"},
                 {"xai.input.channels", "3"});
        ck_assert(card->has_range);
        ck_assert_double_eq(card->low, -1024);
        ck_assert_double_eq(card->high, 1024);
        ck_assert_uint_eq(card->mean_count, 3);
        ck_assert_double_eq(card->mean[1], 0.456);
        ck_assert_uint_eq(card->deviation_count, 1);
        ck_assert_double_eq(card->deviation[0], 0.229);
        ck_assert_int_eq(card->height, 224);
        ck_assert_int_eq(card->width, 320);
        ck_assert_int_eq(card->channels, 3);
        card_free(card);
    }
    model_card *card = LOAD({"xai.input.size", "96"});
    ck_assert_int_eq(card->height, 96);
    ck_assert_int_eq(card->width, 96);
    card_free(card);
}
END_TEST

START_TEST(score_words_name_the_activation)
{
    model_card *card = LOAD({"xai.output.score", "logit"});
    ck_assert_int_eq(card->score, CARD_SCORE_LOGIT);
    ck_assert_int_eq(card->activation, CARD_ACTIVATION_UNKNOWN);
    card_free(card);
    card = LOAD({"xai.output.score", " logit-softmax\n"});
    ck_assert_int_eq(card->score, CARD_SCORE_LOGIT);
    ck_assert_int_eq(card->activation, CARD_ACTIVATION_SOFTMAX);
    card_free(card);
    card = LOAD({"xai.output.activation", "sigmoid"}, {"xai.output.score", "logit"});
    ck_assert_int_eq(card->activation, CARD_ACTIVATION_SIGMOID);
    card_free(card);
    card = LOAD({"xai.output.score", "probability"}, {"xai.notes", "free text"}, {"other", "x"});
    ck_assert_int_eq(card->score, CARD_SCORE_PROBABILITY);
    card_free(card);
}
END_TEST

START_TEST(bad_entries_are_refused_by_key)
{
    static const char *const bad[][2] = {
        {"xai.labels", ""},
        {"xai.labels", "[]"},
        {"xai.labels", "[\"a\", 2]"},
        {"xai.labels", "[\"a\", \"\"]"},
        {"xai.labels", "[\"a\""},
        {"xai.labels", "a,,b"},
        {"xai.input.range", "1"},
        {"xai.input.range", "1 0"},
        {"xai.input.range", "0 0"},
        {"xai.input.range", "0 1 2"},
        {"xai.input.range", "zero one"},
        {"xai.input.range", "0 1e999"},
        {"xai.input.range", "[0, 1"},
        {"xai.input.mean", ""},
        {"xai.input.mean", "nan"},
        {"xai.input.std", "0.5 0"},
        {"xai.input.std", "-1"},
        {"xai.input.size", "0"},
        {"xai.input.size", "224.5"},
        {"xai.input.size", "1 2 3"},
        {"xai.input.size", "1e9"},
        {"xai.input.channels", "1 3"},
        {"xai.input.channels", "0"},
        {"xai.input.means", "0"},
        {"xai.output.score", "logits"},
        {"xai.output.score", ""},
        {"xai.output.activation", "tanh"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuse(bad[i][0], bad[i][1]);
}
END_TEST

START_TEST(entries_that_contradict_each_other_are_refused)
{
    static const char *const channels[][2] = {{"xai.input.channels", "1"},
                                              {"xai.input.mean", "1 2 3"}};
    static const char *const lengths[][2] = {{"xai.input.std", "1 2"}, {"xai.input.mean", "1 2 3"}};
    static const char *const activation[][2] = {{"xai.output.activation", "sigmoid"}, {"a", "b"}};
    const char *const(*all[])[2] = {channels, lengths, activation};
    for (size_t i = 0; i < 3; i++) {
        onnx_model *file = make_file(all[i], 2);
        model_card *card = NULL;
        ck_assert_int_eq(card_load(file, NULL, &card, NULL), XAI_ERROR_FORMAT);
        ck_assert_ptr_null(card);
        onnx_model_free(file);
    }
}
END_TEST

static char folder[256];

static void write_card(const char *json)
{
    char path[512];
    snprintf(path, sizeof path, "%s/model.xai.json", folder);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(json, 1, strlen(json), file), strlen(json));
    fclose(file);
}

static void make_folder(void)
{
    ck_assert(make_test_folder("card", folder, sizeof folder));
}

static void remove_folder(void)
{
    char path[512];
    snprintf(path, sizeof path, "%s/model.xai.json", folder);
    unlink(path);
    rmdir(folder);
}

START_TEST(file_beside_the_model_wins_over_metadata)
{
    char path[512];
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    const char *const entries[][2] = {{"xai.labels", "old"}, {"xai.input.range", "0 255"}};
    static const char *const files[] = {
        "{\"labels\": [\"a\", \"b\"], \"input\": {\"mean\": 0.5, \"size\": [8, 9]}, \"output\": "
        "{\"score\": \"logit\"}, \"by\": 1}",
        "{\"labels\": [\"a\", \"b\"], \"input.mean\": [0.5], \"input.size\": [8, 9], "
        "\"output.score\": \"logit\"}",
        "{\"xai.labels\": [\"a\", \"b\"], \"xai.input.mean\": [0.5], \"input\": {\"size\": [8, "
        "9]}, \"xai.output.score\": \"logit\"}",
    };
    for (size_t i = 0; i < 3; i++) {
        write_card(files[i]);
        model_card *card = load(entries, 2, path);
        ck_assert_uint_eq(card->label_count, 2);
        ck_assert_str_eq(card->labels[1], "b");
        ck_assert_double_eq(card->high, 255);
        ck_assert_uint_eq(card->mean_count, 1);
        ck_assert_int_eq(card->height, 8);
        ck_assert_int_eq(card->width, 9);
        ck_assert_int_eq(card->score, CARD_SCORE_LOGIT);
        card_free(card);
    }
}
END_TEST

START_TEST(bad_file_is_refused_by_its_path_and_key)
{
    static const char *const bad[][2] = {
        {"{\"labels\": [\"a\"", "model.xai.json"},
        {"[1]", "object"},
        {"{\"input\": 3}", "input"},
        {"{\"input\": {\"range\": [1, 0]}}", "input.range"},
        {"{\"input\": {\"std\": []}}", "input.std"},
        {"{\"labels\": \"a, b\"}", "labels"},
        {"{\"output\": {\"scores\": \"logit\"}}", "output.scores"},
        {"", "model.xai.json"},
    };
    char path[512];
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    onnx_model *file = make_file(NULL, 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        model_card *card = NULL;
        xai_error *error = NULL;
        write_card(bad[i][0]);
        ck_assert_int_eq(card_load(file, path, &card, &error), XAI_ERROR_FORMAT);
        ck_assert_msg(strstr(xai_error_message(error), bad[i][1]), "%s", xai_error_message(error));
        ck_assert_ptr_nonnull(strstr(xai_error_message(error), "model.xai.json"));
        xai_error_free(error);
    }
    onnx_model_free(file);
}
END_TEST

START_TEST(card_is_named_after_the_model)
{
    static const char *const names[][2] = {{"a/model.onnx", "a/model.xai.json"},
                                           {"model.bin", "model.bin.xai.json"},
                                           {".onnx", ".onnx.xai.json"}};
    for (size_t i = 0; i < 3; i++) {
        char *path = card_path(names[i][0]);
        ck_assert_str_eq(path, names[i][1]);
        memory_free(path);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("card");
    TCase *metadata = tcase_create("metadata"), *file = tcase_create("file");
    tcase_add_test(metadata, model_without_card_has_an_empty_one);
    tcase_add_test(metadata, labels_are_a_json_list_or_lines_or_commas);
    tcase_add_test(metadata, numbers_are_a_json_list_or_separated);
    tcase_add_test(metadata, score_words_name_the_activation);
    tcase_add_test(metadata, bad_entries_are_refused_by_key);
    tcase_add_test(metadata, entries_that_contradict_each_other_are_refused);
    tcase_add_test(metadata, card_is_named_after_the_model);
    tcase_add_checked_fixture(file, make_folder, remove_folder);
    tcase_add_test(file, file_beside_the_model_wins_over_metadata);
    tcase_add_test(file, bad_file_is_refused_by_its_path_and_key);
    suite_add_tcase(suite, metadata);
    suite_add_tcase(suite, file);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
