/* Group 0: the operating system. */
#include "sentence.h"
#include "smp_call.h"
#include "text.h"

static int echo(nst_smp_call *call) {
    nst_smp_echo_request request;
    int code = nst_smp_take(call, echo_request, &request);
    if (code != NST_OK) {
        return code;
    }
    const nst_smp_echo_response response = {.r = request.d};
    return nst_smp_answer(call, echo_response, &response);
}

static int reset(nst_smp_call *call) {
    call->server->reset_due = true;
    return nst_smp_answer_empty(call);
}

static int parameters(nst_smp_call *call) {
    const nst_smp_parameters_response response = {.buf_size = call->server->config.buffer_bytes,
                                                  .buf_count = 1};
    return nst_smp_answer(call, parameters_response, &response);
}

/* What a letter of `format` asks for; null for an unknown one. */
static const char *application_field(const nst_smp_config *config, char letter) {
    switch (letter) {
        case 's':
            return "nestling";
        case 'n':
        case 'm':
        case 'i':
            return config->device;
        case 'r':
        case 'v':
            return config->version;
        case 'p':
            return config->target_count > 0 ? config->targets[0] : "none";
        case 'o':
            return config->engine.ops->name;
        default:
            return NULL;
    }
}

static bool contains(nst_text text, char letter) {
    for (size_t i = 0; i < text.bytes; i++) {
        if (text.data[i] == letter) {
            return true;
        }
    }
    return false;
}

/* The fields that are asked for, in SMP's order. */
static int application(nst_smp_call *call) {
    static const char order[] = "snrvmpio";
    const nst_smp_config *config = &call->server->config;
    nst_smp_application_request request;
    char output[256];
    nst_writer writer;
    int code = nst_smp_take(call, application_request, &request);
    if (code != NST_OK) {
        return code;
    }
    nst_text format =
        request.has_format && request.format.bytes > 0 ? request.format : nst_text_of("s");
    for (size_t i = 0; i < format.bytes; i++) {
        if (format.data[i] != 'a' && application_field(config, format.data[i]) == NULL) {
            return nst_smp_refuse(call, NST_E_ARGUMENT,
                                  NST_TEXT("the format asks for an unknown field"));
        }
    }
    nst_writer_start(&writer, output, sizeof output);
    for (size_t i = 0; order[i] != '\0'; i++) {
        if (contains(format, 'a') || contains(format, order[i])) {
            nst_write(&writer, writer.used > 0 ? " " : "");
            nst_write(&writer, application_field(config, order[i]));
        }
    }
    const nst_smp_application_response response = {.output = {output, writer.used}};
    return nst_smp_answer(call, application_response, &response);
}

static const nst_smp_command commands[] = {
    {NST_SMP_WRITE, 0, echo},      {NST_SMP_READ, 0, echo},        {NST_SMP_WRITE, 5, reset},
    {NST_SMP_READ, 6, parameters}, {NST_SMP_READ, 7, application},
};
const nst_smp_group nst_smp_os_group = {0, sizeof commands / sizeof commands[0], commands};
