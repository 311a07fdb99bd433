/* If, Loop and Scan as operators: names and counts. The graph writes them out before anything runs, so that infer is never
 * asked. */
#include "ops/families.h"
#include "ops/support.h"

static xai_status control_infer(operator_call *call)
{
    return operator_error(call, XAI_ERROR_UNSUPPORTED, "control flow was not written out");
}

#define CONTROL(symbol, title, least, first_opset)  \
    const operator_definition operator_##symbol = { \
        .name = title,                              \
        .domain = "",                               \
        .min_inputs = least,                        \
        .max_inputs = OPERATOR_VARIADIC,            \
        .min_outputs = 0,                           \
        .max_outputs = OPERATOR_VARIADIC,           \
        .since = first_opset,                       \
        .infer = control_infer,                     \
        .forward = control_infer,                   \
    }
CONTROL(if, "If", 1, 1);
CONTROL(loop, "Loop", 2, 1);
CONTROL(scan, "Scan", 1, 9);
