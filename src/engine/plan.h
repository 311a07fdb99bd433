/* Inside of a plan: buffers, operands, steps, and the builder that the lowerings write to.
 * Private to this folder.
 *
 * Building goes forward once over the specialised graph: every node becomes a unit (one or more
 * nodes fused) that emits its forward steps at once and remembers how to emit its backward
 * steps. Then, for each seed, the units are walked in reverse and emit the backward program of
 * that seed. Buffers collect the first and the last step that touches them; arena.c places them. */
#ifndef ENGINE_PLAN_H
#define ENGINE_PLAN_H

#include <pthread.h>

#include "engine/engine.h"
#include "engine/network.h"
#include "engine/primitive.h"

typedef enum layout { LAYOUT_PLAIN = 0, LAYOUT_BLOCKED = 1 } layout;

#define BUFFER_NONE (-1)
#define BUFFER_LAST_FOREVER SIZE_MAX

/* A stretch of the arena, alive from its first to its last step. */
typedef struct buffer {
    size_t bytes;
    size_t first,
        /* step numbers: forward steps first, then the backward programs one after the other */
        last;
    size_t start; /* byte offset in the arena, set by arena_place() */
    int value;    /* graph value that it was made for, or GRAPH_NONE */
    bool used;
    bool kept;   /* made by the forward pass and read by backward programs: part of a baseline */
    size_t copy; /* byte offset in a baseline, when kept */
} buffer;

/* Where a step finds its data: a place in a buffer, or constant memory that outlives the plan. */
typedef struct operand {
    int buffer;    /* BUFFER_NONE for constants and for "no operand" */
    size_t offset; /* bytes */
    const void *constant;
} operand;

#define OPERAND_NONE ((operand){BUFFER_NONE, 0, NULL})

typedef struct step step;
typedef xai_status (*step_function)(const step *self, run *state, xai_error **error);

#define STEP_OPERANDS 9

/* How the bound of a value follows from others; see guard.c. */
typedef enum bound_combine {
    BOUND_SET,
    BOUND_MAX,
    BOUND_ADD,
    BOUND_MULTIPLY,
    BOUND_UNLESS_LARGE /* the summand alone, when the input cannot overflow */
} bound_combine;
typedef struct bound_rule {
    bound_combine how;
    int out, in; /* value ids; in = GRAPH_NONE: only the summand */
    double factor, summand;
} bound_rule;
/* What a convolution checks before it runs. */
typedef struct guard {
    int input, other;                /* value ids; other = GRAPH_NONE without a fused Add */
    size_t input_count, other_count; /* floats at operands 0 and 4 */
    double norm, bias;
    size_t rules; /* rules that come before it */
} guard;

/* What a portable step needs to call an operator; see lower_portable.c. */
typedef struct portable portable;
/* Attention as one unit; see lower_attention.h. */
typedef struct fused_attention fused_attention;

struct step {
    step_function execute;
    int node; /* graph node, or GRAPH_NONE for conversions and copies */
    const char *implementation;
    operand operands[STEP_OPERANDS];
    size_t bytes;                                 /* written */
    size_t count, channels, spatial, channels_to; /* elements and geometry, by step */
    bool accumulate, accumulate_other, include_pad, keeps_zero;
    float epsilon;
    activation post;
    window geometry;
    const primitive *program;     /* owned by the plan */
    const movement *moves;        /* in the plan's pool */
    const guard *check;           /* in the plan's pool; NULL = nothing to check */
    const portable *call;         /* owned by the plan's pool */
    const fused_attention *heads; /* in the plan's pool */
    double operations;            /* of steps without a program, where known */
};

/* One value in one layout. */
typedef struct slot {
    bool exists;
    operand place;
} slot;

/* A gradient buffer of one backward program. Values whose forward storage is a slice of a
 * concatenation share one root and take granules (channel blocks) of it; any other value is one
 * granule. */
typedef struct gradient_root {
    int buffer;
    size_t granule_bytes, granule_count;
    uint8_t *written; /* one a granule */
} gradient_root;

typedef struct value_state {
    layout
        primary; /* the layout in which its producer writes it and in which its gradient is kept */
    slot slots[2]; /* by layout */
    /* value whose blocked buffer holds this one as a channel slice; itself when it is a root;
     * GRAPH_NONE = plain own */
    int home;
    size_t home_block; /* first channel block within the home */
    bool
        /* must survive: outputs, wanted values, seeds, wanted gradients: never fused away */
        wanted;
    bool kept;            /* run_value() gives it */
    bool wants_gradient;  /* and the current program has not passed it on */
    bool own_gradient;    /* its gradient must not be shared with a concatenation's pieces */
    bool needs_gradient;  /* depends on a value whose gradient is wanted */
    bool holds_relevance; /* LRP, in the current program: its gradient is relevance itself */
    int root;             /* gradient root in the current program, or -1 */
    size_t root_granule;
} value_state;

typedef struct unit unit;
typedef struct builder builder;

/* One or more graph nodes lowered together: its output is a function of its node's inputs and of
 * `other`. */
struct unit {
    xai_status (*emit_backward)(builder *b, const unit *self);
    int node;
    int output; /* final value; the node's own output 0 unless something was fused behind it */
    int other;  /* value added by a fused Add, or GRAPH_NONE */
    activation post;
    primitive_spec spec;
    window geometry;
    operand scale, shift;   /* constants of a scale-shift unit */
    const movement *repeat; /* how a constant is repeated, when not row by row; in the pool */
    operand argmax;         /* positions a max pool kept */
    operand factors;        /* what a normalisation kept: see kernel_norm() */
    operand slopes;         /* of an activation, when it keeps them */
    bool keeps_slopes;
    bool include_pad;
    const fused_attention *heads; /* in the pool */
};

/* A backward program: the steps that answer run_backward() from one seed value. */
typedef struct backward_program {
    int seed;
    operand seed_place; /* plain float32 */
    size_t first_step, step_count;
    operand
        *gradients; /* one per plan->gradients entry, plain float32; unless they are passed on */
} backward_program;

struct plan {
    network *net;
    graph *graph; /* specialised, owned */
    int precision, threads, block, rule;
    relevance_rule relevance, first_relevance;
    bool has_first_relevance;
    int *wanted; /* request.wanted, then nothing: the outputs are always wanted */
    size_t wanted_count;
    int *gradients;
    size_t gradient_count;
    bool passes_gradients;
    step *steps;
    size_t step_count, step_capacity, forward_count;
    buffer *buffers;
    size_t buffer_count, buffer_capacity;
    slot *plain; /* per value: the plain slot run_value() reads, when it has one */
    backward_program *programs;
    size_t program_count;
    primitive **primitives;
    size_t primitive_count, primitive_capacity;
    memory_pool *pool;    /* portable calls, names, guards */
    const char **unruled; /* names of operators without an own rule */
    size_t unruled_count, unruled_capacity;
    size_t arena_bytes, scratchpad_bytes, baseline_bytes;
    bool guarded; /* an overflow is an error; else NaN and infinities pass through */
    bound_rule *rules;
    size_t rule_count, rule_capacity;
    pthread_mutex_t idle_lock;
    run *idle; /* finished runs, kept for their arenas */
};

struct builder {
    plan *program;
    graph *graph;
    value_state *values; /* one per graph value */
    unit *units;
    size_t unit_count, unit_capacity;
    bool *node_done;              /* fused into an earlier unit */
    fused_attention **attentions; /* by node: the second product of each; in the pool */
    gradient_root *roots;
    size_t root_count, root_capacity;
    bool any_gradient; /* the plan has backward programs */
    bool reference, fast;
    int rule;
    xai_error **error;
};

struct run {
    const plan *program;
    char *arena;
    void *scratchpad;
    bool has_forward;
    primitive_binding **bindings; /* one a step, NULL until it has run */
    size_t binding_count;
    const baseline *against;               /* of the backward passes, or NULL */
    const backward_program *last_backward; /* whose gradients run_gradient() gives */
    gradient_body pass;                    /* of run_backward_each(), with its user */
    void *pass_user;
    tensor view;    /* what run_value() and run_gradient() hand out */
    double *times;  /* milliseconds of each step, or NULL: nobody asks */
    double *bounds; /* of each value's magnitude; NULL unless guarded */
    size_t rules_done;
    run *next; /* in plan->idle */
};

/* layout.c: primary layouts and in-place concatenations. */
xai_status layout_decide(builder *b);
/* (1, C, spatial...) float32: may live in channel blocks. */
bool layout_can_block(const graph_value *value);
size_t layout_channels(const graph_value *value);
size_t layout_spatial(const graph_value *value);
size_t layout_bytes(const builder *b, int value, layout form);

/* builder.c: operands, steps, slots, gradients. Every call that can fail reports through
 * b->error. */
operand
builder_buffer(builder *b,
               size_t bytes); /* buffer == BUFFER_NONE and constant == NULL when out of memory */
xai_status builder_step(builder *b, step_function execute, int node, const char *implementation,
                        step **out);
void builder_read(builder *b, step *self, int index, operand place);
void builder_write(builder *b, step *self, int index, operand place, size_t bytes);
xai_status builder_zero(builder *b, operand place, size_t bytes);
/* A value's data in a layout; inserts a conversion when it has only the other one. Constants:
 * aligned float32 or raw. */
xai_status builder_input(builder *b, int value, layout form, operand *out);
/* Where a unit writes a value in `form`; builder_finish() then converts when that is not the
 * primary layout. */
xai_status builder_output(builder *b, int value, layout form, operand *out);
xai_status builder_finish(builder *b, int value, layout form);
/* Constant as aligned float32 array of `padded` >= count entries, zero-filled; shared through
 * the network. */
xai_status builder_constant(builder *b, const tensor *constant, size_t padded, operand *out);
/* XAI_ERROR_NUMERIC when a constant of floats holds a NaN or an infinity. */
xai_status builder_check_finite(builder *b, const tensor *constant);
/* builder_constant() for what activations are multiplied with or added to; checked as above. */
xai_status builder_parameter(builder *b, const tensor *constant, size_t padded, operand *out);
xai_status builder_primitive(builder *b, const primitive_spec *spec,
                             const primitive **out); /* UNSUPPORTED passes through */
/* Prepared weights; *norm (may be NULL) = guard_norm() of a forward convolution, else 0. */
xai_status builder_weights(builder *b, const primitive *program, const tensor *weights,
                           operand *out, double *norm);
/* The one unremoved consumer of a value when it may be fused over, else GRAPH_NONE. */
int builder_only_consumer(const builder *b, int value);
xai_status builder_unit(builder *b, const unit *self);
/* Convert or copy `from` (form a) to `to` (form b) of a value's shape; += when accumulate (same
 * form only). */
xai_status builder_convert(builder *b, int value, operand from, layout from_form, operand to,
                           layout to_form);
/* `count` elements of one type to another. */
xai_status builder_cast(builder *b, operand from, int32_t from_type, operand to, int32_t to_type,
                        size_t count);
xai_status builder_accumulate(builder *b, int value, operand from, operand to);

/* Gradients of the current program, kept in the value's primary layout. */
bool gradient_exists(const builder *b, int value);
xai_status gradient_read(builder *b, int value, operand *out); /* complete gradient of an output */
/* Where a contribution goes: overwrite when *accumulate is false. */
xai_status gradient_write(builder *b, int value, operand *out, bool *accumulate);
/* Hand over a whole buffer that already holds a contribution in primary layout, when nothing is
 * there yet; else add it. */
xai_status gradient_give(builder *b, int value, operand place, bool may_keep);
/* A contribution in either layout that sits in a temporary. */
xai_status gradient_add(builder *b, int value, operand place, layout form, bool may_keep);
/* Gradient behind a fused activation: in place unless the gradient itself is wanted. */
xai_status gradient_through(builder *b, const unit *self, operand *out, bool *may_keep);

/* lower_*.c: turn a node into a unit; *done = false when this lowering does not apply. */
typedef xai_status (*lowering)(builder *b, int node, bool *done);
xai_status lower_convolution(builder *b, int node, bool *done);
xai_status lower_pool(builder *b, int node, bool *done);
xai_status lower_activation(builder *b, int node, bool *done);
xai_status lower_scale_shift(builder *b, int node, bool *done);
xai_status lower_binary(builder *b, int node, bool *done);
xai_status lower_concat(builder *b, int node, bool *done);
xai_status lower_matrix(builder *b, int node, bool *done);
xai_status match_attentions(builder *b); /* before the first lowering */
xai_status lower_attention(builder *b, int node, bool *done);
xai_status lower_rows(builder *b, int node,
                      bool *done); /* softmax, layer normalisation over the last axis */
xai_status lower_norm(builder *b, int node, bool *done); /* group and instance normalisation */
/* An InstanceNormalization or GroupNormalization that works on blocks. */
bool normalises_blocks(const builder *b, const graph_node *node);
bool is_group_norm(const graph_node *node); /* either of the two */
xai_status norm_settings(const builder *b, const graph_node *node, size_t *groups, float *epsilon);
xai_status lower_channel(builder *b, int node, bool *done); /* FakeQuantize, PRelu */
/* One of them that keeps the layout of its input. */
bool keeps_channel_layout(const builder *b, const graph_node *node);
/* The largest magnitude of a FakeQuantize's results, or the largest slope of a PRelu; false for other nodes. */
bool channel_bound(const builder *b, const graph_node *node, double *result, double *slope);
xai_status lower_recurrent(builder *b, int node, bool *done); /* RNN, GRU, LSTM */
xai_status lower_move(builder *b, int node, bool *done);
xai_status lower_channels_last(builder *b, int node, bool *done);
xai_status lower_pad(builder *b, int node, bool *done); /* zeros around maps, and crops */
/* A Pad or Slice that works on blocks. */
bool pads_blocks(const builder *b, const graph_node *node);
/* A Transpose from channels last to first whose result is best written into blocks. */
bool channels_last_to_blocks(const builder *b, const graph_node *node);
xai_status lower_affine_rows(builder *b, int node, bool *done);
xai_status lower_view(builder *b, int node, bool *done);
xai_status lower_portable(builder *b, int node, bool *done);

/* The node as an activation function with constant parameters; false when it is not one. */
bool activation_of_node(const graph *self, const graph_node *node, activation *out);
bool node_is(const graph_node *node, const char *domain, const char *name);
/* A node behind `value` that may be fused as an activation: its index, or GRAPH_NONE with *out
 * untouched. */
int fusable_activation(const builder *b, int value, activation *out);

/* guard.c */
xai_status guard_rules(builder *b, int node);
/* Largest sum of weight magnitudes over one output channel of a convolution. */
double guard_norm(const primitive_spec *spec, const tensor *weights);
xai_status guard_step(builder *b, step *self, const unit *of, const void *bias, size_t bias_count,
                      layout input_layout, double norm);
void guard_begin(run *self);
xai_status guard_check(run *self, const step *of, xai_error **error);

/* facts.c */
double facts_now(void); /* milliseconds */

/* rules.c: the backward steps of rules other than the gradient. */
bool rule_is_guided(const builder *b);
/* The rule reads the input of an activation behind `value`, which fusing would not keep. */
bool rule_reads_input(const builder *b, int value);
/* The output's gradient as the guided rules see it before the activation `post`: only what is
 * positive. *post becomes ACTIVATION_NONE where the rule passes the activation over. Nothing
 * changes for activations that are not ReLUs. */
xai_status rule_guide(builder *b, const unit *self, operand *gradient, activation *post);

/* For plan_unruled(). */
xai_status rule_note_unruled(builder *b, const graph_node *node);

/* relevance.c: LRP. */
xai_status relevance_check(builder *b);
/* The rule that a layer with weights follows. */
const relevance_rule *relevance_of(const builder *b, const graph_node *node);
/* How a product's relevance is shared by its factors. */
void relevance_shares(const builder *b, const graph_node *node, double shares[2]);
/* The backward steps of a unit under LRP. */
xai_status relevance_backward(builder *b, const unit *self);
/* The epsilon rule: m z / (z +- epsilon) of a unit's output before the gradient's backward step. */
xai_status relevance_scale(builder *b, const unit *self, operand *gradient, bool *may_keep);
/* relevance_split.c: the other rules, for a unit of one convolution (`backward`: its way back) or one matrix product (NULL)
 * whose output has the multipliers m, in its primary layout. */
bool relevance_splits(const builder *b, const unit *self);
xai_status relevance_split(builder *b, const unit *of, const primitive_spec *backward, operand m);
/* Relevance from relevance / value, plain. */
xai_status relevance_finish(builder *b, int value, operand *gradient);
xai_status lower_portable_backward(builder *b, const unit *self);

/* rescale.c: DeepLIFT. */
xai_status rescale_activation(builder *b, const unit *self);
xai_status rescale_scale_shift(builder *b, const unit *self);
xai_status rescale_max_pool(builder *b, const unit *self);
xai_status rescale_rows(builder *b, const unit *self);
/* Under DeepLIFT the mean of `place` over the run and its baseline, which makes the backward step of
 * a product additive; `place` itself under other rules and for constants. */
xai_status rescale_mean(builder *b, int value, layout form, operand *place);

/* arena.c */
xai_status arena_place(plan *self, size_t memory_limit, xai_error **error);

/* run.c */
void *run_address(const run *state, operand place);
/* The same place in the baseline of the run; what is not kept there is the run's own. */
const void *run_baseline_address(const run *state, operand place);
xai_status run_acquire(plan *self, run **out, xai_error **error);
void run_release(plan *self, run *state);

#endif
