/* An engine for a device that stores bundles and runs none: what the server and the store are
 * tested with. It opens and checks bundles as an engine must, selects legal paths, and refuses to
 * run them. */
#ifndef NESTLING_TESTS_CORE_STORE_ENGINE_H
#define NESTLING_TESTS_CORE_STORE_ENGINE_H

#include "engine.h"
#include "flash.h"

typedef struct store_engine {
    const nst_flash *flash;
    void *index[2]; /* [index_bytes] of the open bundle, and of the next one */
    size_t index_bytes;
    uint32_t used; /* index of the open bundle */
    bool open;
    nst_bundle bundle;
    nst_bundle next;
    uint8_t slot[4096]; /* memory of every input and output slot that fits */
} store_engine;

extern const nst_engine_ops store_engine_ops;

#endif
