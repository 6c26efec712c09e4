#include "pmem.h"
/* The maps that libpmemobj's package has as examples: a B-tree and a hash table. Values are allocated one by one, as the examples do. */
#include <stdlib.h>
#include <string.h>
#include <btree_map.h>
#include <hashmap_tx.h>

#define VALUE_TYPE 1
/* An entry takes up to 256 bytes of the allocator's, and 16 for its bucket; the smallest pool that is worth it has more than enough. */
#define POOL_BYTES_MIN ((size_t)2 << 30)
#define ENTRY_BYTES 288

struct map_root {
    TOID(struct btree_map) tree;
    TOID(struct hashmap_tx) table;
};

struct map {
    PMEMobjpool *pool;
    struct map_root *root;
    int is_tree;
};

void map_close(struct map *map) {
    if (map->pool) pmemobj_close(map->pool);
    free(map);
}

struct map *map_open(const char *path, int is_tree, uint64_t entries) {
    struct map *map = calloc(1, sizeof *map);
    size_t bytes = entries * ENTRY_BYTES;
    map->is_tree = is_tree;
    map->pool = pmemobj_create(path, LAYOUT, bytes < POOL_BYTES_MIN ? POOL_BYTES_MIN : bytes, 0600);
    if (!map->pool) { failed("pmemobj_create"), map_close(map); return NULL; }
    map->root = pmemobj_direct(pmemobj_root(map->pool, sizeof(struct map_root)));
    if (!map->root) { failed("pmemobj_root"), map_close(map); return NULL; }
    int made = is_tree ? btree_map_create(map->pool, &map->root->tree, NULL)
                       : hm_tx_create(map->pool, &map->root->table, NULL);
    /* For as many entries as will come: growing by and by, it would be rebuilt in the middle. It halves where there are fewer entries than buckets. */
    if (!made && !is_tree) made = hm_tx_cmd(map->pool, map->root->table, HASHMAP_CMD_REBUILD, entries - entries / 64);
    if (made) { failed("making a map"), map_close(map); return NULL; }
    return map;
}

static PMEMoid find(struct map *map, uint64_t key) {
    return map->is_tree ? btree_map_get(map->pool, map->root->tree, key)
                        : hm_tx_get(map->pool, map->root->table, key);
}

/* 1: copied; 0: not there. */
int map_get(struct map *map, uint64_t key, void *value, size_t len) {
    PMEMoid found = find(map, key);
    if (OID_IS_NULL(found)) return 0;
    memcpy(value, pmemobj_direct(found), len);
    return 1;
}

static void put_in_transaction(struct map *map, uint64_t key, const void *value, size_t len) {
    PMEMoid place = find(map, key);
    if (!OID_IS_NULL(place)) {
        pmemobj_tx_add_range(place, 0, len);
        memcpy(pmemobj_direct(place), value, len);
        return;
    }
    place = pmemobj_tx_alloc(len, VALUE_TYPE);
    memcpy(pmemobj_direct(place), value, len);
    if (map->is_tree) btree_map_insert(map->pool, map->root->tree, key, place);
    else hm_tx_insert(map->pool, map->root->table, key, place);
}

/* So many entries in one transaction. */
int map_put(struct map *map, const uint64_t *keys, const unsigned char *values, size_t number, size_t len) {
    volatile int result = 0;
    TX_BEGIN(map->pool) {
        for (size_t i = 0; i < number; i++) put_in_transaction(map, keys[i], values + i * len, len);
    } TX_ONABORT {
        result = failed("put");
    } TX_END
    return result;
}

/* 1: deleted; 0: not there. */
int map_delete(struct map *map, uint64_t key) {
    volatile int result = 1;
    TX_BEGIN(map->pool) {
        PMEMoid place = map->is_tree ? btree_map_remove(map->pool, map->root->tree, key)
                                     : hm_tx_remove(map->pool, map->root->table, key);
        if (OID_IS_NULL(place)) result = 0;
        else pmemobj_tx_free(place);
    } TX_ONABORT {
        result = failed("delete");
    } TX_END
    return result;
}
