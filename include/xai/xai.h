/**
 * @file
 * libxai: explanations of medical imaging models (ONNX), from C.
 *
 *     model -> session (scores, gradients)
 *     model -> explainer (method + options) -> explanation (values, map, facts, overlay)
 *
 * The rules of the whole interface:
 * - Handles are opaque. Everything made by a call is freed with the `*_free` of its type; NULL is
 *   fine there, and handles may be freed in any order: a child keeps alive what it needs.
 * - Calls that can fail return an `xai_status` and take an optional `xai_error **` last, which is
 *   written on failure only. Set the pointer to NULL before the call.
 * - Models, tensors, targets and explanations may be read by many threads; sessions and explainers
 *   serve one at a time.
 * - The library has no global state, prints nothing, and never ends the process.
 */
#ifndef XAI_XAI_H
#define XAI_XAI_H

#include "display.h"
#include "explainer.h"
#include "explanation.h"
#include "image.h"
#include "model.h"
#include "session.h"
#include "status.h"
#include "target.h"
#include "tensor.h"
#include "version.h"

#endif
