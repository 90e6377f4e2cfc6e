/* Group 2: statistics. */
#include <string.h>

#include "sentence.h"
#include "smp_call.h"

typedef struct figure {
    const char *name;
    uint64_t value;
} figure;

enum { MOST_FIGURES = 6, GROUPS = 3 };

static const char *const group_names[GROUPS] = {"nestling", "line", "flash"};

/* Figures of one group; returns how many. */
static uint32_t read_group(const nst_smp_server *server, uint32_t group, figure out[MOST_FIGURES]) {
    const nst_smp_counters *counters = &server->counters;
    const nst_flash *flash = server->config.store->flash;
    if (group == 0) {
        out[0] = (figure){"requests", counters->requests};
        out[1] = (figure){"errors", counters->errors};
        out[2] = (figure){"runs", counters->runs};
        out[3] = (figure){"switches", counters->switches};
        out[4] = (figure){"cancels", counters->cancels};
        return 5;
    }
    if (group == 1) {
        out[0] = (figure){"frames", counters->frames};
        out[1] = (figure){"bad_frames", counters->bad_frames};
        out[2] = (figure){"silent", counters->silent};
        return 3;
    }
    out[0] = (figure){"erases", flash->erases};
    out[1] = (figure){"programs", flash->programs};
    return 2;
}

typedef struct figures {
    figure list[MOST_FIGURES];
    uint32_t count;
} figures;

static bool next_figure(void *self, uint32_t i, nst_smp_encoder *encoder) {
    const figures *all = self;
    return i < all->count && nst_smp_put_text(encoder, nst_text_of(all->list[i].name)) &&
           nst_smp_put_uint(encoder, all->list[i].value);
}

static bool next_name(void *self, uint32_t i, nst_smp_encoder *encoder) {
    (void)self;
    return i < GROUPS && nst_smp_put_text(encoder, nst_text_of(group_names[i]));
}

static int statistics(nst_smp_call *call) {
    nst_smp_statistics_request request;
    figures all;
    int code = nst_smp_take(call, statistics_request, &request);
    if (code != NST_OK) {
        return code;
    }
    for (uint32_t group = 0; group < GROUPS; group++) {
        nst_text name = nst_text_of(group_names[group]);
        if (name.bytes == request.name.bytes &&
            memcmp(name.data, request.name.data, name.bytes) == 0) {
            all.count = read_group(call->server, group, all.list);
            const nst_smp_statistics_response response = {.name = name,
                                                          .fields = {next_figure, &all}};
            return nst_smp_answer(call, statistics_response, &response);
        }
    }
    return nst_smp_refuse(call, NST_E_NOT_FOUND,
                          NST_TEXT("there is no statistics group of that name"));
}

static int list(nst_smp_call *call) {
    const nst_smp_statistics_list_response response = {.stat_list = {next_name, NULL}};
    return nst_smp_answer(call, statistics_list_response, &response);
}

static const nst_smp_command commands[] = {{NST_SMP_READ, 0, statistics}, {NST_SMP_READ, 1, list}};
const nst_smp_group nst_smp_stat_group = {2, sizeof commands / sizeof commands[0], commands};
