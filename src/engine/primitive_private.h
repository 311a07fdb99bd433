/* Shared by the primitive_*.c files alone: the only ones that see oneDNN's types. */
#ifndef ENGINE_PRIMITIVE_PRIVATE_H
#define ENGINE_PRIMITIVE_PRIVATE_H

#include <oneapi/dnnl/dnnl.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/kernels_depthwise.h"
#include "engine/kernels_window.h"
#include "engine/kernels_winograd.h"
#include "engine/primitive.h"

/* A convolution seen from its own forward direction. A transposed convolution is the data gradient of one, and its
 * gradient is one, so two cases remain: forward (source = input) and backward (source = gradient of the output). */
typedef struct convolution {
    bool backward;
    window geometry;
    int64_t input_channels, output_channels;
    bool plain_input, plain_output;
} convolution;

/* How oneDNN is asked to compute it. */
typedef struct convolution_form {
    convolution
        run; /* what oneDNN executes; layouts that differ from the caller's are converted around it */
    int64_t
        merged_groups; /* groups merged into one so that it fills blocks; weights off the diagonal are zero */
    bool padded; /* the source is copied with its zeros around it, run has none */
    int64_t copied_begin[WINDOW_MAX_RANK]; /* how many before it; negative crops */
    bool in_phases;                        /* see primitive_phases.c */
    bool channels_last; /* read and written as (spatial, C), converted from and to blocks */
    interleave phases;
} convolution_form;

/* Phases of two strided dimensions by two, or of three by two. */
#define PRIMITIVE_PARTS 8

/* A kernel of our own in place of oneDNN's. */
typedef struct own_kernel {
    void (*key)(const primitive *self, text *key); /* of its prepared weights */
    void (*prepare)(const primitive *self, const void *weights, void *prepared);
    void (*run)(const primitive *self, const primitive_arguments *arguments);
    double (*growth)(void); /* primitive_growth(); NULL: 1 */
} own_kernel;

struct primitive {
    primitive_spec spec;
    int block;
    int threads; /* of oneDNN: spec.threads, or 1 where its sums depend on the thread count */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_desc_t descriptor; /* owns the memory descriptors below */
    dnnl_primitive_t operation;
    const_dnnl_memory_desc_t source, weights, bias, destination, scratchpad;
    int source_argument, destination_argument, other_argument; /* DNNL_ARG_* */
    bool is_convolution;
    convolution shape;
    convolution_form form;
    /* Matrix products: rows as the positions of a 1x1 convolution, or tiles of rows on one thread each. */
    bool rows_as_positions, tiled;
    int64_t tile_rows,
        tiles; /* rows of a tile; tiles of one batch item, the last of them perhaps shorter */
    dnnl_primitive_desc_t tail_descriptor; /* of the shorter tile */
    dnnl_primitive_t tail;
    /* A gradient split into one convolution a phase; then nothing below is used but the scratchpad's total. */
    int part_count;
    primitive *parts[PRIMITIVE_PARTS];
    size_t part_weights[PRIMITIVE_PARTS]; /* byte offset of each part's prepared weights */
    const own_kernel *own; /* NULL: oneDNN's; else nothing of oneDNN is used, and this is */
    union {
        winograd winograd;
        depthwise depthwise;
        windowed window;
    };
    bool late_bias; /* added after the operation (data gradients take none) */
    bool source_converts;
    /* Scratchpad, in bytes: converted source, padded source, destination before it is converted, oneDNN's own; total. */
    size_t converted_bytes, padded_bytes, destination_bytes, library_bytes, scratchpad_bytes;
    size_t weights_bytes;
    double operations;
    char implementation[64];
    char *weights_key;
};

/* Every part of a scratchpad starts on a cache line. */
static inline size_t primitive_round(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* XAI_ERROR_MEMORY or `otherwise` for a failing call of oneDNN. */
xai_status primitive_failure(dnnl_status_t code, xai_status otherwise, const char *what,
                             xai_error **error);

/* Fill descriptor, the memory descriptors and implementation; XAI_ERROR_UNSUPPORTED when only "ref" is left. */
xai_status primitive_describe_convolution(primitive *self, xai_error **error);
xai_status primitive_describe_matmul(primitive *self, xai_error **error);
/* The data gradient `c` as the forward convolution *run whose phases interleave; false when that does not suit it. */
bool primitive_phases_of(const convolution *c, int block, convolution *run, interleave *g);
/* The same as one forward convolution a phase, without any zeros: fills parts. XAI_ERROR_UNSUPPORTED (no error object)
 * when another form suits better. */
xai_status primitive_split_phases(primitive *self, xai_error **error);
xai_status primitive_prepare_parts(const primitive *self, const void *weights, void *prepared,
                                   xai_error **error);
xai_status primitive_run_parts(const primitive *self, const primitive_arguments *arguments,
                               xai_error **error);
/* Take the own kernel when it is allowed and suits; nothing of oneDNN is described then. */
bool primitive_choose_winograd(primitive *self);
bool primitive_choose_depthwise(primitive *self);
bool primitive_choose_window(primitive *self);
void primitive_phase_weights(const primitive *self, const char *weights, float *out);
xai_status primitive_run_tiles(const primitive *self, const primitive_arguments *arguments,
                               xai_error **error);
/* Attributes of every primitive: user scratchpad, strict float32, and the post-operations of `spec` on a destination
 * described by `destination` (NULL: none). */
dnnl_status_t primitive_attributes(const primitive_spec *spec, bool post,
                                   const_dnnl_memory_desc_t destination,
                                   dnnl_primitive_attr_t *out);
/* Set the calling thread's OpenMP thread count, which oneDNN takes as its own; returns the one before. */
int primitive_threads_enter(int threads);
void primitive_threads_leave(int before, int threads);
/* Its sums are cut by thread, so that their bits depend on how many there are. */
bool primitive_sums_by_thread(const char *implementation);
/* Name the implementation; false when it is a reference one. */
bool primitive_name(const_dnnl_primitive_desc_t descriptor, char out[64]);

/* One argument of an execution, in a memory object of its own, so that runs share nothing. */
dnnl_status_t primitive_bind(const primitive *self, const_dnnl_memory_desc_t description,
                             const void *data, int argument, dnnl_exec_arg_t *list, int *count);
void primitive_unbind(dnnl_exec_arg_t *list, int count);

/* Text that fixes the bytes of prepared weights; NULL without memory. */
char *primitive_make_weights_key(const primitive *self);

#endif
