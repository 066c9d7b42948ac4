/* A stand-in for libcuda.so.1 that a scenario in the environment drives (Linux, 64 bit).
 *
 * It has as much of the driver API as a probe asks for, and lets a real libcudart reach the outcome of cuInit that the
 * scenario names. It runs no kernels, and it keeps no state beyond cuInit.
 *
 *   FAKE_CUDA_VERSION  what cuDriverGetVersion answers (default 12080)
 *   FAKE_CUDA_INIT     cuInit: 0 (default), an error code, hang, segv, abort, sleepMS, exitCODE
 *   FAKE_CUDA_COUNT    number of devices (default 1)
 *   FAKE_CUDA_CC       compute capability (default 9.0), or a comma list, one a device
 *   FAKE_CUDA_NAME     name of the devices
 *   FAKE_CUDA_MEM_MIB  memory of each (default 81920)
 *   FAKE_CUDA_CONTEXT  answer of whatever would create a context or allocate (default 2, out of memory)
 *   FAKE_CUDA_LOG      file to which the name of each called function is appended
 *
 * CUDA_VISIBLE_DEVICES is honoured for lists of plain numbers; an empty one and -1 hide all.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define MOST 64

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    NOT_SUPPORTED = 801,
};

static int started;
static int visible[MOST], count;

static const char *setting(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

static int number(const char *name, const char *otherwise) { return atoi(setting(name, otherwise)); }

static void note(const char *function) {
    const char *path = getenv("FAKE_CUDA_LOG");
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    if (file < 0) return;
    char line[96];
    int length = snprintf(line, sizeof line, "%s\n", function);
    if (write(file, line, length) != length) abort(); /* a log with holes would prove nothing */
    close(file);
}

#define ENTER                          \
    do {                               \
        note(__func__);                \
        if (!started) return NOT_INITIALIZED; \
    } while (0)

static void find_visible(void) {
    int all = number("FAKE_CUDA_COUNT", "1");
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    count = 0;
    if (!list) {
        for (; count < all && count < MOST; count++) visible[count] = count;
        return;
    }
    while (*list && count < MOST) {
        char *end;
        long index = strtol(list, &end, 10);
        if (end == list || index < 0 || index >= all) return; /* as the real one: what follows is ignored */
        visible[count++] = (int)index;
        list = end + (*end == ',');
    }
}

API int cuInit(unsigned flags) {
    (void)flags;
    note(__func__);
    const char *how = setting("FAKE_CUDA_INIT", "0");
    if (!strcmp(how, "hang")) for (;;) pause();
    if (!strcmp(how, "segv")) raise(SIGSEGV);
    if (!strcmp(how, "abort")) abort();
    if (!strncmp(how, "exit", 4)) _exit(atoi(how + 4));
    if (!strncmp(how, "sleep", 5)) usleep(atoi(how + 5) * 1000);
    else if (atoi(how)) return atoi(how);
    find_visible();
    if (!count) return NO_DEVICE;
    started = 1;
    return SUCCESS;
}

API int cuDriverGetVersion(int *version) {
    note(__func__);
    if (!version) return INVALID_VALUE;
    *version = number("FAKE_CUDA_VERSION", "12080");
    return SUCCESS;
}

API int cuDeviceGetCount(int *answer) {
    ENTER;
    *answer = count;
    return SUCCESS;
}

API int cuDeviceGet(int *device, int index) {
    ENTER;
    if (index < 0 || index >= count) return INVALID_DEVICE;
    *device = index;
    return SUCCESS;
}

static void capability(int device, int *major, int *minor) {
    const char *list = setting("FAKE_CUDA_CC", "9.0");
    for (int left = visible[device]; left > 0 && strchr(list, ','); left--) list = strchr(list, ',') + 1;
    *major = 9;
    *minor = 0;
    sscanf(list, "%d.%d", major, minor);
}

API int cuDeviceGetName(char *name, int size, int device) {
    (void)device;
    ENTER;
    snprintf(name, size, "%s", setting("FAKE_CUDA_NAME", "Fake H100"));
    return SUCCESS;
}

API int cuDeviceComputeCapability(int *major, int *minor, int device) {
    ENTER;
    capability(device, major, minor);
    return SUCCESS;
}

API int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    (void)device;
    ENTER;
    *bytes = (size_t)number("FAKE_CUDA_MEM_MIB", "81920") << 20;
    return SUCCESS;
}

API int cuDeviceGetUuid_v2(char uuid[16], int device) {
    ENTER;
    memset(uuid, 0, 16);
    uuid[15] = (char)visible[device];
    return SUCCESS;
}

API int cuDeviceGetUuid(char uuid[16], int device) { return cuDeviceGetUuid_v2(uuid, device); }

API int cuDeviceGetPCIBusId(char *id, int size, int device) {
    ENTER;
    snprintf(id, size, "0000:%02x:00.0", 0x10 + 0x10 * visible[device]);
    return SUCCESS;
}

API int cuDeviceGetAttribute(int *answer, int attribute, int device) {
    ENTER;
    int major, minor;
    capability(device, &major, &minor);
    switch (attribute) {
        case 1: *answer = 1024; break; /* threads of a block */
        case 10: *answer = 32; break;  /* warp */
        case 16: *answer = 132; break; /* multiprocessors */
        case 75: *answer = major; break;
        case 76: *answer = minor; break;
        default: *answer = 0;
    }
    return SUCCESS;
}

API int cuDeviceCanAccessPeer(int *answer, int one, int other) {
    ENTER;
    *answer = one != other;
    return SUCCESS;
}

API int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    (void)device;
    ENTER;
    if (flags) *flags = 0;
    if (active) *active = 0;
    return SUCCESS;
}

API int cuCtxGetCurrent(void **context) {
    ENTER;
    *context = 0;
    return SUCCESS;
}

/* What creates a context or allocates: a probe that calls one of these shows it in the log. */
API int cuDevicePrimaryCtxRetain(void **context, int device) {
    (void)context;
    (void)device;
    ENTER;
    return number("FAKE_CUDA_CONTEXT", "2");
}

API int cuCtxCreate_v2(void **context, unsigned flags, int device) {
    (void)flags;
    note(__func__);
    return cuDevicePrimaryCtxRetain(context, device);
}

API int cuMemAlloc_v2(unsigned long long *pointer, size_t bytes) {
    (void)pointer;
    (void)bytes;
    ENTER;
    return number("FAKE_CUDA_CONTEXT", "2");
}

static const struct {
    int code;
    const char *name, *text;
} ERRORS[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {34, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"},
    {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {304, "CUDA_ERROR_OPERATING_SYSTEM", "OS call failed or operation not supported on this OS"},
    {802, "CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
    {804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", "forward compatibility was attempted on non supported HW"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static int describe(int code, const char **answer, size_t field) {
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) {
            *answer = *(const char *const *)((const char *)&ERRORS[i] + field);
            return SUCCESS;
        }
    *answer = 0;
    return INVALID_VALUE;
}

API int cuGetErrorName(int code, const char **name) { return describe(code, name, offsetof(__typeof__(*ERRORS), name)); }
API int cuGetErrorString(int code, const char **text) { return describe(code, text, offsetof(__typeof__(*ERRORS), text)); }

/* A real libcudart asks for the driver's functions through these; what is lacking here answers "not supported". */
static int lacking(void) {
    note("(lacking)");
    return NOT_SUPPORTED;
}

API int cuGetProcAddress_v2(const char *symbol, void **function, int version, unsigned long long flags, int *status) {
    (void)version;
    (void)flags;
    static const char *const suffixes[] = {"_v2", ""};
    void *self = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    *function = 0;
    for (int i = 0; i < 2 && self && !*function; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s%s", symbol, suffixes[i]);
        *function = dlsym(self, name);
    }
    if (!strcmp(symbol, "cuGetProcAddress")) *function = (void *)cuGetProcAddress_v2;
    if (!*function) *function = (void *)lacking;
    if (status) *status = 0;
    return SUCCESS;
}

API int cuGetProcAddress(const char *symbol, void **function, int version, unsigned long long flags) {
    return cuGetProcAddress_v2(symbol, function, version, flags, 0);
}

/* The private tables are not imitated: they prove the driver's identity. A real libcudart therefore ends with an error
 * after a cuInit that succeeds; every other outcome of cuInit comes through. */
API int cuGetExportTable(const void **table, const void *id) {
    (void)id;
    note(__func__);
    *table = 0;
    return NOT_SUPPORTED;
}
