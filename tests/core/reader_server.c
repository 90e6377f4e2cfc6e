/* The C reader and the policy behind a pipe, built with sanitizers, so that Python tests can ask
 * them.
 *
 * A request is one byte of operation, a little-endian u32 of payload bytes, and the payload. The
 * answer is one line of JSON. Payloads are copied into memory of exactly their size: reading one
 * byte too many ends the process.
 *
 *   O  open a bundle (kept for P, V and F): {"bundle": ..., "sections": [code, ...]} or {"error":
 * ...} P  path legality of u32 stage numbers on the kept bundle: {"fault": ..., ...} N  find: u8
 * table, name: {"index": ...} V  verify the signature of the kept bundle with a 32-byte key:
 * {"error": ...} C  open the payload cut at every length: {"codes": {name: count}} F  open the
 * payload with every bit of [u32 from, u32 to) flipped, once as it is and once with the manifest's
 *      hash made right again; payload: from, to, u32 section checks (0|1), bundle.
 *      {"plain": {code: count}, "rehashed": {code: count}}
 *   T  open the payload, then set each byte before the sections to other values and read
 * everything:
 *      {"codes": {name: count}}
 *   Y  policy: doubles; see policy_requests below.
 */
#include <float.h>
#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>

#include "bundle.h"
#include "hash_sodium.h"
#include "json.h"
#include "path.h"
#include "policy.h"

enum { CODES = 20 };

static struct {
    uint8_t *data;
    void *index;
    nst_bundle bundle;
    bool open;
} kept;

static uint32_t load_u32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void *exactly(const void *data, size_t bytes) {
    void *copy = malloc(bytes > 0 ? bytes : 1);
    if (copy == NULL) {
        abort();
    }
    if (bytes > 0) {
        memcpy(copy, data, bytes);
    }
    return copy;
}

static int open_bytes(const void *data, size_t size, nst_bundle *bundle, void **out_index,
                      nst_error *err) {
    nst_prefix prefix;
    *out_index = NULL;
    int code = nst_bundle_prefix(data, size, &prefix, err);
    if (code != NST_OK) {
        return code;
    }
    size_t bytes = nst_bundle_index_bytes(&prefix);
    *out_index = malloc(bytes);
    if (*out_index == NULL) {
        abort();
    }
    return nst_bundle_open(bundle, data, size, *out_index, bytes, &nst_hash_sodium, err);
}

/* Open and read everything; used where only the code matters. */
static int try_bytes(const void *data, size_t size, bool sections, FILE *sink) {
    nst_bundle bundle;
    nst_error err = {0};
    void *index;
    int code = open_bytes(data, size, &bundle, &index, &err);
    if (code == NST_OK) {
        rewind(sink);
        code = json_bundle(sink, &bundle);
        for (uint32_t i = 0; sections && code == NST_OK && i < bundle.count[NST_SECTIONS]; i++) {
            code = nst_bundle_check_section(&bundle, i, &nst_hash_sodium, &err);
        }
    } else if (err.message[0] == '\0' || err.code != code) {
        abort(); /* an error without words, or with two codes */
    }
    free(index);
    return code;
}

static void put_codes(const uint64_t counts[CODES]) {
    const char *comma = "";
    putchar('{');
    for (int i = 0; i < CODES; i++) {
        if (counts[i] > 0) {
            printf("%s\"%s\": %llu", comma, nst_code_name(-i), (unsigned long long)counts[i]);
            comma = ", ";
        }
    }
    putchar('}');
}

static void do_open(const uint8_t *payload, size_t bytes) {
    nst_error err = {0};
    free(kept.data);
    free(kept.index);
    kept.data = exactly(payload, bytes);
    int code = open_bytes(kept.data, bytes, &kept.bundle, &kept.index, &err);
    kept.open = code == NST_OK;
    if (!kept.open) {
        fputs("{\"error\": ", stdout);
        json_error(stdout, code, &err);
        puts("}");
        return;
    }
    fputs("{\"bundle\": ", stdout);
    if (json_bundle(stdout, &kept.bundle) != NST_OK) {
        abort();
    }
    fputs(", \"sections\": [", stdout);
    for (uint32_t i = 0; i < kept.bundle.count[NST_SECTIONS]; i++) {
        code = nst_bundle_check_section(&kept.bundle, i, &nst_hash_sodium, &err);
        fputs(i > 0 ? ", " : "", stdout);
        if (code == NST_OK) {
            fputs("null", stdout);
        } else {
            json_error(stdout, code, &err);
        }
    }
    puts("]}");
}

static void do_path(const uint8_t *payload, size_t bytes) {
    nst_path_report report;
    nst_error err = {0};
    size_t count = bytes / 4;
    uint32_t *chain = exactly(payload, count * 4);
    for (size_t i = 0; i < count; i++) {
        chain[i] = load_u32(payload + 4 * i);
    }
    int code = nst_path_check(&kept.bundle, chain, count, &report, &err);
    free(chain);
    printf("{\"fault\": %d, \"at\": %u, \"stage\": %u, \"position\": %u, \"slot\": %u, \"error\": ",
           (int)report.fault, report.at, report.stage, report.position, report.slot);
    json_error(stdout, code, &err);
    puts("}");
}

static void do_verify(const uint8_t *payload, size_t bytes) {
    nst_error err = {0};
    uint8_t key[NST_PUBLIC_KEY_BYTES] = {0};
    memcpy(key, payload, bytes < sizeof key ? bytes : sizeof key);
    int code = nst_bundle_verify(&kept.bundle, key, &nst_hash_sodium, nst_verify_sodium, &err);
    fputs("{\"error\": ", stdout);
    json_error(stdout, code, &err);
    puts("}");
}

static void do_cut(const uint8_t *payload, size_t bytes, FILE *sink) {
    uint64_t counts[CODES] = {0};
    uint8_t *data = exactly(payload, bytes);
    /* Cut from the end; what was cut off must not be touched again. */
    for (size_t size = bytes; size-- > 0;) {
        ASAN_POISON_MEMORY_REGION(data + size, 1);
        counts[-try_bytes(data, size, false, sink)]++;
    }
    ASAN_UNPOISON_MEMORY_REGION(data, bytes);
    free(data);
    fputs("{\"codes\": ", stdout);
    put_codes(counts);
    puts("}");
}

static void rehash(uint8_t *data, size_t size) {
    nst_hash_state state;
    nst_prefix prefix;
    if (nst_bundle_prefix(data, size, &prefix, NULL) == NST_OK &&
        prefix.manifest_bytes <= size - NST_PREFIX_BYTES) {
        nst_hash_sodium.init(&state);
        nst_hash_sodium.update(&state, data + NST_PREFIX_BYTES, (size_t)prefix.manifest_bytes);
        nst_hash_sodium.final(&state, data + 32);
    }
}

static void do_flip(const uint8_t *payload, size_t bytes, FILE *sink) {
    uint64_t plain[CODES] = {0};
    uint64_t rehashed[CODES] = {0};
    uint32_t from = load_u32(payload);
    uint32_t to = load_u32(payload + 4);
    bool sections = load_u32(payload + 8) != 0;
    size_t size = bytes - 12;
    uint8_t *data = exactly(payload + 12, size);
    uint8_t *hash = exactly(data + 32, NST_HASH_BYTES);
    for (uint32_t at = from; at < to && at < size; at++) {
        for (int bit = 0; bit < 8; bit++) {
            data[at] ^= (uint8_t)(1 << bit);
            plain[-try_bytes(data, size, sections, sink)]++;
            if (at >= NST_PREFIX_BYTES) {
                rehash(data, size);
                rehashed[-try_bytes(data, size, sections, sink)]++;
                memcpy(data + 32, hash, NST_HASH_BYTES);
            }
            data[at] ^= (uint8_t)(1 << bit);
        }
    }
    free(hash);
    free(data);
    fputs("{\"plain\": ", stdout);
    put_codes(plain);
    fputs(", \"rehashed\": ", stdout);
    put_codes(rehashed);
    puts("}");
}

/* Whoever changes a bundle under an open reader gets rubbish or NST_E_CORRUPT, never a crash. */
static void do_change(const uint8_t *payload, size_t bytes, FILE *sink) {
    nst_bundle bundle;
    nst_error err = {0};
    nst_path_report report;
    void *index;
    uint64_t counts[CODES] = {0};
    static const uint8_t values[] = {0x00, 0x1B, 0x5A, 0x7B, 0x9B, 0xBB, 0xFF};
    static const uint32_t chain[] = {0, 1, 2};
    uint8_t *data = exactly(payload, bytes);
    if (open_bytes(data, bytes, &bundle, &index, &err) != NST_OK) {
        abort();
    }
    for (size_t at = 0; at < NST_PREFIX_BYTES + bundle.prefix.manifest_bytes; at++) {
        uint8_t kept_byte = data[at];
        for (size_t i = 0; i < sizeof values; i++) {
            data[at] = values[i];
            rewind(sink);
            counts[-json_bundle(sink, &bundle)]++;
            (void)nst_path_check(&bundle, chain, 3, &report, &err);
            (void)nst_bundle_find(&bundle, NST_CONSTANTS, "w.more", 6);
            for (uint32_t s = 0; s < bundle.count[NST_SECTIONS]; s++) {
                (void)nst_bundle_check_section(&bundle, s, &nst_hash_sodium, &err);
            }
        }
        data[at] = kept_byte;
    }
    free(index);
    free(data);
    fputs("{\"codes\": ", stdout);
    put_codes(counts);
    puts("}");
}

/* Payload of doubles: smoothing, spread_weight, down_margin, up_margin, minimum_stay_runs,
 * warmup_runs, stale_after_runs, paths, then triples (operation, a, b): 0 seed(path a, b us), 1
 * record(path a, b us), 2 choose(deadline a). Answer: what each call returned, and the costs at the
 * end. */
static void do_policy(const uint8_t *payload, size_t bytes) {
    enum { HEAD = 8, MOST_PATHS = 64 };
    nst_policy policy;
    nst_policy_cost costs[MOST_PATHS];
    size_t count = bytes / sizeof(double);
    double *numbers = exactly(payload, count * sizeof(double));
    nst_policy_params params = {
        .smoothing = numbers[0],
        .spread_weight = numbers[1],
        .down_margin = numbers[2],
        .up_margin = numbers[3],
        .minimum_stay_runs = (uint32_t)numbers[4],
        .warmup_runs = (uint32_t)numbers[5],
        .stale_after_runs = (uint32_t)numbers[6],
    };
    uint32_t paths = (uint32_t)numbers[7];
    bool sound = paths <= MOST_PATHS && nst_policy_init(&policy, &params, costs, paths);
    printf("{\"sound\": %s, \"answers\": [", sound ? "true" : "false");
    for (size_t i = HEAD; sound && i + 2 < count; i += 3) {
        uint32_t path = (uint32_t)numbers[i + 1];
        long long answer = 0;
        if (numbers[i] == 0) {
            nst_policy_seed(&policy, path, numbers[i + 2]);
        } else if (numbers[i] == 1) {
            answer = nst_policy_record(&policy, path, numbers[i + 2]);
        } else {
            answer = nst_policy_choose(&policy, numbers[i + 1]);
        }
        printf("%s%lld", i > HEAD ? ", " : "", answer);
    }
    fputs("], \"costs\": [", stdout);
    for (uint32_t i = 0; sound && i < paths; i++) {
        double cost = nst_policy_cost_us(&policy, i);
        fputs(i > 0 ? ", " : "", stdout);
        if (cost > DBL_MAX) {
            fputs("1e999", stdout); /* JSON has no infinity */
        } else {
            printf("%.17g", cost);
        }
    }
    puts("]}");
    free(numbers);
}

int main(void) {
    uint8_t head[5];
    FILE *sink = tmpfile();
    if (sink == NULL) {
        return 1;
    }
    while (fread(head, 1, sizeof head, stdin) == sizeof head) {
        size_t bytes = load_u32(head + 1);
        uint8_t *payload = malloc(bytes + 1);
        if (payload == NULL || fread(payload, 1, bytes, stdin) != bytes) {
            return 1;
        }
        switch (head[0]) {
            case 'O':
                do_open(payload, bytes);
                break;
            case 'P':
                do_path(payload, bytes);
                break;
            case 'N':
                printf("{\"index\": %u}\n", nst_bundle_find(&kept.bundle, (nst_table)payload[0],
                                                            (const char *)payload + 1, bytes - 1));
                break;
            case 'V':
                do_verify(payload, bytes);
                break;
            case 'C':
                do_cut(payload, bytes, sink);
                break;
            case 'F':
                do_flip(payload, bytes, sink);
                break;
            case 'T':
                do_change(payload, bytes, sink);
                break;
            case 'Y':
                do_policy(payload, bytes);
                break;
            default:
                return 1;
        }
        fflush(stdout);
        free(payload);
    }
    free(kept.data);
    free(kept.index);
    fclose(sink);
    return 0;
}
