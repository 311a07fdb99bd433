/* Pictures, against numbers from PyTorch (interpolate) and SciPy (ndimage), and against their own
 * definitions. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"

/* The picture of the reference numbers: (5, 7), value i = (7919 i mod 101) / 100. */
static void make_picture(float picture[35])
{
    for (int i = 0; i < 35; i++)
        picture[i] = (float)(i * 7919 % 101) / 100.0F;
}

/* The references are printed with seven digits. */
#define assert_plane(plane, reference)                                   \
    for (size_t at = 0; at < sizeof reference / sizeof *reference; at++) \
    ck_assert_float_eq_tol((plane)[at], (reference)[at], 1e-6F)

START_TEST(resize_is_bilinear_with_half_pixel_centres)
{
    static const float reference[7 * 4] = {
        0.15375,   0.745,     0.57875,   0.28625,   0.4230357, 0.6535714, 0.4873214,
        0.41125,   0.5792857, 0.5753571, 0.4091071, 0.4592857, 0.465,     0.55125,
        0.385,     0.345,     0.62125,   0.4369643, 0.2707143, 0.6816072, 0.6151785,
        0.3226786, 0.5351786, 0.7476786, 0.52375,   0.23125,   0.94875,   0.6562501,
    };
    float picture[35], out[28];
    make_picture(picture);
    ck_assert(image_resize(picture, 5, 7, out, 7, 4));
    assert_plane(out, reference);
}
END_TEST

START_TEST(smooth_resize_shrinks_by_weighted_means)
{
    static const float reference[3 * 4] = {
        0.3729251, 0.5014286, 0.4132,   0.3902721, 0.52,      0.5148445,
        0.4971555, 0.5037566, 0.605238, 0.4833714, 0.6086857, 0.6912925,
    };
    float picture[35], out[12];
    make_picture(picture);
    ck_assert(image_resize_smooth(picture, 5, 7, out, 3, 4));
    assert_plane(out, reference);
}
END_TEST

START_TEST(smooth_resize_may_shrink_one_axis_and_grow_the_other)
{
    static const float reference[2 * 9] = {
        0.5286364, 0.3734848, 0.4577273, 0.5878788, 0.3354546, 0.440101,
        0.5192425, 0.4810606, 0.3259091, 0.5299999, 0.6196969, 0.520303,
        0.4209091, 0.7040909, 0.5230808, 0.520606,  0.6048485, 0.6945454,
    };
    float picture[35], out[18];
    make_picture(picture);
    ck_assert(image_resize_smooth(picture, 5, 7, out, 2, 9));
    assert_plane(out, reference);
}
END_TEST

START_TEST(resizing_to_the_same_size_changes_no_bit)
{
    float picture[35], out[35];
    make_picture(picture);
    ck_assert(image_resize(picture, 5, 7, out, 5, 7));
    ck_assert_mem_eq(picture, out, sizeof out);
    ck_assert(image_resize_smooth(picture, 5, 7, out, 5, 7));
    ck_assert_mem_eq(picture, out, sizeof out);
}
END_TEST

START_TEST(resizing_keeps_a_constant_at_every_size)
{
    static float picture[64 * 33], out[97 * 97];
    for (size_t i = 0; i < 64 * 33; i++)
        picture[i] = 0.7F;
    for (size_t size = 1; size <= 97; size += 3) {
        ck_assert(image_resize(picture, 64, 33, out, size, 98 - size));
        for (size_t i = 0; i < size * (98 - size); i++)
            ck_assert_float_eq_tol(out[i], 0.7F, 1e-6F);
        ck_assert(image_resize_smooth(picture, 64, 33, out, size, 98 - size));
        for (size_t i = 0; i < size * (98 - size); i++)
            ck_assert_float_eq_tol(out[i], 0.7F, 2e-6F);
    }
    ck_assert(image_resize(picture, 1, 1, out, 3, 3));
    ck_assert_float_eq(out[8], 0.7F);
}
END_TEST

START_TEST(gaussian_blur_mirrors_the_borders)
{
    static const float reference[35] = {
        0.3793628, 0.4280622, 0.4643567, 0.450494,  0.4280057, 0.4064419, 0.385415,
        0.4615822, 0.4652224, 0.475129,  0.4704166, 0.4637098, 0.4515967, 0.4267026,
        0.5297861, 0.508639,  0.5029605, 0.5075518, 0.5102801, 0.5128699, 0.5064871,
        0.5480662, 0.5351036, 0.5269549, 0.5410175, 0.558201,  0.5815881, 0.6090805,
        0.5381875, 0.536979,  0.5311595, 0.5605202, 0.5992428, 0.6334972, 0.67533,
    };
    float picture[35], out[35];
    make_picture(picture);
    ck_assert(image_blur_gaussian(picture, 5, 7, 1.2, out));
    assert_plane(out, reference);
    ck_assert(image_blur_gaussian(picture, 5, 7, 1.2, picture));
    ck_assert_mem_eq(picture, out, sizeof out);
}
END_TEST

START_TEST(box_blur_mirrors_the_borders)
{
    static const float reference[35] = {
        0.4424, 0.4448, 0.4496, 0.4556, 0.4616, 0.3856, 0.4284, 0.4592, 0.4616,
        0.4664, 0.4724, 0.4784, 0.4428, 0.4452, 0.4928, 0.4952, 0.5,    0.506,
        0.512,  0.5168, 0.5192, 0.5264, 0.5288, 0.5336, 0.5396, 0.5456, 0.5908,
        0.5932, 0.5432, 0.5456, 0.5504, 0.5564, 0.5624, 0.648,  0.61,
    };
    float picture[35], out[35];
    make_picture(picture);
    ck_assert(image_blur_box(picture, 5, 7, 2, out));
    assert_plane(out, reference);
}
END_TEST

START_TEST(blurring_by_nothing_changes_no_bit)
{
    float picture[35], out[35];
    make_picture(picture);
    ck_assert(image_blur_gaussian(picture, 5, 7, 0, out));
    ck_assert_mem_eq(picture, out, sizeof out);
    ck_assert(image_blur_gaussian(picture, 5, 7, NAN, out));
    ck_assert_mem_eq(picture, out, sizeof out);
    ck_assert(image_blur_box(picture, 5, 7, 0, out));
    ck_assert_mem_eq(picture, out, sizeof out);
}
END_TEST

/* The published tables at 0, 64, 128, 192 and 255; the fits are within 2.2 levels. */
START_TEST(colour_maps_are_the_published_ones)
{
    static const int at[5] = {0, 64, 128, 192, 255};
    static const uint8_t published[IMAGE_COLOURS_COUNT][5][3] = {
        {{68, 1, 84}, {58, 82, 139}, {32, 144, 140}, {94, 201, 97}, {253, 231, 36}},
        {{0, 0, 3}, {87, 15, 109}, {187, 55, 84}, {249, 142, 8}, {252, 254, 164}},
        {{48, 18, 59}, {40, 187, 235}, {163, 252, 60}, {250, 125, 32}, {122, 4, 2}},
    };
    for (int map = 0; map < IMAGE_COLOURS_COUNT; map++) {
        uint8_t table[256][3];
        image_colours_table(map, table);
        for (int i = 0; i < 5; i++)
            for (int channel = 0; channel < 3; channel++)
                ck_assert_int_le(abs(table[at[i]][channel] - published[map][i][channel]), 3);
    }
}
END_TEST

START_TEST(sequential_colour_maps_only_get_lighter)
{
    for (int map = IMAGE_COLOURS_VIRIDIS; map <= IMAGE_COLOURS_INFERNO; map++) {
        uint8_t table[256][3];
        image_colours_table(map, table);
        double before = -1;
        for (int i = 0; i < 256; i += 4) {
            const double light = 0.2126 * table[i][0] + 0.7152 * table[i][1] + 0.0722 * table[i][2];
            ck_assert_double_gt(light, before);
            before = light;
        }
    }
}
END_TEST

START_TEST(colour_maps_are_found_by_name)
{
    for (int map = 0; map < IMAGE_COLOURS_COUNT; map++)
        ck_assert_int_eq(image_colours_find(image_colours_name(map)), map);
    ck_assert_int_eq(image_colours_find("jet"), -1);
    ck_assert_ptr_null(image_colours_name(IMAGE_COLOURS_COUNT));
}
END_TEST

START_TEST(overlay_leaves_pixels_without_evidence_untouched)
{
    const float map[4] = {0, 1, NAN, -3};
    const uint8_t gray[4] = {7, 100, 201, 255};
    uint8_t out[12], table[256][3];
    image_overlay(map, gray, 2, 2, 1, 0.5, IMAGE_COLOURS_TURBO, out);
    image_colours_table(IMAGE_COLOURS_TURBO, table);
    for (size_t channel = 0; channel < 3; channel++) {
        ck_assert_uint_eq(out[channel], 7);
        ck_assert_uint_eq(out[3 + channel], (100 + table[255][channel] + 1) / 2);
        ck_assert_uint_eq(out[6 + channel], 201);
        ck_assert_uint_eq(out[9 + channel], 255);
    }
}
END_TEST

START_TEST(overlay_of_rgb_may_be_made_in_place)
{
    const float map[2] = {0, 1};
    uint8_t picture[6] = {1, 2, 3, 4, 5, 6}, table[256][3];
    image_overlay(map, picture, 1, 2, 3, 1.0, IMAGE_COLOURS_VIRIDIS, picture);
    image_colours_table(IMAGE_COLOURS_VIRIDIS, table);
    ck_assert_mem_eq(picture, "\1\2\3", 3);
    ck_assert_mem_eq(picture + 3, table[255], 3);
}
END_TEST

START_TEST(percentile_counts_what_is_above_zero)
{
    /* numpy.percentile([1, 2, 4, 8], 50) = 3, 99 -> 7.88 */
    const float map[] = {0, 8, -3, 1, NAN, 4, 0, 2};
    double found;
    ck_assert(image_percentile_above_zero(map, 8, 50, &found));
    ck_assert_double_eq_tol(found, 3, 1e-12);
    ck_assert(image_percentile_above_zero(map, 8, 99, &found));
    ck_assert_double_eq_tol(found, 7.88, 1e-12);
    ck_assert(image_percentile_above_zero(map, 8, 100, &found));
    ck_assert_double_eq(found, 8);
    ck_assert(image_percentile_above_zero(map, 1, 99, &found));
    ck_assert_double_eq(found, 0);
}
END_TEST

START_TEST(paint_reaches_its_neighbours_within_the_picture)
{
    uint8_t picture[3 * 12] = {0}, mask[12] = {0};
    mask[0] = mask[11] = 1; /* (0, 0) and (2, 3) of 3 x 4 */
    image_paint(picture, mask, 3, 4, 1, (const uint8_t[3]){1, 2, 3});
    static const int painted[12] = {1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1};
    for (int i = 0; i < 12; i++)
        for (int channel = 0; channel < 3; channel++)
            ck_assert_int_eq(picture[3 * i + channel], painted[i] * (channel + 1));
}
END_TEST

START_TEST(contour_is_the_inner_edge_of_the_region)
{
    float map[25] = {0};
    uint8_t mask[25], picture[75] = {0};
    static const uint8_t expected[25] = {0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0,
                                         1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0};
    for (size_t y = 1; y < 4; y++)
        for (size_t x = 1; x < 4; x++)
            map[5 * y + x] = 0.5F;
    image_contour(map, 5, 5, 0.5F, mask);
    ck_assert_mem_eq(mask, expected, 25);
    image_paint(picture, mask, 5, 5, 0, (const uint8_t[3]){9, 8, 7});
    ck_assert_mem_eq(picture + 3 * 6, "\11\10\7", 3);
    ck_assert_mem_eq(picture + 3 * 12, "\0\0\0", 3);
    image_contour(map, 5, 5, 0.6F, mask);
    for (size_t i = 0; i < 25; i++)
        ck_assert_uint_eq(mask[i], 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("image");
    TCase *tests = tcase_create("image");
    tcase_add_test(tests, resize_is_bilinear_with_half_pixel_centres);
    tcase_add_test(tests, smooth_resize_shrinks_by_weighted_means);
    tcase_add_test(tests, smooth_resize_may_shrink_one_axis_and_grow_the_other);
    tcase_add_test(tests, resizing_to_the_same_size_changes_no_bit);
    tcase_add_test(tests, resizing_keeps_a_constant_at_every_size);
    tcase_add_test(tests, gaussian_blur_mirrors_the_borders);
    tcase_add_test(tests, box_blur_mirrors_the_borders);
    tcase_add_test(tests, blurring_by_nothing_changes_no_bit);
    tcase_add_test(tests, colour_maps_are_the_published_ones);
    tcase_add_test(tests, sequential_colour_maps_only_get_lighter);
    tcase_add_test(tests, colour_maps_are_found_by_name);
    tcase_add_test(tests, overlay_leaves_pixels_without_evidence_untouched);
    tcase_add_test(tests, overlay_of_rgb_may_be_made_in_place);
    tcase_add_test(tests, percentile_counts_what_is_above_zero);
    tcase_add_test(tests, paint_reaches_its_neighbours_within_the_picture);
    tcase_add_test(tests, contour_is_the_inner_edge_of_the_region);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
