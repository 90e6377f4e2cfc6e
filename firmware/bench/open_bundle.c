/* The smallest program that has a bundle open: what nestling costs a C program in memory.
 *
 *     nestling-open BUNDLE [PATH]
 *
 * Opens the bundle and creates a session; with PATH it also loads that path. Prints, as JSON, what
 * the process then holds resident (bytes), and how much of that are pages of the bundle itself. */
#include <malloc.h>
#include <nestling.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const nst_error *error) {
    fprintf(stderr, "nestling-open: %s\n", error->message);
    return 1;
}

/* Sums the Rss lines of /proc/self/smaps: of all mappings, and of those whose name ends in `file`.
 */
static int read_rss(const char *file, long long *all_bytes, long long *file_bytes) {
    char line[4096];
    int of_file = 0;
    FILE *smaps = fopen("/proc/self/smaps", "r");
    if (smaps == NULL) {
        return -1;
    }
    *all_bytes = *file_bytes = 0;
    while (fgets(line, sizeof line, smaps) != NULL) {
        long long kilobytes = 0;
        char *name = strrchr(line, '/');
        if (sscanf(line, "Rss: %lld kB", &kilobytes) == 1) {
            *all_bytes += kilobytes * 1024;
            *file_bytes += of_file ? kilobytes * 1024 : 0;
        } else if (strchr(line, '-') != NULL && strchr(line, '-') < strchr(line, ' ')) {
            const char *wanted = strrchr(file, '/');
            wanted = wanted == NULL ? file : wanted + 1;
            line[strcspn(line, "\n")] = '\0';
            of_file = name != NULL && strcmp(name + 1, wanted) == 0;
        }
    }
    fclose(smaps);
    return 0;
}

int main(int count, char **words) {
    nst_error error = {0};
    nst_model *model = NULL;
    nst_session *session = NULL;
    nst_memory memory = {0};
    long long all_bytes = 0;
    long long file_bytes = 0;

    if (count < 2) {
        fputs("usage: nestling-open BUNDLE [PATH]\n", stderr);
        return 2;
    }
    nst_model_options options;
    nst_model_options_default(&options);
    options.threads = 1;
    if (nst_model_open_path(words[1], &options, &model, &error) != NST_OK ||
        nst_session_create(model, &session, &error) != NST_OK) {
        return fail(&error);
    }
    if (count > 2) {
        const uint32_t path = nst_model_find_path(model, words[2]);
        if (nst_session_select(session, path, NST_MODE_DEFAULT, &error) != NST_OK ||
            nst_session_run(session, &error) != NST_OK) {
            return fail(&error);
        }
    }
    if (nst_model_memory(model, &memory, &error) != NST_OK) {
        return fail(&error);
    }
    malloc_trim(0);
    if (read_rss(words[1], &all_bytes, &file_bytes) != 0) {
        return 1;
    }
    printf("{\"rss\":%lld,\"mapped_file\":%lld,\"resident_bytes\":%llu}\n", all_bytes, file_bytes,
           (unsigned long long)memory.resident_bytes);
    nst_session_destroy(session);
    return nst_model_close(model, &error) == NST_OK ? 0 : fail(&error);
}
