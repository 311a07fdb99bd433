#include "input.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli.h"
#include "files.h"
#include "npy/npy.h"

static const size_t file_limit = (size_t)1 << 32;

bool window_parse(const char *text, window *out)
{
    char *end, *last;
    out->low = strtod(text, &end);
    if (end == text || *end != ',')
        return false;
    out->high = strtod(end + 1, &last);
    return last != end + 1 && *last == '\0' && isfinite(out->low) && isfinite(out->high) &&
           out->low < out->high;
}

void input_set_free(input_set *self)
{
    for (size_t i = 0; self->tensors && i < self->count; i++)
        xai_tensor_free(self->tensors[i]);
    memory_free(self->tensors);
    memory_free(self->pixels);
    *self = (input_set){0};
}

static bool out_of_memory(const char *path)
{
    report("cannot read %s: out of memory", path);
    return false;
}

/* The window given, else the whole depth of the picture. */
static window full_window(const picture *from, window range)
{
    return range.low != range.high ? range : (window){0, from->white};
}

/* The picture in 8 bits, to draw on. */
static bool keep_pixels(input_set *self, const picture *from, window range)
{
    const size_t count = from->height * from->width * (size_t)from->channels;
    const window full = full_window(from, range);
    self->pixels = memory_allocate(count, 1);
    for (size_t i = 0; self->pixels && i < count; i++) {
        const double value = (from->pixels[i] - full.low) / (full.high - full.low);
        self->pixels[i] = (uint8_t)lrint(255 * (value > 0 ? (value < 1 ? value : 1) : 0));
    }
    self->height = from->height;
    self->width = from->width;
    self->channels = from->channels;
    return self->pixels != NULL;
}

/* As the model card says: (1, C, H, W) or (1, H, W, C). */
static bool tensor_from_picture(const picture *from, const xai_model *model, size_t index,
                                const char *path, window range, xai_tensor **out)
{
    xai_error *error = NULL;
    const window full = full_window(from, range);
    if (xai_model_image_input(model, index, from->pixels, XAI_DTYPE_UINT16, from->width,
                              from->height, from->channels, full.low, full.high, out,
                              &error) == XAI_OK)
        return true;
    report_error(path, error);
    return false;
}

/* An NPY of unsigned integers as a picture; false when it is not one. */
static bool picture_from_array(const npy_array *array, picture *out, bool *failed)
{
    const bool bytes = array->dtype == XAI_DTYPE_UINT8;
    if ((!bytes && array->dtype != XAI_DTYPE_UINT16) || (array->rank != 2 && array->rank != 3) ||
        array->count == 0)
        return false;
    if (array->rank == 3 && array->dims[2] != 3 && array->dims[2] != 1)
        return false;
    *out = (picture){.height = (size_t)array->dims[0],
                     .width = (size_t)array->dims[1],
                     .channels = array->rank == 3 ? (int)array->dims[2] : 1,
                     .white = bytes ? 255 : 65535};
    out->pixels = memory_allocate(array->count, sizeof *out->pixels);
    *failed = out->pixels == NULL;
    if (*failed)
        return true;
    npy_copy(array, out->pixels);
    if (bytes) { /* widen in place, from the end */
        const unsigned char *narrow = (const unsigned char *)out->pixels;
        for (size_t i = array->count; i-- > 0;)
            out->pixels[i] = narrow[i];
    }
    return true;
}

/* The array itself as a tensor. float64 and float16 become float32 for a float32 input. */
static bool tensor_from_array(const npy_array *array, const xai_model *model, size_t index,
                              const char *path, xai_tensor **out)
{
    const int32_t wanted_rank = model ? xai_model_input_rank(model, index) : array->rank,
                  wanted = model ? xai_model_input_dtype(model, index) : array->dtype;
    const int missing = wanted_rank > array->rank ? wanted_rank - array->rank : 0;
    int64_t dims[XAI_MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1};
    if (array->rank + missing > XAI_MAX_RANK) {
        report("%s has too many axes", path);
        return false;
    }
    memcpy(dims + missing, array->dims, (size_t)array->rank * sizeof *dims);
    const bool narrow = wanted == XAI_DTYPE_FLOAT32 && array->dtype == XAI_DTYPE_FLOAT64;
    xai_error *error = NULL;
    if (xai_tensor_create(narrow ? XAI_DTYPE_FLOAT32 : array->dtype, array->rank + missing, dims,
                          NULL, out, &error) != XAI_OK) {
        report_error(path, error);
        return false;
    }
    if (!narrow) {
        npy_copy(array, xai_tensor_mutable_data(*out));
        return true;
    }
    double *wide = memory_allocate(array->count, sizeof *wide);
    if (!wide)
        return out_of_memory(path);
    npy_copy(array, wide);
    float *values = xai_tensor_mutable_data(*out);
    for (size_t i = 0; i < array->count; i++)
        values[i] = (float)wide[i];
    memory_free(wide);
    return true;
}

/* A row of a tensor (N, C, H, W), (N, H, W, C) or (N, H, W) as a picture to draw on: its smallest
 * value black, its largest white. */
static bool keep_pixels_of_tensor(input_set *self, const xai_tensor *values, size_t row)
{
    const int32_t rank = xai_tensor_rank(values);
    const int64_t *dims = xai_tensor_dims(values);
    if (xai_tensor_dtype(values) != XAI_DTYPE_FLOAT32 || (rank != 4 && rank != 3) ||
        row >= (size_t)dims[0] || xai_tensor_count(values) == 0)
        return true;
    const bool last = rank == 4 && (dims[3] == 1 || dims[3] == 3) && dims[1] != 1 && dims[1] != 3;
    const size_t height = (size_t)dims[last ? 1 : rank - 2],
                 width = (size_t)dims[last ? 2 : rank - 1], pixels = height * width;
    const size_t planes = rank == 4 ? (size_t)dims[last ? 3 : 1] : 1,
                 channels = planes == 3 ? 3 : 1;
    const size_t plane_stride = last ? 1 : pixels, pixel_stride = last ? planes : 1;
    const float *first = (const float *)xai_tensor_data(values) + row * planes * pixels;
    float low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < channels * pixels; i++) { /* of the channels drawn, wherever they lie */
        low = fminf(low, first[i]);
        high = fmaxf(high, first[i]);
    }
    self->pixels = memory_allocate(pixels, channels);
    if (!self->pixels)
        return false;
    const double scale = high > low ? 255 / ((double)high - low) : 0;
    for (size_t i = 0; i < pixels; i++) {
        for (size_t c = 0; c < channels; c++) {
            const double value = ((double)first[c * plane_stride + i * pixel_stride] - low) * scale;
            self->pixels[i * channels + c] = value > 0 ? (uint8_t)(value + 0.5) : 0;
        }
    }
    self->height = height;
    self->width = width;
    self->channels = (int)channels;
    return true;
}

static bool read_one(input_set *self, const xai_model *model, size_t index, const char *path,
                     window range, size_t row)
{
    size_t size;
    picture drawing = {0};
    npy_array array;
    const char *problem;
    bool is_picture = false, failed = false, done = false;
    void *bytes = file_read(path, file_limit, &size);
    if (!bytes)
        return false;
    if (png_is(bytes, size)) {
        is_picture = png_read(path, bytes, size, &drawing);
        if (!is_picture)
            goto done;
    } else if ((problem = npy_parse(bytes, size, &array)) != NULL) {
        if (size < 6 || memcmp(bytes, "\x93NUMPY", 6) != 0)
            report("cannot read %s: it is neither a PNG nor an NPY file", path);
        else
            report("cannot read %s: %s", path, problem);
        goto done;
    } else {
        const int32_t wanted = xai_model_input_dtype(model, index);
        if (wanted != XAI_DTYPE_UINT8 && wanted != XAI_DTYPE_UINT16)
            is_picture = picture_from_array(&array, &drawing, &failed);
        if (failed) {
            out_of_memory(path);
            goto done;
        }
    }
    done = is_picture
               ? tensor_from_picture(&drawing, model, index, path, range, &self->tensors[index])
               : tensor_from_array(&array, model, index, path, &self->tensors[index]);
    if (done && index == 0) {
        done = is_picture ? keep_pixels(self, &drawing, range)
                          : keep_pixels_of_tensor(self, self->tensors[0], row);
        if (!done)
            out_of_memory(path);
    }
done:
    picture_free(&drawing);
    memory_free(bytes);
    return done;
}

xai_tensor *npy_read(const xai_model *model, size_t input, const char *path)
{
    size_t size;
    npy_array array;
    xai_tensor *made = NULL;
    void *bytes = file_read(path, file_limit, &size);
    if (!bytes)
        return NULL;
    const char *problem = npy_parse(bytes, size, &array);
    if (problem)
        report("cannot read %s: %s", path, problem);
    else if (!tensor_from_array(&array, model, input, path, &made))
        made = NULL;
    memory_free(bytes);
    return made;
}

static bool make_room(input_set *self, size_t count)
{
    *self = (input_set){.count = count};
    self->tensors = memory_allocate_zeroed(count, sizeof *self->tensors);
    if (!self->tensors)
        report("out of memory");
    return self->tensors != NULL;
}

bool input_set_read(input_set *self, const xai_model *model, const char *const *paths, size_t count,
                    window range, size_t row)
{
    const size_t inputs = xai_model_input_count(model);
    *self = (input_set){0};
    if (count != inputs) {
        report("the model has %zu input%s, one file each, but %zu %s given", inputs,
               inputs == 1 ? "" : "s", count, count == 1 ? "was" : "were");
        return false;
    }
    if (!make_room(self, count))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!read_one(self, model, i, paths[i], range, row)) {
            input_set_free(self);
            return false;
        }
    }
    return true;
}

bool input_set_invent(input_set *self, const xai_model *model, int64_t rows, int64_t size)
{
    if (!make_room(self, xai_model_input_count(model)))
        return false;
    uint32_t state = 1;
    for (size_t i = 0; i < self->count; i++) {
        const int32_t rank = xai_model_input_rank(model, i),
                      dtype = xai_model_input_dtype(model, i);
        int64_t dims[XAI_MAX_RANK];
        xai_error *error = NULL;
        if (rank < 0 || rank > XAI_MAX_RANK) {
            report("the model does not say the rank of input '%s'", xai_model_input_name(model, i));
            input_set_free(self);
            return false;
        }
        for (int32_t axis = 0; axis < rank; axis++) {
            const int64_t declared = xai_model_input_dims(model, i)[axis];
            dims[axis] = declared >= 0            ? declared
                         : axis == 0              ? 1
                         : axis == 1 && rank == 4 ? 3
                                                  : size;
        }
        if (rank > 0)
            dims[0] *= rows;
        if (xai_tensor_create(dtype ? dtype : XAI_DTYPE_FLOAT32, rank, dims, NULL,
                              &self->tensors[i], &error) != XAI_OK) {
            report_error(xai_model_input_name(model, i), error);
            input_set_free(self);
            return false;
        }
        float *values = xai_tensor_mutable_data(self->tensors[i]);
        for (size_t at = 0; dtype == XAI_DTYPE_FLOAT32 && at < xai_tensor_count(self->tensors[i]);
             at++) {
            state = state * 1664525U + 1013904223U; /* in [0, 1): speed does not depend on the
                                                       values, but zeros might help */
            values[at] = (float)(state >> 8) / 16777216.0F;
        }
    }
    return true;
}

bool npy_write(const char *path, FILE *file, const xai_tensor *values)
{
    char header[NPY_HEADER_SIZE];
    const size_t length = npy_header(xai_tensor_dtype(values), xai_tensor_rank(values),
                                     xai_tensor_dims(values), header);
    const size_t bytes = xai_tensor_bytes(values);
    if (length == 0) {
        report("cannot write %s: NPY has no type %s", path,
               xai_dtype_name(xai_tensor_dtype(values)));
        return false;
    }
    errno = 0;
    if (fwrite(header, 1, length, file) == length &&
        fwrite(xai_tensor_data(values), 1, bytes, file) == bytes)
        return true;
    report("cannot write %s: %s", path, errno ? strerror(errno) : "the file could not be written");
    return false;
}
