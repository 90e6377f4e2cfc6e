#include "micro/operators.h"

#define NST_DECLARE(number, name) \
    extern const nst_operator nst_operator_##name __attribute__((weak));
NST_OPERATORS(NST_DECLARE)

#define NST_ENTRY(number, name) [number] = &nst_operator_##name,
static const nst_operator *const table[NST_OPERATOR_COUNT] = {NST_OPERATORS(NST_ENTRY)};

const nst_operator *nst_find_operator(uint32_t number) {
    return number < NST_OPERATOR_COUNT ? table[number] : 0;
}
