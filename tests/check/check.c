#include "check.h"

#include <setjmp.h>
#include <stdarg.h>

typedef struct entry {
    struct entry *next;
    const TTest *test;
    TCase *tests;
    int begin, end;
} entry;

struct TCase {
    TCase *next;
    void (*setup)(void), (*teardown)(void);
    entry *first, **last;
};

struct Suite {
    const char *name;
    TCase *first, **last;
};

struct SRunner {
    Suite *suite;
    int failed;
};

static jmp_buf after_failure;

/* What a test program allocates here lives as long as the program. */
static void *need(size_t size)
{
    void *made = calloc(1, size);
    if (!made) {
        fprintf(stderr, "out of memory\n");
        exit(EXIT_FAILURE);
    }
    return made;
}

Suite *suite_create(const char *name)
{
    Suite *made = need(sizeof *made);
    made->name = name;
    made->last = &made->first;
    return made;
}

TCase *tcase_create(const char *name)
{
    (void)name;
    TCase *made = need(sizeof *made);
    made->last = &made->first;
    return made;
}

void suite_add_tcase(Suite *suite, TCase *tests)
{
    *suite->last = tests;
    suite->last = &tests->next;
}

void tcase_set_timeout(TCase *tests, double seconds)
{
    (void)tests;
    (void)seconds;
}

void tcase_add_checked_fixture(TCase *tests, void (*setup)(void), void (*teardown)(void))
{
    tests->setup = setup;
    tests->teardown = teardown;
}

void check_add(TCase *tests, const TTest *test, int begin, int end)
{
    entry *made = need(sizeof *made);
    *made = (entry){NULL, test, tests, begin, end};
    *tests->last = made;
    tests->last = &made->next;
}

void check_fail(const char *file, int line, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    printf("%s:%d: ", file, line);
    vprintf(format, values);
    printf("\n");
    va_end(values);
    longjmp(after_failure, 1);
}

SRunner *srunner_create(Suite *suite)
{
    SRunner *made = need(sizeof *made);
    made->suite = suite;
    return made;
}

static int run_one(const entry *self, int index)
{
    if (setjmp(after_failure) != 0) {
        printf("FAILED  %s:%d\n", self->test->name, index);
        fflush(stdout);
        return 1;
    }
    if (self->tests->setup)
        self->tests->setup();
    self->test->run(index);
    if (self->tests->teardown)
        self->tests->teardown();
    return 0;
}

void srunner_run_all(SRunner *runner, int mode)
{
    (void)mode;
    int count = 0;
    for (const TCase *tests = runner->suite->first; tests; tests = tests->next)
        for (const entry *each = tests->first; each; each = each->next)
            for (int index = each->begin; index < each->end; index++) {
                runner->failed += run_one(each, index);
                count++;
            }
    printf("%d%%: Checks: %d, Failures: %d, Errors: 0\n",
           count ? 100 * (count - runner->failed) / count : 0, count, runner->failed);
    fflush(stdout);
}

int srunner_ntests_failed(SRunner *runner)
{
    return runner->failed;
}

void srunner_free(SRunner *runner)
{
    free(runner);
}
