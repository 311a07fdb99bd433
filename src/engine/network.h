/* A model's graph and the weights that its plans have prepared, shared by all sessions. */
#ifndef ENGINE_NETWORK_H
#define ENGINE_NETWORK_H

#include "engine/engine.h"
#include "engine/primitive.h"

/* Prepared bytes for (contents of `source`, key): made once by `prepare`, shared afterwards.
 * Thread-safe; lives as long as the network. */
typedef xai_status (*weights_prepare)(const void *user, const tensor *source, void *prepared,
                                      xai_error **error);
xai_status network_weights(network *self, const tensor *source, const char *key, size_t bytes,
                           weights_prepare prepare, const void *user, const void **out,
                           xai_error **error);
void network_retain(network *self);
size_t network_weights_bytes(network *self); /* of everything prepared so far */

/* Weights of a convolution, prepared for `program`, shared by all that ask for the same. *norm (may be
 * NULL) = guard_norm() of a forward convolution, else 0. */
xai_status network_prepared(network *self, const graph *of, const primitive *program,
                            const tensor *weights, const void **out, double *norm,
                            xai_error **error);

#endif
