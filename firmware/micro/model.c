#include "micro/model.h"

#include "core/sentence.h"
#include "core/text.h"

/* Room in the state memory, handed out front to back. */
typedef struct nst_room {
    uint8_t *at;
    uint64_t left;
} nst_room;

static uint64_t round_up(uint64_t bytes) {
    return (bytes + 7) & ~UINT64_C(7);
}

static void *take(nst_room *room, uint64_t bytes) {
    bytes = round_up(bytes);
    if (bytes > room->left) {
        return NULL; /* cannot be: what is needed was counted before */
    }
    void *start = room->at;
    room->at += bytes;
    room->left -= bytes;
    return start;
}

static int fail_stage(nst_error *err, int code, nst_text stage, uint64_t expected, uint64_t actual,
                      const char *message) {
    nst_fail(err, code, NULL, NULL, expected, actual, message);
    nst_error_stage(err, stage);
    return code;
}

static int changed(nst_error *err) {
    return nst_fail_in(err, NST_E_CORRUPT, NULL,
                       NST_TEXT("the bundle changed while it was being opened"));
}

/* The stages that a path runs: the one that computes all of it where there is one. */
static uint32_t path_steps(const nst_path_info *info) {
    return info->fused == NST_NONE ? info->chain.count : 1;
}

/* Inputs and outputs of all stages that a path runs. */
static uint64_t path_slots(const nst_bundle *bundle, const nst_path_info *path) {
    nst_list chain = path->chain;
    uint64_t total = 0;
    for (uint32_t i = 0; i < path_steps(path); i++) {
        uint32_t stage = path->fused;
        nst_stage_info info;
        if ((stage == NST_NONE && nst_list_next_index(&chain, &stage) != NST_OK) ||
            nst_bundle_stage(bundle, stage, &info) != NST_OK) {
            return total;
        }
        total += info.inputs.count + (uint64_t)info.outputs.count;
    }
    return total;
}

/* The most slots of stages that a legal list can name: one stage a position at most. */
static uint64_t most_slots(const nst_bundle *bundle) {
    uint64_t most = 0;
    nst_stage_info info;
    for (uint32_t i = 0; i < bundle->count[NST_STAGES]; i++) {
        if (nst_bundle_stage(bundle, i, &info) == NST_OK) {
            const uint64_t slots = info.inputs.count + (uint64_t)info.outputs.count;
            most = slots > most ? slots : most;
        }
    }
    return most * bundle->count[NST_POSITIONS];
}

uint64_t nst_micro_model_bytes(const nst_bundle *bundle, uint64_t index_bytes) {
    uint64_t bytes = round_up(sizeof(nst_micro_model)) + round_up(index_bytes);
    bytes += round_up(bundle->count[NST_SLOTS] * sizeof(nst_micro_slot));
    bytes += round_up(bundle->count[NST_STAGES] * sizeof(nst_micro_stage));
    bytes += round_up(bundle->count[NST_PATHS] * sizeof(nst_micro_path));
    bytes += round_up(bundle->count[NST_POSITIONS] * sizeof(nst_micro_step));
    bytes += round_up(bundle->count[NST_POSITIONS] * sizeof(uint32_t));
    bytes += round_up(most_slots(bundle) * sizeof(void *));
    nst_stage_info stage;
    for (uint32_t i = 0; i < bundle->count[NST_STAGES]; i++) {
        if (nst_bundle_stage(bundle, i, &stage) == NST_OK) {
            bytes += round_up(stage.bindings.count * sizeof(void *));
            bytes += round_up((stage.inputs.count + (uint64_t)stage.outputs.count) * 4);
        }
    }
    nst_path_info path;
    for (uint32_t i = 0; i < bundle->count[NST_PATHS]; i++) {
        if (nst_bundle_path(bundle, i, &path) == NST_OK) {
            bytes += round_up(path_steps(&path) * sizeof(nst_micro_step));
            bytes += round_up(path_slots(bundle, &path) * sizeof(void *));
        }
    }
    return bytes;
}

static int check_target(const nst_bundle *bundle, const nst_micro_config *config, nst_error *err) {
    const nst_text target = bundle->info.target;
    for (uint32_t i = 0; i < config->target_count; i++) {
        const char *name = config->targets[i];
        size_t length = 0;
        while (name[length] != '\0') {
            length++;
        }
        if (nst_text_compare(target, (nst_text){name, length}) == 0) {
            return NST_OK;
        }
    }
    nst_fail_in(err, NST_E_TARGET, "manifest", NULL);
    if (err != NULL) {
        nst_writer writer;
        nst_writer_start(&writer, err->message, sizeof err->message);
        nst_write(&writer, NST_TEXT("the bundle was made for "));
        nst_write_text(&writer, target);
        nst_write(&writer, NST_TEXT(", and this device runs "));
        nst_write(&writer, config->target_count > 0 ? config->targets[0] : "nothing");
    }
    return NST_E_TARGET;
}

static int read_slots(nst_micro_model *model, nst_error *err) {
    const nst_bundle *bundle = &model->bundle;
    if (bundle->count[NST_SLOTS] > NST_MICRO_MAX_SLOTS) {
        return nst_fail(err, NST_E_LIMIT, "slots", NULL, NST_MICRO_MAX_SLOTS,
                        bundle->count[NST_SLOTS],
                        NST_TEXT("the bundle has more slots than this engine"));
    }
    for (uint32_t i = 0; i < bundle->count[NST_SLOTS]; i++) {
        nst_slot_info info;
        if (nst_bundle_slot(bundle, i, &info) != NST_OK) {
            return changed(err);
        }
        if (info.bytes > UINT32_MAX / 16) {
            return nst_fail(err, NST_E_LIMIT, "slots", NULL, UINT32_MAX / 16, info.bytes,
                            NST_TEXT("a slot is larger than this engine can hold"));
        }
        const bool kept = info.role == NST_INPUT || info.role == NST_STATE;
        model->slots[i] = (nst_micro_slot){
            .bytes = (uint32_t)info.bytes,
            .role = (uint8_t)info.role,
            .first = kept ? 0 : UINT32_MAX,
            .last = kept || info.role == NST_OUTPUT ? UINT32_MAX : 0,
        };
    }
    return NST_OK;
}

/* Take a list of slots of a stage: remember them, check their sizes, widen the time for which they are alive. */
static int read_stage_slots(nst_micro_model *model, const nst_stage_info *info, nst_list list,
                            bool written, const uint32_t *bytes, uint32_t *out, nst_error *err) {
    for (uint32_t i = 0; list.count > 0; i++) {
        uint32_t number;
        if (nst_list_next_index(&list, &number) != NST_OK) {
            return changed(err);
        }
        nst_micro_slot *slot = &model->slots[number];
        if (slot->bytes != bytes[i]) {
            return fail_stage(
                err, NST_E_CORRUPT, info->name, slot->bytes, bytes[i],
                NST_TEXT("an input or output of the plan has another size than its slot"));
        }
        if (written && slot->is_read && slot->role != NST_INTERNAL) {
            return fail_stage(err, NST_E_ENGINE, info->name, 0, number,
                              NST_TEXT("the stage reads and writes one output or state slot"));
        }
        if (written) {
            slot->first = info->first < slot->first ? info->first : slot->first;
            slot->two = slot->two || slot->is_read;
        } else {
            slot->last = info->last > slot->last ? info->last : slot->last;
            slot->is_read = true;
        }
        out[i] = number;
    }
    return NST_OK;
}

static int bind_constants(const nst_bundle *bundle, const nst_stage_info *info,
                          nst_micro_stage *stage, nst_error *err) {
    nst_list bindings = info->bindings;
    for (uint32_t i = 0; i < stage->plan.constant_count; i++) {
        nst_text symbol;
        uint32_t number;
        nst_constant_info constant;
        if (nst_list_next_binding(bundle, &bindings, &symbol, &number) != NST_OK ||
            nst_bundle_constant(bundle, number, &constant) != NST_OK) {
            return changed(err);
        }
        if (constant.size != stage->plan.constant_bytes[i]) {
            return fail_stage(err, NST_E_CORRUPT, info->name, stage->plan.constant_bytes[i],
                              constant.size,
                              NST_TEXT("a constant has another size than the plan says"));
        }
        stage->constants[i] = constant.data;
        stage->weight_bytes += constant.size;
    }
    return NST_OK;
}

static int read_stage(nst_micro_model *model, uint32_t index, const nst_micro_config *config,
                      nst_room *room, nst_error *err) {
    const nst_bundle *bundle = &model->bundle;
    nst_micro_stage *stage = &model->stages[index];
    nst_stage_info info;
    nst_program_info program;
    if (nst_bundle_stage(bundle, index, &info) != NST_OK ||
        nst_bundle_program(bundle, info.program, &program) != NST_OK) {
        return changed(err);
    }
    if (program.target.bytes != 0) {
        return fail_stage(
            err, NST_E_TARGET, info.name, 0, 0,
            NST_TEXT("the stage is for another target; split the bundle for this device"));
    }
    if (program.unpacked_bytes != 0) {
        return fail_stage(err, NST_E_ENGINE, info.name, 0, 0,
                          NST_TEXT("the stage's plan is compressed"));
    }
    *stage = (nst_micro_stage){.calls = 0};
    nst_plan *plan = &stage->plan;
    int code = nst_plan_open(plan, program.data, (size_t)program.size, config->isa, err);
    if (code != NST_OK) {
        nst_error_stage(err, info.name);
        return code;
    }
    if (info.inputs.count != plan->input_count || info.outputs.count != plan->output_count) {
        return fail_stage(
            err, NST_E_CORRUPT, info.name, info.inputs.count + info.outputs.count,
            (uint64_t)plan->input_count + plan->output_count,
            NST_TEXT("the plan has another number of inputs or outputs than its stage"));
    }
    if (info.bindings.count != plan->constant_count) {
        return fail_stage(
            err, NST_E_CORRUPT, info.name, plan->constant_count, info.bindings.count,
            NST_TEXT("the stage binds another number of constants than its plan has"));
    }
    stage->constants = take(room, plan->constant_count * sizeof(void *));
    stage->slots = take(room, ((uint64_t)plan->input_count + plan->output_count) * 4);
    if (stage->constants == NULL || stage->slots == NULL) {
        return changed(err);
    }
    for (uint32_t i = 0; i < bundle->count[NST_SLOTS]; i++) {
        model->slots[i].is_read = false;
    }
    code = read_stage_slots(model, &info, info.inputs, false, plan->input_bytes, stage->slots, err);
    if (code == NST_OK) {
        code = read_stage_slots(model, &info, info.outputs, true, plan->output_bytes,
                                stage->slots + plan->input_count, err);
    }
    return code == NST_OK ? bind_constants(bundle, &info, stage, err) : code;
}

void nst_micro_path_lay_out(const nst_micro_model *model, uint8_t *arena, const uint32_t *stages,
                            uint32_t count, nst_micro_path *path, void **slots) {
    for (uint32_t i = 0; i < model->bundle.count[NST_SLOTS]; i++) {
        model->slots[i].which = 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        nst_micro_stage *stage = &model->stages[stages[i]];
        const uint32_t inputs = stage->plan.input_count;
        const uint32_t all = inputs + stage->plan.output_count;
        for (uint32_t k = 0; k < all; k++) {
            nst_micro_slot *slot = &model->slots[stage->slots[k]];
            slot->is_read = false;
        }
        for (uint32_t k = 0; k < inputs; k++) {
            nst_micro_slot *slot = &model->slots[stage->slots[k]];
            slot->is_read = true;
            slots[k] = arena + slot->offset[slot->which];
        }
        for (uint32_t k = inputs; k < all; k++) {
            nst_micro_slot *slot = &model->slots[stage->slots[k]];
            slot->which ^= slot->is_read ? 1 : 0;
            slots[k] = arena + slot->offset[slot->which];
        }
        path->steps[i] = (nst_micro_step){stage, slots};
        slots += all;
    }
    path->count = count;
}

/* A named path, laid out; its stages pass through a piece of `custom`'s memory. */
static int read_path(nst_micro_model *model, uint32_t index, uint8_t *arena, nst_room *room,
                     nst_error *err) {
    const nst_bundle *bundle = &model->bundle;
    nst_micro_path *path = &model->paths[index];
    nst_path_info info;
    if (nst_bundle_path(bundle, index, &info) != NST_OK) {
        return changed(err);
    }
    const uint32_t count = path_steps(&info);
    const bool fused = info.fused != NST_NONE;
    path->steps = take(room, count * sizeof(nst_micro_step));
    void **slots = take(room, path_slots(bundle, &info) * sizeof(void *));
    uint32_t *stages = model->custom_stages;
    if (path->steps == NULL || slots == NULL || count > bundle->count[NST_POSITIONS]) {
        return changed(err);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (fused) {
            stages[i] = info.fused;
        } else if (nst_list_next_index(&info.chain, &stages[i]) != NST_OK) {
            return changed(err);
        }
    }
    nst_micro_path_lay_out(model, arena, stages, count, path, slots);
    return NST_OK;
}

/* Bytes of all constants; those that name the same bytes stand one after another. */
static int count_weights(nst_micro_model *model, nst_error *err) {
    const nst_bundle *bundle = &model->bundle;
    const uint8_t *last = NULL;
    for (uint32_t i = 0; i < bundle->count[NST_CONSTANTS]; i++) {
        nst_constant_info constant;
        if (nst_bundle_constant(bundle, i, &constant) != NST_OK) {
            return changed(err);
        }
        model->weight_bytes += constant.data == last ? 0 : constant.size;
        last = constant.data;
    }
    return NST_OK;
}

static int check_arena(const nst_micro_model *model, uint64_t arena_bytes, uint32_t neediest,
                       nst_error *err) {
    if (model->arena_bytes <= arena_bytes) {
        return NST_OK;
    }
    nst_stage_info info = {.name = {NULL, 0}};
    (void)nst_bundle_stage(&model->bundle, neediest, &info);
    return fail_stage(err, NST_E_BUDGET, info.name, model->arena_bytes, arena_bytes,
                      NST_TEXT("the arena for activations is larger than this device's"));
}

static int check_bundle(const nst_bundle *bundle, const nst_micro_config *config, nst_error *err) {
    int code = check_target(bundle, config, err);
    if (code == NST_OK && config->verify != NULL) {
        code = config->verify(config->context, bundle, err);
    }
    for (uint32_t i = 0; code == NST_OK && i < bundle->count[NST_SECTIONS]; i++) {
        code = nst_bundle_check_section(bundle, i, config->hash, err);
    }
    return code;
}

int nst_micro_model_build(nst_micro_model **out, const nst_micro_config *config,
                          const uint8_t *data, size_t size, uint8_t *memory, size_t memory_bytes,
                          nst_error *err) {
    nst_prefix prefix;
    nst_room room = {memory, memory_bytes};
    int code = nst_bundle_prefix(data, size, &prefix, err);
    if (code != NST_OK) {
        return code;
    }
    const size_t index_bytes = nst_bundle_index_bytes(&prefix);
    nst_micro_model *model = take(&room, sizeof *model);
    void *index = take(&room, index_bytes);
    if (model == NULL || index == NULL) {
        return nst_fail(
            err, NST_E_LIMIT, "manifest", NULL, round_up(sizeof *model) + round_up(index_bytes),
            memory_bytes,
            NST_TEXT("the bundle's manifest is too large for this device's state memory"));
    }
    *model = (nst_micro_model){.selected = NULL};
    nst_bundle *bundle = &model->bundle;
    code = nst_bundle_open(bundle, data, size, index, index_bytes, config->hash, err);
    if (code == NST_OK) {
        code = check_bundle(bundle, config, err);
    }
    if (code != NST_OK) {
        return code;
    }
    const uint64_t need = nst_micro_model_bytes(bundle, index_bytes);
    if (need > memory_bytes) {
        return nst_fail(
            err, NST_E_LIMIT, "manifest", NULL, need, memory_bytes,
            NST_TEXT("the bundle's tables are too large for this device's state memory"));
    }
    const uint64_t positions = bundle->count[NST_POSITIONS];
    model->slots = take(&room, bundle->count[NST_SLOTS] * sizeof(nst_micro_slot));
    model->stages = take(&room, bundle->count[NST_STAGES] * sizeof(nst_micro_stage));
    model->paths = take(&room, bundle->count[NST_PATHS] * sizeof(nst_micro_path));
    model->custom.steps = take(&room, positions * sizeof(nst_micro_step));
    model->custom_stages = take(&room, positions * sizeof(uint32_t));
    model->custom_slots = take(&room, most_slots(bundle) * sizeof(void *));
    if (model->slots == NULL || model->stages == NULL || model->paths == NULL ||
        model->custom.steps == NULL || model->custom_stages == NULL ||
        model->custom_slots == NULL) {
        return changed(err);
    }
    code = read_slots(model, err);
    for (uint32_t i = 0; code == NST_OK && i < bundle->count[NST_STAGES]; i++) {
        code = read_stage(model, i, config, &room, err);
    }
    if (code != NST_OK) {
        return code;
    }
    uint32_t neediest;
    nst_micro_place(model, &neediest);
    code = check_arena(model, config->arena_bytes, neediest, err);
    for (uint32_t i = 0; code == NST_OK && i < bundle->count[NST_PATHS]; i++) {
        code = read_path(model, i, config->arena, &room, err);
    }
    if (code == NST_OK) {
        code = count_weights(model, err);
    }
    if (code == NST_OK) {
        *out = model;
    }
    return code;
}
