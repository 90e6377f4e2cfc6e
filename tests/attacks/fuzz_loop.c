/* A small fuzzer that follows coverage: nestling_fuzz_bundle RUNS RANDOM_SEED BUNDLE...
 *
 * Keeps every input that took an edge for the first time, or more often than any before (in powers
 * of two), and mutates what it kept. Runs are a function of the arguments. Edges come from gcc's
 * -fsanitize-coverage=trace-pc.
 * The input that led to a finding is left in fuzz-last.bin, in the working folder. */
#include <sanitizer/common_interface_defs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_bundle.h"

enum { MAP_BYTES = 1 << 16, MOST_KEPT = 20000, MOST_BYTES = 1 << 14 };

typedef struct input {
    uint8_t *data;
    size_t size;
} input;

static uint8_t now[MAP_BYTES];  /* edges of this run */
static uint8_t seen[MAP_BYTES]; /* highest class of each edge so far */
static uintptr_t before;
static input kept[MOST_KEPT];
static size_t kept_count;
static uint64_t random_state;
static uint8_t work[MOST_BYTES]; /* the input being tried */
static size_t work_size;

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void) {
    /* Relative, so that the place where the program was loaded does not matter. */
    uintptr_t here = (uintptr_t)__builtin_return_address(0) - (uintptr_t)LLVMFuzzerTestOneInput;
    here = (here >> 4) ^ (here << 8);
    now[(here ^ before) % MAP_BYTES]++;
    before = here >> 1;
}

static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static size_t below(size_t limit) {
    return limit > 0 ? (size_t)(next_random() % limit) : 0;
}

static uint8_t class_of(uint8_t count) {
    uint8_t class = 0;
    while (count > 0) {
        class ++;
        count >>= 1;
    }
    return class;
}

/* Try one input; keep a copy if it was somewhere new. */
static void try_input(const uint8_t *data, size_t size) {
    bool fresh = false;
    memset(now, 0, sizeof now);
    before = 0;
    LLVMFuzzerTestOneInput(data, size);
    for (size_t i = 0; i < MAP_BYTES; i++) {
        if (now[i] != 0 && class_of(now[i]) > seen[i]) {
            seen[i] = class_of(now[i]);
            fresh = true;
        }
    }
    if (fresh && kept_count < MOST_KEPT) {
        uint8_t *copy = malloc(size + 1);
        if (copy == NULL) {
            abort();
        }
        memcpy(copy, data, size);
        kept[kept_count++] = (input){copy, size};
    }
}

/* Heads of CBOR values and numbers at the borders of their ranges. */
static const struct {
    uint8_t size;
    uint8_t bytes[9];
} pieces[] = {
    {1, {0x00}},
    {1, {0x17}},
    {2, {0x18, 0x18}},
    {2, {0x18, 0xFF}},
    {3, {0x19, 0xFF, 0xFF}},
    {5, {0x1A, 0xFF, 0xFF, 0xFF, 0xFF}},
    {9, {0x1B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}},
    {9, {0x1B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xC0}},
    {1, {0x20}},
    {1, {0x60}},
    {1, {0x80}},
    {1, {0x9F}},
    {5, {0x9A, 0xFF, 0xFF, 0xFF, 0xFF}},
    {9, {0x9B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}},
    {1, {0xA0}},
    {9, {0xBB, 0x80, 0, 0, 0, 0, 0, 0, 0}},
    {1, {0xBF}},
    {1, {0xC1}},
    {1, {0xF4}},
    {1, {0xF6}},
    {1, {0xF7}},
    {3, {0xF9, 0x7E, 0x00}},
    {5, {0xFA, 0x7F, 0x80, 0x00, 0x00}},
    {1, {0xFF}},
};

static void insert(uint8_t *data, size_t *size, size_t at, const uint8_t *from, size_t bytes) {
    if (*size + bytes > MOST_BYTES) {
        return;
    }
    memmove(data + at + bytes, data + at, *size - at);
    memcpy(data + at, from, bytes);
    *size += bytes;
}

static void mutate(uint8_t *data, size_t *size) {
    size_t at = below(*size);
    size_t bytes = 1 + below(1 + below(64));
    size_t piece = below(sizeof pieces / sizeof pieces[0]);
    uint8_t copy[128];
    if (*size == 0) {
        insert(data, size, 0, pieces[piece].bytes, pieces[piece].size);
        return;
    }
    if (bytes > *size - at) {
        bytes = *size - at;
    }
    switch (below(8)) {
        case 0:
            data[at] ^= (uint8_t)(1 << below(8));
            break;
        case 1:
            data[at] = (uint8_t)next_random();
            break;
        case 2:
            data[at] = (uint8_t)(data[at] + (below(2) == 0 ? 1 : 0xFF));
            break;
        case 3: /* replace one byte by a piece */
            memmove(data + at, data + at + 1, *size - at - 1);
            *size -= 1;
            insert(data, size, at, pieces[piece].bytes, pieces[piece].size);
            break;
        case 4:
            insert(data, size, at, pieces[piece].bytes, pieces[piece].size);
            break;
        case 5: /* drop */
            memmove(data + at, data + at + bytes, *size - at - bytes);
            *size -= bytes;
            break;
        case 6: /* repeat elsewhere */
            memcpy(copy, data + at, bytes);
            insert(data, size, below(*size), copy, bytes);
            break;
        default: { /* from another input */
            const input *other = &kept[below(kept_count)];
            size_t from = below(other->size);
            size_t most = other->size - from < bytes ? other->size - from : bytes;
            if (most > *size - at) {
                most = *size - at;
            }
            memcpy(data + at, other->data + from, most);
            break;
        }
    }
}

static uint8_t *read_file(const char *path, size_t *out_size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        return NULL;
    }
    long size = ftell(file);
    rewind(file);
    uint8_t *data = malloc((size_t)size + 1);
    *out_size = data == NULL ? 0 : fread(data, 1, (size_t)size, file);
    fclose(file);
    return data;
}

/* Leave the input that led to a finding in fuzz-last.bin, in the working folder. */
static void save_work(void) {
    FILE *file = fopen("fuzz-last.bin", "wb");
    if (file != NULL) {
        fwrite(work, 1, work_size, file);
        fclose(file);
    }
}

static void on_abort(int signal_number) {
    (void)signal_number;
    save_work();
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: %s RUNS RANDOM_SEED BUNDLE...\n", argv[0]);
        return 2;
    }
    unsigned long long runs = strtoull(argv[1], NULL, 10);
    random_state = strtoull(argv[2], NULL, 10) * 2 + 1;
    __sanitizer_set_death_callback(save_work);
    signal(SIGABRT, on_abort);
    for (int i = 3; i < argc; i++) {
        const uint8_t *manifest;
        size_t size;
        size_t manifest_bytes;
        uint8_t *data = read_file(argv[i], &size);
        if (data == NULL || !fuzz_seed(data, size, &manifest, &manifest_bytes) ||
            manifest_bytes > MOST_BYTES) {
            fprintf(stderr, "%s is not a small bundle\n", argv[i]);
            return 2;
        }
        try_input(manifest, manifest_bytes);
        free(data);
    }
    for (unsigned long long run = 0; run < runs && kept_count > 0; run++) {
        const input *base = &kept[below(kept_count)];
        work_size = base->size;
        memcpy(work, base->data, work_size);
        for (size_t i = 1 + below(4); i > 0; i--) {
            mutate(work, &work_size);
        }
        try_input(work, work_size);
    }
    size_t edges = 0;
    for (size_t i = 0; i < MAP_BYTES; i++) {
        edges += seen[i] != 0;
    }
    printf("{\"runs\": %llu, \"edges\": %zu, \"kept\": %zu}\n", runs, edges, kept_count);
    for (size_t i = 0; i < kept_count; i++) {
        free(kept[i].data);
    }
    return 0;
}
