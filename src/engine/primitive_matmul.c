/* Matrix products: (B, M, K) . (B or 1, K, N) + bias, plain row-major, transposes as strides. */
#ifdef XAI_HAVE_ONEDNN

#include "engine/primitive_private.h"

/* (batch, rows, columns), stored as (columns, rows) when transposed; without the batch when it is 1 everywhere. */
static dnnl_status_t describe_matrix(dnnl_memory_desc_t *out, bool batched, int64_t batch, int64_t rows, int64_t columns, bool transposed)
{
    const dnnl_dims_t dims = {batch, rows, columns};
    const dnnl_dims_t strides = {rows * columns, transposed ? 1 : columns, transposed ? rows : 1};
    const int skip = batched ? 0 : 1;
    return dnnl_memory_desc_create_with_strides(out, 3 - skip, dims + skip, dnnl_f32, strides + skip);
}

static xai_status check_sizes(const primitive_spec *spec, xai_error **error)
{
    const int64_t sizes[] = {spec->batch, spec->rows, spec->columns, spec->depth};
    size_t product = sizeof(float); /* B M N K bounds each operand */
    bool good = true;
    for (int i = 0; i < 4; i++)
        good = good && sizes[i] >= 1 && size_multiply(product, (size_t)sizes[i], &product);
    return good ? XAI_OK : error_set(error, XAI_ERROR_UNSUPPORTED, NULL, "oneDNN has no matrix product of these sizes");
}

xai_status primitive_describe_matmul(primitive *self, xai_error **error)
{
    const primitive_spec *spec = &self->spec;
    xai_status status = check_sizes(spec, error);
    if (status != XAI_OK)
        return status;
    dnnl_memory_desc_t a = NULL, b = NULL, bias = NULL, destination = NULL;
    dnnl_primitive_attr_t attributes = NULL;
    /* One b for all: the batch is more rows. */
    const bool fold = spec->shared_b && !spec->transpose_a;
    const int64_t batch = fold ? 1 : spec->batch, rows = fold ? spec->batch * spec->rows : spec->rows;
    const bool batched = batch > 1;
    const dnnl_dims_t bias_dims = {1, 1, spec->columns}; /* its tail is (1, N) */
    const dnnl_dims_t b_dims = {spec->shared_b ? 1 : batch, spec->depth, spec->columns};
    const int skip = batched ? 0 : 1;
    dnnl_status_t code = describe_matrix(&a, batched, batch, rows, spec->depth, spec->transpose_a);
    if (code == dnnl_success)
        code = spec->constant_weights
                   ? dnnl_memory_desc_create_with_tag(&b, 3 - skip, b_dims + skip, dnnl_f32, dnnl_format_tag_any)
                   : describe_matrix(&b, batched, b_dims[0], spec->depth, spec->columns, spec->transpose_b);
    if (code == dnnl_success)
        code = describe_matrix(&destination, batched, batch, rows, spec->columns, false);
    if (code == dnnl_success && spec->has_bias)
        code = dnnl_memory_desc_create_with_tag(&bias, 3 - skip, bias_dims + skip, dnnl_f32, batched ? dnnl_abc : dnnl_ab);
    if (code == dnnl_success)
        code = primitive_attributes(spec, true, destination, &attributes);
    if (code == dnnl_success)
        code = dnnl_matmul_primitive_desc_create(&self->descriptor, self->engine, a, b, bias, destination, attributes);
    if (code == dnnl_success && self->threads > 1 && primitive_name(self->descriptor, self->implementation) &&
        primitive_sums_by_thread(self->implementation)) {
        self->threads = 1; /* plan for one thread, and stay there */
        primitive_threads_enter(1);
        dnnl_primitive_desc_destroy(self->descriptor);
        self->descriptor = NULL;
        code = dnnl_matmul_primitive_desc_create(&self->descriptor, self->engine, a, b, bias, destination, attributes);
    }
    if (code != dnnl_success) {
        status = primitive_failure(code, XAI_ERROR_UNSUPPORTED, "matrix product", error);
        goto done;
    }
    if (!primitive_name(self->descriptor, self->implementation)) {
        status = error_set(error, XAI_ERROR_UNSUPPORTED, NULL, "oneDNN has no fast matrix product of these sizes");
        goto done;
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
        self->other_argument = DNNL_ARG_ATTR_MULTIPLE_POST_OP(spec->add_to_destination ? 1 : 0) | DNNL_ARG_SRC_1;
    self->operations = 2.0 * (double)spec->batch * (double)spec->rows * (double)spec->columns * (double)spec->depth;
done:
    dnnl_primitive_attr_destroy(attributes);
    dnnl_memory_desc_destroy(a);
    dnnl_memory_desc_destroy(b);
    dnnl_memory_desc_destroy(bias);
    dnnl_memory_desc_destroy(destination);
    return status;
}

#else
typedef int primitive_matmul_without_onednn; /* an empty file is not C */
#endif
