#include "explain/gradients.h"

#include <string.h>

#include "base/error.h"

typedef struct gradient_job {
    const evaluator *self;
    const batch *rows;
    size_t target_count;
    const int *wrt;
    size_t wrt_count;
    tensor *gradients, *scores;
} gradient_job;

static xai_status create_gradients(void *user, const plan *program, const row_layout *layouts,
                                   xai_error **error)
{
    gradient_job *job = user;
    xai_status status = XAI_OK;
    for (size_t v = 0; status == XAI_OK && v < job->wrt_count; v++) {
        const graph_value *value = &plan_graph(program)->values[job->wrt[v]];
        shape dims = value->shape;
        if (layouts[v].has_axis)
            dims.dims[0] = (int64_t)job->rows->rows;
        else if (job->rows->runs > 1)
            return error_set(error, XAI_ERROR_UNSUPPORTED, value->name,
                             "it has no row axis; give one row at a time");
        for (size_t t = 0; status == XAI_OK && t < job->target_count; t++)
            status =
                tensor_create(&job->gradients[t * job->wrt_count + v], DTYPE_FLOAT, &dims, error);
    }
    const shape rows = shape_make(1, (const int64_t[]){(int64_t)job->rows->rows});
    for (size_t t = 0; status == XAI_OK && job->scores != NULL && t < job->target_count; t++)
        status = tensor_create(&job->scores[t], DTYPE_DOUBLE, &rows, error);
    return status;
}

static xai_status copy_gradient(void *user, const sample *of, xai_error **error)
{
    (void)error;
    gradient_job *job = user;
    float *out = job->gradients[of->target * job->wrt_count + of->wrt].data;
    if (of->count > 0)
        memcpy(out + of->row * of->count, of->gradient, of->count * sizeof *out);
    if (job->scores != NULL)
        ((double *)job->scores[of->target].data)[of->row] = of->score;
    return XAI_OK;
}

xai_status evaluator_gradients(evaluator *self, const batch *rows, const xai_target *const *targets,
                               size_t target_count, int32_t score, const int *wrt, size_t wrt_count,
                               tensor *gradients, tensor *scores, xai_error **error)
{
    const size_t total = target_count * wrt_count;
    memset(gradients, 0, total * sizeof *gradients);
    if (scores != NULL)
        memset(scores, 0, target_count * sizeof *scores);
    gradient_job job = {.self = self,
                        .rows = rows,
                        .target_count = target_count,
                        .wrt = wrt,
                        .wrt_count = wrt_count,
                        .gradients = gradients,
                        .scores = scores};
    const differentiation what = {.targets = targets,
                                  .target_count = target_count,
                                  .score = score,
                                  .wrt = wrt,
                                  .wrt_count = wrt_count,
                                  .prepare = create_gradients,
                                  .body = copy_gradient,
                                  .user = &job};
    const xai_status status = evaluator_differentiate(self, rows, &what, error);
    for (size_t i = 0; status != XAI_OK && i < total; i++)
        tensor_free(&gradients[i]);
    for (size_t t = 0; status != XAI_OK && scores != NULL && t < target_count; t++)
        tensor_free(&scores[t]);
    return status;
}
