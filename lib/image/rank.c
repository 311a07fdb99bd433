#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "image/image.h"

static int ascending(const void *a, const void *b)
{
    const float left = *(const float *)a, right = *(const float *)b;
    return (left > right) - (left < right);
}

bool image_percentile_above_zero(const float *map, size_t count, double percentile, double *out)
{
    float *above = memory_allocate(count > 0 ? count : 1, sizeof *above);
    if (!above)
        return false;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (map[i] > 0)
            above[kept++] = map[i];
    *out = 0;
    if (kept > 0) {
        qsort(above, kept, sizeof *above, ascending);
        const double at = percentile / 100 * (double)(kept - 1);
        const size_t low = (size_t)at, high = low + 1 < kept ? low + 1 : low;
        const double share = at - floor(at);
        *out = (1 - share) * (double)above[low] + share * (double)above[high];
    }
    memory_free(above);
    return true;
}
