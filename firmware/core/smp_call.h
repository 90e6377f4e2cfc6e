/* One request on its way through the server: what the files of the groups (smp_os.c, smp_image.c,
 * smp_stat.c, smp_nest.c, smp_run.c, smp_push.c) share. */
#ifndef NESTLING_CORE_SMP_CALL_H
#define NESTLING_CORE_SMP_CALL_H

#include "smp_codec.h"
#include "smp_messages.h"
#include "smp_server.h"

/* SMP's own error numbers. */
enum nst_smp_rc {
    NST_RC_UNKNOWN = 1,
    NST_RC_NO_MEMORY = 2,
    NST_RC_INVALID = 3,
    NST_RC_NO_ENTRY = 5,
    NST_RC_BAD_STATE = 6,
    NST_RC_TOO_LARGE = 7,
    NST_RC_NOT_SUPPORTED = 8,
    NST_RC_CORRUPT = 9,
    NST_RC_BUSY = 10,
    NST_RC_ACCESS_DENIED = 11,
    NST_RC_TOO_NEW = 13
};

enum nst_smp_op { NST_SMP_READ = 0, NST_SMP_WRITE = 2 };

typedef struct nst_smp_call {
    nst_smp_server *server;
    const uint8_t *body; /* not valid any more once a run has begun */
    size_t body_bytes;
    nst_smp_encoder encoder; /* of the answer's body */
    nst_error err;
} nst_smp_call;

/* Handlers write one message to `encoder` and return NST_OK, or return a code with `err` filled. */
typedef int (*nst_smp_handler)(nst_smp_call *call);

typedef struct nst_smp_command {
    uint8_t op; /* nst_smp_op */
    uint8_t id;
    nst_smp_handler handler;
} nst_smp_command;

typedef struct nst_smp_group {
    uint16_t id;
    uint16_t count;
    const nst_smp_command *commands;
} nst_smp_group;

extern const nst_smp_group nst_smp_os_group;
extern const nst_smp_group nst_smp_image_group;
extern const nst_smp_group nst_smp_stat_group;
extern const nst_smp_group nst_smp_nest_group;

/* Decode the request into `out`: nst_smp_take(call, upload_request, &request). */
#define nst_smp_take(call, name, out) nst_smp_take_as((call), &nst_smp_##name##_message, (out))

/* Write the answer: nst_smp_answer(call, upload_response, &response). */
#define nst_smp_answer(call, name, record) \
    nst_smp_answer_with((call), &nst_smp_##name##_message, (record))

int nst_smp_take_as(nst_smp_call *call, const nst_smp_message *message, void *out);
int nst_smp_answer_with(nst_smp_call *call, const nst_smp_message *message, const void *record);
int nst_smp_answer_empty(nst_smp_call *call);

/* Fill the error and return `code`; with numbers, and without. */
int nst_smp_fail(nst_smp_call *call, int code, uint64_t expected, uint64_t actual,
                 const char *message);
int nst_smp_refuse(nst_smp_call *call, int code, const char *message);

nst_text nst_text_of(const char *text);

/* The open bundle, or null; with `err` filled in that case. */
const nst_bundle *nst_smp_bundle(nst_smp_call *call);

/* smp_update.c: run another bundle. Opens it in the engine, which lets the present one go only when
 * the new one is in order. */
int nst_smp_open(nst_smp_server *server, const nst_store_place *place, nst_error *err);

/* The engine has opened a bundle: what is known of the old one's costs is forgotten. */
void nst_smp_opened(nst_smp_server *server);

/* smp_run.c: commands 2, 3, 4, 9 and 10 of group 64. */
int nst_smp_select(nst_smp_call *call);
int nst_smp_run(nst_smp_call *call);
int nst_smp_tensor_read(nst_smp_call *call);
int nst_smp_tensor_write(nst_smp_call *call);
int nst_smp_choose(nst_smp_call *call);
int nst_smp_cancel(nst_smp_call *call);

/* smp_push.c: commands 11 to 14 of group 64. */
int nst_smp_push_head(nst_smp_call *call);
int nst_smp_push_missing(nst_smp_call *call);
int nst_smp_push_data(nst_smp_call *call);
int nst_smp_push_commit(nst_smp_call *call);

#endif
