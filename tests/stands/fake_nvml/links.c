/* What a card is part of: MIG, NVLink, topology, fabric; and the field values. */
#include "fake_nvml.h"

/* MIG */
N2(nvmlDeviceGetMigMode, u32, "mig")

API status_t nvmlDeviceGetMaxMigDeviceCount(device_t *d, u32 *n) {
    ENTER(d);
    *n = value(d, "mig") ? 7 : 0;
    return OK;
}

API status_t nvmlDeviceGetMigDeviceHandleByIndex(device_t *d, u32 i, device_t **o) {
    ENTER(d);
    if (!number_or(d, "mig", 0, 0) || i >= MOST_MIGS || i >= (u32)mig_count(d->gpu)) return NOT_FOUND;
    *o = &migs[d->gpu][i];
    return OK;
}

API status_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device_t *d, device_t **o) {
    ENTER(d);
    if (d->mig < 0) return INVALID_ARGUMENT;
    *o = &gpus[d->gpu];
    return OK;
}

API status_t nvmlDeviceIsMigDeviceHandle(device_t *d, u32 *o) {
    ENTER(d);
    *o = d->mig >= 0;
    return OK;
}

API status_t nvmlDeviceGetGpuInstanceId(device_t *d, u32 *o) {
    ENTER(d);
    if (d->mig < 0) return INVALID_ARGUMENT;
    *o = number_or(d, "gi", 0, d->mig + 1);
    return OK;
}

API status_t nvmlDeviceGetComputeInstanceId(device_t *d, u32 *o) {
    ENTER(d);
    if (d->mig < 0) return INVALID_ARGUMENT;
    *o = number_or(d, "ci", 0, 0);
    return OK;
}

typedef struct {
    u32 sm, ce, dec, enc, jpeg, ofa, gislices, cislices;
    u64 memMB;
} attr_t;

API status_t nvmlDeviceGetAttributes_v2(device_t *d, attr_t *a) {
    ENTER(d);
    if (d->mig < 0) return NOT_SUPPORTED;
    memset(a, 0, sizeof *a);
    a->sm = number_or(d, "sm_count", 0, 14);
    a->gislices = a->cislices = number_or(d, "slices", 0, 1);
    a->memMB = number_or(d, "memory_total_mib", 0, 0);
    return OK;
}

/* NVLink, topology */
API status_t nvmlDeviceGetNvLinkState(device_t *d, u32 l, u32 *o) {
    ENTER(d);
    u64 n;
    if (!number(d, "nvlinks", 0, &n)) return NOT_SUPPORTED;
    if (l >= n) return INVALID_ARGUMENT;
    *o = !is_listed(value(d, "nvlinks_down"), l);
    return OK;
}

API status_t nvmlDeviceGetNvLinkVersion(device_t *d, u32 l, u32 *o) {
    ENTER(d);
    u64 n;
    if (!number(d, "nvlinks", 0, &n)) return NOT_SUPPORTED;
    if (l >= n) return INVALID_ARGUMENT;
    *o = number_or(d, "nvlink_version", 0, 3);
    return OK;
}

API status_t nvmlDeviceGetNvLinkCapability(device_t *d, u32 l, u32 cap, u32 *o) {
    ENTER(d);
    u64 n;
    if (!number(d, "nvlinks", 0, &n)) return NOT_SUPPORTED;
    if (l >= n) return INVALID_ARGUMENT;
    *o = cap < 3;
    return OK;
}

API status_t nvmlDeviceGetNvLinkErrorCounter(device_t *d, u32 l, u32 c, u64 *o) {
    ENTER(d);
    u64 n;
    if (!number(d, "nvlinks", 0, &n)) return NOT_SUPPORTED;
    if (l >= n) return INVALID_ARGUMENT;
    *o = number_or(d, "nvlink_errors", (int)c, 0);
    return OK;
}

API status_t nvmlDeviceGetNvLinkRemotePciInfo_v2(device_t *d, u32 l, pci_t *p) {
    ENTER(d);
    u64 n;
    if (!number(d, "nvlinks", 0, &n)) return NOT_SUPPORTED;
    if (l >= n) return INVALID_ARGUMENT;
    int c = count();
    const char *far_end = value(d, "nvlink_remotes"); /* bus ids, one a link */
    for (u32 i = 0; far_end && i < l; i++)
        if ((far_end = strchr(far_end, ','))) far_end++;
    if (far_end) return pci_at(far_end, p);
    return pci(&gpus[c > 1 ? (d->gpu + 1 + (int)l % (c - 1)) % c : 0], p);
}

API status_t nvmlDeviceGetNvLinkRemoteDeviceType(device_t *d, u32 l, u32 *o) {
    ENTER(d);
    u64 n;
    if (!number(d, "nvlinks", 0, &n)) return NOT_SUPPORTED;
    if (l >= n) return INVALID_ARGUMENT;
    *o = number_or(d, "nvswitch", 0, 0) ? 2 : 0;
    return OK;
}

/* place = numa_node, root_complex, switch: the deepest one that two GPUs share decides;
 * topology = level to GPU 0, 1, 2 …: as recorded */
API status_t nvmlDeviceGetTopologyCommonAncestor(device_t *a, device_t *b, u32 *o) {
    ENTER(a);
    if (!valid(b)) return INVALID_ARGUMENT;
    if (a->gpu == b->gpu) {
        *o = 0;
        return OK;
    }
    u64 level;
    if (number(a, "topology", b->gpu, &level)) {
        *o = (u32)level;
        return OK;
    }
    if (!value(a, "place") || !value(b, "place")) return NOT_SUPPORTED;
    u64 p[3], q[3];
    for (int i = 0; i < 3; i++) {
        p[i] = number_or(a, "place", i, 0);
        q[i] = number_or(b, "place", i, 0);
    }
    *o = p[0] != q[0] ? 50 : p[1] != q[1] ? 40 : p[2] != q[2] ? 30 : 10;
    return OK;
}

API status_t nvmlDeviceGetP2PStatus(device_t *a, device_t *b, u32 idx, u32 *o) {
    ENTER(a);
    if (!valid(b)) return INVALID_ARGUMENT;
    if (idx == 2 && !value(a, "nvlinks")) {
        *o = 5;
        return OK;
    }
    *o = number_or(a, "p2p", b->gpu, number_or(a, "p2p_status", 0, 0)); /* p2p = status to GPU 0, 1, 2 … */
    return OK;
}

API status_t nvmlDeviceGetNumaNodeId(device_t *d, u32 *o) {
    ENTER(d);
    u64 v;
    if (!number(d, "numa_id", 0, &v)) return NOT_SUPPORTED;
    *o = v;
    return OK;
}

static status_t affinity(device_t *d, const char *key, u32 n, unsigned long *set) {
    const char *v = value(d, key);
    if (!v) return NOT_SUPPORTED;
    for (u32 i = 0; i < n; i++) set[i] = 0;
    for (u32 i = 0; i < n * 64; i++)
        if (is_listed(v, i)) set[i / 64] |= 1ul << (i % 64);
    return OK;
}

API status_t nvmlDeviceGetCpuAffinity(device_t *d, u32 n, unsigned long *s) {
    ENTER(d);
    return affinity(d, "cpus", n, s);
}

API status_t nvmlDeviceGetCpuAffinityWithinScope(device_t *d, u32 n, unsigned long *s, u32 scope) {
    (void)scope;
    ENTER(d);
    return affinity(d, "cpus", n, s);
}

API status_t nvmlDeviceGetMemoryAffinity(device_t *d, u32 n, unsigned long *s, u32 scope) {
    (void)scope;
    ENTER(d);
    return affinity(d, "numa_nodes", n, s);
}

/* fabric (NVSwitch systems): fabric = state, status, clique */
typedef struct {
    unsigned char cluster[16];
    status_t status;
    u32 clique;
    unsigned char state;
} fab1_t;

typedef struct {
    u32 version;
    unsigned char cluster[16];
    status_t status;
    u32 clique;
    unsigned char state;
    u32 health;
} fab2_t;

API status_t nvmlDeviceGetGpuFabricInfo(device_t *d, fab1_t *f) {
    ENTER(d);
    u64 v;
    if (!number(d, "fabric", 0, &v)) return NOT_SUPPORTED;
    memset(f, 0, sizeof *f);
    f->state = v;
    f->status = number_or(d, "fabric", 1, 0);
    f->clique = number_or(d, "fabric", 2, 0);
    return OK;
}

API status_t nvmlDeviceGetGpuFabricInfoV(device_t *d, fab2_t *f) {
    ENTER(d);
    u32 ver = f->version >> 24;
    if (ver != 2 && ver != 3) return WRONG_VERSION;
    u64 v;
    if (!number(d, "fabric", 0, &v)) return NOT_SUPPORTED;
    memset(f->cluster, 0, 16);
    f->state = v;
    f->status = number_or(d, "fabric", 1, 0);
    f->clique = number_or(d, "fabric", 2, 0);
    f->health = number_or(d, "fabric", 3, 0);
    return OK;
}

/* field values: field.ID[.SCOPE] = integer */
typedef struct {
    u32 id, scope;
    long long ts, lat;
    u32 type;
    status_t ret;
    u64 value;
} field_t;

API status_t nvmlDeviceGetFieldValues(device_t *d, int n, field_t *f) {
    ENTER(d);
    for (int i = 0; i < n; i++) {
        char k[40];
        u64 v;
        snprintf(k, sizeof k, "field.%u.%u", f[i].id, f[i].scope);
        if (!number(d, k, 0, &v)) {
            snprintf(k, sizeof k, "field.%u", f[i].id);
            if (!number(d, k, 0, &v)) {
                f[i].ret = NOT_SUPPORTED;
                continue;
            }
        }
        f[i].ret = OK;
        f[i].type = 3;
        f[i].value = v;
        f[i].ts = f[i].lat = 0;
    }
    return OK;
}
