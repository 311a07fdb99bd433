#include <math.h>

#include "api/handles.h"
#include "base/error.h"

void xai_explanation_free(xai_explanation *self)
{
    if (self == NULL)
        return;
    explanation_free(self->body);
    memory_free(self->values);
    memory_free(self->standard_errors);
    memory_free(self);
}

static bool has_row(const xai_explanation *self, size_t row)
{
    return self != NULL && row < self->body->rows;
}

size_t xai_explanation_row_count(const xai_explanation *self)
{
    return self != NULL ? self->body->rows : 0;
}

size_t xai_explanation_part_count(const xai_explanation *self)
{
    return self != NULL ? self->body->part_count : 0;
}

static bool has_part(const xai_explanation *self, size_t part)
{
    return self != NULL && part < self->body->part_count;
}

const char *xai_explanation_part_name(const xai_explanation *self, size_t part)
{
    return has_part(self, part) ? self->body->parts[part].name : "";
}

const xai_tensor *xai_explanation_part_values(const xai_explanation *self, size_t part)
{
    return has_part(self, part) ? &self->values[part] : NULL;
}

/* NULL for a tensor that the explanation does not have. */
static const xai_tensor *existing(const xai_tensor *view)
{
    return view->value.data != NULL ? view : NULL;
}

const xai_tensor *xai_explanation_part_standard_error(const xai_explanation *self, size_t part)
{
    return has_part(self, part) ? existing(&self->standard_errors[part]) : NULL;
}

const xai_tensor *xai_explanation_values(const xai_explanation *self)
{
    return xai_explanation_part_values(self, 0);
}

const xai_tensor *xai_explanation_standard_error(const xai_explanation *self)
{
    return xai_explanation_part_standard_error(self, 0);
}

const xai_tensor *xai_explanation_map(const xai_explanation *self)
{
    return self != NULL ? existing(&self->map) : NULL;
}

const xai_tensor *xai_explanation_signed_map(const xai_explanation *self)
{
    return self != NULL ? existing(&self->signed_map) : NULL;
}

const xai_tensor *xai_explanation_segments(const xai_explanation *self)
{
    return self != NULL ? existing(&self->segments) : NULL;
}

const xai_tensor *xai_explanation_segment_values(const xai_explanation *self)
{
    return self != NULL ? existing(&self->segment_values) : NULL;
}

const xai_tensor *xai_explanation_interactions(const xai_explanation *self)
{
    return self != NULL ? existing(&self->interactions) : NULL;
}

const xai_tensor *xai_explanation_segment_standard_error(const xai_explanation *self)
{
    return self != NULL ? existing(&self->segment_errors) : NULL;
}

const char *xai_explanation_baseline(const xai_explanation *self)
{
    return self != NULL ? self->body->baseline : "";
}

int64_t xai_explanation_samples(const xai_explanation *self, size_t row)
{
    return has_row(self, row) ? self->body->samples[row] : 0;
}

int32_t xai_explanation_converged(const xai_explanation *self, size_t row)
{
    return has_row(self, row) ? self->body->converged[row] : -1;
}

const char *xai_explanation_method(const xai_explanation *self)
{
    return self != NULL ? self->body->method : "";
}

const char *xai_explanation_layer(const xai_explanation *self)
{
    return self != NULL ? self->body->layer : "";
}

int32_t xai_explanation_score_kind(const xai_explanation *self)
{
    return self != NULL ? self->body->score_kind : 0;
}

int64_t xai_explanation_target(const xai_explanation *self, size_t row)
{
    return has_row(self, row) ? self->body->targets[row] : 0;
}

const char *xai_explanation_label(const xai_explanation *self, size_t row)
{
    return has_row(self, row) && self->body->labels[row] != NULL ? self->body->labels[row] : "";
}

double xai_explanation_score(const xai_explanation *self, size_t row)
{
    return has_row(self, row) ? self->body->scores[row] : NAN;
}

double xai_explanation_base_value(const xai_explanation *self, size_t row)
{
    return has_row(self, row) ? self->body->base_values[row] : NAN;
}

double xai_explanation_completeness_error(const xai_explanation *self, size_t row)
{
    return has_row(self, row) ? self->body->completeness_errors[row] : NAN;
}

int64_t xai_explanation_evaluations(const xai_explanation *self, size_t row)
{
    return has_row(self, row) ? self->body->evaluations[row] : 0;
}

size_t xai_explanation_warning_count(const xai_explanation *self)
{
    return self != NULL ? self->body->warning_count : 0;
}

const char *xai_explanation_warning(const xai_explanation *self, size_t index)
{
    return self != NULL && index < self->body->warning_count ? self->body->warnings[index].text
                                                             : "";
}

int64_t xai_explanation_warning_row(const xai_explanation *self, size_t index)
{
    return self != NULL && index < self->body->warning_count ? self->body->warnings[index].row : -1;
}

const char *xai_explanation_json(const xai_explanation *self)
{
    return self != NULL ? self->body->json : "";
}
