#include "npy/npy.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Element types by the letter and size of NumPy's descr, such as "<f4". */
static const struct {
    char kind, size;
    int8_t dtype;
} types[] = {
    {'f', 4, 1}, {'u', 1, 2}, {'i', 1, 3},  {'u', 2, 4},  {'i', 2, 5},  {'i', 4, 6},
    {'i', 8, 7}, {'b', 1, 9}, {'f', 2, 10}, {'f', 8, 11}, {'u', 4, 12}, {'u', 8, 13},
};

/* The header is a Python dictionary: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } */
typedef struct reader {
    const char *at, *end;
} reader;

static void skip_spaces(reader *self)
{
    while (self->at < self->end && (*self->at == ' ' || *self->at == '\n' || *self->at == '\t'))
        self->at++;
}

static bool take(reader *self, char c)
{
    skip_spaces(self);
    if (self->at == self->end || *self->at != c)
        return false;
    self->at++;
    return true;
}

static bool take_word(reader *self, const char *word)
{
    const size_t length = strlen(word);
    skip_spaces(self);
    if ((size_t)(self->end - self->at) < length || memcmp(self->at, word, length) != 0)
        return false;
    self->at += length;
    return true;
}

/* A quoted string without escapes. */
static bool take_string(reader *self, const char **string, size_t *length)
{
    skip_spaces(self);
    if (self->at == self->end || (*self->at != '\'' && *self->at != '"'))
        return false;
    const char quote = *self->at++;
    const char *closing = memchr(self->at, quote, (size_t)(self->end - self->at));
    if (!closing)
        return false;
    *string = self->at;
    *length = (size_t)(closing - self->at);
    self->at = closing + 1;
    return true;
}

static bool take_number(reader *self, int64_t *number)
{
    skip_spaces(self);
    const char *begin = self->at;
    int64_t value = 0;
    while (self->at < self->end && *self->at >= '0' && *self->at <= '9') {
        const int digit = *self->at++ - '0';
        if (value > (INT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *number = value;
    return self->at > begin;
}

static const char *read_type(reader *self, npy_array *out)
{
    const char *descr;
    size_t length;
    if (!take_string(self, &descr, &length))
        return "its elements are records, not numbers";
    if (length != 3 || !strchr("<>|=", descr[0]))
        return "its element type is not a number that libxai reads";
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].kind == descr[1] && types[i].size == descr[2] - '0') {
            out->dtype = types[i].dtype;
            out->item_size = (size_t)types[i].size;
            out->big_endian = descr[0] == '>';
            return NULL;
        }
    }
    return "its element type is not a number that libxai reads";
}

/* (), (3,), (3, 4) or (3, 4,) */
static const char *read_shape(reader *self, npy_array *out)
{
    if (!take(self, '('))
        return "its header has no shape";
    out->count = 1;
    while (!take(self, ')')) {
        if (out->rank == NPY_MAX_RANK)
            return "it has more than 8 axes";
        int64_t size;
        if (!take_number(self, &size))
            return "its shape is not a list of sizes";
        if (size > 0 && out->count > (size_t)PTRDIFF_MAX / (size_t)size)
            return "its shape is too large";
        out->count *= (size_t)size;
        out->dims[out->rank++] = size;
        if (!take(self, ',')) {
            if (!take(self, ')'))
                return "its shape is not a list of sizes";
            break;
        }
    }
    return NULL;
}

static const char *read_dictionary(reader *self, npy_array *out)
{
    bool has_type = false, has_order = false, has_shape = false;
    if (!take(self, '{'))
        return "its header is damaged";
    while (!take(self, '}')) {
        const char *key, *problem = NULL;
        size_t length;
        if (!take_string(self, &key, &length) || !take(self, ':'))
            return "its header is damaged";
        if (length == 5 && memcmp(key, "descr", 5) == 0 && !has_type) {
            problem = read_type(self, out);
            has_type = true;
        } else if (length == 13 && memcmp(key, "fortran_order", 13) == 0 && !has_order) {
            out->fortran_order = take_word(self, "True");
            if (!out->fortran_order && !take_word(self, "False"))
                problem = "its header is damaged";
            has_order = true;
        } else if (length == 5 && memcmp(key, "shape", 5) == 0 && !has_shape) {
            problem = read_shape(self, out);
            has_shape = true;
        } else {
            problem = "its header is damaged";
        }
        if (problem)
            return problem;
        if (!take(self, ',')) {
            if (!take(self, '}'))
                return "its header is damaged";
            break;
        }
    }
    return has_type && has_order && has_shape ? NULL : "its header is incomplete";
}

const char *npy_parse(const void *bytes, size_t size, npy_array *out)
{
    const unsigned char *file = bytes;
    *out = (npy_array){0};
    if (size < 10 || memcmp(file, "\x93NUMPY", 6) != 0)
        return "it is not an NPY file";
    if (file[6] < 1 || file[6] > 3)
        return "its format version is unknown";
    const size_t begin = file[6] == 1 ? 10 : 12;
    if (size < begin)
        return "it is cut short";
    size_t length = (size_t)file[8] | (size_t)file[9] << 8;
    if (file[6] > 1)
        length |= (size_t)file[10] << 16 | (size_t)file[11] << 24;
    if (length > size - begin)
        return "it is cut short";
    const char *text = (const char *)file + begin;
    const char *problem = read_dictionary(&(reader){text, text + length}, out);
    if (problem)
        return problem;
    out->data = file + begin + length;
    if (out->count > (size - begin - length) / out->item_size)
        return "it is cut short";
    return NULL;
}

static bool machine_is_big_endian(void)
{
    const uint16_t probe = 1;
    unsigned char first;
    memcpy(&first, &probe, 1);
    return first == 0;
}

void npy_copy(const npy_array *self, void *out)
{
    unsigned char *to = out;
    const size_t size = self->item_size;
    const bool swap = self->big_endian != machine_is_big_endian();
    if (self->count == 0)
        return;
    if (!self->fortran_order && !swap) {
        memcpy(to, self->data, self->count * size);
        return;
    }
    int64_t index[NPY_MAX_RANK] = {0};
    size_t step[NPY_MAX_RANK] = {
        0}; /* elements from one entry of an axis to the next, in the file */
    size_t product = 1;
    for (int i = 0; i < self->rank; i++) {
        const int axis = self->fortran_order ? i : self->rank - 1 - i;
        step[axis] = product;
        product *= (size_t)self->dims[axis];
    }
    for (size_t i = 0; i < self->count; i++, to += size) {
        size_t at = 0;
        for (int axis = 0; axis < self->rank; axis++)
            at += (size_t)index[axis] * step[axis];
        const unsigned char *from = self->data + at * size;
        for (size_t b = 0; b < size; b++)
            to[b] = from[swap ? size - 1 - b : b];
        for (int axis = self->rank - 1; axis >= 0 && ++index[axis] == self->dims[axis]; axis--)
            index[axis] = 0;
    }
}

size_t npy_header(int32_t dtype, int rank, const int64_t *dims, char out[NPY_HEADER_SIZE])
{
    size_t type = 0;
    while (type < sizeof types / sizeof *types && types[type].dtype != dtype)
        type++;
    if (type == sizeof types / sizeof *types || rank < 0 || rank > NPY_MAX_RANK)
        return 0;
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    size_t length = 10;
    length +=
        (size_t)snprintf(out + length, NPY_HEADER_SIZE - length,
                         "{'descr': '%c%c%d', 'fortran_order': False, 'shape': (",
                         types[type].size == 1 ? '|' : '<', types[type].kind, types[type].size);
    for (int i = 0; i < rank; i++)
        length += (size_t)snprintf(out + length, NPY_HEADER_SIZE - length,
                                   i == 0 ? "%lld," : " %lld,", (long long)dims[i]);
    if (rank > 1)
        length--; /* (3,) keeps its comma, (3, 4) has none */
    length += (size_t)snprintf(out + length, NPY_HEADER_SIZE - length, "), }");
    const size_t total = (length + 1 + 63) / 64 * 64;
    memset(out + length, ' ', total - length - 1);
    out[total - 1] = '\n';
    out[8] = (char)((total - 10) & 0xff);
    out[9] = (char)((total - 10) >> 8);
    return total;
}
