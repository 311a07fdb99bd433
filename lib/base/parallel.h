/* Parallel loops over independent items. Nothing here changes process-wide settings. */
#ifndef BASE_PARALLEL_H
#define BASE_PARALLEL_H

#include <stddef.h>

/* Call body(user, begin, end) on disjoint ranges that cover [0, count), on up to `threads`
 * threads of the OpenMP team. Range borders depend on `threads`, so a body must compute every
 * item on its own: then the bits do not. Runs in the calling thread when threads <= 1, when
 * already inside a parallel region, or without OpenMP. */
void parallel_for(int threads, size_t count, void (*body)(void *user, size_t begin, size_t end),
                  void *user);

/* Number of processors that this process may use (affinity and cgroup quota), at least 1. */
int parallel_processors(void);

#endif
