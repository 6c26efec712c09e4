/* The ring in pools of libpmemobj: PMEMoids followed by pmemobj_direct, and the idiom of offsets from the pool's base. */
#include "pmem.h"
#include <stdlib.h>

struct node {
    PMEMoid next;      /* 16 bytes: pool UUID and offset */
    void *raw;         /* the same as an address */
    uint64_t at;       /* the same as (number of the pool << 48 | offset in it) */
    uint64_t payload[4];
};
_Static_assert(sizeof(struct node) == 64, "a node is a line");

struct ring {
    uint32_t pools;
    PMEMobjpool **pool;
    PMEMoid *nodes;    /* of each pool, an array */
    struct node *at[4]; /* where each way of following has come */
    char **bases;
};

void hop_close(struct ring *ring) {
    for (uint32_t i = 0; i < ring->pools; i++)
        if (ring->pool[i]) pmemobj_close(ring->pool[i]);
    free(ring->pool), free(ring->nodes), free(ring->bases), free(ring);
}

static struct node *node_of(struct ring *ring, uint64_t place) {
    return (struct node *)pmemobj_direct(ring->nodes[place >> 32]) + (uint32_t)place;
}

/* `visits`: object << 32 | index, in the order of the ring. */
struct ring *hop_open(const char *const *paths, uint32_t pools, uint32_t nodes, const uint64_t *visits, uint64_t len) {
    struct ring *ring = calloc(1, sizeof *ring);
    ring->pools = pools;
    ring->pool = calloc(pools, sizeof *ring->pool);
    ring->nodes = calloc(pools, sizeof *ring->nodes);
    ring->bases = calloc(pools, sizeof *ring->bases);
    for (uint32_t i = 0; i < pools; i++) {
        size_t bytes = PMEMOBJ_MIN_POOL + (size_t)nodes * sizeof(struct node) * 5 / 4;
        ring->pool[i] = pmemobj_create(paths[i], LAYOUT, bytes, 0600);
        if (!ring->pool[i]) { failed("pmemobj_create"), hop_close(ring); return NULL; }
        /* A line more, so that nodes can start at a line: blocks begin 16 bytes after one. */
        if (pmemobj_zalloc(ring->pool[i], &ring->nodes[i], (size_t)(nodes + 1) * sizeof(struct node), 1)) {
            failed("pmemobj_zalloc"), hop_close(ring);
            return NULL;
        }
        ring->nodes[i].off = (ring->nodes[i].off + 63) & ~63ull;
        ring->bases[i] = (char *)ring->pool[i];
    }
    for (uint64_t i = 0; i < len; i++) {
        uint64_t to = visits[(i + 1) % len];
        struct node *from = node_of(ring, visits[i]);
        from->next = ring->nodes[to >> 32];
        from->next.off += (uint64_t)(uint32_t)to * sizeof(struct node);
        from->raw = node_of(ring, to);
        from->at = (to >> 32) << 48 | from->next.off;
    }
    /* Apart, so that none finds in the caches what another one has just followed. */
    for (int way = 0; way < 4; way++) ring->at[way] = node_of(ring, visits[len / 4 * way]);
    return ring;
}

uint64_t hop_direct(struct ring *ring, uint64_t number) {
    uint64_t start = now_ns();
    struct node *at = ring->at[0];
    for (uint64_t i = 0; i < number; i++) {
        PMEMoid next = *(volatile PMEMoid *)&at->next;
        at = pmemobj_direct(next);
    }
    ring->at[0] = at;
    return now_ns() - start;
}

/* For data in one pool: the base is kept in a register. */
uint64_t hop_base(struct ring *ring, uint64_t number) {
    uint64_t start = now_ns();
    char *base = ring->bases[0];
    struct node *at = ring->at[1];
    for (uint64_t i = 0; i < number; i++)
        at = (struct node *)(base + *(volatile uint64_t *)&at->next.off);
    ring->at[1] = at;
    return now_ns() - start;
}

/* For several pools: a table of bases. */
uint64_t hop_bases(struct ring *ring, uint64_t number) {
    uint64_t start = now_ns();
    char *const *bases = ring->bases;
    struct node *at = ring->at[2];
    for (uint64_t i = 0; i < number; i++) {
        uint64_t next = *(volatile uint64_t *)&at->at;
        at = (struct node *)(bases[next >> 48] + (next & ((1ull << 48) - 1)));
    }
    ring->at[2] = at;
    return now_ns() - start;
}

uint64_t hop_raw(struct ring *ring, uint64_t number) {
    uint64_t start = now_ns();
    struct node *at = ring->at[3];
    for (uint64_t i = 0; i < number; i++)
        at = *(void *volatile *)&at->raw;
    ring->at[3] = at;
    return now_ns() - start;
}
