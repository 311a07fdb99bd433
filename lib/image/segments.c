#include "image/segments.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"

size_t segments_grid(const size_t dims[3], size_t cells, int32_t *labels)
{
    size_t parts[3];
    for (int axis = 0; axis < 3; axis++)
        parts[axis] = cells < 1 ? 1 : cells < dims[axis] ? cells : dims[axis];
    for (size_t z = 0; z < dims[0]; z++)
        for (size_t y = 0; y < dims[1]; y++)
            for (size_t x = 0; x < dims[2]; x++)
                *labels++ = (int32_t)((z * parts[0] / dims[0] * parts[1] + y * parts[1] / dims[1]) *
                                          parts[2] +
                                      x * parts[2] / dims[2]);
    return parts[0] * parts[1] * parts[2];
}

static int compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

size_t segments_compact(const int64_t *values, size_t count, int32_t *labels)
{
    int64_t *sorted = memory_allocate(count, sizeof *sorted);
    if (sorted == NULL)
        return 0;
    memcpy(sorted, values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (i == 0 || sorted[i] != sorted[kept - 1])
            sorted[kept++] = sorted[i];
    for (size_t i = 0; i < count; i++) {
        const int64_t *found = bsearch(&values[i], sorted, kept, sizeof *sorted, compare);
        labels[i] = (int32_t)(found - sorted);
    }
    memory_free(sorted);
    return kept;
}

/* Colours */

/* sRGB in [0, 1] to CIELAB under D65. */
static double linear(double c)
{
    return c > 0.04045 ? pow((c + 0.055) / 1.055, 2.4) : c / 12.92;
}

static double lab_curve(double t)
{
    return t > 0.008856 ? cbrt(t) : 7.787 * t + 16.0 / 116;
}

static void to_lab(double r, double g, double b, double lab[3])
{
    r = linear(r);
    g = linear(g);
    b = linear(b);
    const double x = lab_curve((0.412453 * r + 0.357580 * g + 0.180423 * b) / 0.95047);
    const double y = lab_curve(0.212671 * r + 0.715160 * g + 0.072169 * b);
    const double z = lab_curve((0.019334 * r + 0.119193 * g + 0.950227 * b) / 1.08883);
    lab[0] = 116 * y - 16;
    lab[1] = 500 * (x - y);
    lab[2] = 200 * (y - z);
}

/* (pixels, channels) of what distances are taken in, times `scale`. NULL = out of memory. */
static double *make_colours(const float *planes, size_t channels, size_t pixels, double scale)
{
    double *colours = memory_allocate(pixels * channels, sizeof *colours);
    if (colours == NULL)
        return NULL;
    double lowest = planes[0], highest = planes[0];
    for (size_t i = 1; i < pixels * channels; i++) {
        lowest = planes[i] < lowest ? planes[i] : lowest;
        highest = planes[i] > highest ? planes[i] : highest;
    }
    const double range = highest > lowest ? highest - lowest : 1;
    for (size_t p = 0; p < pixels; p++) {
        double *out = colours + p * channels;
        for (size_t c = 0; c < channels; c++)
            out[c] = (planes[c * pixels + p] - lowest) / range;
        if (channels == 3) {
            to_lab(out[0], out[1], out[2], out);
        } else if (channels == 1) {
            double lab[3];
            to_lab(out[0], out[0], out[0], lab);
            out[0] = lab[0];
        } else {
            for (size_t c = 0; c < channels; c++)
                out[c] *= 100;
        }
        for (size_t c = 0; c < channels; c++)
            out[c] *= scale;
    }
    return colours;
}

/* SLIC */

/* Steps and starts of a grid of about `wanted` points, as cubic as the axes allow: an axis shorter
 * than the step has one point, and the others share the number. */
static void plan_seeds(const size_t dims[3], size_t wanted, size_t step[3], size_t start[3])
{
    int order[3] = {0, 1, 2}; /* from the shortest axis */
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2 - i; j++)
            if (dims[order[j]] > dims[order[j + 1]]) {
                const int kept = order[j];
                order[j] = order[j + 1];
                order[j + 1] = kept;
            }
    double steps[3], space = 1;
    for (int i = 0; i < 3; i++)
        space *= (double)dims[order[i]];
    if (space <= (double)wanted) {
        for (int i = 0; i < 3; i++) {
            step[i] = 1;
            start[i] = 0;
        }
        return;
    }
    for (int i = 0; i < 3; i++)
        steps[i] = pow(space / (double)wanted, 1.0 / 3);
    for (int i = 0; i < 3; i++) {
        bool fits = true;
        for (int j = 0; j < 3; j++)
            fits = fits && (double)dims[order[j]] >= steps[j];
        if (fits)
            break;
        steps[i] = (double)dims[order[i]];
        double rest = 1;
        for (int j = i + 1; j < 3; j++)
            rest *= (double)dims[order[j]];
        for (int j = i + 1; j < 3; j++)
            steps[j] = pow(rest / (double)wanted, 1.0 / (2 - i));
    }
    for (int i = 0; i < 3; i++) {
        start[order[i]] = (size_t)floor(steps[i] / 2);
        step[order[i]] = (size_t)fmax(nearbyint(steps[i]), 1);
    }
}

typedef struct slic {
    const double *colours; /* (pixels, C) */
    size_t channels, dims[3], step[3];
    double *centres; /* (K, 3 + C): place, colour */
    size_t count;
    double place_weight;
    double *nearest; /* (pixels) */
    int32_t *labels;
} slic;

static void window(const slic *self, const double *centre, size_t begin[3], size_t end[3])
{
    for (int axis = 0; axis < 3; axis++) {
        const double reach = 2 * (double)self->step[axis];
        begin[axis] = centre[axis] > reach ? (size_t)(centre[axis] - reach) : 0;
        end[axis] = (size_t)(centre[axis] + reach + 1);
        end[axis] = end[axis] < self->dims[axis] ? end[axis] : self->dims[axis];
    }
}

/* Every pixel to the nearest centre whose window holds it; true when a label changed. */
static bool assign(slic *self)
{
    const size_t width = 3 + self->channels, pixels = self->dims[0] * self->dims[1] * self->dims[2];
    bool changed = false;
    for (size_t p = 0; p < pixels; p++)
        self->nearest[p] = INFINITY;
    for (size_t k = 0; k < self->count; k++) {
        const double *centre = self->centres + k * width;
        size_t begin[3], end[3];
        window(self, centre, begin, end);
        for (size_t z = begin[0]; z < end[0]; z++)
            for (size_t y = begin[1]; y < end[1]; y++)
                for (size_t x = begin[2]; x < end[2]; x++) {
                    const size_t p = (z * self->dims[1] + y) * self->dims[2] + x;
                    const double dz = centre[0] - (double)z, dy = centre[1] - (double)y,
                                 dx = centre[2] - (double)x;
                    double distance = (dz * dz + dy * dy + dx * dx) * self->place_weight;
                    for (size_t c = 0; c < self->channels; c++) {
                        const double d = self->colours[p * self->channels + c] - centre[3 + c];
                        distance += d * d;
                    }
                    if (distance < self->nearest[p]) {
                        self->nearest[p] = distance;
                        changed = changed || self->labels[p] != (int32_t)k;
                        self->labels[p] = (int32_t)k;
                    }
                }
    }
    return changed;
}

static void move_centres(slic *self, size_t *sizes)
{
    const size_t width = 3 + self->channels;
    memset(self->centres, 0, self->count * width * sizeof *self->centres);
    memset(sizes, 0, self->count * sizeof *sizes);
    size_t p = 0;
    for (size_t z = 0; z < self->dims[0]; z++)
        for (size_t y = 0; y < self->dims[1]; y++)
            for (size_t x = 0; x < self->dims[2]; x++, p++) {
                double *centre = self->centres + (size_t)self->labels[p] * width;
                const double place[3] = {(double)z, (double)y, (double)x};
                for (int axis = 0; axis < 3; axis++)
                    centre[axis] += place[axis];
                for (size_t c = 0; c < self->channels; c++)
                    centre[3 + c] += self->colours[p * self->channels + c];
                sizes[self->labels[p]]++;
            }
    for (size_t k = 0; k < self->count; k++)
        for (size_t c = 0; sizes[k] > 0 && c < width; c++)
            self->centres[k * width + c] /= (double)sizes[k];
}

static bool place_seeds(slic *self, size_t wanted)
{
    size_t start[3], number[3];
    plan_seeds(self->dims, wanted, self->step, start);
    self->count = 1;
    for (int axis = 0; axis < 3; axis++) {
        number[axis] = (self->dims[axis] - start[axis] + self->step[axis] - 1) / self->step[axis];
        self->count *= number[axis];
    }
    const size_t width = 3 + self->channels;
    self->centres = memory_allocate_zeroed(self->count * width, sizeof *self->centres);
    if (self->centres == NULL)
        return false;
    double *centre = self->centres;
    for (size_t z = 0; z < number[0]; z++)
        for (size_t y = 0; y < number[1]; y++)
            for (size_t x = 0; x < number[2]; x++, centre += width) {
                centre[0] = (double)(start[0] + z * self->step[0]);
                centre[1] = (double)(start[1] + y * self->step[1]);
                centre[2] = (double)(start[2] + x * self->step[2]);
            }
    size_t longest = self->step[0] > self->step[1] ? self->step[0] : self->step[1];
    longest = self->step[2] > longest ? self->step[2] : longest;
    self->place_weight = 1 / ((double)longest * (double)longest);
    return true;
}

/* Connected parts */

static size_t neighbours_of(size_t p, const size_t dims[3], size_t out[6])
{
    const size_t x = p % dims[2], y = p / dims[2] % dims[1], z = p / dims[2] / dims[1];
    size_t count = 0;
    if (x > 0)
        out[count++] = p - 1;
    if (x + 1 < dims[2])
        out[count++] = p + 1;
    if (y > 0)
        out[count++] = p - dims[2];
    if (y + 1 < dims[1])
        out[count++] = p + dims[2];
    if (z > 0)
        out[count++] = p - dims[1] * dims[2];
    if (z + 1 < dims[0])
        out[count++] = p + dims[1] * dims[2];
    return count;
}

/* parts[p]: connected parts of one label, numbered in the order of their first pixels. */
static size_t find_parts(const size_t dims[3], const int32_t *labels, int32_t *parts, size_t *queue)
{
    const size_t pixels = dims[0] * dims[1] * dims[2];
    int32_t found = 0;
    for (size_t p = 0; p < pixels; p++)
        parts[p] = -1;
    for (size_t first = 0; first < pixels; first++) {
        if (parts[first] >= 0)
            continue;
        size_t size = 1, near[6];
        queue[0] = first;
        parts[first] = found;
        for (size_t at = 0; at < size; at++) {
            const size_t degree = neighbours_of(queue[at], dims, near);
            for (size_t n = 0; n < degree; n++)
                if (parts[near[n]] < 0 && labels[near[n]] == labels[first]) {
                    parts[near[n]] = found;
                    queue[size++] = near[n];
                }
        }
        found++;
    }
    return (size_t)found;
}

typedef struct merger {
    size_t *group; /* (parts): a part of the same group with a lower number, or itself */
    size_t *sizes; /* of groups, at their first part */
    size_t *best;  /* the smallest neighbouring group; SIZE_MAX = none */
} merger;

static size_t group_of(const merger *self, size_t part)
{
    while (self->group[part] != part)
        part = self->group[part];
    return part;
}

static void note_neighbour(merger *self, size_t a, size_t b)
{
    if (a != b && (self->best[a] == SIZE_MAX || self->sizes[b] < self->sizes[self->best[a]] ||
                   (self->sizes[b] == self->sizes[self->best[a]] && b < self->best[a])))
        self->best[a] = b;
}

/* Every group smaller than `least` joins its smallest neighbour; true when one did. */
static bool merge_small(merger *self, const size_t dims[3], const int32_t *parts, size_t count,
                        size_t least)
{
    const size_t pixels = dims[0] * dims[1] * dims[2];
    bool merged = false;
    for (size_t g = 0; g < count; g++)
        self->best[g] = SIZE_MAX;
    for (size_t p = 0; p < pixels; p++) {
        size_t near[6];
        const size_t degree = neighbours_of(p, dims, near), own = group_of(self, (size_t)parts[p]);
        for (size_t n = 0; n < degree && self->sizes[own] < least; n++)
            note_neighbour(self, own, group_of(self, (size_t)parts[near[n]]));
    }
    for (size_t g = 0; g < count; g++) {
        if (self->best[g] == SIZE_MAX)
            continue;
        const size_t a = group_of(self, g), b = group_of(self, self->best[g]);
        if (a == b || (self->sizes[a] >= least && self->sizes[b] >= least))
            continue; /* grown by another in the meantime */
        const size_t low = a < b ? a : b, high = a < b ? b : a;
        self->group[high] = low;
        self->sizes[low] += self->sizes[high];
        merged = true;
    }
    return merged;
}

/* Labels become connected parts of at least `least` elements, where there are so many. */
static bool connect_parts(const size_t dims[3], size_t least, int32_t *labels, size_t *count)
{
    const size_t pixels = dims[0] * dims[1] * dims[2];
    int64_t *groups = memory_allocate(pixels, sizeof *groups);
    int32_t *parts = memory_allocate(pixels, sizeof *parts);
    size_t *queue = memory_allocate(pixels, sizeof *queue);
    merger self = {0};
    bool done = false;
    if (groups == NULL || parts == NULL || queue == NULL)
        goto done;
    const size_t found = find_parts(dims, labels, parts, queue);
    self.group = memory_allocate(found, sizeof *self.group);
    self.sizes = memory_allocate_zeroed(found, sizeof *self.sizes);
    self.best = memory_allocate(found, sizeof *self.best);
    if (self.group == NULL || self.sizes == NULL || self.best == NULL)
        goto done;
    for (size_t g = 0; g < found; g++)
        self.group[g] = g;
    for (size_t p = 0; p < pixels; p++)
        self.sizes[parts[p]]++;
    while (merge_small(&self, dims, parts, found, least))
        ;
    for (size_t p = 0; p < pixels; p++)
        groups[p] = (int64_t)group_of(&self, (size_t)parts[p]);
    *count = segments_compact(groups, pixels, labels);
    done = *count > 0;
done:
    memory_free(groups);
    memory_free(parts);
    memory_free(queue);
    memory_free(self.group);
    memory_free(self.sizes);
    memory_free(self.best);
    return done;
}

static bool compact(int32_t *labels, size_t pixels, size_t *count)
{
    int64_t *values = memory_allocate(pixels, sizeof *values);
    if (values == NULL)
        return false;
    for (size_t p = 0; p < pixels; p++)
        values[p] = labels[p];
    *count = segments_compact(values, pixels, labels);
    memory_free(values);
    return *count > 0;
}

bool segments_slic(const float *planes, size_t channels, const size_t dims[3],
                   const slic_options *options, int32_t *labels, size_t *count)
{
    const size_t pixels = dims[0] * dims[1] * dims[2];
    slic self = {.channels = channels, .dims = {dims[0], dims[1], dims[2]}, .labels = labels};
    size_t *sizes = NULL;
    bool done = false;
    double *colours = make_colours(planes, channels, pixels, 1 / options->compactness);
    self.colours = colours;
    self.nearest = memory_allocate(pixels, sizeof *self.nearest);
    if (colours == NULL || self.nearest == NULL ||
        !place_seeds(&self, options->wanted > 0 ? options->wanted : 1))
        goto done;
    sizes = memory_allocate(self.count, sizeof *sizes);
    if (sizes == NULL)
        goto done;
    memset(labels, 0, pixels * sizeof *labels);
    for (int i = 0; i < options->iterations; i++) {
        if (!assign(&self) && i > 0)
            break;
        move_centres(&self, sizes);
    }
    done = options->connect ? connect_parts(dims, pixels / self.count / 2, labels, count)
                            : compact(labels, pixels, count);
done:
    memory_free(colours);
    memory_free(self.nearest);
    memory_free(self.centres);
    memory_free(sizes);
    return done;
}

/* Quickshift */

typedef struct quickshift {
    const double *colours; /* (pixels, C) */
    size_t channels, height, width, reach;
    double scale; /* -1 / (2 kernel^2) */
    double *density;
    double longest; /* squared length of a link */
    int64_t *parent;
} quickshift;

static double squared_distance(const quickshift *self, size_t p, size_t q, double dy, double dx)
{
    double sum = dy * dy + dx * dx;
    for (size_t c = 0; c < self->channels; c++) {
        const double d =
            self->colours[p * self->channels + c] - self->colours[q * self->channels + c];
        sum += d * d;
    }
    return sum;
}

static void find_densities(void *user, size_t begin, size_t end)
{
    const quickshift *self = user;
    for (size_t y = begin; y < end; y++)
        for (size_t x = 0; x < self->width; x++) {
            const size_t p = y * self->width + x;
            const size_t top = y > self->reach ? y - self->reach : 0;
            const size_t left = x > self->reach ? x - self->reach : 0;
            double sum = 0;
            for (size_t v = top; v < self->height && v <= y + self->reach; v++)
                for (size_t u = left; u < self->width && u <= x + self->reach; u++)
                    sum += exp(self->scale * squared_distance(self, p, v * self->width + u,
                                                              (double)v - (double)y,
                                                              (double)u - (double)x));
            self->density[p] = sum;
        }
}

static void find_parents(void *user, size_t begin, size_t end)
{
    const quickshift *self = user;
    for (size_t y = begin; y < end; y++)
        for (size_t x = 0; x < self->width; x++) {
            const size_t p = y * self->width + x;
            const size_t top = y > self->reach ? y - self->reach : 0;
            const size_t left = x > self->reach ? x - self->reach : 0;
            double closest = INFINITY;
            self->parent[p] = (int64_t)p;
            for (size_t v = top; v < self->height && v <= y + self->reach; v++)
                for (size_t u = left; u < self->width && u <= x + self->reach; u++) {
                    const size_t q = v * self->width + u;
                    if (self->density[q] < self->density[p] ||
                        (self->density[q] == self->density[p] && q >= p))
                        continue;
                    const double distance =
                        squared_distance(self, p, q, (double)v - (double)y, (double)u - (double)x);
                    if (distance < closest && distance <= self->longest) {
                        closest = distance;
                        self->parent[p] = (int64_t)q;
                    }
                }
        }
}

bool segments_quickshift(const float *planes, size_t channels, size_t height, size_t width,
                         const quickshift_options *options, int32_t *labels, size_t *count)
{
    const size_t pixels = height * width;
    const double kernel = options->kernel > 1 ? options->kernel : 1;
    quickshift self = {.channels = channels,
                       .height = height,
                       .width = width,
                       .reach = (size_t)ceil(3 * kernel),
                       .scale = -0.5 / (kernel * kernel),
                       .longest = options->distance * options->distance};
    double *colours = make_colours(planes, channels, pixels, options->ratio);
    self.colours = colours;
    self.density = memory_allocate(pixels, sizeof *self.density);
    self.parent = memory_allocate(pixels, sizeof *self.parent);
    *count = 0;
    if (colours != NULL && self.density != NULL && self.parent != NULL) {
        parallel_for(options->threads, height, find_densities, &self);
        parallel_for(options->threads, height, find_parents, &self);
        for (size_t p = 0; p < pixels; p++) {
            int64_t root = (int64_t)p;
            while (self.parent[root] != root)
                root = self.parent[root];
            for (int64_t at = (int64_t)p; at != root;) {
                const int64_t next = self.parent[at];
                self.parent[at] = root;
                at = next;
            }
        }
        *count = segments_compact(self.parent, pixels, labels);
    }
    memory_free(colours);
    memory_free(self.density);
    memory_free(self.parent);
    return *count > 0;
}
