/* Primitives: creation, running, and what every kind shares. */
#include "engine/primitive.h"

#include <stdio.h>

#include "base/error.h"

#ifdef XAI_HAVE_ONEDNN

#include "engine/kernels_private.h"
#include "engine/primitive_private.h"

#ifdef _WIN32
#include <windows.h>

/* On Windows oneDNN runs on Microsoft's OpenMP, whose thread count only its own functions set. */
typedef void (*plain_call)(void);
typedef int (*get_threads)(void);
typedef void (*set_threads)(int);

static FARPROC library_call(const char *name)
{
    HMODULE runtime = GetModuleHandleW(L"vcomp140.dll"); /* loaded with dnnl.dll */
    return runtime ? GetProcAddress(runtime, name) : NULL;
}

static int library_threads(void)
{
    const get_threads call = (get_threads)(plain_call)library_call("omp_get_max_threads");
    return call ? call() : 1;
}

static void set_library_threads(int threads)
{
    const set_threads call = (set_threads)(plain_call)library_call("omp_set_num_threads");
    if (call)
        call(threads);
}
#elif defined(_OPENMP)
static int library_threads(void)
{
    return omp_get_max_threads();
}

static void set_library_threads(int threads)
{
    omp_set_num_threads(threads);
}
#else
static int library_threads(void)
{
    return 1;
}

static void set_library_threads(int threads)
{
    (void)threads;
}
#endif

/* oneDNN takes its thread count from the calling thread's OpenMP setting. */
int primitive_threads_enter(int threads)
{
    const int before = library_threads();
    if (before != threads)
        set_library_threads(threads);
    return before;
}

void primitive_threads_leave(int before, int threads)
{
    if (before != threads)
        set_library_threads(before);
}

xai_status primitive_failure(dnnl_status_t code, xai_status otherwise, const char *what,
                             xai_error **error)
{
    if (code == dnnl_out_of_memory)
        return error_set(error, XAI_ERROR_MEMORY, NULL, "no memory for a oneDNN %s", what);
    return error_set(error, otherwise, NULL, "oneDNN %s: status %d", what, (int)code);
}

int primitive_block(void)
{
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core
               ? 16
               : 8;
}

bool primitive_available(void)
{
    return true;
}

const char *primitive_library_version(char out[16])
{
    const dnnl_version_t *version = dnnl_version();
    snprintf(out, 16, "%d.%d.%d", version->major % 1000, version->minor % 1000,
             version->patch % 1000);
    return out;
}

bool primitive_name(const_dnnl_primitive_desc_t descriptor, char out[64])
{
    const char *name = NULL;
    if (dnnl_primitive_desc_query(descriptor, dnnl_query_impl_info_str, 0, &name) != dnnl_success ||
        name == NULL)
        name = "unnamed";
    snprintf(out, 64, "%s", name);
    return strncmp(out, "ref", 3) != 0 && strstr(out, ":ref") == NULL &&
           strstr(out, "+ref") == NULL;
}

bool primitive_sums_by_thread(const char *implementation)
{
    return strstr(implementation, "gemm:jit") != NULL;
}

/* The post-operation of an activation; false when oneDNN has none that computes the same. */
static bool eltwise_of(const activation *f, dnnl_alg_kind_t *kind, float *alpha, float *beta)
{
    *alpha = *beta = 0;
    switch (f->kind) {
    case ACTIVATION_RELU:
        *kind = dnnl_eltwise_relu;
        return true;
    case ACTIVATION_LEAKY_RELU:
        *kind = dnnl_eltwise_relu;
        *alpha = f->alpha;
        return true;
    case ACTIVATION_ELU:
        *kind = dnnl_eltwise_elu;
        *alpha = f->alpha;
        return true;
    case ACTIVATION_SIGMOID:
        *kind = dnnl_eltwise_logistic;
        return true;
    case ACTIVATION_TANH:
        *kind = dnnl_eltwise_tanh;
        return true;
    case ACTIVATION_CLIP:
        *kind = dnnl_eltwise_clip;
        *alpha = f->alpha;
        *beta = f->beta;
        return f->alpha <= f->beta;
    case ACTIVATION_SILU:
        *kind = dnnl_eltwise_swish;
        *alpha = 1;
        return true;
    case ACTIVATION_HARD_SWISH:
        *kind = dnnl_eltwise_hardswish;
        *alpha = 1.0f / 6;
        *beta = 0.5f;
        return true;
    case ACTIVATION_HARD_SIGMOID:
        *kind = dnnl_eltwise_hardsigmoid;
        *alpha = f->alpha;
        *beta = f->beta;
        return true;
    case ACTIVATION_GELU:
        *kind = dnnl_eltwise_gelu_erf;
        return true;
    case ACTIVATION_GELU_TANH:
        *kind = dnnl_eltwise_gelu_tanh;
        return true;
    default:
        return false;
    }
}

dnnl_status_t primitive_attributes(const primitive_spec *spec, bool post,
                                   const_dnnl_memory_desc_t destination, dnnl_primitive_attr_t *out)
{
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_post_ops_t operations = NULL;
    dnnl_alg_kind_t kind;
    float alpha, beta;
    *out = NULL;
    dnnl_status_t code = dnnl_primitive_attr_create(&attributes);
    if (code == dnnl_success)
        code = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (code == dnnl_success)
        code = dnnl_primitive_attr_set_fpmath_mode(attributes, dnnl_fpmath_mode_strict);
    if (code != dnnl_success || !post)
        goto done;
    code = dnnl_post_ops_create(&operations);
    if (code == dnnl_success && spec->add_to_destination)
        code = dnnl_post_ops_append_sum(operations, 1.0f, 0, dnnl_data_type_undef);
    if (code == dnnl_success && spec->add_other)
        code = dnnl_post_ops_append_binary(operations, dnnl_binary_add, destination);
    if (code == dnnl_success && spec->post.kind != ACTIVATION_NONE)
        code = eltwise_of(&spec->post, &kind, &alpha, &beta)
                   ? dnnl_post_ops_append_eltwise(operations, kind, alpha, beta)
                   : dnnl_unimplemented;
    if (code == dnnl_success)
        code = dnnl_primitive_attr_set_post_ops(attributes, operations);
done:
    dnnl_post_ops_destroy(operations);
    if (code == dnnl_success)
        *out = attributes;
    else
        dnnl_primitive_attr_destroy(attributes);
    return code;
}

/* Checks that hold for every kind. */
static xai_status spec_check(const primitive_spec *spec, xai_error **error)
{
    const bool forward = spec->kind == PRIMITIVE_CONVOLUTION ||
                         spec->kind == PRIMITIVE_DECONVOLUTION || spec->kind == PRIMITIVE_MATMUL;
    const bool post = spec->has_bias || spec->add_to_destination || spec->add_other ||
                      spec->post.kind != ACTIVATION_NONE;
    if (!forward && post)
        return error_set(error, XAI_ERROR_UNSUPPORTED, NULL,
                         "a gradient takes no bias, sum or activation");
    if (spec->threads < 1)
        return error_set(error, XAI_ERROR_ARGUMENT, NULL, "a primitive needs at least one thread");
    return XAI_OK;
}

/* The operation itself, and the sizes that follow from its description. */
static xai_status primitive_realise(primitive *self, xai_error **error)
{
    const primitive_spec *spec = &self->spec;
    dnnl_status_t code = dnnl_primitive_create(&self->operation, self->descriptor);
    if (code == dnnl_success && self->tail_descriptor != NULL)
        code = dnnl_primitive_create(&self->tail, self->tail_descriptor);
    if (code != dnnl_success)
        return primitive_failure(code, XAI_ERROR_UNSUPPORTED, "primitive", error);
    self->library_bytes = dnnl_memory_desc_get_size(self->scratchpad);
    self->weights_bytes = dnnl_memory_desc_get_size(self->weights);
    self->scratchpad_bytes = primitive_round(self->converted_bytes) +
                             primitive_round(self->padded_bytes) +
                             primitive_round(self->destination_bytes) + self->library_bytes;
    if (self->tiled) {
        if (self->tail_descriptor != NULL) {
            const size_t tail = dnnl_memory_desc_get_size(
                dnnl_primitive_desc_query_md(self->tail_descriptor, dnnl_query_scratchpad_md, 0));
            self->library_bytes = tail > self->library_bytes ? tail : self->library_bytes;
        }
        if (!spec->shared_b)
            self->weights_bytes *= (size_t)spec->batch;
        self->library_bytes = primitive_round(self->library_bytes);
        self->scratchpad_bytes = self->library_bytes * (size_t)spec->threads;
    }
    return XAI_OK;
}

xai_status primitive_create(const primitive_spec *spec, primitive **out, xai_error **error)
{
    xai_status status = spec_check(spec, error);
    if (status != XAI_OK)
        return status;
    primitive *self = memory_allocate_zeroed(1, sizeof *self);
    if (self == NULL)
        return error_memory(error, "a primitive", sizeof *self);
    self->spec = *spec;
    self->block = primitive_block();
    self->threads = spec->threads;
    if (primitive_choose_winograd(self) || primitive_choose_depthwise(self) ||
        primitive_choose_window(self)) {
        self->weights_key = primitive_make_weights_key(self);
        if (self->weights_key == NULL) {
            primitive_free(self);
            return error_memory(error, "a primitive", 256);
        }
        *out = self;
        return XAI_OK;
    }
    const int before = primitive_threads_enter(self->threads);
    dnnl_status_t code = dnnl_engine_create(&self->engine, dnnl_cpu, 0);
    if (code == dnnl_success)
        code = dnnl_stream_create(&self->stream, self->engine, dnnl_stream_default_flags);
    if (code != dnnl_success) {
        status = primitive_failure(code, XAI_ERROR_INTERNAL, "engine", error);
        goto done;
    }
    status = spec->kind == PRIMITIVE_MATMUL ? primitive_describe_matmul(self, error)
                                            : primitive_describe_convolution(self, error);
    if (status != XAI_OK)
        goto done;
    status = self->part_count > 0 ? XAI_OK : primitive_realise(self, error);
    if (status != XAI_OK)
        goto done;
    self->weights_key = primitive_make_weights_key(self);
    if (self->weights_key == NULL)
        status = error_memory(error, "a primitive", 256);
done:
    primitive_threads_leave(before, self->threads);
    if (status == XAI_OK)
        *out = self;
    else
        primitive_free(self);
    return status;
}

void primitive_free(primitive *self)
{
    if (self == NULL)
        return;
    for (int i = 0; i < self->part_count; i++)
        primitive_free(self->parts[i]);
    dnnl_primitive_destroy(self->tail);
    dnnl_primitive_desc_destroy(self->tail_descriptor);
    dnnl_primitive_destroy(self->operation);
    dnnl_primitive_desc_destroy(self->descriptor);
    dnnl_stream_destroy(self->stream);
    dnnl_engine_destroy(self->engine);
    memory_free(self->weights_key);
    memory_free(self);
}

const primitive_spec *primitive_specification(const primitive *self)
{
    return &self->spec;
}

const char *primitive_implementation(const primitive *self)
{
    return self->implementation;
}

size_t primitive_scratchpad_bytes(const primitive *self)
{
    return self->scratchpad_bytes;
}

double primitive_operations(const primitive *self)
{
    return self->operations;
}

double primitive_growth(const primitive *self)
{
    return self->own != NULL && self->own->growth != NULL ? self->own->growth() : 1;
}

size_t primitive_weights_bytes(const primitive *self)
{
    return self->weights_bytes;
}

const char *primitive_weights_key(const primitive *self)
{
    return self->weights_key;
}

size_t primitive_bias_count(const primitive *self)
{
    if (self->spec.kind == PRIMITIVE_MATMUL)
        return (size_t)self->spec.columns;
    return kernel_pieces((size_t)self->spec.output_channels, (size_t)self->block) *
           (size_t)self->block;
}

#else

int primitive_block(void)
{
    return 8;
}

bool primitive_available(void)
{
    return false;
}

const char *primitive_library_version(char out[16])
{
    snprintf(out, 16, "none");
    return out;
}

static xai_status unavailable(xai_error **error)
{
    return error_set(error, XAI_ERROR_UNSUPPORTED, NULL, "this build has no oneDNN");
}

xai_status primitive_create(const primitive_spec *spec, primitive **out, xai_error **error)
{
    (void)spec;
    *out = NULL;
    return unavailable(error);
}

/* No primitive exists, so the rest is never reached. */
const primitive_spec *primitive_specification(const primitive *self)
{
    (void)self;
    return NULL;
}

void primitive_free(primitive *self)
{
    (void)self;
}

const char *primitive_implementation(const primitive *self)
{
    (void)self;
    return "none";
}

size_t primitive_scratchpad_bytes(const primitive *self)
{
    (void)self;
    return 0;
}

double primitive_operations(const primitive *self)
{
    (void)self;
    return 0;
}

double primitive_growth(const primitive *self)
{
    (void)self;
    return 1;
}

size_t primitive_weights_bytes(const primitive *self)
{
    (void)self;
    return 0;
}

const char *primitive_weights_key(const primitive *self)
{
    (void)self;
    return "";
}

xai_status primitive_prepare_weights(const primitive *self, const void *weights, void *prepared,
                                     xai_error **error)
{
    (void)self;
    (void)weights;
    (void)prepared;
    return unavailable(error);
}

size_t primitive_bias_count(const primitive *self)
{
    (void)self;
    return 0;
}

xai_status primitive_run(const primitive *self, const primitive_arguments *arguments,
                         xai_error **error)
{
    (void)self;
    (void)arguments;
    return unavailable(error);
}

xai_status primitive_run_bound(const primitive *self, const primitive_arguments *arguments,
                               primitive_binding **binding, xai_error **error)
{
    (void)self;
    (void)arguments;
    (void)binding;
    return unavailable(error);
}

void primitive_binding_free(primitive_binding *self)
{
    (void)self;
}

#endif
