/* How an operator y[i] = f(x[i]) is made from its formula. Private to this folder. */
#ifndef OPS_UNARY_H
#define OPS_UNARY_H

#include <math.h>

#include "ops/support.h"

/* Up to two float attributes of an operator with their defaults; absent names are NULL. */
typedef struct unary_attributes {
    const char *alpha_name, *beta_name;
    float alpha, beta;
} unary_attributes;

/* Loops over a piece of the tensor, and what they need. */
typedef struct unary_kernel {
    void (*values)(double alpha, double beta, size_t count, const double *x, double *y);
    /* g[i] *= f'(x[i]); x or y holds nothing when the slope does not read it. */
    void (*slopes)(double alpha, double beta, size_t count, const double *x, const double *y,
                   double *g);
    bool reads_input, reads_output; /* in slopes */
    unary_attributes attributes;
} unary_kernel;

xai_status unary_infer(operator_call *call, const unary_kernel *kernel, uint32_t types);
xai_status unary_forward(operator_call *call, const unary_kernel *kernel);
xai_status unary_backward(operator_call *call, const unary_kernel *kernel);

#define UNARY_READS_X OPERATOR_READS_INPUT(0)
#define UNARY_READS_Y OPERATOR_READS_OUTPUT(0)

/* The loops and `symbol_kernel`. VALUE is f as an expression of x, SLOPE is f' as an expression
 * of x and y; both may use alpha and beta. READS: UNARY_READS_X, UNARY_READS_Y or 0 for the
 * variables in SLOPE. What follows are the unary_attributes, perhaps none. */
#define UNARY_LOOPS(symbol, READS, VALUE, SLOPE, ...)                                          \
    static void symbol##_values(double alpha, double beta, size_t count, const double *inputs, \
                                double *outputs)                                               \
    {                                                                                          \
        (void)alpha, (void)beta;                                                               \
        for (size_t i = 0; i < count; i++) {                                                   \
            const double x = inputs[i];                                                        \
            outputs[i] = VALUE;                                                                \
        }                                                                                      \
    }                                                                                          \
    static void symbol##_slopes(double alpha, double beta, size_t count, const double *inputs, \
                                const double *outputs, double *gradients)                      \
    {                                                                                          \
        (void)alpha, (void)beta;                                                               \
        for (size_t i = 0; i < count; i++) {                                                   \
            const double x = inputs[i], y = outputs[i];                                        \
            (void)x, (void)y;                                                                  \
            gradients[i] *= SLOPE;                                                             \
        }                                                                                      \
    }                                                                                          \
    static const unary_kernel symbol##_kernel = {symbol##_values,                              \
                                                 symbol##_slopes,                              \
                                                 ((READS)&UNARY_READS_X) != 0,                 \
                                                 ((READS)&UNARY_READS_Y) != 0,                 \
                                                 {__VA_ARGS__}}

/* The whole operator on float types. */
#define UNARY(symbol, name, domain, first_opset, more_flags, READS, VALUE, SLOPE, ...)  \
    UNARY_LOOPS(symbol, READS, VALUE, SLOPE, __VA_ARGS__);                              \
    static xai_status symbol##_infer(operator_call *call)                               \
    {                                                                                   \
        return unary_infer(call, &symbol##_kernel, TYPES_FLOAT);                        \
    }                                                                                   \
    static xai_status symbol##_forward(operator_call *call)                             \
    {                                                                                   \
        return unary_forward(call, &symbol##_kernel);                                   \
    }                                                                                   \
    static xai_status symbol##_backward(operator_call *call)                            \
    {                                                                                   \
        return unary_backward(call, &symbol##_kernel);                                  \
    }                                                                                   \
    const operator_definition operator_##symbol = {name,                                \
                                                   domain,                              \
                                                   1,                                   \
                                                   1,                                   \
                                                   1,                                   \
                                                   1,                                   \
                                                   first_opset,                         \
                                                   OPERATOR_ELEMENTWISE | (more_flags), \
                                                   (READS),                             \
                                                   symbol##_infer,                      \
                                                   symbol##_forward,                    \
                                                   symbol##_backward}

#endif
