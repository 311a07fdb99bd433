#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <malloc.h>
#endif
#ifdef __linux__
#include <sys/mman.h>
#endif

#define TENSOR_ALIGNMENT ((size_t)64)
#define LARGE_PAGE ((size_t)2 << 20)
#define LARGE_BLOCK (2 * LARGE_PAGE) /* from here on large pages are asked for */
#define POOL_ALIGNMENT ((size_t)16)
#define POOL_FIRST_CHUNK ((size_t)16 << 10)
#define POOL_LARGEST_CHUNK ((size_t)1 << 20)

bool size_add(size_t a, size_t b, size_t *result)
{
    if (a > SIZE_MAX - b)
        return false;
    *result = a + b;
    return true;
}

bool size_multiply(size_t a, size_t b, size_t *result)
{
    if (b != 0 && a > SIZE_MAX / b)
        return false;
    *result = a * b;
    return true;
}

/* Bytes of a block: at least 1 so that a zero size gives a valid pointer, at most PTRDIFF_MAX so
 * that pointer differences inside it are defined. */
static bool block_size(size_t count, size_t size, size_t *bytes)
{
    if (!size_multiply(count, size, bytes) || *bytes > (size_t)PTRDIFF_MAX - TENSOR_ALIGNMENT)
        return false;
    if (*bytes == 0)
        *bytes = 1;
    return true;
}

/* Windows frees aligned blocks with a call of their own, so there every block is an aligned one. */
void *memory_allocate(size_t count, size_t size)
{
    size_t bytes;
    if (!block_size(count, size, &bytes))
        return NULL;
#ifdef _WIN32
    return _aligned_malloc(bytes, POOL_ALIGNMENT);
#else
    return malloc(bytes);
#endif
}

void *memory_allocate_zeroed(size_t count, size_t size)
{
    size_t bytes;
    if (!block_size(count, size, &bytes))
        return NULL;
#ifdef _WIN32
    void *block = _aligned_malloc(bytes, POOL_ALIGNMENT);
    if (block)
        memset(block, 0, bytes);
    return block;
#else
    return calloc(1, bytes);
#endif
}

void *memory_resize(void *block, size_t count, size_t size)
{
    size_t bytes;
    if (!block_size(count, size, &bytes))
        return NULL;
#ifdef _WIN32
    return _aligned_realloc(block, bytes, POOL_ALIGNMENT);
#else
    return realloc(block, bytes);
#endif
}

void *memory_allocate_aligned(size_t bytes)
{
    if (!block_size(bytes, 1, &bytes))
        return NULL;
    bytes = (bytes + TENSOR_ALIGNMENT - 1) / TENSOR_ALIGNMENT * TENSOR_ALIGNMENT;
#ifdef _WIN32
    return _aligned_malloc(bytes, TENSOR_ALIGNMENT);
#else
#ifdef MADV_HUGEPAGE
    size_t whole;
    if (bytes >= LARGE_BLOCK && size_add(bytes, LARGE_PAGE - 1, &whole)) {
        whole = whole / LARGE_PAGE * LARGE_PAGE; /* C11: a multiple of the alignment */
        void *block = aligned_alloc(LARGE_PAGE, whole);
        if (block) /* the last page, partly used, stays of the usual size */
            (void)madvise(block, bytes / LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE);
        return block;
    }
#endif
    return aligned_alloc(TENSOR_ALIGNMENT, bytes);
#endif
}

void *memory_copy(const void *bytes, size_t size)
{
    void *copy = memory_allocate(size, 1);
    if (copy && size > 0)
        memcpy(copy, bytes, size);
    return copy;
}

void memory_free(void *block)
{
#ifdef _WIN32
    _aligned_free(block);
#else
    free(block);
#endif
}

/* A chunk's bytes follow its header, which is padded so that they stay aligned. */
typedef struct chunk {
    struct chunk *next;
    size_t size, used;
} chunk;

#define CHUNK_HEADER ((sizeof(chunk) + POOL_ALIGNMENT - 1) / POOL_ALIGNMENT * POOL_ALIGNMENT)

struct memory_pool {
    chunk *chunks; /* the first one is being filled */
    size_t next_size;
};

memory_pool *memory_pool_create(void)
{
    memory_pool *pool = memory_allocate_zeroed(1, sizeof *pool);
    if (pool)
        pool->next_size = POOL_FIRST_CHUNK;
    return pool;
}

static chunk *chunk_create(size_t size)
{
    size_t total;
    if (!size_add(size, CHUNK_HEADER, &total))
        return NULL;
    chunk *made = memory_allocate_zeroed(total, 1);
    if (made)
        made->size = size;
    return made;
}

void *memory_pool_allocate(memory_pool *pool, size_t count, size_t size)
{
    size_t bytes;
    if (!block_size(count, size, &bytes))
        return NULL;
    bytes = (bytes + POOL_ALIGNMENT - 1) / POOL_ALIGNMENT * POOL_ALIGNMENT;
    chunk *current = pool->chunks;
    if (!current || current->size - current->used < bytes) {
        const bool large = bytes > pool->next_size / 4;
        chunk *fresh = chunk_create(large ? bytes : pool->next_size);
        if (!fresh)
            return NULL;
        if (large && current) { /* behind the chunk being filled, which still has room */
            fresh->next = current->next;
            current->next = fresh;
        } else {
            fresh->next = current;
            pool->chunks = fresh;
        }
        if (!large && pool->next_size < POOL_LARGEST_CHUNK)
            pool->next_size *= 2;
        current = fresh;
    }
    void *block = (char *)current + CHUNK_HEADER + current->used;
    current->used += bytes;
    return block;
}

char *memory_pool_text(memory_pool *pool, const char *bytes, size_t length)
{
    size_t size;
    if (!size_add(length, 1, &size))
        return NULL;
    char *copy = memory_pool_allocate(pool, size, 1);
    if (copy && length > 0)
        memcpy(copy, bytes, length);
    return copy;
}

void memory_pool_free(memory_pool *pool)
{
    if (!pool)
        return;
    for (chunk *next, *each = pool->chunks; each; each = next) {
        next = each->next;
        memory_free(each);
    }
    memory_free(pool);
}

bool array_reserve(void **items, size_t *capacity, size_t needed, size_t size)
{
    if (needed <= *capacity)
        return true;
    size_t wanted = *capacity < 8 ? 8 : *capacity;
    while (wanted < needed)
        wanted = wanted > SIZE_MAX / 2 ? needed : wanted * 2;
    void *grown = memory_resize(*items, wanted, size);
    if (!grown)
        return false;
    *items = grown;
    *capacity = wanted;
    return true;
}
