/* What a model is given: a PNG or NPY file made into a tensor, as the model card says. */
#ifndef CLI_INPUT_H
#define CLI_INPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "png_file.h"
#include "xai/xai.h"

/* Pixel values that become black and white. The defaults (both 0) mean 0 and the largest of the
 * file's depth. */
typedef struct window {
    double low, high;
} window;
/* "LOW,HIGH" with LOW < HIGH. */
bool window_parse(const char *text, window *out);

/* The tensors of a model's inputs and the picture that the first one came from. */
typedef struct input_set {
    xai_tensor **tensors; /* `count`, in the order of the model's inputs */
    size_t count;
    uint8_t *pixels; /* (height, width, channels), 8 bits, to draw on; NULL when the first input has
                        no spatial axes */
    size_t height, width;
    int channels; /* 1 or 3 */
} input_set;

/* Read one file an input. A PNG, or an NPY of unsigned integers shaped (H, W) or (H, W, 3) for a
 * floating-point input, is a picture: it is resized, scaled and normalised by the model card. Any
 * other NPY is taken as the tensor itself; leading axes of size 1 are added where it lacks them.
 * Row `row` of a tensor gives the picture to draw on. Reports failure. */
bool input_set_read(input_set *self, const xai_model *model, const char *const *paths, size_t count,
                    window range, size_t row);
/* Tensors of the shapes that the model declares (one row), filled with reproducible numbers, for
 * timing; free axes that hold pixels get `size`. Reports failure. */
bool input_set_invent(input_set *self, const xai_model *model, int64_t rows, int64_t size);
void input_set_free(input_set *self);

/* An NPY file as a tensor for an input of the model (leading axes of size 1 are added where it lacks
 * them), or with its own axes when `model` is NULL; integers stay as they are. NULL after a report. */
xai_tensor *npy_read(const xai_model *model, size_t input, const char *path);

/* Write a tensor as NPY. Reports failure; `path` is for messages. */
bool npy_write(const char *path, FILE *file, const xai_tensor *values);

#endif
