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

/* Before many short loops: wakes the threads of the team and sees that no two of them stand on one
 * processor. A sleeping thread is often woken on the processor of the thread that wakes it and,
 * since that one spins at the end of the loop, gets its turn only some scheduler ticks later: 5 to
 * 15 ms for a call after a pause. Affinities are as before at the return. Costs about 2
 * microseconds when the threads are awake; does nothing where parallel_for would not. */
void parallel_wake(int threads);

/* Number of processors that this process may use (affinity and cgroup quota), at least 1. */
int parallel_processors(void);

#endif
