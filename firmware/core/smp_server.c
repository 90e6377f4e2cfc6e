#include "smp_server.h"

#include <string.h>

#include "sentence.h"
#include "smp_call.h"
#include "text.h"

/* The header of a message, big-endian: version and operation, flags, length of the body, group,
 * sequence, command. */
enum { OP_AT = 0, FLAGS_AT = 1, LENGTH_AT = 2, GROUP_AT = 4, SEQUENCE_AT = 6, COMMAND_AT = 7 };
enum { OP_MASK = 7, VERSION_SHIFT = 3, VERSION_MASK = 3, NEWEST_VERSION = 1, NESTLING_GROUP = 64 };

int nst_smp_server_init(nst_smp_server *server, const nst_smp_config *config, nst_error *err) {
    bool complete = server != NULL && config != NULL && config->device != NULL &&
                    config->version != NULL && config->targets != NULL &&
                    config->platform != NULL && config->platform->uptime_ms != NULL &&
                    config->platform->reset != NULL && config->engine.ops != NULL &&
                    config->store != NULL && config->costs != NULL && config->cost_count > 0 &&
                    config->buffer_bytes >= NST_SMP_LEAST_BUFFER_BYTES;
    if (!complete) {
        return nst_fail_in(err, NST_E_ARGUMENT, NULL,
                           NST_TEXT("the server's configuration is not complete"));
    }
    *server = (nst_smp_server){.config = *config, .selected = NST_NONE};
    return NST_OK;
}

static uint32_t load_u16(const uint8_t *at) {
    return (uint32_t)at[0] << 8 | at[1];
}

static void store_u16(uint8_t *at, size_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* SMP's number for a code of error.h. */
static uint64_t rc_of(int code) {
    switch (code) {
        case NST_E_ARGUMENT:
        case NST_E_PATH:
            return NST_RC_INVALID;
        case NST_E_FOREIGN:
        case NST_E_VERSION:
        case NST_E_TRUNCATED:
        case NST_E_CORRUPT:
        case NST_E_HASH:
            return NST_RC_CORRUPT;
        case NST_E_SIGNATURE:
            return NST_RC_ACCESS_DENIED;
        case NST_E_LIMIT:
        case NST_E_BUDGET:
        case NST_E_NO_MEMORY:
            return NST_RC_NO_MEMORY;
        case NST_E_TARGET:
            return NST_RC_NOT_SUPPORTED;
        case NST_E_STATE:
        case NST_E_CANCELLED:
            return NST_RC_BAD_STATE;
        case NST_E_NOT_FOUND:
            return NST_RC_NO_ENTRY;
        default:
            return NST_RC_UNKNOWN;
    }
}

/* One sentence: where, what, and the numbers. */
static nst_text reason_of(const nst_error *err, char *buffer, size_t room) {
    nst_writer writer;
    nst_writer_start(&writer, buffer, room);
    if (err->section[0] != '\0') {
        nst_write(&writer, err->section);
        nst_write(&writer, ": ");
    }
    if (err->stage[0] != '\0') {
        nst_write(&writer, err->stage);
        nst_write(&writer, ": ");
    }
    nst_write(&writer, err->message);
    if (err->expected != 0 || err->actual != 0) {
        nst_write(&writer, " (expected ");
        nst_write_number(&writer, err->expected);
        nst_write(&writer, ", actual ");
        nst_write_number(&writer, err->actual);
        nst_write(&writer, ")");
    }
    return (nst_text){buffer, writer.used};
}

/* An error of the protocol itself, by SMP's number. */
static int misunderstood(nst_smp_call *call, uint64_t *out_rc, uint64_t rc, const char *message) {
    *out_rc = rc;
    return nst_smp_refuse(call, NST_E_ARGUMENT, message);
}

/* While a run is in progress, only these are answered. */
static bool is_allowed_in_run(uint32_t group, uint32_t command) {
    return (group == 0 && command == 0) || (group == NESTLING_GROUP && command == 10);
}

/* Find the command and call it. `out_rc` is set where the request itself is at fault. */
static int dispatch(nst_smp_call *call, const uint8_t *request, size_t bytes, uint64_t *out_rc) {
    static const nst_smp_group *const groups[] = {&nst_smp_os_group, &nst_smp_image_group,
                                                  &nst_smp_stat_group, &nst_smp_nest_group};
    uint32_t group = load_u16(request + GROUP_AT);
    if ((request[OP_AT] >> VERSION_SHIFT & VERSION_MASK) > NEWEST_VERSION) {
        return misunderstood(call, out_rc, NST_RC_TOO_NEW,
                             NST_TEXT("this version of SMP is not known here"));
    }
    if (load_u16(request + LENGTH_AT) != bytes - NST_SMP_HEADER_BYTES) {
        return misunderstood(call, out_rc, NST_RC_INVALID,
                             NST_TEXT("the length in the header is not that of the body"));
    }
    if (call->server->running && !is_allowed_in_run(group, request[COMMAND_AT])) {
        return misunderstood(call, out_rc, NST_RC_BUSY, NST_TEXT("a run is in progress"));
    }
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        for (size_t k = 0; groups[i]->id == group && k < groups[i]->count; k++) {
            const nst_smp_command *command = &groups[i]->commands[k];
            if (command->id == request[COMMAND_AT] && command->op == (request[OP_AT] & OP_MASK)) {
                return command->handler(call);
            }
        }
    }
    return misunderstood(call, out_rc, NST_RC_NOT_SUPPORTED,
                         NST_TEXT("there is no such group or command"));
}

typedef struct error_code {
    uint32_t group;
    int code;
} error_code;

static bool next_of_error(void *self, uint32_t i, nst_smp_encoder *encoder) {
    const error_code *error = self;
    return i < 2 && nst_smp_put_text(encoder, nst_text_of(i == 0 ? "group" : "rc")) &&
           nst_smp_put_uint(encoder, i == 0 ? error->group : (uint64_t)-error->code);
}

/* Replace what was written of the answer by the error. */
static void answer_error(nst_smp_call *call, int code, uint64_t rc, uint32_t group, bool version_2,
                         uint8_t *body, size_t room) {
    char reason[NST_SMP_LEAST_BUFFER_BYTES - 64];
    nst_text text = reason_of(&call->err, reason, sizeof reason);
    nst_smp_encoder_init(&call->encoder, body, room);
    if (version_2 && group == NESTLING_GROUP && rc == 0) {
        error_code inner = {group, code};
        const nst_smp_error_v2 error = {
            .err = {next_of_error, &inner}, .has_rsn = true, .rsn = text};
        (void)nst_smp_put(&call->encoder, &nst_smp_error_v2_message, &error);
    } else {
        const nst_smp_error_v1 error = {
            .rc = rc != 0 ? rc : rc_of(code), .has_rsn = true, .rsn = text};
        (void)nst_smp_put(&call->encoder, &nst_smp_error_v1_message, &error);
    }
}

size_t nst_smp_serve(nst_smp_server *server, const uint8_t *request, size_t bytes,
                     uint8_t *response, size_t room) {
    nst_smp_call call = {.server = server};
    uint8_t header[NST_SMP_HEADER_BYTES];
    uint64_t rc = 0;
    uint32_t op = bytes >= NST_SMP_HEADER_BYTES ? request[OP_AT] & OP_MASK : 1u;
    if ((op != NST_SMP_READ && op != NST_SMP_WRITE) || room < NST_SMP_LEAST_BUFFER_BYTES) {
        server->counters.silent++;
        return 0;
    }
    /* A run may let another request in, which overwrites this one. */
    memcpy(header, request, sizeof header);
    uint8_t *body = response + NST_SMP_HEADER_BYTES;
    size_t body_room = room - NST_SMP_HEADER_BYTES;
    call.body = request + NST_SMP_HEADER_BYTES;
    call.body_bytes = bytes - NST_SMP_HEADER_BYTES;
    nst_smp_encoder_init(&call.encoder, body, body_room);
    if (server->config.platform->alive != NULL) {
        server->config.platform->alive(server->config.platform_self);
    }
    int code = dispatch(&call, request, bytes, &rc);
    server->counters.requests++;
    if (code != NST_OK) {
        server->counters.errors++;
        bool version_2 = (header[OP_AT] >> VERSION_SHIFT & VERSION_MASK) == 1;
        answer_error(&call, code, rc, load_u16(header + GROUP_AT), version_2, body, body_room);
    }
    size_t used = nst_smp_encoder_used(&call.encoder, body);
    header[OP_AT] = (uint8_t)(header[OP_AT] + 1);
    store_u16(header + LENGTH_AT, used);
    memcpy(response, header, sizeof header);
    return NST_SMP_HEADER_BYTES + used;
}

int nst_smp_fail(nst_smp_call *call, int code, uint64_t expected, uint64_t actual,
                 const char *message) {
    return nst_fail(&call->err, code, NULL, NULL, expected, actual, message);
}

int nst_smp_refuse(nst_smp_call *call, int code, const char *message) {
    return nst_fail_in(&call->err, code, NULL, message);
}

nst_text nst_text_of(const char *text) {
    return (nst_text){text, strlen(text)};
}

int nst_smp_take_as(nst_smp_call *call, const nst_smp_message *message, void *out) {
    return nst_smp_decode_body(message, call->body, call->body_bytes, out, &call->err);
}

int nst_smp_answer_with(nst_smp_call *call, const nst_smp_message *message, const void *record) {
    return nst_smp_put(&call->encoder, message, record)
               ? NST_OK
               : nst_smp_fail(call, NST_E_LIMIT, 0, call->server->config.buffer_bytes,
                              NST_TEXT("the answer does not fit into the buffer"));
}

int nst_smp_answer_empty(nst_smp_call *call) {
    const nst_smp_empty_response response = {0};
    return nst_smp_answer(call, empty_response, &response);
}

const nst_bundle *nst_smp_bundle(nst_smp_call *call) {
    const nst_engine *engine = &call->server->config.engine;
    const nst_bundle *bundle = engine->ops->bundle(engine->self);
    if (bundle == NULL) {
        (void)nst_smp_refuse(call, NST_E_STATE, NST_TEXT("no bundle is open"));
    }
    return bundle;
}

void nst_smp_line_init(nst_smp_line *line, nst_smp_server *server, uint8_t *request,
                       uint8_t *response, nst_smp_put_bytes put, void *put_self) {
    *line = (nst_smp_line){.server = server,
                           .response = response,
                           .room = server->config.buffer_bytes,
                           .put = put,
                           .put_self = put_self};
    nst_smp_decoder_init(&line->decoder, request, (size_t)server->config.buffer_bytes + 2);
}

void nst_smp_line_take(nst_smp_line *line, uint8_t byte) {
    nst_smp_server *server = line->server;
    size_t bytes = 0;
    bool complete = nst_smp_decoder_take(&line->decoder, byte, &bytes);
    server->counters.frames = line->decoder.good;
    server->counters.bad_frames = line->decoder.bad;
    if (!complete) {
        return;
    }
    size_t answer = nst_smp_serve(server, line->decoder.buffer, bytes, line->response, line->room);
    if (answer > 0) {
        nst_smp_encode(line->response, answer, line->put, line->put_self);
    }
    if (server->reset_due) {
        server->reset_due = false;
        server->config.platform->reset(server->config.platform_self);
    }
}
