/* Run every path of a bundle once and print what comes out.
 *
 *     run_path BUNDLE [PATH ...]
 *
 * Inputs are filled with a fixed pattern, so that two machines can be compared. Uses nestling.h
 * alone. Exit status: 0, 1 when nestling refuses (the reason is on standard error), 2 on wrong
 * usage.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "nestling.h"

static int fail(const char *what, const nst_error *err) {
    fprintf(stderr, "run_path: %s: %s", what, err->message);
    if (err->section[0] != '\0') {
        fprintf(stderr, " (section %s)", err->section);
    }
    if (err->stage[0] != '\0') {
        fprintf(stderr, " (stage %s)", err->stage);
    }
    fprintf(stderr, "\n");
    return 1;
}

/* Small numbers that repeat after 97 elements: element i of a float input is ((i % 97) - 48) /
 * 48. */
static void fill(const nst_tensor *tensor) {
    if (tensor->dtype == NST_F32) {
        float *values = tensor->data;
        for (size_t i = 0; i < tensor->bytes / sizeof *values; i++) {
            values[i] = ((float)(i % 97) - 48.0f) / 48.0f;
        }
    } else if (tensor->dtype == NST_I64) {
        int64_t *values = tensor->data;
        for (size_t i = 0; i < tensor->bytes / sizeof *values; i++) {
            values[i] = (int64_t)(i % 7);
        }
    } else {
        memset(tensor->data, 1, tensor->bytes);
    }
}

static void print(const nst_tensor *tensor) {
    printf("  %s:", tensor->name);
    if (tensor->dtype == NST_F32) {
        const float *values = tensor->data;
        const size_t count = tensor->bytes / sizeof *values;
        for (size_t i = 0; i < count && i < 10; i++) {
            printf(" %.6g", (double)values[i]);
        }
        printf(count > 10 ? " ...\n" : "\n");
    } else {
        printf(" %zu bytes\n", tensor->bytes);
    }
}

static int run(nst_model *model, nst_session *session, uint32_t path) {
    nst_error err;
    nst_path_view view;
    nst_selection selection;
    nst_tensor tensor;
    if (nst_model_path(model, path, &view, &err) != NST_OK ||
        nst_session_select(session, path, NST_MODE_DEFAULT, &err) != NST_OK ||
        nst_session_run(session, &err) != NST_OK ||
        nst_session_selection(session, &selection, &err) != NST_OK) {
        return fail("cannot run the path", &err);
    }
    printf("%s: %" PRIu32 " stages%s, %" PRIu64 " parameters, %.1f us\n", view.name, view.stages,
           selection.mode == NST_MODE_FUSED ? " fused" : "", view.parameters,
           (double)selection.last_run_ns / 1e3);
    for (uint32_t slot = 0; slot < nst_model_slot_count(model); slot++) {
        if (nst_model_slot(model, slot, &tensor, &err) == NST_OK && tensor.role == NST_OUTPUT &&
            nst_session_tensor(session, slot, &tensor, &err) == NST_OK) {
            print(&tensor);
        }
    }
    return 0;
}

static int run_all(nst_model *model, nst_session *session, int count, char **names) {
    nst_error err;
    nst_tensor tensor;
    int status = 0;
    for (uint32_t slot = 0; slot < nst_model_slot_count(model); slot++) {
        if (nst_model_slot(model, slot, &tensor, &err) == NST_OK && tensor.role == NST_INPUT &&
            nst_session_tensor(session, slot, &tensor, &err) == NST_OK) {
            fill(&tensor);
        }
    }
    if (count == 0) {
        for (uint32_t path = 0; path < nst_model_path_count(model) && status == 0; path++) {
            status = run(model, session, path);
        }
    }
    for (int i = 0; i < count && status == 0; i++) {
        const uint32_t path = nst_model_find_path(model, names[i]);
        if (path == NST_NONE) {
            fprintf(stderr, "run_path: the bundle has no path %s\n", names[i]);
            return 1;
        }
        status = run(model, session, path);
    }
    return status;
}

int main(int argc, char **argv) {
    nst_model *model = NULL;
    nst_session *session = NULL;
    nst_memory memory;
    nst_error err;
    int status;
    if (argc < 2) {
        fprintf(stderr, "usage: run_path BUNDLE [PATH ...]\n");
        return 2;
    }
    if (nst_model_open_path(argv[1], NULL, &model, &err) != NST_OK) {
        return fail(argv[1], &err);
    }
    if (nst_session_create(model, &session, &err) != NST_OK) {
        status = fail("cannot create a session", &err);
    } else {
        status = run_all(model, session, argc - 2, argv + 2);
    }
    if (status == 0 && nst_model_memory(model, &memory, &err) == NST_OK) {
        printf("resident: %" PRIu64 " bytes in %" PRIu32 " stages\n", memory.resident_bytes,
               memory.stages_resident);
    }
    nst_session_destroy(session);
    if (nst_model_close(model, &err) != NST_OK) {
        return fail("cannot close", &err);
    }
    return status;
}
