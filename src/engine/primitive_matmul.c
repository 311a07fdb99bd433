/* Matrix products: (B, M, K) . (B or 1, K, N) + bias, plain row-major, transposes as strides.
 *
 * With one constant b the rows are the positions of a 1x1 convolution over K channels (channels last): the same numbers,
 * faster, and with bits that do not depend on the thread count. Otherwise oneDNN's matrix product, which cuts its sums by
 * thread: it runs on one thread, over tiles of rows whose size depends on the shape alone. */
#ifdef XAI_HAVE_ONEDNN

#include <string.h>

#include "engine/kernels_private.h"
#include "engine/primitive_private.h"

#define TILE_ROWS 64 /* at most; a tile re-reads all of b, so not much fewer */

/* (rows, columns), stored as (columns, rows) when transposed; `stride` elements from one stored row to the next. */
static dnnl_status_t describe_matrix(dnnl_memory_desc_t *out, int64_t rows, int64_t columns,
                                     bool transposed, int64_t stride)
{
    const dnnl_dims_t dims = {rows, columns},
                      strides = {transposed ? 1 : stride, transposed ? stride : 1};
    return dnnl_memory_desc_create_with_strides(out, 2, dims, dnnl_f32, strides);
}

static xai_status check_sizes(const primitive_spec *spec, xai_error **error)
{
    const int64_t sizes[] = {spec->batch, spec->rows, spec->columns, spec->depth};
    size_t product = sizeof(float); /* B M N K bounds each operand */
    bool good = true;
    for (int i = 0; i < 4; i++)
        good = good && sizes[i] >= 1 && size_multiply(product, (size_t)sizes[i], &product);
    return good ? XAI_OK
                : error_set(error, XAI_ERROR_UNSUPPORTED, NULL,
                            "oneDNN has no matrix product of these sizes");
}

/* (1, K, rows) channels last . (N, K, 1) */
static dnnl_status_t describe_positions(const primitive *self, bool post,
                                        dnnl_primitive_desc_t *out)
{
    const primitive_spec *spec = &self->spec;
    const int64_t rows = spec->batch * spec->rows;
    const dnnl_dims_t source_dims = {1, spec->depth, rows},
                      destination_dims = {1, spec->columns, rows};
    const dnnl_dims_t weights_dims = {spec->columns, spec->depth, 1}, bias_dims = {spec->columns},
                      one = {1}, zero = {0};
    dnnl_memory_desc_t source = NULL, weights = NULL, bias = NULL, destination = NULL;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_status_t code =
        dnnl_memory_desc_create_with_tag(&source, 3, source_dims, dnnl_f32, dnnl_nwc);
    if (code == dnnl_success)
        code = dnnl_memory_desc_create_with_tag(&weights, 3, weights_dims, dnnl_f32,
                                                dnnl_format_tag_any);
    if (code == dnnl_success)
        code =
            dnnl_memory_desc_create_with_tag(&destination, 3, destination_dims, dnnl_f32, dnnl_nwc);
    if (code == dnnl_success && spec->has_bias)
        code = dnnl_memory_desc_create_with_tag(&bias, 1, bias_dims, dnnl_f32, dnnl_a);
    if (code == dnnl_success)
        code = primitive_attributes(spec, post, destination, &attributes);
    if (code == dnnl_success)
        code = dnnl_convolution_forward_primitive_desc_create(
            out, self->engine, dnnl_forward_inference, dnnl_convolution_direct, source, weights,
            bias, destination, one, zero, zero, zero, attributes);
    dnnl_primitive_attr_destroy(attributes);
    dnnl_memory_desc_destroy(source);
    dnnl_memory_desc_destroy(weights);
    dnnl_memory_desc_destroy(bias);
    dnnl_memory_desc_destroy(destination);
    return code;
}

/* A tile of `rows` rows of one batch item. `weights`: NULL, or the layout that another tile chose. */
static dnnl_status_t describe_tile(const primitive *self, int64_t rows,
                                   const_dnnl_memory_desc_t weights, dnnl_primitive_desc_t *out)
{
    const primitive_spec *spec = &self->spec;
    const dnnl_dims_t bias_dims = {1, spec->columns}, b_dims = {spec->depth, spec->columns};
    dnnl_memory_desc_t a = NULL, b = NULL, bias = NULL, destination = NULL;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_status_t code = describe_matrix(&a, rows, spec->depth, spec->transpose_a,
                                         spec->transpose_a ? spec->rows : spec->depth);
    if (code == dnnl_success && weights == NULL)
        code = spec->constant_weights && spec->shared_b
                   ? dnnl_memory_desc_create_with_tag(&b, 2, b_dims, dnnl_f32, dnnl_format_tag_any)
                   : describe_matrix(&b, spec->depth, spec->columns, spec->transpose_b,
                                     spec->transpose_b ? spec->depth : spec->columns);
    if (code == dnnl_success)
        code = describe_matrix(&destination, rows, spec->columns, false, spec->columns);
    if (code == dnnl_success && spec->has_bias)
        code = dnnl_memory_desc_create_with_tag(&bias, 2, bias_dims, dnnl_f32, dnnl_ab);
    if (code == dnnl_success)
        code = primitive_attributes(spec, true, destination, &attributes);
    if (code == dnnl_success)
        code = dnnl_matmul_primitive_desc_create(
            out, self->engine, a, weights == NULL ? b : weights, bias, destination, attributes);
    dnnl_primitive_attr_destroy(attributes);
    dnnl_memory_desc_destroy(a);
    dnnl_memory_desc_destroy(b);
    dnnl_memory_desc_destroy(bias);
    dnnl_memory_desc_destroy(destination);
    return code;
}

static dnnl_status_t describe_tiles(primitive *self)
{
    const int64_t rows = self->spec.rows, wished = (rows + TILE_ROWS - 1) / TILE_ROWS;
    const int64_t even = (rows + wished - 1) / wished; /* tiles of equal size, in whole vectors */
    self->tiled = true;
    self->threads = 1;
    primitive_threads_enter(1);
    self->tile_rows = wished == 1 ? rows : (even + 7) / 8 * 8;
    self->tiles = (rows + self->tile_rows - 1) / self->tile_rows;
    const int64_t tail = rows - (self->tiles - 1) * self->tile_rows;
    dnnl_status_t code = describe_tile(self, self->tile_rows, NULL, &self->descriptor);
    if (code == dnnl_success && tail != self->tile_rows)
        code = describe_tile(
            self, tail, dnnl_primitive_desc_query_md(self->descriptor, dnnl_query_weights_md, 0),
            &self->tail_descriptor);
    return code;
}

xai_status primitive_describe_matmul(primitive *self, xai_error **error)
{
    const primitive_spec *spec = &self->spec;
    xai_status status = check_sizes(spec, error);
    if (status != XAI_OK)
        return status;
    dnnl_status_t code = dnnl_unimplemented;
    if (spec->constant_weights && spec->shared_b && !spec->transpose_a) {
        code = describe_positions(self, true, &self->descriptor);
        self->rows_as_positions = code == dnnl_success &&
                                  primitive_name(self->descriptor, self->implementation) &&
                                  !primitive_sums_by_thread(self->implementation);
    }
    if (!self->rows_as_positions) {
        char tail_name[64];
        dnnl_primitive_desc_destroy(self->descriptor);
        self->descriptor = NULL;
        code = describe_tiles(self);
        if (code != dnnl_success)
            return primitive_failure(code, XAI_ERROR_UNSUPPORTED, "matrix product", error);
        if (!primitive_name(self->descriptor, self->implementation) ||
            (self->tail_descriptor != NULL && !primitive_name(self->tail_descriptor, tail_name)))
            return error_set(error, XAI_ERROR_UNSUPPORTED, NULL,
                             "oneDNN has no fast matrix product of these sizes");
    }
    const_dnnl_primitive_desc_t d = self->descriptor;
    self->source = dnnl_primitive_desc_query_md(d, dnnl_query_src_md, 0);
    self->weights = dnnl_primitive_desc_query_md(d, dnnl_query_weights_md, 0);
    self->bias = dnnl_primitive_desc_query_md(d, dnnl_query_weights_md, 1);
    self->destination = dnnl_primitive_desc_query_md(d, dnnl_query_dst_md, 0);
    self->scratchpad = dnnl_primitive_desc_query_md(d, dnnl_query_scratchpad_md, 0);
    self->source_argument = DNNL_ARG_SRC;
    self->destination_argument = DNNL_ARG_DST;
    if (spec->add_other)
        self->other_argument =
            DNNL_ARG_ATTR_MULTIPLE_POST_OP(spec->add_to_destination ? 1 : 0) | DNNL_ARG_SRC_1;
    self->operations = 2.0 * (double)spec->batch * (double)spec->rows * (double)spec->columns *
                       (double)spec->depth;
    return XAI_OK;
}

/* The arguments of one thread's tiles of one size; only where they point changes from tile to tile. */
typedef struct tile_call {
    dnnl_primitive_t operation;
    dnnl_exec_arg_t list[6];
    int count;
    int destination, other; /* positions in the list; other 0 = none */
} tile_call;

static dnnl_status_t open_call(const primitive *self, const primitive_arguments *arguments,
                               bool is_tail, char *scratch, tile_call *out)
{
    const_dnnl_primitive_desc_t d = is_tail ? self->tail_descriptor : self->descriptor;
    const_dnnl_memory_desc_t destination = dnnl_primitive_desc_query_md(d, dnnl_query_dst_md, 0);
    *out = (tile_call){.operation = is_tail ? self->tail : self->operation};
    dnnl_status_t code = primitive_bind(self, dnnl_primitive_desc_query_md(d, dnnl_query_src_md, 0),
                                        arguments->source, DNNL_ARG_SRC, out->list, &out->count);
    if (code == dnnl_success)
        code = primitive_bind(self, self->weights, arguments->weights, DNNL_ARG_WEIGHTS, out->list,
                              &out->count);
    if (code == dnnl_success && self->spec.has_bias)
        code = primitive_bind(self, self->bias, arguments->bias, DNNL_ARG_BIAS, out->list,
                              &out->count);
    out->destination = out->count;
    if (code == dnnl_success)
        code = primitive_bind(self, destination, arguments->destination, DNNL_ARG_DST, out->list,
                              &out->count);
    if (code == dnnl_success && self->other_argument != 0) {
        out->other = out->count;
        code = primitive_bind(self, destination, arguments->other, self->other_argument, out->list,
                              &out->count);
    }
    if (code == dnnl_success && self->library_bytes > 0)
        code = primitive_bind(self, dnnl_primitive_desc_query_md(d, dnnl_query_scratchpad_md, 0),
                              scratch, DNNL_ARG_SCRATCHPAD, out->list, &out->count);
    return code;
}

static dnnl_status_t point(const tile_call *call, int argument, const float *to)
{
    return dnnl_memory_set_data_handle(call->list[argument].memory, (void *)(uintptr_t)to);
}

static dnnl_status_t run_tile(const primitive *self, const primitive_arguments *arguments,
                              size_t item, const tile_call *call)
{
    const primitive_spec *spec = &self->spec;
    const size_t batch = item / (size_t)self->tiles, tile = item % (size_t)self->tiles,
                 first = tile * (size_t)self->tile_rows;
    const size_t m = (size_t)spec->rows, n = (size_t)spec->columns, k = (size_t)spec->depth;
    const size_t a_offset = batch * m * k + (spec->transpose_a ? first : first * k),
                 offset = (batch * m + first) * n;
    dnnl_status_t code = point(call, 0, arguments->source + a_offset);
    if (code == dnnl_success && !spec->shared_b)
        code = point(call, 1, arguments->weights + batch * k * n);
    if (code == dnnl_success)
        code = point(call, call->destination, arguments->destination + offset);
    if (code == dnnl_success && call->other != 0)
        code = point(call, call->other, arguments->other + offset);
    return code == dnnl_success
               ? dnnl_primitive_execute(call->operation, self->stream, call->count, call->list)
               : code;
}

/* Items [begin, end) in the calling thread. */
static dnnl_status_t run_items(const primitive *self, const primitive_arguments *arguments,
                               size_t begin, size_t end, char *scratch)
{
    tile_call calls[2] = {{0}, {0}}; /* whole tiles, and the last one of an item */
    const int before = primitive_threads_enter(1);
    dnnl_status_t code = open_call(self, arguments, false, scratch, &calls[0]);
    if (code == dnnl_success && self->tail != NULL)
        code = open_call(self, arguments, true, scratch, &calls[1]);
    for (size_t item = begin; code == dnnl_success && item < end; item++) {
        const bool is_tail =
            self->tail != NULL && item % (size_t)self->tiles == (size_t)self->tiles - 1;
        code = run_tile(self, arguments, item, &calls[is_tail]);
    }
    primitive_threads_leave(before, 1);
    for (int i = 0; i < 2; i++)
        primitive_unbind(calls[i].list, calls[i].count);
    return code;
}

xai_status primitive_run_tiles(const primitive *self, const primitive_arguments *arguments,
                               xai_error **error)
{
    const size_t items = (size_t)self->spec.batch * (size_t)self->tiles;
    const int team = kernel_threads(self->spec.threads, items < 2 ? 0 : (size_t)self->operations);
    const size_t parts = (size_t)team < items ? (size_t)team : items;
    dnnl_status_t failure = dnnl_success;
    KERNEL_PARALLEL(team)
    for (size_t part = 0; part < parts; part++) {
        const dnnl_status_t code =
            run_items(self, arguments, items * part / parts, items * (part + 1) / parts,
                      (char *)arguments->scratchpad + self->library_bytes * part);
        if (code != dnnl_success) {
            KERNEL_ATOMIC_WRITE
            failure = code;
        }
    }
    return failure == dnnl_success
               ? XAI_OK
               : primitive_failure(failure, XAI_ERROR_INTERNAL, "execution", error);
}

#else
typedef int primitive_matmul_without_onednn; /* an empty file is not C */
#endif
