/* Superpixels, against scikit-image 0.26 where the definitions are the same, and against the properties
 * that every segmentation must have. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "explain_models.h"
#include "image/segments.h"

enum { HEIGHT = 24, WIDTH = 30, PIXELS = HEIGHT * WIDTH };

/* Three channels: a disc, stripes and a fine pattern; scaled to [0, 1]. */
static void make_picture(float picture[3 * PIXELS])
{
    double values[3 * PIXELS], lowest = 1e9, highest = -1e9;
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < PIXELS; i++) {
            const int y = i / WIDTH, x = i % WIDTH;
            const double disc = hypot(y - 9 - 2 * c, x - 12 + c) < 7;
            const double value = 0.4 * disc + 0.3 * ((x + y * (c + 1)) / 9 % 2) +
                                 0.3 * ((i * 7919 + c * 31) % 101) / 100;
            values[c * PIXELS + i] = value;
            lowest = fmin(lowest, value);
            highest = fmax(highest, value);
        }
    for (int i = 0; i < 3 * PIXELS; i++)
        picture[i] = (float)((values[i] - lowest) / (highest - lowest));
}

static const char alphabet[] = "0123456789abcdefghijklmnopqrstuvwxyz";

/* All labels 0 .. count - 1 are used and no other. */
static void assert_compact(const int32_t *labels, size_t pixels, size_t count)
{
    uint8_t *seen = calloc(count, 1);
    for (size_t i = 0; i < pixels; i++) {
        ck_assert_int_ge(labels[i], 0);
        ck_assert_int_lt(labels[i], (int32_t)count);
        seen[labels[i]] = 1;
    }
    for (size_t k = 0; k < count; k++)
        ck_assert_msg(seen[k], "label %zu of %zu is not used", k, count);
    free(seen);
}

/* Every label is one connected part: as many parts as labels. */
static size_t count_parts(const int32_t *labels, const size_t dims[3])
{
    const size_t pixels = dims[0] * dims[1] * dims[2];
    uint8_t *seen = calloc(pixels, 1);
    size_t *queue = calloc(pixels, sizeof *queue), parts = 0;
    for (size_t first = 0; first < pixels; first++) {
        if (seen[first])
            continue;
        size_t size = 1;
        queue[0] = first;
        seen[first] = 1;
        parts++;
        for (size_t at = 0; at < size; at++) {
            const size_t p = queue[at], x = p % dims[2], y = p / dims[2] % dims[1],
                         z = p / dims[2] / dims[1];
            const size_t near[6] = {x > 0 ? p - 1 : p,
                                    x + 1 < dims[2] ? p + 1 : p,
                                    y > 0 ? p - dims[2] : p,
                                    y + 1 < dims[1] ? p + dims[2] : p,
                                    z > 0 ? p - dims[1] * dims[2] : p,
                                    z + 1 < dims[0] ? p + dims[1] * dims[2] : p};
            for (int n = 0; n < 6; n++)
                if (!seen[near[n]] && labels[near[n]] == labels[p]) {
                    seen[near[n]] = 1;
                    queue[size++] = near[n];
                }
        }
    }
    free(seen);
    free(queue);
    return parts;
}

START_TEST(grid_cuts_every_axis_evenly)
{
    const size_t shapes[][3] = {{1, 7, 10}, {1, 1, 13}, {5, 6, 7}, {1, 2, 100}};
    const size_t expected[] = {16, 4, 64, 8};
    for (int i = 0; i < 4; i++) {
        const size_t *dims = shapes[i], pixels = dims[0] * dims[1] * dims[2];
        int32_t labels[256];
        const size_t count = segments_grid(dims, 4, labels);
        ck_assert_uint_eq(count, expected[i]);
        assert_compact(labels, pixels, count);
        ck_assert_uint_eq(count_parts(labels, dims), count);
        size_t largest = 0, smallest = pixels;
        for (size_t k = 0; k < count; k++) {
            size_t size = 0;
            for (size_t p = 0; p < pixels; p++)
                size += labels[p] == (int32_t)k;
            largest = size > largest ? size : largest;
            smallest = size < smallest ? size : smallest;
        }
        const size_t cuts[3] = {dims[0] < 4 ? dims[0] : 4, dims[1] < 4 ? dims[1] : 4,
                                dims[2] < 4 ? dims[2] : 4};
        size_t upper = 1, lower = 1;
        for (int axis = 0; axis < 3; axis++) {
            upper *= (dims[axis] + cuts[axis] - 1) / cuts[axis];
            lower *= dims[axis] / cuts[axis];
        }
        ck_assert_uint_le(largest, upper);
        ck_assert_uint_ge(smallest, lower);
    }
}
END_TEST

/* slic(rgb, n_segments=20, compactness=10, enforce_connectivity=False, start_label=0) */
START_TEST(slic_is_scikit_images)
{
    static const char expected[] = "002000020909239398383983839838"
                                   "002020006209092943983839h38398"
                                   "020056006092972423939hh3398383"
                                   "055006202111111439hh3393393949"
                                   "506002f711111148h3h93393949984"
                                   "000f7gf111111i9888393749794484"
                                   "f7ffgf1111c1cic69c999799484h88"
                                   "f7f7g21bcbbbb66779799484888h8h"
                                   "7g2256bbcbii6667774948h8h888h3"
                                   "25255ibcb6767666778h8h88h8h999"
                                   "55255bc76766767ib1888h8h449d99"
                                   "555226766767iiibc188h449499d9d"
                                   "2ggf26767ii6bibbcc1487d7d9d393"
                                   "2gf7c6ii6ibbbib1c14d74d739333h"
                                   "7gf2b6iibbibicc1c74d7393i9hehh"
                                   "fafabbbibici1cc167cdci93ehhded"
                                   "2afa555ai6iic67ibcid3ihhdedeej"
                                   "af5af5a5i6i7iiibdciehdeeeedejj"
                                   "afaf2aa5abbibibicideeeedeeeed8"
                                   "faafaf5bibibbii7geeedeeehdeeee"
                                   "faa55fafcifa7gegedeedheeieidee"
                                   "55aaiaafc7gfgegeedhehidideijdd"
                                   "5aaafcfgf7gggedhehhdidei7ddjej"
                                   "afafgffgageg5hhheideidddjdjejj";
    float picture[3 * PIXELS];
    int32_t labels[PIXELS];
    size_t count = 0;
    const size_t dims[] = {1, HEIGHT, WIDTH};
    const slic_options options = {.wanted = 20, .compactness = 10, .iterations = 10};
    make_picture(picture);
    ck_assert(segments_slic(picture, 3, dims, &options, labels, &count));
    ck_assert_uint_eq(count, 20);
    for (int i = 0; i < PIXELS; i++)
        ck_assert_int_eq(alphabet[labels[i]], expected[i]);
}
END_TEST

/* quickshift(rgb, kernel_size=2, max_dist=8, ratio=0.2) */
START_TEST(quickshift_is_scikit_images)
{
    static const char expected[] = "202202022020220202111511115919"
                                   "202022220220202041511115919159"
                                   "2222a02202020b1411515991159191"
                                   "2aa220222444334415991151151565"
                                   "a20222003434334991951151565596"
                                   "2220040344344db9ii151565556696"
                                   "0000403344242d2b5i555555696999"
                                   "0000h847d7777bbb55555696999999"
                                   "0488a077d7ddbbbb5b65699999999i"
                                   "8a8aad7d7bbbbbbbbb999999999ccc"
                                   "aa8aa7dbbbbbbbbd7e9i999966cccc"
                                   "aaa88bbbbbbbddd7ii9i966c6ccccc"
                                   "8hhh8bbbbddb7d77iii6iccccccici"
                                   "8hh08bddbd777d7eie6cc6cciciii9"
                                   "0hh8fbdd77d7diieib6cciciic9i99"
                                   "hghgff7d7dddeiiehciciicii99cic"
                                   "8ghgfffddhdddhbdfiicii99ciciil"
                                   "ghfghfgfdhdbdddfciii9ciiiicill"
                                   "ghghgggfgffdfdfiiiciiiiciiiici"
                                   "hgghghffdfdffdihjiiiciiikciiii"
                                   "hggffhghddhdhjijiciickiiiiicii"
                                   "ffggggghdhjhjijiickikiciciilcc"
                                   "fggghdhjhhjjjickikkciciiccclil"
                                   "ghghjhhjijijkkkkiiciiccclclill";
    float picture[3 * PIXELS];
    int32_t labels[PIXELS], again[PIXELS];
    size_t count = 0;
    quickshift_options options = {.kernel = 2, .distance = 8, .ratio = 0.2, .threads = 1};
    make_picture(picture);
    ck_assert(segments_quickshift(picture, 3, HEIGHT, WIDTH, &options, labels, &count));
    ck_assert_uint_eq(count, 22);
    for (int i = 0; i < PIXELS; i++)
        ck_assert_int_eq(alphabet[labels[i]], expected[i]);
    options.threads = 3;
    ck_assert(segments_quickshift(picture, 3, HEIGHT, WIDTH, &options, again, &count));
    ck_assert_mem_eq(labels, again, sizeof labels);
}
END_TEST

START_TEST(slic_segments_are_connected_and_about_as_many_as_wished)
{
    float picture[4 * PIXELS];
    make_picture(picture);
    memcpy(picture + 3 * PIXELS, picture, PIXELS * sizeof *picture);
    for (size_t channels = 1; channels <= 4; channels++)
        for (size_t wanted = 1; wanted <= 60; wanted += 7) {
            const size_t dims[] = {1, HEIGHT, WIDTH};
            const slic_options options = {
                .wanted = wanted, .compactness = 10, .iterations = 10, .connect = true};
            int32_t labels[PIXELS];
            size_t count = 0;
            ck_assert(segments_slic(picture, channels, dims, &options, labels, &count));
            assert_compact(labels, PIXELS, count);
            ck_assert_uint_eq(count_parts(labels, dims), count);
            ck_assert_uint_le(count, 2 * wanted + 2);
            ck_assert_uint_ge(2 * count, wanted);
        }
}
END_TEST

START_TEST(slic_cuts_volumes_and_signals)
{
    const size_t shapes[][3] = {{9, 8, 10}, {1, 1, 720}};
    float picture[3 * PIXELS];
    make_picture(picture);
    for (int i = 0; i < 2; i++) {
        const slic_options options = {
            .wanted = 12, .compactness = 10, .iterations = 10, .connect = true};
        int32_t labels[PIXELS];
        size_t count = 0;
        ck_assert(segments_slic(picture, 1, shapes[i], &options, labels, &count));
        assert_compact(labels, PIXELS, count);
        ck_assert_uint_eq(count_parts(labels, shapes[i]), count);
        ck_assert_uint_ge(count, 6);
        ck_assert_uint_le(count, 26);
    }
}
END_TEST

START_TEST(flat_pictures_have_segments_too)
{
    float picture[PIXELS];
    int32_t labels[PIXELS];
    size_t count = 0;
    for (int i = 0; i < PIXELS; i++)
        picture[i] = 0.5F;
    const size_t dims[] = {1, HEIGHT, WIDTH};
    const slic_options options = {
        .wanted = 9, .compactness = 10, .iterations = 10, .connect = true};
    ck_assert(segments_slic(picture, 1, dims, &options, labels, &count));
    assert_compact(labels, PIXELS, count);
    const quickshift_options shift = {.kernel = 4, .distance = 200, .ratio = 0.2};
    ck_assert(segments_quickshift(picture, 1, HEIGHT, WIDTH, &shift, labels, &count));
    assert_compact(labels, PIXELS, count);
}
END_TEST

START_TEST(compacting_keeps_the_order_of_labels)
{
    const int64_t values[] = {7, -3, 7, 1000000000000, 0};
    const int32_t expected[] = {2, 0, 2, 3, 1};
    int32_t labels[5];
    ck_assert_uint_eq(segments_compact(values, 5, labels), 4);
    ck_assert_mem_eq(labels, expected, sizeof expected);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("segments");
    TCase *all = tcase_create("all");
    tcase_add_test(all, grid_cuts_every_axis_evenly);
    tcase_add_test(all, slic_is_scikit_images);
    tcase_add_test(all, quickshift_is_scikit_images);
    tcase_add_test(all, slic_segments_are_connected_and_about_as_many_as_wished);
    tcase_add_test(all, slic_cuts_volumes_and_signals);
    tcase_add_test(all, flat_pictures_have_segments_too);
    tcase_add_test(all, compacting_keeps_the_order_of_labels);
    suite_add_tcase(suite, all);
    return run_suite(suite);
}
