/**
 * @file
 * Sessions: run a model, forward and backward.
 *
 * A session is used by one thread at a time (make one session a thread; they share the weights of
 * the model). It keeps its model alive. Results have the same bits for any number of threads, in
 * either mode, and whether rows are given one at a time or together.
 *
 * Inputs are arrays of tensors in the order of the model's inputs (xai_model_find_input() maps
 * names to positions). Each is (N, ...) with the same number of rows N >= 1. A model whose batch
 * size is fixed at 1 takes any N as well; one fixed at B takes multiples of B, and its rows are
 * then as independent as the model makes them. Sizes that the model leaves free may differ from
 * call to call: the session keeps the plans of the last few shapes.
 */
#ifndef XAI_SESSION_H
#define XAI_SESSION_H

#include <stddef.h>
#include <stdint.h>

#include "model.h"
#include "status.h"
#include "target.h"
#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * All threads work on one row: the shortest time for one image. In a call with rows for all threads each takes a row of its own,
 * as far as 2 GiB of working memory go, or the memory limit: the shortest time for all of them. @since 0.1
 */
#define XAI_MODE_LATENCY ((int32_t)0)
/** Every thread works on a row of its own whenever there are two, whatever memory that takes. @since 0.1 */
#define XAI_MODE_THROUGHPUT ((int32_t)1)

/** Direct kernels, float32. @since 0.1 */
#define XAI_PRECISION_STANDARD ((int32_t)0)
/** The portable kernels that accumulate in float64: slow, for checking. @since 0.1 */
#define XAI_PRECISION_REFERENCE ((int32_t)1)
/**
 * As XAI_PRECISION_STANDARD, but convolutions of 3x3 taps with stride 1 may take Winograd's algorithm: fewer operations,
 * rounding errors about twice as large, prepared weights four times as large. Where it brings nothing, or the processor or the
 * build has no kernel for it, the same numbers as XAI_PRECISION_STANDARD.
 * @since 0.1
 */
#define XAI_PRECISION_FAST ((int32_t)2)

/**
 * Called while a long call works, by the thread that made the call. It must not call into the session or explainer that reports.
 *
 * @param user   as given to xai_session_options_set_progress()
 * @param done   evaluations of the model that are finished (rows, for scores and gradients); it never falls
 * @param total  evaluations in all, as far as known: what is left takes (total - done) / done of the time so far. Where a method
 *               stops early, the last call says that all is done
 * @return 0 to go on; anything else stops the call with XAI_ERROR_CANCELLED
 * @since 0.1
 */
typedef int32_t (*xai_progress)(void *user, size_t done, size_t total);

/** How a session runs. Not shared between threads while it is being set. @since 0.1 */
typedef struct xai_session_options xai_session_options;

/**
 * Make options with the defaults: all processors, latency mode, standard precision, no memory limit, no
 * progress.
 * @param out  set on success only; free with xai_session_options_free()
 * @return XAI_OK or XAI_ERROR_MEMORY
 * @since 0.1
 */
XAI_API xai_status xai_session_options_create(xai_session_options **out, xai_error **error);

/**
 * @param threads  threads to use in all; 0 = as many as this process may use. XAI_ERROR_ARGUMENT
 *                 outside [0, 1024].
 * @since 0.1
 */
XAI_API xai_status xai_session_options_set_threads(xai_session_options *options, int32_t threads,
                                                   xai_error **error);

/** @param mode  XAI_MODE_LATENCY or XAI_MODE_THROUGHPUT. @since 0.1 */
XAI_API xai_status xai_session_options_set_mode(xai_session_options *options, int32_t mode,
                                                xai_error **error);

/** @param precision  XAI_PRECISION_STANDARD, XAI_PRECISION_REFERENCE or XAI_PRECISION_FAST. @since 0.1 */
XAI_API xai_status xai_session_options_set_precision(xai_session_options *options,
                                                     int32_t precision, xai_error **error);

/**
 * @param bytes  limit of the working memory for one row (activations, not weights); 0 = none. A
 *               plan that needs more gives XAI_ERROR_MEMORY.
 * @since 0.1
 */
XAI_API xai_status xai_session_options_set_memory_limit(xai_session_options *options, size_t bytes,
                                                        xai_error **error);

/**
 * @param progress  called as described at xai_progress; NULL = none. `user` must stay valid as long
 *                  as the session.
 * @since 0.1
 */
XAI_API xai_status xai_session_options_set_progress(xai_session_options *options,
                                                    xai_progress progress, void *user,
                                                    xai_error **error);

/**
 * Whether NaN and infinities pass in inputs and values of xai_session_scores() and
 * xai_session_values(): for models that take or give them on purpose. Gradients and explanations
 * never let them pass.
 * @param allow  0 = they are errors (the default), 1 = they pass
 * @since 0.1
 */
XAI_API xai_status xai_session_options_set_allow_nonfinite(xai_session_options *options,
                                                           int32_t allow, xai_error **error);

/** Free options; NULL is fine. Sessions and explainers made with them keep a copy. @since 0.1 */
XAI_API void xai_session_options_free(xai_session_options *options);

/** A model ready to run. @since 0.1 */
typedef struct xai_session xai_session;

/**
 * Make a session. Compilation waits for the first inputs, whose shapes it needs.
 *
 * @param options  copied; NULL = the defaults
 * @param out      set on success only; free with xai_session_free()
 * @return XAI_OK; XAI_ERROR_ARGUMENT; XAI_ERROR_MEMORY
 * @since 0.1
 */
XAI_API xai_status xai_session_create(xai_model *model, const xai_session_options *options,
                                      xai_session **out, xai_error **error);

/** Free a session; NULL is fine. @since 0.1 */
XAI_API void xai_session_free(xai_session *session);

/**
 * Run the model.
 *
 * @param inputs        one tensor (N, ...) an input, in the model's order and of its types and
 *                      sizes; read only
 * @param input_count   must be xai_model_input_count()
 * @param outputs       set on success only: one new tensor (N, ...) an output, in the model's
 *                      order; free each with xai_tensor_free()
 * @param output_count  must be xai_model_output_count()
 * @param error         optional; set on failure, free with xai_error_free()
 * @return XAI_OK; XAI_ERROR_ARGUMENT; XAI_ERROR_SHAPE when an input does not fit the model;
 *         XAI_ERROR_NUMERIC when an input holds a NaN or an infinity (its place is named) or a
 *         score comes out as one; XAI_ERROR_UNSUPPORTED when the model cannot be compiled for these
 *         shapes; XAI_ERROR_CANCELLED; XAI_ERROR_MEMORY
 * @since 0.1
 */
XAI_API xai_status xai_session_scores(xai_session *session, const xai_tensor *const *inputs,
                                      size_t input_count, xai_tensor **outputs, size_t output_count,
                                      xai_error **error);

/**
 * Run the model and take values from inside it.
 *
 * @param names    `count` names of ONNX values, nodes, or layer indices as text
 * @param values   set on success only: `count` new tensors (N, ...); free each with
 *                 xai_tensor_free()
 * @return as xai_session_scores(), and XAI_ERROR_NOT_FOUND for an unknown name (the message lists
 *         near ones)
 * @since 0.1
 */
XAI_API xai_status xai_session_values(xai_session *session, const xai_tensor *const *inputs,
                                      size_t input_count, const char *const *names, size_t count,
                                      xai_tensor **values, xai_error **error);

/**
 * Differentiate scores: d score / d input, or d score / d layer. All targets share one forward pass
 * a row.
 *
 * @param targets       `target_count` targets; NULL with count 1, or a NULL entry, = the highest
 *                      score of each row
 * @param score         XAI_SCORE_RAW, XAI_SCORE_LOGIT or XAI_SCORE_PROBABILITY
 * @param wrt           `wrt_count` names of inputs or layers (values, nodes, or layer indices as
 *                      text); NULL with count 0 = every input of the model, in order
 * @param gradients     set on success only: target_count x wrt_count new float32 tensors
 *                      (target_count x xai_model_input_count() when `wrt` is NULL), those of the
 *                      first target first; each has the shape of its input, or (N, ...) of its
 *                      layer. With `wrt` NULL an input that is not floating point has no gradient:
 *                      its entry is NULL. Free each with xai_tensor_free()
 * @param scores        optional: `target_count` new float64 tensors (N), the scores that were
 *                      differentiated
 * @return as xai_session_scores(); XAI_ERROR_NOT_FOUND for an unknown name, label or index;
 *         XAI_ERROR_UNSUPPORTED where there is no gradient, or no probability; XAI_ERROR_NUMERIC
 *         also for a gradient that is not finite
 * @since 0.1
 */
XAI_API xai_status xai_session_gradients(xai_session *session, const xai_tensor *const *inputs,
                                         size_t input_count, const xai_target *const *targets,
                                         size_t target_count, int32_t score, const char *const *wrt,
                                         size_t wrt_count, xai_tensor **gradients,
                                         xai_tensor **scores, xai_error **error);

/**
 * @return bytes of working memory that the plan used last needs for one row; 0 before the first
 *         call.
 * @since 0.1
 */
XAI_API size_t xai_session_arena_bytes(const xai_session *session);

/** What a session would run for inputs of certain shapes: a list of steps. Immutable. @since 0.1 */
typedef struct xai_plan xai_plan;

/**
 * Compile without running.
 *
 * @param inputs  as for xai_session_scores(); only types and shapes matter
 * @param wrt     names as for xai_session_gradients(), to plan a backward pass from all outputs to
 *                them; NULL with count 0 = forward only
 * @param out     set on success only; free with xai_plan_free()
 * @return as xai_session_gradients()
 * @since 0.1
 */
XAI_API xai_status xai_session_plan(xai_session *session, const xai_tensor *const *inputs,
                                    size_t input_count, const char *const *wrt, size_t wrt_count,
                                    xai_plan **out, xai_error **error);

/**
 * Compile as xai_session_plan() does, then run the first row `runs` times and take the time of each
 * step: forward, and backward from every output with a seed of ones when `wrt` is given.
 *
 * @param runs  1 or more; one more pass before them warms up
 * @return as xai_session_gradients(); XAI_ERROR_ARGUMENT for runs < 1
 * @since 0.1
 */
XAI_API xai_status xai_session_profile(xai_session *session, const xai_tensor *const *inputs,
                                       size_t input_count, const char *const *wrt, size_t wrt_count,
                                       int32_t runs, xai_plan **out, xai_error **error);

/** @return bytes of working memory for one row, with the scratchpad. @since 0.1 */
XAI_API size_t xai_plan_arena_bytes(const xai_plan *plan);
/** @return the number of steps, forward ones first. @since 0.1 */
XAI_API size_t xai_plan_step_count(const xai_plan *plan);
/** @return the name of the node that step `step` computes; owned by the plan. @since 0.1 */
XAI_API const char *xai_plan_step_node(const xai_plan *plan, size_t step);
/** @return its operator; owned by the plan. @since 0.1 */
XAI_API const char *xai_plan_step_operator(const xai_plan *plan, size_t step);
/**
 * @return what computes it: a name given by oneDNN, an own kernel, "portable", or "alias" for
 *         nothing.
 * @since 0.1
 */
XAI_API const char *xai_plan_step_implementation(const xai_plan *plan, size_t step);
/** @return 1 for a step of the backward pass, else 0. @since 0.1 */
XAI_API int32_t xai_plan_step_backward(const xai_plan *plan, size_t step);
/** @return bytes that the step writes. @since 0.1 */
XAI_API size_t xai_plan_step_bytes(const xai_plan *plan, size_t step);
/**
 * @return floating point operations of the step, where it is a convolution or a matrix product
 *         that oneDNN computes; else 0.
 * @since 0.1
 */
XAI_API double xai_plan_step_operations(const xai_plan *plan, size_t step);
/** @return the least time of the step in a profile, in milliseconds; else 0. @since 0.1 */
XAI_API double xai_plan_step_milliseconds(const xai_plan *plan, size_t step);
/** @return bytes that steps use while they run, shared by all of them. @since 0.1 */
XAI_API size_t xai_plan_scratchpad_bytes(const xai_plan *plan);
/**
 * @return bytes of weights in the layouts that the steps read, shared by all sessions of the model
 *         (of every plan made so far).
 * @since 0.1
 */
XAI_API size_t xai_plan_weights_bytes(const xai_plan *plan);
/** @return the number of buffers in the working memory. @since 0.1 */
XAI_API size_t xai_plan_buffer_count(const xai_plan *plan);
/** @return the value that the buffer holds, or the node that fills it; owned by the plan. @since 0.1 */
XAI_API const char *xai_plan_buffer_value(const xai_plan *plan, size_t buffer);
/** @return 1 for a buffer of the backward pass, else 0. @since 0.1 */
XAI_API int32_t xai_plan_buffer_gradient(const xai_plan *plan, size_t buffer);
/** @return its size. @since 0.1 */
XAI_API size_t xai_plan_buffer_bytes(const xai_plan *plan, size_t buffer);
/** @return where it lies in the working memory, in bytes; buffers that never live together overlap. @since 0.1 */
XAI_API size_t xai_plan_buffer_offset(const xai_plan *plan, size_t buffer);
/** @return the first step that touches it. @since 0.1 */
XAI_API size_t xai_plan_buffer_first_step(const xai_plan *plan, size_t buffer);
/** @return the last step that touches it, or the last of all when it is kept. @since 0.1 */
XAI_API size_t xai_plan_buffer_last_step(const xai_plan *plan, size_t buffer);
/** Free a plan; NULL is fine. @since 0.1 */
XAI_API void xai_plan_free(xai_plan *plan);

#ifdef __cplusplus
}
#endif

#endif
