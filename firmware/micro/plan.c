#include "micro/plan.h"

#include "core/sentence.h"
#include "core/text.h"
#include "micro/operators.h"

static const uint8_t magic[4] = {'N', 'S', 'T', 'P'};

/* The header as it lies in the plan. */
typedef struct nst_plan_header {
    uint8_t magic[4];
    uint32_t version;
    uint32_t total_bytes;
    uint32_t isa;
    uint32_t arena_bytes;
    uint32_t input_count;
    uint32_t output_count;
    uint32_t constant_count;
    uint32_t operator_count;
    uint32_t tensor_count;
    uint32_t zero[2];
} nst_plan_header;

_Static_assert(sizeof(nst_plan_header) == NST_PLAN_HEADER_BYTES, "SPEC.md");
_Static_assert(sizeof(nst_plan_operator) == 24, "SPEC.md");
_Static_assert(sizeof(nst_plan_tensor) == 16, "SPEC.md");

static bool is_aligned(uint64_t value) {
    return value % NST_PLAN_ALIGNMENT == 0;
}

static uint64_t align(uint64_t value) {
    return (value + NST_PLAN_ALIGNMENT - 1) / NST_PLAN_ALIGNMENT * NST_PLAN_ALIGNMENT;
}

static int corrupt(nst_error *err, uint64_t expected, uint64_t actual, const char *message) {
    return nst_fail(err, NST_E_CORRUPT, NULL, NULL, expected, actual, message);
}

/* "operator 3 (quantized_add): message" */
static int fail_operator(nst_error *err, int code, uint32_t index, const char *name,
                         uint64_t expected, uint64_t actual, const char *message) {
    nst_fail(err, code, NULL, NULL, expected, actual, NULL);
    if (err != NULL) {
        nst_writer writer;
        nst_writer_start(&writer, err->message, sizeof err->message);
        nst_write(&writer, "operator ");
        nst_write_number(&writer, index);
        if (name != NULL) {
            nst_write(&writer, " (");
            nst_write(&writer, name);
            nst_write(&writer, ")");
        }
        nst_write(&writer, ": ");
        nst_write(&writer, message);
    }
    return code;
}

/* Where the tables are; false where they do not fit into the plan. `out_records` is the end of the last table. */
static bool find_tables(nst_plan *plan, const nst_plan_header *head, uint64_t *out_records) {
    const uint64_t sizes =
        (uint64_t)head->input_count + head->output_count + (uint64_t)head->constant_count;
    const uint64_t operators = sizeof *head + sizes * sizeof(uint32_t);
    const uint64_t tensors = operators + (uint64_t)head->operator_count * sizeof(nst_plan_operator);
    const uint64_t end = tensors + (uint64_t)head->tensor_count * sizeof(nst_plan_tensor);
    if (end > plan->bytes) {
        return false;
    }
    plan->input_bytes = (const uint32_t *)(const void *)(plan->data + sizeof *head);
    plan->output_bytes = plan->input_bytes + head->input_count;
    plan->constant_bytes = plan->output_bytes + head->output_count;
    plan->operators = (const nst_plan_operator *)(const void *)(plan->data + operators);
    plan->tensors = (const nst_plan_tensor *)(const void *)(plan->data + tensors);
    *out_records = end;
    return true;
}

/* Whether a tensor lies inside what it is part of. */
static bool tensor_ok(const nst_plan *plan, const nst_plan_tensor *tensor) {
    uint32_t count = 0;
    const uint32_t *bytes = NULL;
    switch (tensor->place) {
        case NST_PLACE_ABSENT:
            return tensor->number == 0 && tensor->offset == 0 && tensor->bytes == 0;
        case NST_PLACE_INPUT:
            count = plan->input_count;
            bytes = plan->input_bytes;
            break;
        case NST_PLACE_OUTPUT:
            count = plan->output_count;
            bytes = plan->output_bytes;
            break;
        case NST_PLACE_CONSTANT:
            count = plan->constant_count;
            bytes = plan->constant_bytes;
            break;
        case NST_PLACE_ARENA:
            count = 1;
            bytes = &plan->arena_bytes;
            break;
        default:
            return false;
    }
    return tensor->number < count && tensor->bytes > 0 && is_aligned(tensor->offset) &&
           (uint64_t)tensor->offset + tensor->bytes <= bytes[tensor->number];
}

static bool overlap(const nst_plan_tensor *a, const nst_plan_tensor *b) {
    return a->bytes != 0 && b->bytes != 0 && a->place == b->place && a->number == b->number &&
           a->offset < (uint64_t)b->offset + b->bytes && b->offset < (uint64_t)a->offset + a->bytes;
}

/* What an operator writes, its output and its scratch memory, overlaps nothing else that it is given. */
static bool writes_apart(const nst_plan_operator *op, const nst_plan_tensor *tensors) {
    const nst_plan_tensor scratch = {NST_PLACE_ARENA, 0, op->scratch_offset, op->scratch_bytes};
    const nst_plan_tensor *output = &tensors[op->tensor_count - 1];
    if (overlap(output, &scratch)) {
        return false;
    }
    for (uint32_t i = 0; i + 1 < op->tensor_count; i++) {
        if (overlap(output, &tensors[i]) || overlap(&scratch, &tensors[i])) {
            return false;
        }
    }
    return true;
}

static int check_operator(const nst_plan *plan, uint32_t index, nst_error *err) {
    const nst_plan_operator *op = &plan->operators[index];
    const nst_plan_tensor *tensors = plan->tensors + op->first_tensor;
    const nst_operator *kernel = nst_find_operator(op->number);
    uint32_t bytes[NST_MAX_OPERATOR_TENSORS] = {0};
    for (uint32_t i = 0; i < op->tensor_count; i++) {
        if (!tensor_ok(plan, &tensors[i])) {
            return fail_operator(err, NST_E_CORRUPT, index, kernel->name, 0, i,
                                 NST_TEXT("a tensor is not inside of what it is part of"));
        }
        bytes[i] = tensors[i].bytes;
    }
    const uint32_t place = tensors[op->tensor_count - 1].place;
    if (place != NST_PLACE_OUTPUT && place != NST_PLACE_ARENA) {
        return fail_operator(err, NST_E_CORRUPT, index, kernel->name, 0, place,
                             NST_TEXT("it would write over an input or a constant"));
    }
    if (!is_aligned(op->scratch_offset) ||
        (uint64_t)op->scratch_offset + op->scratch_bytes > plan->arena_bytes) {
        return fail_operator(err, NST_E_CORRUPT, index, kernel->name, plan->arena_bytes,
                             (uint64_t)op->scratch_offset + op->scratch_bytes,
                             NST_TEXT("its scratch memory is not in the arena"));
    }
    if (!writes_apart(op, tensors)) {
        return fail_operator(err, NST_E_CORRUPT, index, kernel->name, 0, 0,
                             NST_TEXT("what it writes overlaps what it reads"));
    }
    if (!kernel->check(plan->data + op->params_offset, bytes, op->scratch_bytes)) {
        return fail_operator(err, NST_E_CORRUPT, index, kernel->name, 0, 0,
                             NST_TEXT("its parameters do not fit its tensors"));
    }
    return NST_OK;
}

/* The tables: each operator's tensors and record follow those of the operator before it, nothing is left over. */
static int check_table(const nst_plan *plan, uint32_t tensor_count, uint64_t records,
                       nst_error *err) {
    uint64_t at = records; /* end of what is accounted for */
    uint32_t tensor = 0;
    for (uint32_t i = 0; i < plan->operator_count; i++) {
        const nst_plan_operator *op = &plan->operators[i];
        const nst_operator *kernel = nst_find_operator(op->number);
        if (kernel == NULL) {
            return fail_operator(err, NST_E_ENGINE, i, NULL, 0, op->number,
                                 NST_TEXT("this firmware has no operator of that number"));
        }
        if (op->first_tensor != tensor || op->tensor_count == 0 ||
            op->tensor_count != kernel->tensors || op->tensor_count > tensor_count - tensor) {
            return fail_operator(err, NST_E_CORRUPT, i, kernel->name, kernel->tensors,
                                 op->tensor_count, NST_TEXT("the number of its tensors is wrong"));
        }
        if (op->params_offset != align(at) ||
            (uint64_t)op->params_offset + kernel->params_bytes > plan->bytes) {
            return fail_operator(err, NST_E_CORRUPT, i, kernel->name, align(at), op->params_offset,
                                 NST_TEXT("its parameter record is not behind the one before it"));
        }
        for (; at < op->params_offset; at++) {
            if (plan->data[at] != 0) {
                return fail_operator(
                    err, NST_E_CORRUPT, i, kernel->name, 0, plan->data[at],
                    NST_TEXT("the padding in front of its parameters is not zero"));
            }
        }
        at += kernel->params_bytes;
        tensor += op->tensor_count;
    }
    if (tensor != tensor_count || at != plan->bytes) {
        return corrupt(err, at, plan->bytes,
                       NST_TEXT("the plan holds more than its operators need"));
    }
    return NST_OK;
}

int nst_plan_open(nst_plan *out, const void *data, size_t bytes, nst_isa isa, nst_error *err) {
    if (out == NULL || data == NULL || !is_aligned((uintptr_t)data)) {
        return nst_fail_in(err, NST_E_ARGUMENT, NULL,
                           NST_TEXT("a plan must be aligned to 16 bytes"));
    }
    const nst_plan_header *head = data;
    if (bytes < sizeof *head) {
        return corrupt(err, sizeof *head, bytes, NST_TEXT("the plan is shorter than its header"));
    }
    for (unsigned i = 0; i < sizeof magic; i++) {
        if (head->magic[i] != magic[i]) {
            return nst_fail_in(err, NST_E_FOREIGN, NULL, NST_TEXT("this program is not a plan"));
        }
    }
    if (head->version != NST_PLAN_VERSION) {
        return nst_fail(err, NST_E_VERSION, NULL, NULL, NST_PLAN_VERSION, head->version,
                        NST_TEXT("the plan is of another version"));
    }
    if (head->total_bytes != bytes) {
        return corrupt(err, head->total_bytes, bytes,
                       NST_TEXT("the plan has another size than it says"));
    }
    if (head->isa != NST_ISA_DSP && head->isa != NST_ISA_MVE) {
        return corrupt(err, 0, head->isa,
                       NST_TEXT("the plan is for no instructions that there are"));
    }
    if (isa != NST_ISA_ANY && head->isa != (uint32_t)isa) {
        return nst_fail(err, NST_E_TARGET, NULL, NULL, isa, head->isa,
                        NST_TEXT("the plan is for another core"));
    }
    if (!is_aligned(head->arena_bytes) || head->zero[0] != 0 || head->zero[1] != 0) {
        return corrupt(err, 0, 0, NST_TEXT("the plan's header breaks a rule"));
    }
    nst_plan plan = {
        .data = data,
        .bytes = head->total_bytes,
        .isa = head->isa,
        .arena_bytes = head->arena_bytes,
        .input_count = head->input_count,
        .output_count = head->output_count,
        .constant_count = head->constant_count,
        .operator_count = head->operator_count,
    };
    uint64_t records;
    if (!find_tables(&plan, head, &records)) {
        return corrupt(err, 0, bytes, NST_TEXT("the plan's tables do not fit into it"));
    }
    int code = check_table(&plan, head->tensor_count, records, err);
    for (uint32_t i = 0; code == NST_OK && i < plan.operator_count; i++) {
        code = check_operator(&plan, i, err);
    }
    if (code == NST_OK) {
        *out = plan;
    }
    return code;
}

/* `memory` is never written through the constants' pointers: kernels write the last tensor alone. */
static void *address(const nst_plan_tensor *tensor, const nst_plan_memory *memory) {
    switch (tensor->place) {
        case NST_PLACE_INPUT:
            return (uint8_t *)memory->inputs[tensor->number] + tensor->offset;
        case NST_PLACE_OUTPUT:
            return (uint8_t *)memory->outputs[tensor->number] + tensor->offset;
        case NST_PLACE_CONSTANT:
            return (uint8_t *)(uintptr_t)memory->constants[tensor->number] + tensor->offset;
        case NST_PLACE_ARENA:
            return memory->arena + tensor->offset;
        default:
            return NULL;
    }
}

void nst_plan_run_operator(const nst_plan *plan, uint32_t index, const nst_plan_memory *memory) {
    const nst_plan_operator *op = &plan->operators[index];
    const nst_plan_tensor *tensors = plan->tensors + op->first_tensor;
    void *addresses[NST_MAX_OPERATOR_TENSORS];
    for (uint32_t i = 0; i < op->tensor_count; i++) {
        addresses[i] = address(&tensors[i], memory);
    }
    nst_find_operator(op->number)
        ->run(plan->data + op->params_offset, addresses, memory->arena + op->scratch_offset);
}
