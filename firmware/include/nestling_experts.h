/* nestling, experts: mixture-of-experts layers whose weights come and go.
 *
 * Part of nestling.h, which includes it and whose rules hold here too. The experts of a bundle are
 * data that stages call upon: a *store* of the model keeps as many of them in memory as its budget
 * holds, reads the others when a router chooses them, and reads ahead what a predictor expects.
 * All sessions of a model share the store. A minimal use:
 *
 *     nst_expert_options options;
 *     nst_expert_options_default(&options);
 *     options.budget_bytes = 64 << 20;
 *     nst_model_configure_experts(model, &options, &err);
 *     ... sessions and decoders run as ever ...
 *     nst_expert_stats stats;
 *     nst_model_expert_stats(model, &stats, &err);
 *
 * After opening everything may be resident, and is once it was used. Nothing is mapped: bytes are
 * read from the opened file (or copied from the caller's memory) and their checksums compared, so a
 * file that is cut or overwritten is an error of the run that needs the bytes, NST_E_IO or
 * NST_E_HASH with the stage, the layer and the expert, and of no other.
 *
 * The reading is done by a thread of the store, and by runs that have nothing else to do: a model
 * that has experts owns a thread, whatever nst_model_options.threads says. While a run waits for an
 * expert, other runs on the model wait too: the stage that called it has its activations in memory
 * that all stages share, and is a method that cannot be entered a second time. Timeouts and answers
 * by on_miss bound that wait; it is also why experts are read by who waits, not by a pool of threads.
 *
 * Whether anything is read ahead is decided by measured times: where reading an expert takes less
 * than waking the thread and asking the predictor would, runs read what they miss themselves.
 */
#ifndef NESTLING_EXPERTS_H
#define NESTLING_EXPERTS_H

#include "core/expert_eviction.h" /* nst_expert_policy: which resident expert gives way */
#include "core/expert_index.h"    /* nst_expert_format, nst_expert_activation, flags */
#include "nestling.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is read before a router asks for it. */
typedef enum nst_expert_predictor {
    NST_PREDICT_NONE = 0,
    /* What followed most often on the chosen experts, by counts of this run of the process. */
    NST_PREDICT_SEQUENCE = 1,
    /* The router of a later layer, applied to this layer's input with the correction that was trained
     * for it (early alignment, M2R2, arXiv:2502.02040); layers without one predict nothing. */
    NST_PREDICT_ROUTER = 2
} nst_expert_predictor;

/* What a run does about a chosen expert that is not resident. */
typedef enum nst_expert_on_miss {
    NST_MISS_WAIT = 0, /* read it: results are those of all resident, to the bit */
    /* Nibbles: answer from the high halves where those are resident (waiting for them where not), and
     * read the low halves behind. */
    NST_MISS_LOW_BITS = 1,
    /* Take the resident expert that the router finds best among those not chosen, if its probability
     * is at least second_choice_ratio of the missing one's, and read the missing one behind; else
     * wait. */
    NST_MISS_SECOND_CHOICE = 2,
    NST_MISS_ELSEWHERE = 3 /* let `elsewhere` compute the rows, and read the expert behind */
} nst_expert_on_miss;

/* In which order the tokens of a run meet their experts. */
typedef enum nst_expert_order {
    NST_ORDER_AUTO = 0,  /* QUEUE where tokens x top_k is at least the number of experts */
    NST_ORDER_CACHE = 1, /* token by token, each token's resident experts first */
    /* Expert by expert, each with all its tokens while the next one is read: memory for two experts
     * is enough, however many there are (M3ViT, arXiv:2210.14793). */
    NST_ORDER_QUEUE = 2
} nst_expert_order;

/* Computes what one expert makes of `count` rows: rows and out are f32 [count][dim], out without the
 * router's weights. Called on the thread that runs; must not call the library. Anything but 0 ends
 * the run with NST_E_ENGINE. */
typedef int (*nst_expert_elsewhere)(void *user, uint32_t layer, uint32_t expert, const float *rows,
                                    uint32_t count, float *out);

/* Fill with nst_expert_options_default and change what you need. */
typedef struct nst_expert_options {
    uint64_t struct_bytes; /* sizeof(nst_expert_options), set by nst_expert_options_default */
    /* Memory for experts, in bytes; not part of nst_model_options.budget_bytes. It is used in slots of
     * nst_expert_view.slot_bytes, one for each slice of an expert. 0 (default): room for all. */
    uint64_t budget_bytes;
    /* Longest that a run waits for one expert, in microseconds; then NST_E_IO. 0 (default): any
     * time. */
    uint64_t timeout_us;
    /* A slower storage than there is, for measurements: reads take at least latency + size / speed,
     * one after the other. 0 (default): as fast as it is. nst_expert_stats says it again. */
    uint64_t storage_bytes_per_s;
    uint64_t storage_latency_us;
    uint32_t eviction;  /* an nst_expert_policy; NST_EXPERT_FORESIGHT by default */
    uint32_t predictor; /* an nst_expert_predictor; ROUTER by default */
    uint32_t on_miss;   /* an nst_expert_on_miss; WAIT by default */
    uint32_t order;     /* an nst_expert_order; AUTO by default */
    uint32_t bits;      /* of nibbles that are used: 8 (default) or 4; f32 layers ignore it */
    float second_choice_ratio;      /* 0..1, default 0.5; of NST_MISS_SECOND_CHOICE */
    nst_expert_elsewhere elsewhere; /* of NST_MISS_ELSEWHERE; null by default */
    void *elsewhere_user;
} nst_expert_options;

/* Set every field to its default. */
NST_API void nst_expert_options_default(nst_expert_options *out);

/* Begin anew with these options: nothing is resident, statistics are zero, predictors know nothing.
 * Waits for the stage that runs. Null `options`: the defaults. NST_E_STATE (the bundle has no
 * experts), NST_E_ARGUMENT (a field is out of its range), NST_E_BUDGET (less than one expert),
 * NST_E_NO_MEMORY. On error the old options stay, and what is resident. */
NST_API int nst_model_configure_experts(nst_model *model, const nst_expert_options *options,
                                        nst_error *err);

/* Read experts, layer by layer, until all are resident or the memory is full, and wait for it.
 * NST_E_STATE, NST_E_IO, NST_E_HASH. */
NST_API int nst_model_load_experts(nst_model *model, nst_error *err);

/* The experts of a bundle; all zero where it has none. */
typedef struct nst_expert_view {
    uint32_t layers;
    uint32_t experts;      /* of all layers */
    uint32_t slices;       /* of an expert: 2 where some layer has nibbles, else 1 */
    uint32_t slot_bytes;   /* memory that one slice takes */
    uint32_t most_experts; /* of the layer that has most */
    uint32_t reserved;     /* zero */
    uint64_t bytes;        /* of all slices in the file */
} nst_expert_view;

NST_API int nst_model_expert_view(nst_model *model, nst_expert_view *out, nst_error *err);

/* A layer of experts; its number is its place in the bundle. */
typedef struct nst_expert_layer_view {
    uint32_t dim;
    uint32_t hidden;
    uint32_t experts;
    uint32_t top_k;
    uint32_t format; /* an nst_expert_format */
    uint32_t group;  /* weights a scale; 0 for f32 */
    uint32_t activation;
    uint32_t flags;
    uint32_t predicted_layer; /* NST_NONE: it has no predictor */
    uint32_t reserved;        /* zero */
    uint64_t slice_bytes[2];  /* of an expert in the file; 0: no such slice */
} nst_expert_layer_view;

/* NST_E_NOT_FOUND: no such layer. */
NST_API int nst_model_expert_layer(nst_model *model, uint32_t layer, nst_expert_layer_view *out,
                                   nst_error *err);

/* Counted since the options were set or nst_model_reset_expert_stats. Look-ups, loads and what is
 * resident are counted in slices: an expert of nibbles has two. */
typedef struct nst_expert_stats {
    uint64_t calls;  /* of layers */
    uint64_t tokens; /* of all calls */
    uint64_t hits;   /* look-ups that found a slice */
    uint64_t late;   /* that found it being read */
    uint64_t misses; /* that did not find it */
    uint64_t evictions;
    uint64_t prefetched;    /* slices that were read before they were asked for, or behind */
    uint64_t prefetch_used; /* of these, asked for before they were evicted */
    uint64_t loads;         /* slices read */
    uint64_t loaded_bytes;
    uint64_t failed_loads; /* not there, cut, wrong checksum */
    uint64_t timeouts;
    uint64_t low_bits;       /* experts that answered at 4 bits, since the rest was missing */
    uint64_t second_choices; /* tokens x experts that another expert stood in for */
    uint64_t elsewhere;      /* experts that were computed elsewhere */
    uint64_t queue_calls;    /* calls in the order QUEUE */
    uint64_t wait_ns;        /* that runs have waited for experts */
    uint64_t compute_ns;     /* that experts were computed */
    uint64_t load_ns;        /* that the loader was busy */
    uint64_t budget_bytes;   /* as asked; 0: room for all */
    uint64_t slots;          /* that there are */
    uint64_t resident;       /* slots that hold something */
    uint64_t resident_bytes; /* memory of those */
    uint64_t peak_bytes;     /* most of resident_bytes so far */
    /* The emulated storage; 0: none, figures are those of the real one. */
    uint64_t storage_bytes_per_s;
    uint64_t storage_latency_us;
} nst_expert_stats;

NST_API int nst_model_expert_stats(nst_model *model, nst_expert_stats *out, nst_error *err);

/* Zero what is counted; what is resident stays. */
NST_API int nst_model_reset_expert_stats(nst_model *model, nst_error *err);

/* Keep what routers say from now on, at most `calls` of layers: enough to compare policies offline
 * (core/expert_replay.h). 0: stop, and forget. NST_E_STATE, NST_E_NO_MEMORY. */
NST_API int nst_model_record_experts(nst_model *model, uint32_t calls, nst_error *err);

/* A recorded call. */
typedef struct nst_expert_call {
    uint32_t request; /* calls of one run, or of one conversation, share it */
    uint32_t layer;
    uint32_t tokens;
    uint32_t chosen; /* how many experts its tokens went to */
} nst_expert_call;

/* How many calls are kept; *dropped (may be null) is how many came after the room was full. */
NST_API uint32_t nst_model_recorded_experts(nst_model *model, uint64_t *dropped);

/* Copy call `index`: the router's probabilities, mean over tokens, and the experts chosen, ascending.
 * `capacity`: room at both, in experts; at least nst_expert_view.most_experts, else NST_E_LIMIT.
 * NST_E_NOT_FOUND. */
NST_API int nst_model_recorded_expert(nst_model *model, uint32_t index, nst_expert_call *out,
                                      float *probabilities, uint32_t *chosen, uint32_t capacity,
                                      nst_error *err);

#ifdef __cplusplus
}
#endif
#endif
