#include "expert_value.h"

#include <stdint.h>

#define FEATURES NST_EXPERT_FEATURES

/* Visits are averaged over about so many. */
#define MEMORY_VISITS 500.0f
/* Pull of the prior, against visits whose features are 0..1. */
#define PRIOR_WEIGHT 1e-3f

void nst_expert_value_start(nst_expert_value *value, const float *prior, float discount) {
    *value = (nst_expert_value){.discount = discount};
    for (uint32_t i = 0; i < FEATURES; i++) {
        value->prior[i] = prior[i];
        value->weights[i] = prior[i];
    }
}

void nst_expert_value_begin_visit(nst_expert_value *value) {
    value->visits += value->visits < MEMORY_VISITS ? 1.0f : 0.0f;
    value->newest = 1.0f / value->visits;
    for (uint32_t i = 0; i < FEATURES; i++) {
        value->uses[i] *= 1.0f - value->newest;
        for (uint32_t j = 0; j < FEATURES; j++) {
            value->moments[i][j] *= 1.0f - value->newest;
        }
    }
}

void nst_expert_value_observe(nst_expert_value *value, const float *before, const float *after,
                              bool used, float share) {
    /* Where an expert was used, what comes behind that does not count. */
    float discount = used ? 0.0f : value->discount;
    float weight = value->newest * share;
    float change[FEATURES];
    for (uint32_t j = 0; j < FEATURES; j++) {
        change[j] = before[j] - discount * after[j];
    }
    for (uint32_t i = 0; i < FEATURES; i++) {
        float part = weight * before[i];
        value->uses[i] += used ? part : 0.0f;
        for (uint32_t j = 0; j < FEATURES; j++) {
            value->moments[i][j] += part * change[j];
        }
    }
}

static float size_of(float number) {
    return number < 0.0f ? -number : number;
}

/* The row from `column` on whose number in that column is largest. */
static uint32_t pivot_of(float rows[FEATURES][FEATURES + 1], uint32_t column) {
    uint32_t pivot = column;
    for (uint32_t row = column + 1; row < FEATURES; row++) {
        if (size_of(rows[row][column]) > size_of(rows[pivot][column])) {
            pivot = row;
        }
    }
    return pivot;
}

static void swap(float *one, float *other) {
    for (uint32_t j = 0; j <= FEATURES; j++) {
        float kept = one[j];
        one[j] = other[j];
        other[j] = kept;
    }
}

/* By Gauss-Jordan elimination. Where the equations have no one solution, the weights stay. */
void nst_expert_value_end_visit(nst_expert_value *value) {
    float rows[FEATURES][FEATURES + 1];
    for (uint32_t i = 0; i < FEATURES; i++) {
        for (uint32_t j = 0; j < FEATURES; j++) {
            rows[i][j] = value->moments[i][j] + (i == j ? PRIOR_WEIGHT : 0.0f);
        }
        rows[i][FEATURES] = value->uses[i] + PRIOR_WEIGHT * value->prior[i];
    }
    for (uint32_t column = 0; column < FEATURES; column++) {
        swap(rows[column], rows[pivot_of(rows, column)]);
        /* Also false for what is not a number. */
        if (!(size_of(rows[column][column]) > 1e-12f)) {
            return;
        }
        for (uint32_t row = 0; row < FEATURES; row++) {
            float factor = row == column ? 0.0f : rows[row][column] / rows[column][column];
            for (uint32_t j = column; j <= FEATURES; j++) {
                rows[row][j] -= factor * rows[column][j];
            }
        }
    }
    for (uint32_t i = 0; i < FEATURES; i++) {
        value->weights[i] = rows[i][FEATURES] / rows[i][i];
    }
}

float nst_expert_value_of(const nst_expert_value *value, const float *features) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < FEATURES; i++) {
        sum += value->weights[i] * features[i];
    }
    return sum > 0.0f ? sum : 0.0f;
}
