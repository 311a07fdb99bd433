#include "base/parallel.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef _WIN32
#include <windows.h>
#else
#include <unistd.h>
#endif
#ifdef __linux__
#include <sched.h>
#include <time.h>
#endif

void parallel_for(int threads, size_t count, void (*body)(void *user, size_t begin, size_t end),
                  void *user)
{
    if (count == 0)
        return;
#ifdef _OPENMP
    if (threads > 1 && (size_t)threads > count)
        threads = (int)count;
    if (threads > 1 && !omp_in_parallel()) {
#pragma omp parallel num_threads(threads)
        {
            const size_t team = (size_t)omp_get_num_threads(), index = (size_t)omp_get_thread_num();
            const size_t share = count / team;
            const size_t rest = count % team; /* the first `rest` ranges get one more */
            const size_t begin = index * share + (index < rest ? index : rest);
            const size_t end = begin + share + (index < rest ? 1 : 0);
            if (begin < end)
                body(user, begin, end);
        }
        return;
    }
#else
    (void)threads;
#endif
    body(user, 0, count);
}

#if defined(_OPENMP) && defined(__linux__)
/* Off every processor that the team stands on, when there is one left. */
static void move_away(const int *processors, int count)
{
    cpu_set_t allowed, others;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) /* more than 1024 processors */
        return;
    others = allowed;
    for (int i = 0; i < count; i++)
        if (processors[i] >= 0 && processors[i] < CPU_SETSIZE)
            CPU_CLR(processors[i], &others);
    if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0)
        return;
    sched_setaffinity(0, sizeof allowed, &allowed);
}

/* Gives way, for a thread that waits to run on this very processor. */
static void wait_for_all(atomic_int *arrived, int count)
{
    enum { YIELDS = 16 };
    const struct timespec moment = {.tv_nsec = 20000};
    for (int i = 0; atomic_load(arrived) < count; i++)
        if (i < YIELDS)
            sched_yield();
        else
            nanosleep(&moment, NULL);
}

void parallel_wake(int threads)
{
    enum { MAX_THREADS = 256 };
    int processors[MAX_THREADS];
    atomic_int arrived = 0;
    if (threads <= 1 || threads > MAX_THREADS || omp_in_parallel())
        return;
#pragma omp parallel num_threads(threads)
    {
        const int team = omp_get_num_threads(), index = omp_get_thread_num();
        bool shared = false;
        processors[index] = sched_getcpu();
        atomic_fetch_add(&arrived, 1);
        wait_for_all(&arrived, team);
        for (int i = 0; i < index; i++)
            shared = shared || processors[i] == processors[index];
        if (shared)
            move_away(processors, team);
    }
}
#else
void parallel_wake(int threads)
{
    (void)threads;
}
#endif

#ifdef __linux__
static int affinity_processors(void)
{
    /* The kernel refuses a set smaller than its own: try larger ones until it fits. */
    for (int size = 1024; size <= 1 << 18; size *= 4) {
        cpu_set_t *set = CPU_ALLOC(size);
        if (!set)
            break;
        const size_t bytes = CPU_ALLOC_SIZE(size);
        CPU_ZERO_S(bytes, set);
        const int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (count > 0)
            return count;
    }
    return 0;
}

/* First line of a small file without its line break. */
static bool read_line(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    const bool read = fgets(line, (int)size, file) != NULL;
    fclose(file);
    if (read)
        line[strcspn(line, "\n")] = '\0';
    return read;
}

/* Processors that quota microseconds in every period allow, rounded up; 0 = no limit. */
static int quota_processors(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return 0;
    const long long count = (quota - 1) / period + 1;
    return count > INT_MAX ? INT_MAX : (int)count;
}

static int folder_quota(const char *folder, bool unified)
{
    char path[4352], line[128], *end;
    if (unified) { /* "max 100000" or "150000 100000" */
        snprintf(path, sizeof path, "%s/cpu.max", folder);
        if (!read_line(path, line, sizeof line) || strncmp(line, "max", 3) == 0)
            return 0;
        const long long quota = strtoll(line, &end, 10);
        return quota_processors(quota, strtoll(end, NULL, 10));
    }
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (!read_line(path, line, sizeof line))
        return 0;
    const long long quota = strtoll(line, NULL, 10);
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    if (!read_line(path, line, sizeof line))
        return 0;
    return quota_processors(quota, strtoll(line, NULL, 10));
}

/* The smallest quota of a group and all groups above it. In a container the path may name a
 * folder that is not mounted here; the walk up ends at the mount, which then is the container's
 * own group. */
static int group_quota(const char *mount, const char *group, bool unified)
{
    char folder[4200];
    const size_t base = strlen(mount);
    int smallest = 0;
    const int length = snprintf(folder, sizeof folder, "%s%s", mount, group);
    if (length < 0 || (size_t)length >= sizeof folder)
        return 0;
    for (;;) {
        const int limit = folder_quota(folder, unified);
        if (limit > 0 && (smallest == 0 || limit < smallest))
            smallest = limit;
        char *slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < base)
            return smallest;
        *slash = '\0';
    }
}

static bool has_controller(const char *list, const char *name)
{
    const size_t length = strlen(name);
    for (const char *each = list; each; each = strchr(each, ',')) {
        each += *each == ',';
        if (strncmp(each, name, length) == 0 && (each[length] == ',' || each[length] == '\0'))
            return true;
    }
    return false;
}

/* Lines of /proc/self/cgroup: "0::/path" (version 2), "4:cpu,cpuacct:/path" (version 1). */
static int cgroup_processors(void)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (!file)
        return 0;
    char line[4096];
    int smallest = 0;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *controllers++ = '\0';
        *group++ = '\0';
        int limit = 0;
        if (*controllers == '\0') {
            limit = group_quota("/sys/fs/cgroup", group, true);
            if (limit == 0)
                limit = group_quota("/sys/fs/cgroup/unified", group, true);
        } else if (has_controller(controllers, "cpu")) {
            limit = group_quota("/sys/fs/cgroup/cpu", group, false);
            if (limit == 0)
                limit = group_quota("/sys/fs/cgroup/cpu,cpuacct", group, false);
        }
        if (limit > 0 && (smallest == 0 || limit < smallest))
            smallest = limit;
    }
    fclose(file);
    return smallest;
}
#endif

int parallel_processors(void)
{
    long count = 0;
#if defined(_WIN32)
    DWORD_PTR process = 0, machine = 0;
    if (GetProcessAffinityMask(GetCurrentProcess(), &process, &machine))
        for (; process; process &= process - 1)
            count++;
#elif defined(__linux__)
    count = affinity_processors();
    if (count <= 0)
        count = sysconf(_SC_NPROCESSORS_ONLN);
    const int quota = cgroup_processors();
    if (quota > 0 && quota < count)
        count = quota;
#else
    count = sysconf(_SC_NPROCESSORS_ONLN);
#endif
    return count < 1 ? 1 : count > INT_MAX ? INT_MAX : (int)count;
}
