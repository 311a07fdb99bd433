/* Prepared weights: the ONNX constant in the layout that the chosen implementation reads. */
#ifdef XAI_HAVE_ONEDNN

#include <string.h>

#include "engine/primitive_private.h"

static void key_dims(text *key, const char *name, const dnnl_dims_t *values, int count)
{
    text_format(key, ";%s", name);
    for (int i = 0; values != NULL && i < count; i++)
        text_format(key, ",%lld", (long long)(*values)[i]);
}

char *primitive_make_weights_key(const primitive *self)
{
    text key = {0};
    dnnl_format_kind_t kind = dnnl_format_kind_undef;
    const dnnl_dims_t *dims = NULL, *padded = NULL, *strides = NULL, *blocks = NULL,
                      *indices = NULL;
    int ndims = 0, block_count = 0;
    const_dnnl_memory_desc_t w = self->weights;
    if (self->own != NULL) {
        self->own->key(self, &key);
        return text_take(&key);
    }
    if (self->part_count > 0) {
        const window *v = &self->shape.geometry;
        text_append(&key, "phases");
        for (int i = 0; i < v->rank; i++)
            text_format(&key, ";kernel %lld stride %lld", (long long)v->kernel[i],
                        (long long)v->stride[i]);
        for (int i = 0; i < self->part_count; i++)
            text_format(&key, ";at %zu %s", self->part_weights[i], self->parts[i]->weights_key);
        return text_take(&key);
    }
    dnnl_memory_desc_query(w, dnnl_query_format_kind, &kind);
    dnnl_memory_desc_query(w, dnnl_query_ndims_s32, &ndims);
    dnnl_memory_desc_query(w, dnnl_query_dims, &dims);
    if (self->is_convolution)
        text_format(&key, "conv;groups %lld", (long long)self->shape.geometry.groups);
    if (self->is_convolution && self->form.in_phases) {
        const interleave *g = &self->form.phases;
        text_format(&key, ";phases %lld,%lld,%lld;channels %lld of %lld", (long long)g->stride[0],
                    (long long)g->stride[1], (long long)g->stride[2],
                    (long long)self->shape.input_channels, (long long)g->phase_channels);
        for (int i = 0; i < self->shape.geometry.rank; i++)
            text_format(&key, ";kernel %lld", (long long)self->shape.geometry.kernel[i]);
    }
    if (!self->is_convolution)
        text_format(&key, "matmul%s%s", self->rows_as_positions ? ";positions" : "",
                    self->spec.transpose_b ? ";transposed" : "");
    text_format(&key, ";bytes %zu", self->weights_bytes);
    key_dims(&key, "dims", dims, ndims);
    if (kind == dnnl_blocked &&
        dnnl_memory_desc_query(w, dnnl_query_padded_dims, &padded) == dnnl_success &&
        dnnl_memory_desc_query(w, dnnl_query_strides, &strides) == dnnl_success &&
        dnnl_memory_desc_query(w, dnnl_query_inner_nblks_s32, &block_count) == dnnl_success &&
        dnnl_memory_desc_query(w, dnnl_query_inner_blks, &blocks) == dnnl_success &&
        dnnl_memory_desc_query(w, dnnl_query_inner_idxs, &indices) == dnnl_success) {
        key_dims(&key, "padded", padded, ndims);
        key_dims(&key, "strides", strides, ndims);
        key_dims(&key, "blocks", blocks, block_count);
        key_dims(&key, "indices", indices, block_count);
    } else { /* an opaque layout is shared with nobody */
        text_format(&key, ";private %p", (const void *)self);
    }
    return text_take(&key);
}

/* Copy (M, C/g, k) weights into (G', M/G', C/G', k) with `merge` groups side by side and zeros between them. */
static void merge_groups(const convolution *c, int64_t merge, const char *weights, float *out)
{
    size_t taps = 1;
    for (int i = 0; i < c->geometry.rank; i++)
        taps *= (size_t)c->geometry.kernel[i];
    const size_t groups = (size_t)c->geometry.groups, m = (size_t)merge;
    const size_t outputs = (size_t)c->output_channels / groups,
                 inputs = (size_t)c->input_channels / groups;
    for (size_t o = 0; o < (size_t)c->output_channels; o++) { /* padding rows are zero already */
        const size_t member = o / outputs % m;
        float *row = out + o * m * inputs * taps;
        memset(row, 0, m * inputs * taps * sizeof *row);
        memcpy(row + member * inputs * taps, weights + o * inputs * taps * sizeof(float),
               inputs * taps * sizeof *row);
    }
}

static dnnl_status_t describe_plain(const primitive *self, dnnl_memory_desc_t *out, size_t *count)
{
    const dnnl_dims_t *dims = NULL;
    int ndims = 0;
    dnnl_status_t code = dnnl_memory_desc_query(self->weights, dnnl_query_ndims_s32, &ndims);
    if (code == dnnl_success)
        code = dnnl_memory_desc_query(self->weights, dnnl_query_dims, &dims);
    if (code != dnnl_success)
        return code;
    dnnl_dims_t strides;
    int64_t stride = 1;
    for (int i = ndims - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= (*dims)[i];
    }
    if (self->rows_as_positions && !self->spec.transpose_b) { /* (N, K, 1), stored as (K, N) */
        strides[0] = 1;
        strides[1] = (*dims)[0];
    }
    if (self->tiled && self->spec.transpose_b) { /* (K, N), stored as (N, K) */
        strides[0] = 1;
        strides[1] = (*dims)[0];
    }
    *count = (size_t)stride;
    return dnnl_memory_desc_create_with_strides(out, ndims, *dims, dnnl_f32, strides);
}

xai_status primitive_prepare_weights(const primitive *self, const void *weights, void *prepared,
                                     xai_error **error)
{
    if (self->own != NULL) {
        self->own->prepare(self, weights, prepared);
        return XAI_OK;
    }
    if (self->part_count > 0)
        return primitive_prepare_parts(self, weights, prepared, error);
    if (self->tiled && !self->spec.shared_b) { /* a matrix per batch item stays as it is */
        memcpy(prepared, weights, self->weights_bytes);
        return XAI_OK;
    }
    xai_status status = XAI_OK;
    dnnl_memory_desc_t plain = NULL;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t descriptor = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_memory_t from = NULL, to = NULL, scratch = NULL;
    float *copy = NULL, *scratch_bytes = NULL;
    size_t count = 0;
    /* One thread: most weights are small, and a second team size would make the OpenMP runtime start its threads anew. */
    const int before = primitive_threads_enter(1);
    dnnl_status_t code = describe_plain(self, &plain, &count);
    if (code != dnnl_success)
        goto done;
    copy = memory_allocate_aligned(count * sizeof *copy);
    if (copy == NULL) {
        status = error_memory(error, "weights", count * sizeof *copy);
        goto done;
    }
    if (self->is_convolution && self->form.merged_groups > 1) {
        memset(copy, 0, count * sizeof *copy);
        merge_groups(&self->shape, self->form.merged_groups, weights, copy);
    } else if (self->is_convolution && self->form.in_phases)
        primitive_phase_weights(self, weights, copy);
    else
        memcpy(copy, weights, count * sizeof *copy);

    code = primitive_attributes(&self->spec, false, NULL, &attributes);
    if (code == dnnl_success)
        code = dnnl_reorder_primitive_desc_create(&descriptor, plain, self->engine, self->weights,
                                                  self->engine, attributes);
    if (code == dnnl_success)
        code = dnnl_primitive_create(&reorder, descriptor);
    if (code == dnnl_success)
        code = dnnl_memory_create(&from, plain, self->engine, copy);
    if (code == dnnl_success)
        code = dnnl_memory_create(&to, self->weights, self->engine, prepared);
    if (code != dnnl_success)
        goto done;
    const_dnnl_memory_desc_t scratch_description =
        dnnl_primitive_desc_query_md(descriptor, dnnl_query_scratchpad_md, 0);
    const size_t scratch_size = dnnl_memory_desc_get_size(scratch_description);
    dnnl_exec_arg_t list[3] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    if (scratch_size > 0) {
        scratch_bytes = memory_allocate_aligned(scratch_size);
        if (scratch_bytes == NULL) {
            status = error_memory(error, "a weight conversion", scratch_size);
            goto done;
        }
        code = dnnl_memory_create(&scratch, scratch_description, self->engine, scratch_bytes);
        list[2] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, scratch};
    }
    if (code == dnnl_success)
        code = dnnl_primitive_execute(reorder, self->stream, scratch_size > 0 ? 3 : 2, list);
    if (code == dnnl_success)
        code = dnnl_stream_wait(self->stream);
done:
    primitive_threads_leave(before, 1);
    if (status == XAI_OK && code != dnnl_success)
        status = primitive_failure(code, XAI_ERROR_INTERNAL, "weight conversion", error);
    dnnl_memory_destroy(scratch);
    dnnl_memory_destroy(to);
    dnnl_memory_destroy(from);
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(descriptor);
    dnnl_primitive_attr_destroy(attributes);
    dnnl_memory_desc_destroy(plain);
    memory_free(scratch_bytes);
    memory_free(copy);
    return status;
}

#else
typedef int primitive_weights_without_onednn; /* an empty file is not C */
#endif
