/* The engine: compiles a graph for concrete shapes into a plan and runs it, forward and
 * backward.
 *
 *     network (graph + prepared weights) -> plan (immutable, shared) -> run (arena, one thread)
 *
 * A plan handles one row (batch size 1), also of a model with a fixed batch where rows are seen to stay apart; rows_run() runs
 * many rows, either all threads on one row (latency) or a row a thread (throughput). Results
 * have the same bits either way. Callers see plain row-major tensors only; layouts are private
 * to this folder. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "graph/graph.h"
#include "ops/relevance.h"

typedef struct network network;
typedef struct plan plan;
typedef struct run run;

/* Takes ownership of the graph. */
xai_status network_create(graph *source, network **out, xai_error **error);
void network_free(network *self);
const graph *network_graph(const network *self);
/* The graph of one row of a model with a fixed batch (graph_take_row), made when it is first asked for; NULL where there is none. */
xai_status network_row(network *self, const graph **out, xai_error **error);
/* The graph that fits inputs of these shapes: that of the model, or that of one row. */
xai_status network_graph_for(network *self, const shape *input_shapes, const graph **out,
                             xai_error **error);

enum {
    ENGINE_PRECISION_STANDARD = 0,  /* direct kernels */
    ENGINE_PRECISION_REFERENCE = 1, /* portable kernels, double accumulation */
    ENGINE_PRECISION_FAST = 2       /* fewer operations, larger rounding errors */
};

/* What a backward pass sends through the network. Linear operators pass it on by their
 * vector-Jacobian product under every rule. */
enum {
    /* d score / d value. */
    ENGINE_RULE_GRADIENT = 0,
    /* Springenberg et al. 2015: behind every ReLU only what is positive, where the ReLU was on. */
    ENGINE_RULE_GUIDED,
    /* Zeiler & Fergus 2014: behind every ReLU only what is positive. */
    ENGINE_RULE_DECONVNET,
    /* Multipliers of DeepLIFT Rescale (Shrikumar et al. 2017) against a baseline: sum over a layer
     * of multiplier * (value - its baseline) = seed . (score - its baseline). */
    ENGINE_RULE_DEEPLIFT,
    /* Layer-wise relevance propagation (Bach et al. 2015): run_gradient() gives relevances, the seed
     * is relevance / score of the value that it starts from. */
    ENGINE_RULE_LRP
};

typedef struct plan_request {
    const shape
        *input_shapes; /* one per graph input, static, of one row (or of the model's fixed batch) */
    /* Inner values that the plan starts from: further inputs behind the model's (see
     * graph_specialise_from), float32, with these static shapes. */
    const int *starts;
    const shape *start_shapes;
    size_t start_count;
    const int *
        wanted; /* value ids that run_value() must give after a forward pass, besides the outputs */
    size_t wanted_count;
    const int *seeds; /* value ids that run_backward() will start from; none = forward only */
    size_t seed_count;
    const int *gradients; /* value ids (inputs or inner values) whose gradient is wanted */
    size_t gradient_count;
    bool passes_gradients; /* to run_backward_each(), one by one, instead of keeping them all */
    int precision;         /* ENGINE_PRECISION_* */
    int rule;              /* ENGINE_RULE_* of run_backward() */
    /* ENGINE_RULE_LRP: for layers with weights, and for those that read an input itself (NULL: the
     * same). Copied. */
    const relevance_rule *relevance, *first_relevance;
    bool allow_nonfinite; /* NaN and infinities pass through; else an overflow inside is an error */
    int threads;          /* threads per row; 0 = all processors */
    size_t memory_limit;  /* bytes of arena; 0 = none */
} plan_request;

/* Compile. Plans of a network share prepared weights. The request's arrays are copied. */
xai_status plan_create(network *net, const plan_request *request, plan **out, xai_error **error);
void plan_free(plan *self);
const graph *
plan_graph(const plan *self); /* the specialised graph: static shapes of every surviving value */
size_t plan_arena_bytes(const plan *self); /* with the scratchpad */
size_t plan_scratchpad_bytes(const plan *self);
size_t plan_weights_bytes(const plan *self); /* prepared weights of all plans of the network */
/* One line a step: node, operator, implementation, layout; bytes of output. For `info`, tests
 * and profiles. step < plan_step_count(). `implementation` is oneDNN's name, "portable", "alias"
 * or an own kernel's name. */
typedef struct plan_step_facts {
    const char *node, *operator_name, *implementation;
    bool backward;
    size_t bytes;
    double operations; /* floating point operations of convolutions and matrix products, else 0 */
} plan_step_facts;
size_t plan_step_count(const plan *self);
void plan_step(const plan *self, size_t step, plan_step_facts *out);
/* The memory plan: where in the arena each buffer lies, and from which step to which. */
typedef struct plan_buffer_facts {
    const char *value; /* what it holds, or the node that uses it first; "" = none */
    bool gradient;     /* of the backward pass */
    size_t bytes, start, first, last;
} plan_buffer_facts;
size_t plan_buffer_count(const plan *self);
bool plan_buffer(const plan *self, size_t index, plan_buffer_facts *out); /* false = unused */
/* The least time of each step over `runs` passes forward and (from seeds of ones) backward. */
xai_status plan_profile(plan *self, const tensor *const *inputs, int runs, double *milliseconds,
                        xai_error **error);

xai_status run_create(const plan *program, run **out, xai_error **error);
void run_free(run *self);
/* Forward pass of one row. inputs[i] fits plan_request.input_shapes[i] and the input's dtype (then
 * the starts); read during the call only. Non-finite float inputs are the caller's to check. */
xai_status run_forward(run *self, const tensor *const *inputs, xai_error **error);
/* A wanted value or an output after run_forward, as a plain tensor view that stays valid until
 * the next call on this run. */
xai_status run_value(run *self, int value, const tensor **out, xai_error **error);
/* Backward from d score / d seed_value = `seed` (float32, the seed value's shape, plain). May be
 * called many times after one forward pass; each call forgets the gradients of the one before. */
xai_status run_backward(run *self, int seed_value, const float *seed, xai_error **error);
/* The same for a plan that passes gradients on: `body` is called once a wanted gradient, as soon as the
 * backward pass has it, with a view that is valid during the call. */
typedef xai_status (*gradient_body)(void *user, int value, const tensor *gradient,
                                    xai_error **error);
xai_status run_backward_each(run *self, int seed_value, const float *seed, gradient_body body,
                             void *user, xai_error **error);
/* A wanted gradient after run_backward, plain float32; zero when the seed does not depend on the
 * value. */
xai_status run_gradient(run *self, int value, const tensor **out, xai_error **error);

/* Baselines, for ENGINE_RULE_DEEPLIFT: what the backward pass reads of a forward pass on other
 * inputs. A baseline serves every run of its plan, on many threads at once; it must outlive the
 * backward passes that use it. */
typedef struct baseline baseline;
/* From the last forward pass of `from`, a run of the plan. *out is NULL, or a baseline of the same plan
 * to write over. */
xai_status baseline_create(const run *from, baseline **out, xai_error **error);
void baseline_free(baseline *self);
size_t plan_baseline_bytes(const plan *self);
/* Exchange what backward passes read of the last forward pass of `self` with a baseline of its plan: so one run makes the
 * baselines of its own inputs. Values that run_value() gives are exchanged, too. */
void run_swap_baseline(run *self, baseline *with);
/* For the backward passes of `self` that follow, until another one is set. */
void run_set_baseline(run *self, const baseline *against);
/* Operators of the plan on the way of the backward pass without an own rule, by name, each once:
 * DeepLIFT averages their gradients along the straight line from the baseline. */
size_t plan_unruled(const plan *self, const char *const **names);

/* Rows. body(user, run, row) is called once per row after its forward pass; rows may run
 * concurrently on different runs, in any order, so a body writes only to its own row. The first
 * failing body or row ends the loop with its status. inputs[i] is (rows * rows per plan, ...):
 * row r reads slice r. progress may be NULL; returning false cancels (XAI_ERROR_CANCELLED); it
 * is called by the calling thread alone. mode: latency when threads_per_row = all. */
typedef xai_status (*row_body)(void *user, run *state, size_t row, xai_error **error);
typedef bool (*row_progress)(void *user, size_t done, size_t total);
typedef struct rows_options {
    int threads;     /* total; 0 = all processors */
    bool throughput; /* a row a thread instead of all threads on one row */
    /* Called behind the body of each row in the order of rows, one at a time: sums taken here have
     * the same bits for any number of threads. May be NULL. */
    row_body in_order;
    row_progress progress;
    void *progress_user;
} rows_options;
xai_status rows_run(plan *program, const tensor *const *inputs, size_t rows,
                    const rows_options *options, row_body body, void *user, xai_error **error);

/* The same for rows that are made when their turn comes. fill(user, row, inputs) writes the data of
 * all inputs of the plan (its starts included) for one row; rows are made on several threads at
 * once, in any order. */
typedef xai_status (*row_fill)(void *user, size_t row, tensor *inputs, xai_error **error);
xai_status rows_run_made(plan *program, size_t rows, row_fill fill, const rows_options *options,
                         row_body body, void *user, xai_error **error);

#endif
