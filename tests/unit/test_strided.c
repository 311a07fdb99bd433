/* Views as strides, against the list of the places that their elements lie at. */
#include <check.h>

#include "engine/strided.h"

enum { MOST = 64 };

/* Places of the elements in row-major order; returns how many. */
static int places_of(const strided *self, int64_t out[MOST])
{
    int64_t count = 1;
    for (int i = 0; i < self->dims.rank; i++)
        count *= self->dims.dims[i];
    for (int64_t n = 0; n < count; n++) {
        int64_t rest = n;
        out[n] = self->start;
        for (int i = self->dims.rank - 1; i >= 0; i--) {
            out[n] += rest % self->dims.dims[i] * self->strides[i];
            rest /= self->dims.dims[i];
        }
    }
    return (int)count;
}

/* Whether strides can say places in these dims: what one step along each axis adds tells all the others. */
static bool is_strided(const int64_t *places, int count, const shape *dims)
{
    strided guess = {.dims = *dims, .start = places[0]};
    int64_t step = 1, said[MOST];
    for (int i = dims->rank - 1; i >= 0; i--) {
        guess.strides[i] = dims->dims[i] > 1 ? places[step] - places[0] : 0;
        step *= dims->dims[i];
    }
    places_of(&guess, said);
    for (int n = 0; n < count; n++)
        if (said[n] != places[n])
            return false;
    return true;
}

/* A reshape succeeds where strides can say it, and then no element has moved. */
static void check_reshape(const strided *from, const shape *to, int *refused)
{
    int64_t before[MOST], after[MOST];
    strided made = *from;
    const int count = places_of(from, before);
    const bool done = strided_reshape(&made, to);
    ck_assert_int_eq(done, is_strided(before, count, to));
    *refused += !done;
    if (!done)
        return;
    ck_assert_int_eq(places_of(&made, after), count);
    for (int n = 0; n < count; n++)
        ck_assert_int_eq(after[n], before[n]);
}

/* Parts of (4, 6, 4), 2 x 3 x 4 or with an axis of one, their axes in every order, in all dims of 24 elements. */
START_TEST(reshapes_move_nothing)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    static const int64_t parts[][3] = {{2, 3, 4}, {4, 6, 1}, {1, 6, 4}, {4, 3, 2}};
    static const int64_t whole[3] = {24, 4, 1};
    int refused = 0, tried = 0;
    for (int p = 0; p < 4; p++)
        for (int o = 0; o < 6; o++) {
            strided from = {.dims = {.rank = 3}, .start = 5};
            for (int i = 0; i < 3; i++) {
                from.dims.dims[i] = parts[p][orders[o][i]];
                from.strides[i] = whole[orders[o][i]];
            }
            for (int64_t a = 1; a <= 24; a++)
                for (int64_t b = 1; 24 % a == 0 && b <= 24 / a; b++) {
                    if (24 / a % b != 0)
                        continue;
                    const shape to = {.rank = 4, .dims = {a, b, 1, 24 / a / b}};
                    check_reshape(&from, &to, &refused);
                    tried++;
                }
        }
    ck_assert_int_gt(refused, tried / 4); /* both happen */
    ck_assert_int_lt(refused, tried * 3 / 4);
}
END_TEST

/* The second of two columns of blocks, transposed, out of a part that is itself not contiguous. */
START_TEST(movements_start_from_the_part)
{
    int64_t part[MOST], moved[MOST];
    strided self = {.dims = {.rank = 2, .dims = {4, 6}}, .strides = {20, 2}, .start = 3};
    const movement how = {.rank = 2, .dims = {3, 4}, .from = {1, 6}, .to = {4, 1}, .source = 3};
    const shape to = {.rank = 2, .dims = {3, 4}};
    places_of(&self, part);
    ck_assert(strided_move(&self, &how, &to));
    ck_assert_int_eq(places_of(&self, moved), 12);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 4; k++)
            ck_assert_int_eq(moved[i * 4 + k], part[3 + i * 1 + k * 6]);
    const movement back = {.rank = 2, .dims = {3, 4}, .from = {-1, 6}, .to = {4, 1}, .source = 5};
    ck_assert(!strided_move(&self, &back, &to));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("strided");
    TCase *views = tcase_create("views");
    tcase_add_test(views, reshapes_move_nothing);
    tcase_add_test(views, movements_start_from_the_part);
    suite_add_tcase(suite, views);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
