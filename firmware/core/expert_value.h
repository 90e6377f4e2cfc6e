/* What keeping an expert is worth, learnt while it runs: the expected value of g^(t - 1), where the
 * expert is used again at the t-th visit of its layer from now, and 0 < g < 1. A use at the next
 * visit is worth 1, one much later next to nothing.
 *
 * The value is a weighted sum of what is known of an expert (its features). The weights solve the
 * value's own recursion, "used now: 1, otherwise g times the value next time", in the least-squares
 * sense over the visits seen: least-squares temporal differences (Bradtke and Barto, Machine
 * Learning 22, 1996), with older visits counting less. */
#ifndef NESTLING_CORE_EXPERT_VALUE_H
#define NESTLING_CORE_EXPERT_VALUE_H

#include <stdbool.h>

#define NST_EXPERT_FEATURES 11u

typedef struct nst_expert_value {
    float weights[NST_EXPERT_FEATURES];
    float prior[NST_EXPERT_FEATURES]; /* weights without, and drawn upon with few, visits */
    float moments[NST_EXPERT_FEATURES][NST_EXPERT_FEATURES];
    float uses[NST_EXPERT_FEATURES];
    float discount; /* g */
    float visits;   /* seen, as far as they matter */
    float newest;   /* weight of the present visit */
} nst_expert_value;

void nst_expert_value_start(nst_expert_value *value, const float *prior, float discount);

/* A visit begins, in which nst_expert_value_observe is called for each expert of the layer. */
void nst_expert_value_begin_visit(nst_expert_value *value);

/* An expert with features `before` was used or not, and then had features `after`. `share`: weight
 * of the observation, such as 1 / experts that were used. */
void nst_expert_value_observe(nst_expert_value *value, const float *before, const float *after,
                              bool used, float share);

/* The visit is over: find the weights. */
void nst_expert_value_end_visit(nst_expert_value *value);

/* At least 0. */
float nst_expert_value_of(const nst_expert_value *value, const float *features);

#endif
