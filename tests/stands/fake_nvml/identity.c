/* Starting, the system, and finding and naming devices. */
#include "fake_nvml.h"

API status_t nvmlInit_v2(void) {
    status_t r = enter(__func__, -1);
    if (!r) references++;
    return r;
}

API status_t nvmlInit(void) {
    status_t r = enter(__func__, -1);
    if (!r) references++;
    return r;
}

API status_t nvmlInitWithFlags(u32 f) {
    (void)f;
    status_t r = enter("nvmlInitWithFlags", -1);
    if (!r) r = enter("nvmlInit_v2", -1);
    if (!r) references++;
    return r;
}

API status_t nvmlShutdown(void) {
    ENTER0();
    references--;
    return OK;
}

static const char *WORDS[] = {"Success",
                              "Uninitialized",
                              "Invalid Argument",
                              "Not Supported",
                              "Insufficient Permissions",
                              "Already Initialized",
                              "Not Found",
                              "Insufficient Size",
                              "Insufficient External Power",
                              "Driver Not Loaded",
                              "Timeout",
                              "Interrupt Request Issue",
                              "NVML Shared Library Not Found",
                              "Function Not Found",
                              "Corrupted infoROM",
                              "GPU is lost",
                              "GPU requires reset",
                              "The operating system has blocked the request.",
                              "RM has detected an NVML/RM version mismatch.",
                              "In use by another client",
                              "Insufficient Memory",
                              "No data",
                              "Requested vgpu operation is not available on target device, because ECC is enabled.",
                              "Insufficient Resources",
                              "Freq Not Supported",
                              "Argument Version Mismatch",
                              "Deprecated",
                              "Not Ready",
                              "No GPUs were found",
                              "Invalid State"};

API const char *nvmlErrorString(status_t r) {
    return r >= 0 && r < (int)(sizeof WORDS / sizeof *WORDS) ? WORDS[r] : "Unknown Error";
}

API status_t nvmlSystemGetDriverVersion(char *b, u32 n) {
    ENTER0();
    return copy(b, n, setting("driver_version", "535.261.03"));
}

API status_t nvmlSystemGetNVMLVersion(char *b, u32 n) {
    ENTER0();
    return copy(b, n, setting("nvml_version", "12.535.261.03"));
}

static status_t cuda_level(int *v) {
    int a = 0, b = 0;
    if (sscanf(setting("cuda_version", "12.2"), "%d.%d", &a, &b) < 1) return NOT_SUPPORTED;
    *v = a * 1000 + b * 10;
    return OK;
}

API status_t nvmlSystemGetCudaDriverVersion(int *v) {
    ENTER0();
    return cuda_level(v);
}

API status_t nvmlSystemGetCudaDriverVersion_v2(int *v) {
    ENTER0();
    return cuda_level(v);
}

API status_t nvmlSystemGetProcessName(u32 pid, char *b, u32 n) {
    ENTER0();
    char p[64], t[256];
    snprintf(p, sizeof p, "/proc/%u/comm", pid);
    FILE *f = fopen(p, "re");
    if (!f) return NOT_FOUND;
    char *ok = fgets(t, sizeof t, f);
    fclose(f);
    if (!ok) return NOT_FOUND;
    t[strcspn(t, "\n")] = 0;
    return copy(b, n, t);
}

API status_t nvmlDeviceGetCount_v2(u32 *n) {
    ENTER0();
    *n = count();
    return OK;
}

API status_t nvmlDeviceGetCount(u32 *n) {
    ENTER0();
    *n = count();
    return OK;
}

static status_t by_index(u32 i, device_t **d) {
    if (i >= (u32)count()) return INVALID_ARGUMENT;
    *d = &gpus[i];
    return OK;
}

API status_t nvmlDeviceGetHandleByIndex_v2(u32 i, device_t **d) {
    status_t r = enter(__func__, i);
    if (r) return r;
    if (!references) return UNINITIALIZED;
    return by_index(i, d);
}

API status_t nvmlDeviceGetHandleByIndex(u32 i, device_t **d) {
    status_t r = enter(__func__, i);
    if (r) return r;
    if (!references) return UNINITIALIZED;
    return by_index(i, d);
}

static const char *uuid(const device_t *d) {
    static __thread char b[96];
    const char *v = value(d, "uuid");
    if (v && (d->mig < 0 || own_value(d, "uuid"))) return v;
    if (d->mig < 0)
        snprintf(b, sizeof b, "GPU-fa4e0000-0000-4000-8000-%012x", d->gpu);
    else
        snprintf(b, sizeof b, "MIG-fa4e0000-0000-4000-8000-%06x%06x", d->gpu, d->mig);
    return b;
}

int mig_count(int g) {
    return (int)number_or(&gpus[g], "mig_devices", 0, 0);
}

API status_t nvmlDeviceGetHandleByUUID(const char *u, device_t **d) {
    ENTER0();
    for (int i = 0; i < count(); i++) {
        if (!strcmp(u, uuid(&gpus[i]))) {
            *d = &gpus[i];
            return OK;
        }
        for (int j = 0; j < mig_count(i); j++)
            if (!strcmp(u, uuid(&migs[i][j]))) {
                *d = &migs[i][j];
                return OK;
            }
    }
    return NOT_FOUND;
}

API status_t nvmlDeviceGetIndex(device_t *d, u32 *i) {
    ENTER(d);
    *i = d->mig < 0 ? (u32)d->gpu : (u32)d->mig;
    return OK;
}

API status_t nvmlDeviceGetMinorNumber(device_t *d, u32 *i) {
    ENTER(d);
    *i = number_or(d, "minor", 0, d->gpu);
    return OK;
}

API status_t nvmlDeviceGetUUID(device_t *d, char *b, u32 n) {
    ENTER(d);
    return copy(b, n, uuid(d));
}

#define STR(fn, key)                               \
    API status_t fn(device_t *d, char *b, u32 n) { \
        ENTER(d);                                  \
        return copy(b, n, value(d, key));          \
    }
STR(nvmlDeviceGetName, "name")
STR(nvmlDeviceGetSerial, "serial")
STR(nvmlDeviceGetVbiosVersion, "vbios")
STR(nvmlDeviceGetBoardPartNumber, "part_number")
STR(nvmlDeviceGetInforomImageVersion, "inforom")
STR(nvmlDeviceGetGspFirmwareVersion, "gsp_version")

void bus_of(const device_t *d, u32 *dom, u32 *bus, u32 *dv) {
    const char *v = value(d, "bus_id");
    *dom = 0;
    *dv = 0;
    *bus = 0x10 + d->gpu * 0x10;
    if (v) sscanf(v, "%x:%x:%x", dom, bus, dv);
}

static status_t pci_of(u32 dom, u32 bus, u32 dv, pci_t *p) {
    memset(p, 0, sizeof *p);
    snprintf(p->busIdLegacy, 16, "%04X:%02X:%02X.0", dom & 0xffff, bus & 0xff, dv & 0xff);
    snprintf(p->busId, 32, "%08X:%02X:%02X.0", dom, bus & 0xff, dv & 0xff);
    p->domain = dom;
    p->bus = bus;
    p->device = dv;
    return OK;
}

status_t pci_at(const char *text, pci_t *p) {
    u32 dom, bus, dv;
    return sscanf(text, "%x:%x:%x", &dom, &bus, &dv) == 3 ? pci_of(dom, bus, dv, p) : INVALID_ARGUMENT;
}

status_t pci(device_t *d, pci_t *p) {
    u32 dom, bus, dv;
    bus_of(d, &dom, &bus, &dv);
    pci_of(dom, bus, dv, p);
    p->pciDeviceId = number_or(d, "pci_device_id", 0, 0x20B210DE);
    p->pciSubSystemId = number_or(d, "pci_subsystem_id", 0, 0x146310DE);
    return OK;
}

API status_t nvmlDeviceGetPciInfo_v3(device_t *d, pci_t *p) {
    ENTER(d);
    return pci(d, p);
}

API status_t nvmlDeviceGetPciInfo_v2(device_t *d, pci_t *p) {
    ENTER(d);
    return pci(d, p);
}

static status_t by_bus(const char *s, device_t **d) {
    u32 a, b, c, x, y, z;
    if (sscanf(s, "%x:%x:%x", &a, &b, &c) != 3) return INVALID_ARGUMENT;
    for (int i = 0; i < count(); i++) {
        bus_of(&gpus[i], &x, &y, &z);
        if (a == x && b == y && c == z) {
            *d = &gpus[i];
            return OK;
        }
    }
    return NOT_FOUND;
}

API status_t nvmlDeviceGetHandleByPciBusId_v2(const char *s, device_t **d) {
    ENTER0();
    return by_bus(s, d);
}

API status_t nvmlDeviceGetHandleByPciBusId(const char *s, device_t **d) {
    ENTER0();
    return by_bus(s, d);
}
