/* What RNN, GRU and LSTM share: attributes and shapes of a call, activations, and the sequence
 * loop. Private to recurrent*.c.
 *
 * Shapes: X (T, N, I), W (D, G H, I), R (D, G H, H), B (D, 2 G H), h and c (D, N, H), P (D, 3 H),
 * Y (T, D, N, H); with layout 1 X and Y begin with N, h and c with N. D directions, G gates. A
 * sequence is one row n in one direction d; its steps run from the first to the last input, or
 * back. Steps behind its length give zeros. */
#ifndef OPS_RECURRENT_H
#define OPS_RECURRENT_H

#include "ops/support.h"

/* y = f(x) of a gate, and its slope; x is what clip left. */
typedef struct gate_function {
    double (*value)(double x, double alpha, double beta);
    double (*slope)(double x, double y, double alpha, double beta);
    double alpha, beta;
} gate_function;

typedef enum recurrent_kind { RECURRENT_RNN, RECURRENT_GRU, RECURRENT_LSTM } recurrent_kind;

typedef struct recurrent {
    recurrent_kind kind;
    size_t steps, rows, inputs, width, directions, gates; /* T, N, I, H, D, G */
    bool rows_first;                                      /* layout 1 */
    bool backward_first;           /* direction = "reverse": sequence d = 0 runs back */
    bool input_forget, reset_last; /* LSTM; GRU: linear_before_reset */
    double clip;                   /* 0 = none */
    gate_function functions[2][3];
    /* inputs, NULL where omitted */
    double *x, *w, *r, *b, *h0, *c0, *p;
    int64_t *lengths;
} recurrent;

/* The values of one sequence, in the order of its steps. */
typedef struct recurrent_trace {
    size_t length;
    double *x;     /* (T, I) */
    double *sums;  /* (T, G H): what goes into the activations */
    double *gates; /* (T, G H): what comes out */
    double *h, *c; /* (T + 1, H), the initial state first */
    double *extra; /* (T, H): GRU: reset_last: Rh h + Rbh; else r * h */
} recurrent_trace;

/* Gradients in the layout of the inputs; NULL where not wanted. */
typedef struct recurrent_gradients {
    double *x, *w, *r, *b, *h0, *c0, *p;
} recurrent_gradients;

double recurrent_clip(const recurrent *self, double x);
/* f(clip(x)) and d f(clip(x)) / dx */
double recurrent_value(const recurrent *self, const gate_function *f, double x);
double recurrent_slope(const recurrent *self, const gate_function *f, double x, double y);

/* recurrent_cell.c: one step. `sums` (G H) holds the input's part and the biases on entry (GRU:
 * without the recurrent bias of the hidden gate when reset_last). */
void recurrent_cell(const recurrent *self, size_t d, const double *h, const double *c, double *sums,
                    double *gates, double *extra, double *h_next, double *c_next);
/* The transpose of step s of a trace. dh, dc (H): gradients of its results on entry, of the states
 * before it on return. input_sums (G H) = gradient of the input's part, recurrent_sums (G H) of
 * the products R h. */
void recurrent_cell_back(const recurrent *self, size_t d, const recurrent_trace *trace, size_t s,
                         double *dh, double *dc, double *input_sums, double *recurrent_sums,
                         recurrent_gradients *to);

#endif
