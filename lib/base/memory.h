/* Allocation. All memory of libxai comes from here: tests replace the system allocator behind
 * these calls at link time (--wrap=malloc, calloc, realloc, aligned_alloc) to make the n-th
 * allocation fail. */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* count * size bytes, uninitialised; NULL when out of memory or when the product overflows.
 * A zero size gives a valid pointer. Free with memory_free(). */
void *memory_allocate(size_t count, size_t size);
/* The same, zeroed. */
void *memory_allocate_zeroed(size_t count, size_t size);
/* Grow or shrink; the old block stays valid on failure. */
void *memory_resize(void *block, size_t count, size_t size);
/* 64-byte aligned, uninitialised, for tensors; free with memory_free(). Blocks of 4 MB and more lie
 * on pages of 2 MB where Linux gives them: weights are read once a pass, which many small pages
 * slow down. */
void *memory_allocate_aligned(size_t bytes);
void *memory_copy(const void *bytes, size_t size);
void memory_free(void *block);

/* Bump allocator whose blocks all die together: the storage of one parsed model. */
typedef struct memory_pool memory_pool;
memory_pool *memory_pool_create(void);
/* Zeroed, 16-byte aligned; NULL on failure. */
void *memory_pool_allocate(memory_pool *pool, size_t count, size_t size);
/* NUL-terminated copy. */
char *memory_pool_text(memory_pool *pool, const char *bytes, size_t length);
void memory_pool_free(memory_pool *pool);

/* Checked size arithmetic: false on overflow, *result untouched. */
bool size_add(size_t a, size_t b, size_t *result);
bool size_multiply(size_t a, size_t b, size_t *result);

/* Grow `*items` (elements of `size` bytes) to hold at least `needed`; *capacity follows. false =
 * out of memory. */
bool array_reserve(void **items, size_t *capacity, size_t needed, size_t size);

#endif
