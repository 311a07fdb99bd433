/* lib/json: what is read, and what is refused where. */
#include <check.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "json/json.h"

static json_value *parse(const char *source)
{
    json_value *root = NULL;
    xai_error *error = NULL;
    json_parse(source, strlen(source), &root, &error);
    ck_assert_msg(root && !error, "%s: %s", source, xai_error_message(error));
    return root;
}

START_TEST(model_card_is_read)
{
    json_value *root = parse(
        "\xef\xbb\xbf{ \"labels\": [\"Effusion\", \"Größe \\u00e9 \\ud83e\\ude7b\\n\"],\n"
        " \"mean\": [0.485, -1.5e-3, 0, 1E2], \"flip\": true, \"none\": null, \"empty\": {} }");
    const json_value *labels = json_member(root, "labels"), *mean = json_member(root, "mean");
    double number = 7;
    bool flip = false;
    ck_assert_uint_eq(json_count(root), 5);
    ck_assert_uint_eq(json_count(labels), 2);
    ck_assert_str_eq(json_text(json_item(labels, 0)), "Effusion");
    ck_assert_str_eq(json_text(json_item(labels, 1)), "Größe é \xf0\x9f\xa9\xbb\n");
    ck_assert(json_number(json_item(mean, 0), &number) && number == 0.485);
    ck_assert(json_number(json_item(mean, 1), &number) && number == -1.5e-3);
    ck_assert(json_number(json_item(mean, 2), &number) && number == 0);
    ck_assert(json_number(json_item(mean, 3), &number) && number == 100);
    ck_assert(json_boolean(json_member(root, "flip"), &flip) && flip);
    ck_assert_str_eq(json_name(root, 1), "mean");
    ck_assert_int_eq(json_type(json_member(root, "none")), JSON_NULL);
    ck_assert_int_eq(json_type(json_member(root, "empty")), JSON_OBJECT);
    ck_assert_uint_eq(json_count(json_member(root, "empty")), 0);
    json_free(root);
}
END_TEST

START_TEST(getters_say_absent_for_null_and_other_types)
{
    json_value *root = parse("[1]");
    double number = 7;
    bool boolean = true;
    ck_assert_ptr_null(json_member(root, "x"));
    ck_assert_ptr_null(json_member(NULL, "x"));
    ck_assert_ptr_null(json_item(root, 1));
    ck_assert_ptr_null(json_name(root, 0));
    ck_assert_ptr_null(json_text(json_item(root, 0)));
    ck_assert(!json_boolean(json_item(root, 0), &boolean));
    ck_assert(!json_number(json_member(json_member(root, "a"), "b"), &number));
    ck_assert(number == 7);
    ck_assert_str_eq(json_type_name(root), "a list");
    json_free(root);
    json_free(NULL);
}
END_TEST

/* Digits of a number mean the same in a locale that writes 0,5; and strtod's own rounding is
 * kept. */
START_TEST(numbers_are_exact_in_any_locale)
{
    /* Not installed everywhere: then this is the C locale again. */
    setlocale(LC_ALL, "de_DE.UTF-8");
    static const char *const sources[] = {
        "0.1",    "123456789.123456789", "5e-324",          "1.7976931348623157e308", "-0.0",
        "1e-999", "0.30000000000000004", "9007199254740993"};
    static const double expected[] = {0.1,
                                      123456789.123456789,
                                      5e-324,
                                      1.7976931348623157e308,
                                      -0.0,
                                      0,
                                      0.30000000000000004,
                                      9007199254740992.0};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        json_value *root = parse(sources[i]);
        double number;
        ck_assert(json_number(root, &number));
        ck_assert_msg(memcmp(&number, &expected[i], sizeof number) == 0, "%s", sources[i]);
        json_free(root);
    }
    setlocale(LC_ALL, "C");
}
END_TEST

START_TEST(bad_text_is_refused_where_it_is_bad)
{
    static const struct {
        const char *source, *message;
    } cases[] = {
        {"", "JSON line 1 column 1: expected a value"},
        {"{\n \"a\": 1,\n \"a\": 2}", "JSON line 3 column 5: this name occurs twice in the object"},
        {"[1, 2", "JSON line 1 column 6: expected ',' or ']'"},
        {"{\"a\" 1}", "JSON line 1 column 6: expected ':'"},
        {"{1: 2}", "JSON line 1 column 2: expected a string"},
        {"{\"a\": 1,}", "JSON line 1 column 9: expected a string"},
        {"[1,]", "JSON line 1 column 4: expected a value"},
        {"1 2", "JSON line 1 column 3: text after the value"},
        {"01", "JSON line 1 column 3: not a number"},
        {"-", "JSON line 1 column 2: not a number"},
        {"1.", "JSON line 1 column 3: digits expected after the decimal point"},
        {"1e", "JSON line 1 column 3: digits expected in the exponent"},
        {"1e999", "JSON line 1 column 6: number out of range"},
        {"NaN", "JSON line 1 column 1: expected a value"},
        {"truth", "JSON line 1 column 1: expected a value"},
        {"\"abc", "JSON line 1 column 2: string without end"},
        {"\"abc\\", "JSON line 1 column 2: string without end"},
        {"\"abc\\\"", "JSON line 1 column 2: string without end"},
        {"\"\\u00\"", "JSON line 1 column 4: incomplete \\u escape"},
        {"\"\\u00zz\"", "JSON line 1 column 7: \\u needs four hexadecimal digits"},
        {"\"\\ud800\"", "JSON line 1 column 8: lone surrogate"},
        {"\"\\udc00\"", "JSON line 1 column 8: lone surrogate"},
        {"\"\\ud800\\u0041\"", "JSON line 1 column 14: lone surrogate"},
        {"\"\\u0000\"", "JSON line 1 column 8: NUL character in a string"},
        {"\"\\x\"", "JSON line 1 column 4: unknown escape"},
        {"\"\n\"", "JSON line 1 column 2: control character in a string"},
        {"\"\xff\"", "JSON line 1 column 2: not UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_value *root = NULL;
        xai_error *error = NULL;
        /* A copy of the exact size, so that a sanitiser sees one byte too far. */
        const size_t size = strlen(cases[i].source);
        char *source = malloc(size ? size : 1);
        memcpy(source, cases[i].source, size);
        ck_assert_int_eq(json_parse(source, size, &root, &error), XAI_ERROR_FORMAT);
        ck_assert_ptr_null(root);
        ck_assert_str_eq(xai_error_message(error), cases[i].message);
        error_clear(&error);
        ck_assert_int_eq(json_parse(source, size, &root, NULL), XAI_ERROR_FORMAT);
        free(source);
    }
}
END_TEST

START_TEST(depth_is_limited)
{
    char source[400];
    json_value *root = NULL;
    memset(source, '[', 200);
    memset(source + 200, ']', 200);
    ck_assert_int_eq(json_parse(source, 400, &root, NULL), XAI_ERROR_FORMAT);
    ck_assert_int_eq(json_parse(source + 200 - JSON_DEPTH_LIMIT, 2 * JSON_DEPTH_LIMIT, &root, NULL),
                     XAI_OK);
    json_free(root);
    ck_assert_int_eq(json_parse(source, JSON_SIZE_LIMIT + 1, &root, NULL), XAI_ERROR_FORMAT);
}
END_TEST

/* Every prefix and every single changed byte ends in a value or an error, never outside the
 * text. */
START_TEST(damaged_text_is_survived)
{
    const char card[] = "{\"labels\":[\"a\\u00e9\\ud83e\\ude7b\",\"\xc3\xa9\"],\"n\":[-1.25e+3,"
                        "true,null,{\"x\":{}}]}";
    const size_t size = sizeof card - 1;
    size_t accepted = 0;
    for (size_t length = 0; length <= size; length++)
        for (size_t at = 0; at < (length == size ? size : 1); at++)
            for (int change = 0; change < (length == size ? 256 : 1); change++) {
                char *copy = malloc(length ? length : 1);
                json_value *root = NULL;
                memcpy(copy, card, length);
                if (length == size)
                    copy[at] = (char)change;
                accepted += json_parse(copy, length, &root, NULL) == XAI_OK;
                json_free(root);
                free(copy);
            }
    ck_assert_uint_ge(accepted, size); /* the unchanged text, once a position */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("json");
    TCase *tests = tcase_create("json");
    tcase_add_test(tests, model_card_is_read);
    tcase_add_test(tests, getters_say_absent_for_null_and_other_types);
    tcase_add_test(tests, numbers_are_exact_in_any_locale);
    tcase_add_test(tests, bad_text_is_refused_where_it_is_bad);
    tcase_add_test(tests, depth_is_limited);
    tcase_add_test(tests, damaged_text_is_survived);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
