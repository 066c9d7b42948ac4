/* What the parts of the fake NVML share; scenario.c says how a scenario is written. */
#ifndef FAKE_NVML_H
#define FAKE_NVML_H
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))
#define MOST_GPUS 64
#define MOST_MIGS 8

typedef unsigned int u32;
typedef unsigned long long u64;
typedef int status_t;

enum {
    OK = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    TOO_SMALL = 7,
    WRONG_VERSION = 25,
};

typedef struct {
    int gpu, mig; /* mig is -1 for a whole GPU */
} device_t;

typedef struct {
    char busIdLegacy[16];
    u32 domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} pci_t;

extern device_t gpus[MOST_GPUS], migs[MOST_GPUS][MOST_MIGS];
extern int references;

/* the scenario */
const char *setting(const char *key, const char *otherwise);
const char *value(const device_t *d, const char *key);
const char *own_value(const device_t *d, const char *key); /* a MIG slice's own, not its GPU's */
int number(const device_t *d, const char *key, int position, u64 *out);
u64 number_or(const device_t *d, const char *key, int position, u64 otherwise);
int is_listed(const char *list, u32 wanted);
int count(void);
int mig_count(int gpu);

/* calls: logged, and failed where the scenario says so */
status_t enter(const char *function, int gpu);
int valid(const device_t *d);
status_t copy(char *to, u32 size, const char *text);
status_t pci(device_t *d, pci_t *out);
status_t pci_at(const char *bus_id, pci_t *out);
void bus_of(const device_t *d, u32 *domain, u32 *bus, u32 *device);

#define ENTER0()                                \
    do {                                        \
        status_t status_ = enter(__func__, -1); \
        if (status_) return status_;            \
        if (!references) return UNINITIALIZED;  \
    } while (0)
#define ENTER(d)                                      \
    do {                                              \
        if (!valid(d)) return INVALID_ARGUMENT;       \
        status_t status_ = enter(__func__, (d)->gpu); \
        if (status_) return status_;                  \
        if (!references) return UNINITIALIZED;        \
    } while (0)

/* getters of one number, and of two */
#define N1(function, type, key, position)                            \
    API status_t function(device_t *d, type *out) {                  \
        ENTER(d);                                                    \
        u64 found;                                                   \
        if (!number(d, key, position, &found)) return NOT_SUPPORTED; \
        *out = (type)found;                                          \
        return OK;                                                   \
    }
#define N2(function, type, key)                                  \
    API status_t function(device_t *d, type *one, type *other) { \
        ENTER(d);                                                \
        u64 found;                                               \
        if (!number(d, key, 0, &found)) return NOT_SUPPORTED;    \
        *one = (type)found;                                      \
        *other = (type)number_or(d, key, 1, found);              \
        return OK;                                               \
    }
#endif
