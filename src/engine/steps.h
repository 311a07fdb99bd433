/* Steps that move, clear or add data between a plan's operands. Each comment names the operands
 * by number. */
#ifndef ENGINE_STEPS_H
#define ENGINE_STEPS_H

#include "engine/plan.h"

xai_status step_copy(const step *self, run *state, xai_error **error);    /* 0 -> 1, count bytes */
xai_status step_zero(const step *self, run *state, xai_error **error);    /* 0 = 0, count bytes */
xai_status step_block(const step *self, run *state, xai_error **error);   /* 0 plain -> 1 blocked */
xai_status step_unblock(const step *self, run *state, xai_error **error); /* 0 blocked -> 1 plain */
xai_status step_accumulate(const step *self, run *state,
                           xai_error **error); /* 1 += 0, count floats */
xai_status step_accumulate_any(const step *self, run *state,
                               xai_error **error); /* the same for element type `channels` */
xai_status step_cast(const step *self, run *state,
                     xai_error **error); /* 0 (type channels) -> 1 (type channels_to) */
xai_status step_activate(const step *self, run *state,
                         xai_error **error); /* 1 = f(0); zeroes padded lanes if channels */
xai_status step_activate_backward(const step *self, run *state,
                                  xai_error **error); /* 2 (+)= f'(0) 1 */
/* dst (2, or 2 = gradient) of primitive: 0 = source, 1 = weights, 2 = destination, 3 = bias, 4 =
 * other */
xai_status step_primitive(const step *self, run *state, xai_error **error);

#endif
