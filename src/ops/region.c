/* Regions of detection heads: RoiAlign and NonMaxSuppression. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/families.h"
#include "ops/support.h"

/* --- RoiAlign: y[r, c, bin] = mean (or maximum) over sample points of x read linearly. Boxes are
 * (x1, y1, x2, y2); they have no gradient, as in torchvision. --- */

typedef struct roi_align {
    size_t channels, height, width, out_height, out_width, regions, images;
    int64_t sampling;
    double scale;
    bool half_pixel, maximum;
} roi_align;

#define MAX_SAMPLES 4096 /* points an axis of a bin: more is no image */

static xai_status roi_align_make(const operator_call *call, roi_align *self)
{
    char x_text[SHAPE_TEXT_SIZE], r_text[SHAPE_TEXT_SIZE];
    const char *mode, *transform;
    int64_t height, width, sampling;
    float scale;
    const shape *x = &call->inputs[0]->shape, *rois = &call->inputs[1]->shape,
                *index = &call->inputs[2]->shape;
    xai_status status = operator_attribute_text(call, "mode", "avg", &mode);
    if (status == XAI_OK)
        status = operator_attribute_text(call, "coordinate_transformation_mode",
                                         call->opset >= 16 ? "half_pixel" : "output_half_pixel",
                                         &transform);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "output_height", 1, &height);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "output_width", 1, &width);
    if (status == XAI_OK)
        status = operator_attribute_int(call, "sampling_ratio", 0, &sampling);
    if (status == XAI_OK)
        status = operator_attribute_float(call, "spatial_scale", 1, &scale);
    if (status != XAI_OK)
        return status;
    if (x->rank != 4 || rois->rank != 2 || rois->dims[1] != 4 || index->rank != 1 ||
        index->dims[0] != rois->dims[0] || x->dims[2] < 1 || x->dims[3] < 1)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "x of shape %s and regions of shape %s do not fit",
                              shape_text(x, x_text), shape_text(rois, r_text));
    if (height < 1 || width < 1 || height > INT32_MAX || width > INT32_MAX || sampling < 0 ||
        sampling > MAX_SAMPLES)
        return operator_error(call, XAI_ERROR_SHAPE,
                              "output_height %lld, output_width %lld or sampling_ratio %lld is out "
                              "of range",
                              (long long)height, (long long)width, (long long)sampling);
    if (strcmp(mode, "avg") != 0 && strcmp(mode, "max") != 0)
        return operator_error(call, XAI_ERROR_UNSUPPORTED, "mode '%.40s' is not known", mode);
    *self = (roi_align){.images = (size_t)x->dims[0],
                        .channels = (size_t)x->dims[1],
                        .height = (size_t)x->dims[2],
                        .width = (size_t)x->dims[3],
                        .out_height = (size_t)height,
                        .out_width = (size_t)width,
                        .regions = (size_t)rois->dims[0],
                        .sampling = sampling,
                        .scale = (double)scale,
                        .half_pixel = strcmp(transform, "half_pixel") == 0,
                        .maximum = strcmp(mode, "max") == 0};
    return XAI_OK;
}

static xai_status roi_align_infer(operator_call *call)
{
    roi_align self;
    xai_status status = operator_check(call);
    for (int i = 0; i < 2 && status == XAI_OK; i++)
        status = operator_check_type(call, i, TYPES_FLOAT);
    if (status == XAI_OK)
        status = operator_check_type(call, 2, TYPES_INDEX);
    if (status == XAI_OK)
        status = roi_align_make(call, &self);
    if (status != XAI_OK)
        return status;
    const shape y =
        shape_make(4, (const int64_t[]){(int64_t)self.regions, (int64_t)self.channels,
                                        (int64_t)self.out_height, (int64_t)self.out_width});
    return operator_set_output(call, 0, call->inputs[0]->dtype, &y);
}

/* One axis of a region: where its bins begin, how wide they are, how many points each has. */
typedef struct roi_axis {
    double start, bin;
    size_t points;
} roi_axis;

static xai_status find_axis(const operator_call *call, const roi_align *self, double low,
                            double high, size_t bins, roi_axis *out)
{
    const double offset = self->half_pixel ? 0.5 : 0;
    double length = (high - low) * self->scale;
    if (!isfinite(low) || !isfinite(high))
        return operator_error(call, XAI_ERROR_NUMERIC, "a region is not finite");
    if (!self->half_pixel && length < 1)
        length = 1;
    out->start = low * self->scale - offset;
    out->bin = length / (double)bins;
    const double points = self->sampling > 0 ? (double)self->sampling : ceil(out->bin);
    if (points > MAX_SAMPLES)
        return operator_error(call, XAI_ERROR_SHAPE, "a region is %g pixels long", length);
    out->points = points > 0 ? (size_t)points : 0;
    return XAI_OK;
}

/* Four neighbours of a point; weights zero far outside. */
typedef struct corners {
    size_t at[4];
    double weight[4];
} corners;

static corners find_corners(const roi_align *self, double y, double x)
{
    corners out = {{0}, {0}};
    const double last_y = (double)self->height - 1, last_x = (double)self->width - 1;
    if (y < -1 || y > last_y + 1 || x < -1 || x > last_x + 1)
        return out;
    y = y < 0 ? 0 : y > last_y ? last_y : y;
    x = x < 0 ? 0 : x > last_x ? last_x : x;
    const size_t y0 = (size_t)y, x0 = (size_t)x, y1 = y0 + (y0 + 1 < self->height),
                 x1 = x0 + (x0 + 1 < self->width);
    const double dy = y - (double)y0, dx = x - (double)x0;
    out = (corners){{y0 * self->width + x0, y0 * self->width + x1, y1 * self->width + x0,
                     y1 * self->width + x1},
                    {(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx}};
    return out;
}

/* One bin of one channel. Backward when gx: what the slope gives to the pixels. */
static double run_bin(const roi_align *self, const roi_axis *down, const roi_axis *along, size_t i,
                      size_t j, const double *x, double slope, double *gx)
{
    double sum = 0, best = 0, best_weight = 0;
    size_t best_at = 0;
    bool any = false;
    const double count = fmax((double)(down->points * along->points), 1);
    for (size_t a = 0; a < down->points; a++)
        for (size_t b = 0; b < along->points; b++) {
            const double y = down->start + (double)i * down->bin +
                             ((double)a + 0.5) * down->bin / (double)down->points,
                         t = along->start + (double)j * along->bin +
                             ((double)b + 0.5) * along->bin / (double)along->points;
            const corners at = find_corners(self, y, t);
            for (int k = 0; k < 4; k++) {
                const double value = at.weight[k] * x[at.at[k]];
                sum += value;
                if (!any || value > best || value != value) {
                    best = value;
                    best_at = at.at[k];
                    best_weight = at.weight[k];
                    any = true;
                }
                if (gx && !self->maximum)
                    gx[at.at[k]] += slope * at.weight[k] / count;
            }
        }
    if (gx && self->maximum && any)
        gx[best_at] += slope * best_weight;
    return self->maximum ? best : sum / count;
}

static xai_status run_regions(operator_call *call, const roi_align *self, const double *x,
                              double *y, const double *slopes, double *gx)
{
    double *rois = NULL;
    int64_t *images = NULL;
    xai_status status = operator_read_doubles(call, call->inputs[1], &rois);
    if (status == XAI_OK)
        status = operator_read_ints(call, call->inputs[2], &images);
    for (size_t r = 0; r < self->regions && status == XAI_OK; r++) {
        roi_axis down = {0}, along = {0};
        const double *box = rois + 4 * r;
        if (images[r] < 0 || (size_t)images[r] >= self->images)
            status = operator_error(call, XAI_ERROR_SHAPE, "batch_indices[%zu] is %lld of %zu", r,
                                    (long long)images[r], self->images);
        if (status == XAI_OK)
            status = find_axis(call, self, box[1], box[3], self->out_height, &down);
        if (status == XAI_OK)
            status = find_axis(call, self, box[0], box[2], self->out_width, &along);
        for (size_t c = 0; c < self->channels && status == XAI_OK; c++) {
            const size_t plane =
                ((size_t)images[r] * self->channels + c) * self->height * self->width;
            for (size_t bin = 0; bin < self->out_height * self->out_width; bin++) {
                const size_t out =
                    (r * self->channels + c) * self->out_height * self->out_width + bin;
                const double value =
                    run_bin(self, &down, &along, bin / self->out_width, bin % self->out_width,
                            x + plane, slopes ? slopes[out] : 0, gx ? gx + plane : NULL);
                if (y)
                    y[out] = value;
            }
        }
    }
    memory_free(rois);
    memory_free(images);
    return status;
}

static xai_status roi_align_forward(operator_call *call)
{
    roi_align self;
    double *x = NULL, *y = NULL;
    const size_t count = tensor_count(call->outputs[0]);
    xai_status status = roi_align_make(call, &self);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    if (status == XAI_OK)
        status = operator_allocate(call, count, &y);
    if (status == XAI_OK)
        status = run_regions(call, &self, x, y, NULL, NULL);
    if (status == XAI_OK && count > 0)
        tensor_write_doubles(call->outputs[0], 0, count, y);
    memory_free(x);
    memory_free(y);
    return status;
}

static xai_status roi_align_backward(operator_call *call)
{
    roi_align self;
    double *x = NULL, *slopes = NULL, *gx = NULL;
    const tensor *given = operator_output_gradient(call, 0);
    tensor *wanted = operator_wanted_gradient(call, 0);
    operator_zero_gradients(call);
    if (!given || !wanted)
        return XAI_OK;
    xai_status status = roi_align_make(call, &self);
    if (status == XAI_OK)
        status = operator_read_doubles(call, call->inputs[0], &x);
    if (status == XAI_OK)
        status = operator_read_doubles(call, given, &slopes);
    if (status == XAI_OK)
        status = operator_allocate(call, tensor_count(wanted), &gx);
    if (status == XAI_OK)
        status = run_regions(call, &self, x, NULL, slopes, gx);
    if (status == XAI_OK && tensor_count(wanted) > 0)
        tensor_write_doubles(wanted, 0, tensor_count(wanted), gx);
    memory_free(x);
    memory_free(slopes);
    memory_free(gx);
    return status;
}

/* --- NonMaxSuppression: (image, class, box) of the boxes that stay, best first. How many stay
 * hangs on the scores, so these must be constants here. --- */

typedef struct suppression {
    size_t images, classes, boxes, limit;
    double overlap, least;
    bool centred, has_least;
    double *ranges,
        *scores; /* (images, boxes, 4): low and high along either axis; (images, classes, boxes) */
} suppression;

static void suppression_free(suppression *self)
{
    memory_free(self->ranges);
    memory_free(self->scores);
}

/* From the corners (or the middle and the size) of a box; the axes' names do not matter for the overlap. */
static void find_ranges(const suppression *self, double box[4])
{
    double ranges[4];
    for (int axis = 0; axis < 2; axis++) {
        const double a = self->centred ? box[axis] - box[axis + 2] / 2 : box[axis],
                     b = self->centred ? box[axis] + box[axis + 2] / 2 : box[axis + 2];
        ranges[2 * axis] = self->centred || a < b ? a : b;
        ranges[2 * axis + 1] = self->centred || a < b ? b : a;
    }
    memcpy(box, ranges, sizeof ranges);
}

static xai_status suppression_make(const operator_call *call, suppression *self)
{
    char b_text[SHAPE_TEXT_SIZE], s_text[SHAPE_TEXT_SIZE];
    int64_t centred = 0, limit = 0;
    const shape *boxes = &call->inputs[0]->shape, *scores = &call->inputs[1]->shape;
    *self = (suppression){0};
    for (int i = 0; i < call->input_count; i++)
        if (operator_has_input(call, i) && !call->inputs[i]->data)
            return operator_needs_data(
                call, "how many boxes stay depends on values computed at run time");
    if (boxes->rank != 3 || boxes->dims[2] != 4 || scores->rank != 3 ||
        scores->dims[0] != boxes->dims[0] || scores->dims[2] != boxes->dims[1])
        return operator_error(call, XAI_ERROR_SHAPE,
                              "boxes of shape %s and scores of shape %s do not fit",
                              shape_text(boxes, b_text), shape_text(scores, s_text));
    xai_status status = operator_attribute_int(call, "center_point_box", 0, &centred);
    for (int i = 2; i < 5 && status == XAI_OK; i++)
        if (operator_has_input(call, i) && tensor_count(call->inputs[i]) != 1)
            status = operator_error(call, XAI_ERROR_SHAPE, "input %d is not one number", i);
    if (status != XAI_OK)
        return status;
    if (operator_has_input(call, 2))
        limit = tensor_get_int(call->inputs[2], 0);
    self->overlap = operator_has_input(call, 3) ? tensor_get(call->inputs[3], 0) : 0;
    self->has_least = operator_has_input(call, 4);
    self->least = self->has_least ? tensor_get(call->inputs[4], 0) : 0;
    self->images = (size_t)boxes->dims[0];
    self->classes = (size_t)scores->dims[1];
    self->boxes = (size_t)boxes->dims[1];
    self->limit = limit > 0 ? (size_t)limit : 0;
    self->centred = centred != 0;
    status = operator_read_doubles(call, call->inputs[0], &self->ranges);
    for (size_t i = 0; status == XAI_OK && i < self->images * self->boxes; i++)
        find_ranges(self, self->ranges + 4 * i);
    return status == XAI_OK ? operator_read_doubles(call, call->inputs[1], &self->scores) : status;
}

static bool overlaps(const suppression *self, const double *a, const double *b)
{
    const double width = (a[1] < b[1] ? a[1] : b[1]) - (a[0] > b[0] ? a[0] : b[0]),
                 height = (a[3] < b[3] ? a[3] : b[3]) - (a[2] > b[2] ? a[2] : b[2]);
    if (!(width > 0) || !(height > 0))
        return false;
    const double shared = width * height, area_a = (a[1] - a[0]) * (a[3] - a[2]),
                 area_b = (b[1] - b[0]) * (b[3] - b[2]), all = area_a + area_b - shared;
    return shared > 0 && area_a > 0 && area_b > 0 && all > 0 &&
           (double)(float)(shared / all) > self->overlap;
}

typedef struct candidate {
    double score;
    size_t box;
} candidate;

/* Highest score first, of equal ones the first box. */
static int compare_candidates(const void *left, const void *right)
{
    const candidate *a = left, *b = right;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return (a->box > b->box) - (a->box < b->box);
}

/* The boxes of one image and class that stay go to the front of `list`; their number. */
static size_t suppress(const suppression *self, size_t image, size_t class, candidate *list)
{
    const double *scores = self->scores + (image * self->classes + class) * self->boxes,
                 *boxes = self->ranges + image * self->boxes * 4;
    size_t count = 0, kept = 0;
    for (size_t i = 0; i < self->boxes; i++)
        if (scores[i] == scores[i] && (!self->has_least || scores[i] > self->least))
            list[count++] = (candidate){scores[i], i};
    qsort(list, count, sizeof *list, compare_candidates);
    for (size_t i = 0; i < count && kept < self->limit; i++) {
        bool stays = true;
        for (size_t k = 0; stays && k < kept; k++)
            stays = !overlaps(self, boxes + 4 * list[i].box, boxes + 4 * list[k].box);
        if (stays)
            list[kept++] = list[i];
    }
    return kept;
}

/* Counts, and writes when `out`. */
static xai_status suppression_run(operator_call *call, size_t *total, tensor *out)
{
    suppression self = {0};
    candidate *list = NULL;
    xai_status status = suppression_make(call, &self);
    if (status == XAI_OK) {
        list = memory_allocate(self.boxes, sizeof *list);
        if (!list)
            status = error_memory(call->error, "boxes", self.boxes * sizeof *list);
    }
    *total = 0;
    for (size_t i = 0; i < self.images * self.classes && status == XAI_OK; i++) {
        const size_t kept = suppress(&self, i / self.classes, i % self.classes, list);
        for (size_t k = 0; out && k < kept; k++) {
            tensor_set_int(out, 3 * (*total + k), (int64_t)(i / self.classes));
            tensor_set_int(out, 3 * (*total + k) + 1, (int64_t)(i % self.classes));
            tensor_set_int(out, 3 * (*total + k) + 2, (int64_t)list[k].box);
        }
        *total += kept;
    }
    memory_free(list);
    suppression_free(&self);
    return status;
}

static xai_status suppression_infer(operator_call *call)
{
    size_t total = 0;
    xai_status status = operator_check(call);
    for (int i = 0; i < call->input_count && status == XAI_OK; i++)
        if (operator_has_input(call, i))
            status = operator_check_type(call, i, i == 2 ? 1u << DTYPE_INT64 : 1u << DTYPE_FLOAT);
    if (status == XAI_OK)
        status = suppression_run(call, &total, NULL);
    const shape y = shape_make(2, (const int64_t[]){(int64_t)total, 3});
    return status == XAI_OK ? operator_set_output(call, 0, DTYPE_INT64, &y) : status;
}

static xai_status suppression_forward(operator_call *call)
{
    size_t total;
    return suppression_run(call, &total, call->outputs[0]);
}

const operator_definition operator_roi_align = {
    .name = "RoiAlign",
    .domain = "",
    .min_inputs = 3,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 10,
    .backward_reads = OPERATOR_READS_INPUT(0) | OPERATOR_READS_INPUT(1) | OPERATOR_READS_INPUT(2),
    .infer = roi_align_infer,
    .forward = roi_align_forward,
    .backward = roi_align_backward,
};

const operator_definition operator_non_max_suppression = {
    .name = "NonMaxSuppression",
    .domain = "",
    .min_inputs = 2,
    .max_inputs = 5,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 10,
    .infer = suppression_infer,
    .forward = suppression_forward,
};
