/* A stand-in for libnvidia-ml.so.1 that a scenario file drives (Linux, 64 bit), for tests without a GPU or driver.
 *
 * Written from the public documentation of the API. It offers the symbols of a chosen driver series (symbols/), so that
 * what an old driver lacks is lacking here too.
 *
 *   FAKE_NVML_SCENARIO  path of a scenario (see scenarios/); without one there is a single healthy A100
 *   FAKE_NVML_LOG       file to which each call is appended before it does anything: "name[ gpuN]", and "WRITE name"
 * for one that would change the machine: a client that only reads makes none
 *
 * A scenario's sections
 *   [system]   driver_version nvml_version cuda_version=12.4 count
 *   [gpu]      values of every GPU;  [gpu N] of one;  [mig N.M] of slice M of GPU N. A later value replaces an earlier
 * one [inject]   FUNCTION[@N] = error CODE | hang | sleep MS | segv | abort | exit CODE | kill FUNCTION * is any call,
 * @N only for GPU N; "after K" at the end lets the first K calls pass A value that is absent, or "unsupported", makes
 * its getter answer NOT_SUPPORTED, as NVML does for what a board lacks.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>
#include "fake_nvml.h"

#define MOST_ENTRIES 4096

enum { OF_SYSTEM = -1, OF_ALL = -2, OF_FAULTS = -3 };

struct kv {
    int scope;
    char key[72];
    char val[400];
};
static struct kv entry[MOST_ENTRIES];
static int entries, loaded;
int references;
device_t gpus[MOST_GPUS], migs[MOST_GPUS][MOST_MIGS];
#define OF_MIG(g, m) (1000 + (g) * MOST_MIGS + (m))

static void put(int sc, const char *k, const char *v) {
    if (entries < MOST_ENTRIES) {
        entry[entries].scope = sc;
        snprintf(entry[entries].key, sizeof entry[0].key, "%s", k);
        snprintf(entry[entries++].val, sizeof entry[0].val, "%s", v);
    }
}

static char *trim(char *s) {
    while (isspace((unsigned char)*s)) s++;
    char *e = s + strlen(s);
    while (e > s && isspace((unsigned char)e[-1])) *--e = 0;
    return s;
}

static const char *HEALTHY[][2] = {{"name", "NVIDIA A100-SXM4-80GB"},
                                   {"compute_capability", "8.0"},
                                   {"memory_total_mib", "81920"},
                                   {"memory_used_mib", "4"},
                                   {"temperature", "31"},
                                   {"power_mw", "62000"},
                                   {"power_limit_mw", "400000"},
                                   {"persistence_mode", "1"},
                                   {"ecc", "1,1"},
                                   {"pcie_gen", "4,4"},
                                   {"pcie_width", "16,16"},
                                   {"mig", "0,0"},
                                   {"utilization", "0,0"},
                                   {0, 0}};

static void load(void) {
    if (loaded) return;
    loaded = 1;
    for (int i = 0; i < MOST_GPUS; i++) {
        gpus[i].gpu = i;
        gpus[i].mig = -1;
        for (int j = 0; j < MOST_MIGS; j++) {
            migs[i][j].gpu = i;
            migs[i][j].mig = j;
        }
    }
    const char *p = getenv("FAKE_NVML_SCENARIO");
    FILE *f = p && *p ? fopen(p, "re") : 0;
    if (!f) {
        if (p && *p) fprintf(stderr, "fake_nvml: cannot open scenario %s\n", p);
        for (int i = 0; HEALTHY[i][0]; i++) put(OF_ALL, HEALTHY[i][0], HEALTHY[i][1]);
        return;
    }
    char line[512];
    int sc = OF_SYSTEM;
    while (fgets(line, sizeof line, f)) {
        char *s = trim(line), *e;
        int a, b;
        if (!*s || *s == '#' || *s == ';') continue;
        if (*s == '[') {
            if (!strncmp(s, "[system]", 8))
                sc = OF_SYSTEM;
            else if (!strncmp(s, "[inject]", 8))
                sc = OF_FAULTS;
            else if (!strncmp(s, "[gpu]", 5))
                sc = OF_ALL;
            else if (sscanf(s, "[gpu %d]", &a) == 1)
                sc = a;
            else if (sscanf(s, "[mig %d.%d]", &a, &b) == 2)
                sc = OF_MIG(a, b);
            else {
                fprintf(stderr, "fake_nvml: bad section %s\n", s);
                abort();
            }
            continue;
        }
        if (!(e = strchr(s, '='))) {
            fprintf(stderr, "fake_nvml: bad line %s\n", s);
            abort();
        }
        *e = 0;
        put(sc, trim(s), trim(e + 1));
    }
    fclose(f);
}

static const char *find(int sc, const char *k) {
    for (int i = entries - 1; i >= 0; i--)
        if (entry[i].scope == sc && !strcmp(entry[i].key, k)) return entry[i].val;
    return 0;
}

const char *setting(const char *k, const char *dflt) {
    load();
    const char *v = find(OF_SYSTEM, k);
    return v ? v : dflt;
}

const char *value(const device_t *d, const char *k) {
    const char *v = 0;
    if (d->mig >= 0) v = find(OF_MIG(d->gpu, d->mig), k);
    if (!v) v = find(d->gpu, k);
    if (!v) v = find(OF_ALL, k);
    return v && !strcmp(v, "unsupported") ? 0 : v;
}

const char *own_value(const device_t *d, const char *key) {
    return find(OF_MIG(d->gpu, d->mig), key);
}

int number(const device_t *d, const char *k, int n, u64 *out) { /* n-th number of a comma list */
    const char *v = value(d, k);
    for (; v && n; n--)
        if ((v = strchr(v, ','))) v++;
    if (!v) return 0;
    *out = strtoull(v, 0, 0);
    return 1;
}

u64 number_or(const device_t *d, const char *k, int n, u64 dflt) {
    u64 v;
    return number(d, k, n, &v) ? v : dflt;
}

int is_listed(const char *v, u32 x) { /* "0,3,5-7" or "all" */
    if (v && !strcmp(v, "all")) return 1;
    while (v && *v) {
        char *e;
        u32 a = strtoul(v, &e, 0), b = a;
        if (e == v) return 0;
        if (*e == '-') b = strtoul(e + 1, &e, 0);
        if (x >= a && x <= b) return 1;
        v = *e == ',' ? e + 1 : 0;
    }
    return 0;
}

int count(void) {
    int n = atoi(setting("count", "1"));
    return n > MOST_GPUS ? MOST_GPUS : n;
}

/* calls */
static int calls[MOST_ENTRIES];

static void record(const char *pre, const char *fn, int gpu) {
    static int fd = -2;
    if (fd == -2) {
        const char *p = getenv("FAKE_NVML_LOG");
        fd = p && *p ? open(p, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    }
    if (fd < 0) return;
    char b[128];
    int n = gpu < 0 ? snprintf(b, sizeof b, "%s%s\n", pre, fn) : snprintf(b, sizeof b, "%s%s gpu%d\n", pre, fn, gpu);
    if (write(fd, b, n) < 0) return;
}

static status_t act(const char *v) {
    int n = 0;
    sscanf(v, "%*s %i", &n);
    if (!strncmp(v, "error", 5)) return n;
    if (!strncmp(v, "hang", 4))
        for (;;) pause();
    if (!strncmp(v, "sleep", 5)) {
        usleep(n * 1000);
        return OK;
    }
    if (!strncmp(v, "segv", 4)) *(volatile int *)8 = 1;
    if (!strncmp(v, "abort", 5)) abort();
    if (!strncmp(v, "exit", 4)) _exit(n);
    if (!strncmp(v, "kill", 4)) kill(getpid(), SIGKILL);
    return OK;
}

/* a common prologue: log the call, apply an injected fault */
status_t enter(const char *fn, int gpu) {
    load();
    record("", fn, gpu);
    for (int i = 0; i < entries; i++) {
        if (entry[i].scope != OF_FAULTS) continue;
        char k[72], *at;
        snprintf(k, sizeof k, "%s", entry[i].key);
        if ((at = strchr(k, '@'))) {
            *at = 0;
            if (atoi(at + 1) != gpu) continue;
        }
        if (strcmp(k, "*") && strcmp(k, fn)) continue;
        const char *af = strstr(entry[i].val, "after ");
        if (af && calls[i]++ < atoi(af + 6)) continue;
        status_t r = act(entry[i].val);
        if (r) return r;
    }
    return OK;
}

int valid(const device_t *d) {
    return (d >= gpus && d < gpus + MOST_GPUS) || (d >= &migs[0][0] && d < &migs[0][0] + MOST_GPUS * MOST_MIGS);
}

status_t copy(char *dst, u32 len, const char *s) {
    if (!s) return NOT_SUPPORTED;
    if (!dst) return INVALID_ARGUMENT;
    if (strlen(s) + 1 > len) return TOO_SMALL;
    strcpy(dst, s);
    return OK;
}

/* what is not implemented: a generated body calls this */
status_t fake_nvml_unimplemented(const char *fn, int writes) {
    status_t r = enter(fn, -1);
    if (writes) record("WRITE ", fn, -1);
    return r ? r : !references ? UNINITIALIZED : writes ? NO_PERMISSION : NOT_SUPPORTED;
}
