/* libQnnHtp.so for ExecuTorch's backend, on the host's build of the real library.
 *
 * The backend says which SoC a device is in a record that has grown since: a pointer among the
 * alternatives of its value has moved the value to the next eight bytes. The library would read the
 * SoC's number as 0 and refuse. This one stands before it and respells the record; all other
 * functions are the real ones.
 *
 * NESTLING_QNN_HTP is the path of the real library. Layouts are those of the QNN API, version 2.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_PROVIDERS = 4,
    MAX_CONFIGS = 16,
    FUNCTIONS = 70,     /* of the interface, as many as any caller knows */
    DEVICE_CREATE = 40, /* number of the one that is replaced */
    CONFIG_CUSTOM = 0,  /* a record whose meaning the processor's library defines ... */
    CUSTOM_SOC = 0,     /* ... as the number of a SoC */
};

enum { STATUS_OK = 0, STATUS_FAILED = 1 };

typedef void (*function)(void);
typedef uint64_t status;

/* As the backend writes it. */
typedef struct soc_config {
    uint32_t option;
    uint32_t soc;
} soc_config;

/* As the library reads it. */
typedef struct wide_soc_config {
    uint32_t option;
    _Alignas(void *) uint32_t soc;
} wide_soc_config;

typedef struct device_config {
    uint32_t option;
    const void *custom;
} device_config;

typedef struct interface {
    uint32_t backend;
    const char *provider;
    uint32_t version[6];
    function functions[FUNCTIONS];
} interface;

typedef status (*get_providers)(const interface ***providers, uint32_t *count);
typedef status (*device_create)(void *log, const device_config **configs, void **device);

static device_create real_device_create;
static interface patched[MAX_PROVIDERS];
static const interface *listed[MAX_PROVIDERS];

static status create_device(void *log, const device_config **configs, void **device) {
    wide_soc_config wide[MAX_CONFIGS];
    device_config respelled[MAX_CONFIGS];
    const device_config *passed[MAX_CONFIGS + 1];
    size_t count = 0;
    for (; configs != NULL && configs[count] != NULL; count++) {
        if (count == MAX_CONFIGS) {
            return STATUS_FAILED;
        }
        const soc_config *soc = configs[count]->custom;
        passed[count] = configs[count];
        if (configs[count]->option == CONFIG_CUSTOM && soc->option == CUSTOM_SOC) {
            wide[count] = (wide_soc_config){.option = CUSTOM_SOC, .soc = soc->soc};
            respelled[count] = (device_config){.option = CONFIG_CUSTOM, .custom = &wide[count]};
            passed[count] = &respelled[count];
        }
    }
    passed[count] = NULL;
    return real_device_create(log, count > 0 ? passed : NULL, device);
}

status QnnInterface_getProviders(const interface ***providers, uint32_t *count);

status QnnInterface_getProviders(const interface ***providers, uint32_t *count) {
    const char *path = getenv("NESTLING_QNN_HTP");
    void *library = path == NULL ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        (void)fprintf(stderr, "cannot load the HTP library: %s\n",
                      path == NULL ? "NESTLING_QNN_HTP is not set" : dlerror());
        return STATUS_FAILED;
    }
    get_providers real;
    *(void **)&real = dlsym(library, "QnnInterface_getProviders");
    const interface **found = NULL;
    uint32_t total = 0;
    if (real == NULL || real(&found, &total) != STATUS_OK || total > MAX_PROVIDERS) {
        return STATUS_FAILED;
    }
    for (uint32_t i = 0; i < total; i++) {
        memcpy(&patched[i], found[i], sizeof patched[i]);
        real_device_create = (device_create)patched[i].functions[DEVICE_CREATE];
        patched[i].functions[DEVICE_CREATE] = (function)create_device;
        listed[i] = &patched[i];
    }
    *providers = listed;
    *count = total;
    return STATUS_OK;
}
