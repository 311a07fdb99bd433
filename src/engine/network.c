#include "engine/network.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"

typedef struct prepared_weights {
    struct prepared_weights *next;
    uint64_t fingerprint[2]; /* of the source tensor's bytes */
    size_t source_bytes;
    size_t bytes;
    char *key;
    void *data; /* in a slab */
} prepared_weights;

/* Prepared weights lie one behind the other, so that they share large pages. */
typedef struct slab {
    struct slab *next;
    size_t size, used;
    char *bytes;
} slab;

#define SLAB_LEAST ((size_t)1 << 16)
#define SLAB_MOST ((size_t)16 << 20)
#define SLAB_ALIGNMENT ((size_t)64)

struct network {
    graph *source;
    atomic_int references;
    pthread_mutex_t lock; /* guards what follows */
    graph *row;           /* of one row, or NULL */
    bool row_known;       /* it was asked for */
    prepared_weights *weights;
    slab *slabs; /* the first one is being filled */
    size_t slab_bytes;
};

/* Room for `bytes` in the first slab, not yet taken: slab_take() does that. */
static void *slab_room(network *self, size_t bytes)
{
    slab *first = self->slabs;
    if (first && first->size - first->used >= bytes)
        return first->bytes + first->used;
    size_t size = self->slab_bytes < SLAB_LEAST  ? SLAB_LEAST
                  : self->slab_bytes > SLAB_MOST ? SLAB_MOST
                                                 : self->slab_bytes;
    size = bytes > size ? bytes : size;
    slab *made = memory_allocate_zeroed(1, sizeof *made);
    if (made)
        made->bytes = memory_allocate_aligned(size);
    if (!made || !made->bytes) {
        memory_free(made);
        return NULL;
    }
    made->size = size;
    made->next = first;
    self->slabs = made;
    self->slab_bytes += size;
    return made->bytes;
}

static void slab_take(network *self, size_t bytes)
{
    slab *first = self->slabs;
    const size_t left = first->size - first->used,
                 rest = (SLAB_ALIGNMENT - bytes % SLAB_ALIGNMENT) % SLAB_ALIGNMENT;
    first->used += bytes + (rest < left - bytes ? rest : left - bytes);
}

xai_status network_create(graph *source, network **out, xai_error **error)
{
    network *self = memory_allocate_zeroed(1, sizeof *self);
    if (!self) {
        graph_free(source);
        return error_memory(error, "network", sizeof *self);
    }
    self->source = source;
    atomic_init(&self->references, 1);
    pthread_mutex_init(&self->lock, NULL);
    *out = self;
    return XAI_OK;
}

void network_retain(network *self)
{
    atomic_fetch_add(&self->references, 1);
}

void network_free(network *self)
{
    if (!self || atomic_fetch_sub(&self->references, 1) > 1)
        return;
    for (prepared_weights *w = self->weights, *next; w; w = next) {
        next = w->next;
        memory_free(w->key);
        memory_free(w);
    }
    for (slab *each = self->slabs, *next; each; each = next) {
        next = each->next;
        memory_free(each->bytes);
        memory_free(each);
    }
    pthread_mutex_destroy(&self->lock);
    graph_free(self->row);
    graph_free(self->source);
    memory_free(self);
}

const graph *network_graph(const network *self)
{
    return self->source;
}

xai_status network_row(network *self, const graph **out, xai_error **error)
{
    xai_status status = XAI_OK;
    pthread_mutex_lock(&self->lock);
    if (!self->row_known) {
        status = graph_take_row(self->source, &self->row, error);
        self->row_known = status == XAI_OK;
    }
    *out = self->row;
    pthread_mutex_unlock(&self->lock);
    return status;
}

xai_status network_graph_for(network *self, const shape *input_shapes, const graph **out,
                             xai_error **error)
{
    const graph *row = NULL;
    xai_status status = XAI_OK;
    *out = self->source;
    if (self->source->input_count == 0)
        return XAI_OK;
    const shape *declared = &self->source->values[self->source->inputs[0]].shape;
    if (declared->rank > 0 && declared->dims[0] > 1 && input_shapes[0].rank > 0 &&
        input_shapes[0].dims[0] == 1)
        status = network_row(self, &row, error);
    *out = row ? row : self->source;
    return status;
}

/* Four multiply-xor lanes over 8-byte words, folded into 128 bits: folded weights of different
 * plans with equal contents share storage. */
static void fingerprint(const void *bytes, size_t size, uint64_t out[2])
{
    static const uint64_t odd[4] = {0xFF51AFD7ED558CCDu, 0xC4CEB9FE1A85EC53u, 0x9E3779B97F4A7C15u,
                                    0xC2B2AE3D27D4EB4Fu};
    uint64_t lanes[4] = {odd[0] ^ size, odd[1] + size, odd[2] ^ size, odd[3] + size};
    const unsigned char *p = bytes;
    for (size_t i = 0; i < size; i += 32) {
        uint64_t words[4] = {0};
        memcpy(words, p + i, size - i < 32 ? size - i : 32);
        for (int k = 0; k < 4; k++) {
            lanes[k] = (lanes[k] ^ words[k]) * odd[k];
            lanes[k] ^= lanes[k] >> 31;
        }
    }
    out[0] = (lanes[0] ^ (lanes[1] >> 29)) * odd[1] ^ lanes[1];
    out[1] = (lanes[2] ^ (lanes[3] >> 29)) * odd[3] ^ lanes[3];
}

xai_status network_weights(network *self, const tensor *source, const char *key, size_t bytes,
                           weights_prepare prepare, const void *user, const void **out,
                           xai_error **error)
{
    uint64_t print[2];
    xai_status status = XAI_OK;
    const size_t source_bytes = tensor_bytes(source);
    fingerprint(source->data, source_bytes, print);
    pthread_mutex_lock(&self->lock);
    prepared_weights *found = self->weights;
    while (found && !(found->fingerprint[0] == print[0] && found->fingerprint[1] == print[1] &&
                      found->source_bytes == source_bytes && strcmp(found->key, key) == 0))
        found = found->next;
    if (!found) {
        found = memory_allocate_zeroed(1, sizeof *found);
        if (found) {
            found->key = text_duplicate(key);
            found->data = slab_room(self, bytes);
        }
        status = found && found->key && found->data
                     ? prepare(user, source, found->data, error)
                     : error_memory(error, "prepared weights", bytes);
        if (status == XAI_OK) {
            memcpy(found->fingerprint, print, sizeof print);
            found->source_bytes = source_bytes;
            found->bytes = bytes;
            found->next = self->weights;
            self->weights = found;
            slab_take(self, bytes);
        } else if (found) {
            memory_free(found->key);
            memory_free(found);
            found = NULL;
        }
    }
    pthread_mutex_unlock(&self->lock);
    if (status == XAI_OK)
        *out = found->data;
    return status;
}

size_t network_weights_bytes(network *self)
{
    size_t bytes = 0;
    pthread_mutex_lock(&self->lock);
    for (const prepared_weights *w = self->weights; w; w = w->next)
        bytes += w->bytes;
    pthread_mutex_unlock(&self->lock);
    return bytes;
}
