/* Numbers of a card: power, clocks, temperature, memory, errors, processes. */
#include <unistd.h>
#include "fake_nvml.h"

N1(nvmlDeviceGetPowerUsage, u32, "power_mw", 0)
N1(nvmlDeviceGetPowerManagementLimit, u32, "power_limit_mw", 0)
N1(nvmlDeviceGetVirtualizationMode, u32, "virtualization", 0)

API status_t nvmlDeviceGetEnforcedPowerLimit(device_t *d, u32 *o) {
    ENTER(d);
    u64 v;
    if (!number(d, "power_enforced_mw", 0, &v) && !number(d, "power_limit_mw", 0, &v)) return NOT_SUPPORTED;
    *o = v;
    return OK;
}

API status_t nvmlDeviceGetPowerManagementDefaultLimit(device_t *d, u32 *o) {
    ENTER(d);
    u64 v;
    if (!number(d, "power_default_mw", 0, &v) && !number(d, "power_limit_mw", 0, &v)) return NOT_SUPPORTED;
    *o = v;
    return OK;
}
N2(nvmlDeviceGetPowerManagementLimitConstraints, u32, "power_constraints_mw")

API status_t nvmlDeviceGetPowerManagementMode(device_t *d, u32 *o) {
    ENTER(d);
    *o = value(d, "power_limit_mw") != 0;
    return OK;
}
N1(nvmlDeviceGetTotalEnergyConsumption, u64, "energy_mj", 0)
N1(nvmlDeviceGetPersistenceMode, u32, "persistence_mode", 0)

API status_t nvmlDeviceGetComputeMode(device_t *d, u32 *o) {
    ENTER(d);
    *o = number_or(d, "compute_mode", 0, 0);
    return OK;
}

API status_t nvmlDeviceGetPerformanceState(device_t *d, u32 *o) {
    ENTER(d);
    *o = number_or(d, "pstate", 0, 0);
    return OK;
}

API status_t nvmlDeviceGetPowerState(device_t *d, u32 *o) {
    ENTER(d);
    *o = number_or(d, "pstate", 0, 0);
    return OK;
}

API status_t nvmlDeviceGetDisplayMode(device_t *d, u32 *o) {
    ENTER(d);
    *o = number_or(d, "display", 0, 0);
    return OK;
}

API status_t nvmlDeviceGetDisplayActive(device_t *d, u32 *o) {
    ENTER(d);
    *o = number_or(d, "display", 1, 0);
    return OK;
}
N1(nvmlDeviceGetCurrPcieLinkGeneration, u32, "pcie_gen", 0)
N1(nvmlDeviceGetMaxPcieLinkGeneration, u32, "pcie_gen", 1)

API status_t nvmlDeviceGetGpuMaxPcieLinkGeneration(device_t *d, u32 *o) {
    ENTER(d);
    u64 v;
    if (!number(d, "pcie_gen", 2, &v) && !number(d, "pcie_gen", 1, &v)) return NOT_SUPPORTED;
    *o = v;
    return OK;
}
N1(nvmlDeviceGetCurrPcieLinkWidth, u32, "pcie_width", 0)
N1(nvmlDeviceGetMaxPcieLinkWidth, u32, "pcie_width", 1)
N1(nvmlDeviceGetPcieReplayCounter, u32, "pcie_replays", 0)

API status_t nvmlDeviceGetPcieThroughput(device_t *d, u32 c, u32 *o) {
    ENTER(d);
    u64 v;
    if (!number(d, "pcie_kbps", c ? 1 : 0, &v)) return NOT_SUPPORTED;
    *o = v;
    return OK;
}
N1(nvmlDeviceGetNumGpuCores, u32, "cuda_cores", 0)
N1(nvmlDeviceGetMemoryBusWidth, u32, "memory_bus_width", 0)
N1(nvmlDeviceGetNumFans, u32, "fans", 0)
N1(nvmlDeviceGetFanSpeed, u32, "fan_speed", 0)

API status_t nvmlDeviceGetFanSpeed_v2(device_t *d, u32 f, u32 *o) {
    ENTER(d);
    u64 v;
    if (!number(d, "fan_speed", f, &v)) return NOT_SUPPORTED;
    *o = v;
    return OK;
}
N1(nvmlDeviceGetBrand, u32, "brand", 0)

API status_t nvmlDeviceGetBoardId(device_t *d, u32 *o) {
    ENTER(d);
    u32 a, b, c;
    bus_of(d, &a, &b, &c);
    *o = (a << 16) | (b << 8) | c;
    return OK;
}

API status_t nvmlDeviceGetMultiGpuBoard(device_t *d, u32 *o) {
    ENTER(d);
    *o = 0;
    return OK;
}

API status_t nvmlDeviceGetArchitecture(device_t *d, u32 *o) {
    ENTER(d);
    const char *v = value(d, "compute_capability");
    int a = 0, b = 0;
    if (!v || sscanf(v, "%d.%d", &a, &b) != 2) return NOT_SUPPORTED;
    *o = a == 3    ? 2
         : a == 5  ? 3
         : a == 6  ? 4
         : a == 7  ? (b < 5 ? 5 : 6)
         : a == 8  ? (b == 9 ? 8 : 7)
         : a == 9  ? 9
         : a >= 10 ? 10
                   : 0xffffffff;
    return OK;
}

API status_t nvmlDeviceGetCudaComputeCapability(device_t *d, int *a, int *b) {
    ENTER(d);
    const char *v = value(d, "compute_capability");
    return v && sscanf(v, "%d.%d", a, b) == 2 ? OK : NOT_SUPPORTED;
}

typedef struct {
    u32 gpu, memory;
} util_t;

API status_t nvmlDeviceGetUtilizationRates(device_t *d, util_t *u) {
    ENTER(d);
    u64 v;
    if (d->mig >= 0 || !number(d, "utilization", 0, &v)) return NOT_SUPPORTED;
    u->gpu = v;
    u->memory = number_or(d, "utilization", 1, 0);
    return OK;
}

API status_t nvmlDeviceGetEncoderUtilization(device_t *d, u32 *a, u32 *b) {
    ENTER(d);
    *a = 0;
    *b = 1000000;
    return d->mig < 0 ? OK : NOT_SUPPORTED;
}

API status_t nvmlDeviceGetDecoderUtilization(device_t *d, u32 *a, u32 *b) {
    ENTER(d);
    *a = 0;
    *b = 1000000;
    return d->mig < 0 ? OK : NOT_SUPPORTED;
}

/* temperature, clocks, throttling */
API status_t nvmlDeviceGetTemperature(device_t *d, u32 sensor, u32 *o) {
    ENTER(d);
    u64 v;
    if (sensor || !number(d, "temperature", 0, &v)) return NOT_SUPPORTED;
    *o = v;
    return OK;
}

typedef struct {
    u32 version, sensor;
    int temperature;
} temp_v1;

API status_t nvmlDeviceGetTemperatureV(device_t *d, temp_v1 *t) {
    ENTER(d);
    if (t->version != (sizeof *t | 1u << 24)) return WRONG_VERSION;
    u64 v;
    if (t->sensor || !number(d, "temperature", 0, &v)) return NOT_SUPPORTED;
    t->temperature = v;
    return OK;
}

API status_t nvmlDeviceGetTemperatureThreshold(device_t *d, u32 type, u32 *o) {
    ENTER(d);
    u64 v;
    if (!number(d, "temperature_thresholds", type, &v) || !v) return NOT_SUPPORTED;
    *o = v;
    return OK;
}

/* clock lists are graphics,sm,mem,video */
#define CLK(fn, key)                                      \
    API status_t fn(device_t *d, u32 t, u32 *o) {         \
        ENTER(d);                                         \
        u64 v;                                            \
        if (t > 3) return INVALID_ARGUMENT;               \
        if (!number(d, key, t, &v)) return NOT_SUPPORTED; \
        *o = v;                                           \
        return OK;                                        \
    }
CLK(nvmlDeviceGetClockInfo, "clocks")
CLK(nvmlDeviceGetMaxClockInfo, "clocks_max")
CLK(nvmlDeviceGetApplicationsClock, "clocks_app")
CLK(nvmlDeviceGetDefaultApplicationsClock, "clocks_app_default")

API status_t nvmlDeviceGetClock(device_t *d, u32 t, u32 id, u32 *o) {
    ENTER(d);
    static const char *K[] = {"clocks", "clocks_app", "clocks_app_default", "clocks_max"};
    u64 v;
    if (t > 3 || id > 3) return INVALID_ARGUMENT;
    if (!number(d, K[id], t, &v)) return NOT_SUPPORTED;
    *o = v;
    return OK;
}
N1(nvmlDeviceGetCurrentClocksThrottleReasons, u64, "throttle", 0)
N1(nvmlDeviceGetCurrentClocksEventReasons, u64, "throttle", 0)

API status_t nvmlDeviceGetSupportedClocksThrottleReasons(device_t *d, u64 *o) {
    ENTER(d);
    if (!value(d, "throttle")) return NOT_SUPPORTED;
    *o = 0x1ff;
    return OK;
}

API status_t nvmlDeviceGetSupportedClocksEventReasons(device_t *d, u64 *o) {
    ENTER(d);
    if (!value(d, "throttle")) return NOT_SUPPORTED;
    *o = 0x1ff;
    return OK;
}

typedef struct {
    u64 ref, viol;
} viol_t;

API status_t nvmlDeviceGetViolationStatus(device_t *d, u32 pol, viol_t *v) {
    ENTER(d);
    u64 x;
    if (!number(d, "violation_ns", pol, &x)) return NOT_SUPPORTED;
    v->ref = 0;
    v->viol = x;
    return OK;
}

/* memory, ECC, remapping */
static void memory_of(const device_t *d, u64 *tot, u64 *res, u64 *used) {
    *tot = number_or(d, "memory_total_mib", 0, 0) << 20;
    *res = number_or(d, "memory_reserved_mib", 0, 0) << 20;
    *used = number_or(d, "memory_used_mib", 0, 0) << 20;
}

typedef struct {
    u64 total, free, used;
} mem1_t;

typedef struct {
    u32 version;
    u64 total, reserved, free, used;
} mem2_t;

API status_t nvmlDeviceGetMemoryInfo(device_t *d, mem1_t *m) {
    ENTER(d);
    u64 t, r, u;
    memory_of(d, &t, &r, &u);
    if (!t) return NOT_SUPPORTED;
    m->total = t;
    m->used = u + r;
    m->free = t - u - r;
    return OK;
}

API status_t nvmlDeviceGetMemoryInfo_v2(device_t *d, mem2_t *m) {
    ENTER(d);
    if (m->version != (sizeof *m | 2u << 24)) return WRONG_VERSION;
    u64 t, r, u;
    memory_of(d, &t, &r, &u);
    if (!t) return NOT_SUPPORTED;
    m->total = t;
    m->reserved = r;
    m->used = u;
    m->free = t - u - r;
    return OK;
}

API status_t nvmlDeviceGetBAR1MemoryInfo(device_t *d, mem1_t *m) {
    ENTER(d);
    u64 v;
    if (!number(d, "bar1_mib", 0, &v)) return NOT_SUPPORTED;
    m->total = v << 20;
    m->used = number_or(d, "bar1_mib", 1, 1) << 20;
    m->free = m->total - m->used;
    return OK;
}
N2(nvmlDeviceGetEccMode, u32, "ecc")

/* ecc_errors = volatile_corr, volatile_uncorr, aggregate_corr, aggregate_uncorr */
API status_t nvmlDeviceGetTotalEccErrors(device_t *d, u32 type, u32 ctr, u64 *o) {
    ENTER(d);
    if (!number_or(d, "ecc", 0, 0)) return NOT_SUPPORTED;
    *o = number_or(d, "ecc_errors", (int)(ctr * 2 + type), 0);
    return OK;
}

API status_t nvmlDeviceGetMemoryErrorCounter(device_t *d, u32 type, u32 ctr, u32 loc, u64 *o) {
    ENTER(d);
    if (!number_or(d, "ecc", 0, 0)) return NOT_SUPPORTED;
    *o = loc == 2 ? number_or(d, "ecc_errors", (int)(ctr * 2 + type), 0) : 0;
    return OK;
}

/* remapped_rows = corrected, uncorrected, pending, failure */
API status_t nvmlDeviceGetRemappedRows(device_t *d, u32 *c, u32 *u, u32 *p, u32 *f) {
    ENTER(d);
    u64 v;
    if (!number(d, "remapped_rows", 0, &v)) return NOT_SUPPORTED;
    *c = v;
    *u = number_or(d, "remapped_rows", 1, 0);
    *p = number_or(d, "remapped_rows", 2, 0);
    *f = number_or(d, "remapped_rows", 3, 0);
    return OK;
}

typedef struct {
    u32 max, high, partial, low, none;
} hist_t;

API status_t nvmlDeviceGetRowRemapperHistogram(device_t *d, hist_t *h) {
    ENTER(d);
    u64 v;
    if (!number(d, "remap_histogram", 0, &v)) return NOT_SUPPORTED;
    h->max = v;
    h->high = number_or(d, "remap_histogram", 1, 0);
    h->partial = number_or(d, "remap_histogram", 2, 0);
    h->low = number_or(d, "remap_histogram", 3, 0);
    h->none = number_or(d, "remap_histogram", 4, 0);
    return OK;
}

/* retired_pages = single_bit, double_bit, pending */
static status_t retired(device_t *d, u32 cause, u32 *n, u64 *a) {
    u64 v;
    if (!number(d, "retired_pages", (int)cause, &v)) return NOT_SUPPORTED;
    u32 cap = *n;
    *n = v;
    if (!a) return v ? TOO_SMALL : OK;
    if (cap < v) return TOO_SMALL;
    for (u32 i = 0; i < v; i++) a[i] = 0x1000 * (i + 1);
    return OK;
}

API status_t nvmlDeviceGetRetiredPages(device_t *d, u32 cause, u32 *n, u64 *a) {
    ENTER(d);
    return retired(d, cause, n, a);
}

API status_t nvmlDeviceGetRetiredPages_v2(device_t *d, u32 cause, u32 *n, u64 *a, u64 *ts) {
    ENTER(d);
    if (ts && a) memset(ts, 0, *n * sizeof *ts);
    return retired(d, cause, n, a);
}
N1(nvmlDeviceGetRetiredPagesPendingStatus, u32, "retired_pages", 2)

/* processes: procs = PID:MIB, PID may be "self" */
typedef struct {
    u32 pid;
    u64 mem;
} proc1_t;

typedef struct {
    u32 pid;
    u64 mem;
    u32 gi, ci;
} proc2_t;

static status_t procs(device_t *d, const char *key, u32 *n, void *buf, int v2) {
    const char *s = value(d, key);
    u32 need = 0, cap = *n;
    for (const char *p = s; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : 0) {
        u32 pid = strncmp(p, "self", 4) ? strtoul(p, 0, 10) : (u32)getpid();
        const char *c = strchr(p, ':');
        u64 m = c && c[1] != '?' ? strtoull(c + 1, 0, 10) << 20 : ~0ull; /* '?': not available */
        if (buf && need < cap) {
            if (v2) {
                proc2_t *q = (proc2_t *)buf + need;
                q->pid = pid;
                q->mem = m;
                q->gi = q->ci = ~0u;
            } else {
                proc1_t *q = (proc1_t *)buf + need;
                q->pid = pid;
                q->mem = m;
            }
        }
        need++;
    }
    *n = need;
    return need > cap ? TOO_SMALL : OK;
}

#define PROC(fn, key, v2)                           \
    API status_t fn(device_t *d, u32 *n, void *b) { \
        ENTER(d);                                   \
        return procs(d, key, n, b, v2);             \
    }
PROC(nvmlDeviceGetComputeRunningProcesses, "procs", 0)
PROC(nvmlDeviceGetComputeRunningProcesses_v2, "procs", 1)
PROC(nvmlDeviceGetComputeRunningProcesses_v3, "procs", 1)
PROC(nvmlDeviceGetGraphicsRunningProcesses, "procs_graphics", 0)
PROC(nvmlDeviceGetGraphicsRunningProcesses_v2, "procs_graphics", 1)
PROC(nvmlDeviceGetGraphicsRunningProcesses_v3, "procs_graphics", 1)
PROC(nvmlDeviceGetMPSComputeRunningProcesses, "procs_mps", 0)
PROC(nvmlDeviceGetMPSComputeRunningProcesses_v2, "procs_mps", 1)
PROC(nvmlDeviceGetMPSComputeRunningProcesses_v3, "procs_mps", 1)
