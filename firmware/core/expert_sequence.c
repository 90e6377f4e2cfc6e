#include "expert_sequence.h"

#include "bundle.h"
#include "checked.h"

/* A row's counts are halved when it has followed so many visits. */
#define ROW_VISITS 1024u

uint64_t nst_expert_sequence_bytes(const nst_expert_shape *shape) {
    uint64_t bytes;
    if (shape == NULL || shape->layers == 0 || shape->experts == 0 ||
        shape->layers > NST_EXPERT_MAX_KEYS || shape->experts > NST_EXPERT_MAX_KEYS ||
        !nst_mul_u64(shape->layers, shape->experts, &bytes) || bytes > NST_EXPERT_MAX_KEYS ||
        !nst_mul_u64(bytes, (uint64_t)shape->experts + 1, &bytes) ||
        !nst_mul_u64(bytes, sizeof(uint16_t), &bytes) || bytes > UINT32_MAX) {
        return 0;
    }
    return bytes;
}

int nst_expert_sequence_init(nst_expert_sequence *sequence, const nst_expert_shape *shape,
                             void *memory, size_t bytes) {
    uint64_t needed = nst_expert_sequence_bytes(shape);
    if (sequence == NULL || memory == NULL || needed == 0 ||
        (uintptr_t)memory % sizeof(uint16_t) != 0) {
        return NST_E_ARGUMENT;
    }
    if (bytes < needed) {
        return NST_E_LIMIT;
    }
    *sequence =
        (nst_expert_sequence){.layers = shape->layers, .experts = shape->experts, .counts = memory};
    for (uint64_t i = 0; i < needed / sizeof(uint16_t); i++) {
        sequence->counts[i] = 0;
    }
    for (uint32_t i = 0; i < NST_EXPERT_REQUESTS; i++) {
        sequence->steps[i].layer = NST_NONE;
    }
    return NST_OK;
}

void nst_expert_sequence_begin_request(nst_expert_sequence *sequence, uint32_t request) {
    sequence->steps[request % NST_EXPERT_REQUESTS].layer = NST_NONE;
}

/* [1 + experts] of an expert. */
static uint16_t *row_of(const nst_expert_sequence *sequence, uint32_t layer, uint32_t expert) {
    uint64_t row = (uint64_t)layer * sequence->experts + expert;
    return sequence->counts + row * ((uint64_t)sequence->experts + 1);
}

static uint32_t next_layer(const nst_expert_sequence *sequence, uint32_t layer) {
    return layer + 1 < sequence->layers ? layer + 1 : 0;
}

static bool visit_is_sound(const nst_expert_sequence *sequence, const nst_expert_visit *visit) {
    if (visit == NULL || visit->layer >= sequence->layers ||
        (visit->chosen == NULL && visit->count > 0)) {
        return false;
    }
    for (uint32_t i = 0; i < visit->count; i++) {
        if (visit->chosen[i] >= sequence->experts) {
            return false;
        }
    }
    return true;
}

static void count(uint16_t *row, uint32_t experts, const nst_expert_visit *visit) {
    if (row[0] == ROW_VISITS) {
        for (uint32_t i = 0; i <= experts; i++) {
            row[i] /= 2;
        }
    }
    row[0]++;
    for (uint32_t i = 0; i < visit->count; i++) {
        row[1 + visit->chosen[i]]++;
    }
}

bool nst_expert_sequence_note(nst_expert_sequence *sequence, const nst_expert_visit *visit) {
    if (!visit_is_sound(sequence, visit)) {
        return false;
    }
    nst_expert_step *step = &sequence->steps[visit->request % NST_EXPERT_REQUESTS];
    /* Where layers were left out, this visit does not tell what follows that one. */
    if (step->layer != NST_NONE && next_layer(sequence, step->layer) == visit->layer) {
        for (uint32_t i = 0; i < step->count; i++) {
            count(row_of(sequence, step->layer, step->chosen[i]), sequence->experts, visit);
        }
    }
    step->layer = visit->layer;
    step->count = 0;
    while (step->count < visit->count && step->count < NST_EXPERT_SEQUENCE_CHOSEN) {
        step->chosen[step->count] = visit->chosen[step->count];
        step->count++;
    }
    return true;
}

uint32_t nst_expert_sequence_predict(const nst_expert_sequence *sequence, uint32_t request,
                                     float *out) {
    const nst_expert_step *step = &sequence->steps[request % NST_EXPERT_REQUESTS];
    for (uint32_t expert = 0; expert < sequence->experts; expert++) {
        out[expert] = 0.0f;
    }
    if (step->layer == NST_NONE) {
        return NST_NONE;
    }
    for (uint32_t i = 0; i < step->count; i++) {
        const uint16_t *row = row_of(sequence, step->layer, step->chosen[i]);
        float each = row[0] > 0 ? 1.0f / ((float)row[0] * (float)step->count) : 0.0f;
        for (uint32_t expert = 0; expert < sequence->experts; expert++) {
            out[expert] += each * (float)row[1 + expert];
        }
    }
    return next_layer(sequence, step->layer);
}
