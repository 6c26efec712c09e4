#include "pmem.h"
/* Durable transactions of libpmemobj. */
#include <stdlib.h>
#include <string.h>

/* What each thread changes: its own, so that threads do not wait for each other. */
struct area {
    uint64_t words[64];           /* 8 lines */
    unsigned char page[4096];
    PMEMoid block;
    unsigned char reserved[48];
};

#define THREADS 8
#define BLOCK_BYTES 64

struct root {
    struct area areas[THREADS];
};

struct peer {
    PMEMobjpool *pool[2];
    struct root *root[2];
};

void tx_close(struct peer *peer) {
    for (int i = 0; i < 2; i++)
        if (peer->pool[i]) pmemobj_close(peer->pool[i]);
    free(peer);
}

struct peer *tx_open(const char *first, const char *second) {
    struct peer *peer = calloc(1, sizeof *peer);
    const char *paths[2] = {first, second};
    for (int i = 0; i < 2; i++) {
        peer->pool[i] = pmemobj_create(paths[i], LAYOUT, 64 << 20, 0600);
        if (!peer->pool[i]) { failed("pmemobj_create"), tx_close(peer); return NULL; }
        peer->root[i] = pmemobj_direct(pmemobj_root(peer->pool[i], sizeof(struct root)));
        if (!peer->root[i]) { failed("pmemobj_root"), tx_close(peer); return NULL; }
    }
    return peer;
}

enum operation { EMPTY, WRITE_8, RANGES_8, WRITE_4K, REPLACE, ALLOC_THEN_FREE, ATOMIC_ALLOC_THEN_FREE, TWO, PERSIST_8 };

static void set(PMEMobjpool *pool, uint64_t *word, uint64_t value) {
    (void)pool;
    pmemobj_tx_add_range_direct(word, sizeof *word);
    *word = value;
}

static int one(struct peer *peer, enum operation operation, struct area *area, struct area *other, uint64_t i) {
    PMEMobjpool *pool = peer->pool[0];
    volatile int status = 0;
    switch (operation) {
    case EMPTY:
        TX_BEGIN(pool) {} TX_ONABORT { status = -1; } TX_END
        break;
    case WRITE_8:
        TX_BEGIN(pool) { set(pool, &area->words[0], i); } TX_ONABORT { status = -1; } TX_END
        break;
    case RANGES_8:
        TX_BEGIN(pool) { for (int n = 0; n < 8; n++) set(pool, &area->words[n * 8], i); } TX_ONABORT { status = -1; } TX_END
        break;
    case WRITE_4K:
        TX_BEGIN(pool) {
            pmemobj_tx_add_range_direct(area->page, sizeof area->page);
            memset(area->page, (int)i, sizeof area->page);
        } TX_ONABORT { status = -1; } TX_END
        break;
    case REPLACE:
        TX_BEGIN(pool) {
            pmemobj_tx_add_range_direct(&area->block, sizeof area->block);
            if (!OID_IS_NULL(area->block)) pmemobj_tx_free(area->block);
            area->block = pmemobj_tx_zalloc(BLOCK_BYTES, 1);
        } TX_ONABORT { status = -1; } TX_END
        break;
    case ALLOC_THEN_FREE:
        TX_BEGIN(pool) {
            pmemobj_tx_add_range_direct(&area->block, sizeof area->block);
            area->block = pmemobj_tx_zalloc(BLOCK_BYTES, 1);
        } TX_ONABORT { status = -1; } TX_END
        TX_BEGIN(pool) {
            pmemobj_tx_add_range_direct(&area->block, sizeof area->block);
            pmemobj_tx_free(area->block);
            area->block = OID_NULL;
        } TX_ONABORT { status = -1; } TX_END
        break;
    case ATOMIC_ALLOC_THEN_FREE:
        if (pmemobj_zalloc(pool, &area->block, BLOCK_BYTES, 1)) return -1;
        pmemobj_free(&area->block);
        break;
    case TWO: /* libpmemobj has no transaction over two pools: one for each, not atomic together. */
        TX_BEGIN(pool) { set(pool, &area->words[0], i); } TX_ONABORT { status = -1; } TX_END
        TX_BEGIN(peer->pool[1]) { set(peer->pool[1], &other->words[0], i); } TX_ONABORT { status = -1; } TX_END
        break;
    case PERSIST_8:
        area->words[0] = i;
        pmemobj_persist(pool, &area->words[0], sizeof area->words[0]);
        break;
    }
    return status;
}

/* Frees what an operation left allocated, so that the next one starts from nothing. */
static void tidy(struct area *area) {
    if (!OID_IS_NULL(area->block)) pmemobj_free(&area->block);
}

/* Processor time of `number` operations, in ns; UINT64_MAX where one fails. */
uint64_t tx_run(struct peer *peer, int operation, uint32_t thread, uint64_t number) {
    struct area *area = &peer->root[0]->areas[thread % THREADS], *other = &peer->root[1]->areas[thread % THREADS];
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < number; i++)
        if (one(peer, (enum operation)operation, area, other, i)) { failed("transaction"); return UINT64_MAX; }
    uint64_t took = now_ns() - start;
    tidy(area);
    return took;
}
