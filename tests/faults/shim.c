// SPDX-License-Identifier: Apache-2.0
// Preloaded: counts the calls that change files below a folder, and lets the n-th one fail, write
// half of its bytes, kill or signal the process, or change the system clock. Until fault_arm is
// called, nothing is counted.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, CREATE = 2, RENAME = 4, SYNC = 8 };
enum { KILL = -1, SHORT = -2, JUMP = -3, SIGNAL = -100 };

struct shared {
    long calls;
    double signalled_at;
};

static char folder[PATH_MAX];
static int kind, classes, sticky;
static long nth, jump, jumped;
static struct shared *shared;

// Counts calls of these classes in this process and the ones that it forks. From the n-th on (n > 0)
// they fail with errno `what`, once or always; KILL, SHORT, JUMP, and SIGNAL - N are no errors.
void fault_arm(const char *path, long n, int what, int of, int always, long seconds,
               struct shared *counters) {
    nth = n, kind = what, classes = of, sticky = always, jump = seconds;
    shared = counters;
    shared->calls = 0;
    snprintf(folder, sizeof folder, "%s", path);
}

static int inside(const char *path) {
    char full[PATH_MAX * 2], cwd[PATH_MAX];
    if (path[0] != '/' && getcwd(cwd, sizeof cwd)) {
        snprintf(full, sizeof full, "%s/%s", cwd, path);
        path = full;
    }
    return strncmp(path, folder, strlen(folder)) == 0;
}

// Whether this call is the one: 1 to fail or be short; does not return to kill.
static int hit(int class, const char *path) {
    if (!folder[0] || !(classes & class) || !inside(path)) return 0;
    long now = __sync_add_and_fetch(&shared->calls, 1);
    if (nth <= 0 || (sticky ? now < nth : now != nth)) return 0;
    if (kind == KILL) kill(getpid(), SIGKILL), pause();
    if (kind == JUMP) jumped = jump;
    if (kind <= SIGNAL) {
        struct timespec at;
        clock_gettime(CLOCK_MONOTONIC, &at);
        shared->signalled_at = at.tv_sec + at.tv_nsec * 1e-9;
        kill(getpid(), SIGNAL - kind);
    }
    if (kind == JUMP || kind <= SIGNAL) return 0;
    if (kind != SHORT) errno = kind;
    return 1;
}

static int hit_fd(int class, int fd) {
    if (!folder[0]) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int saved = errno;
    ssize_t size = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (size < 0) return 0;
    path[size] = 0;
    return hit(class, path);
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define HALF(n) ((n) > 1 ? (n) / 2 : (n))

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (hit_fd(WRITE, fd)) {
        if (kind != SHORT) return -1;
        size = HALF(size);
    }
    return real(fd, data, size);
}

#define PWRITE(name, offset_t) \
    ssize_t name(int fd, const void *data, size_t size, offset_t at) { \
        REAL(ssize_t, #name, int, const void *, size_t, offset_t); \
        if (hit_fd(WRITE, fd)) { \
            if (kind != SHORT) return -1; \
            size = HALF(size); \
        } \
        return real(fd, data, size, at); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec *parts, int number) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (hit_fd(WRITE, fd)) {
        if (kind != SHORT) return -1;
        number = HALF(number);
    }
    return real(fd, parts, number);
}

#define SENDFILE(name, offset_t) \
    ssize_t name(int to, int from, offset_t *at, size_t size) { \
        REAL(ssize_t, #name, int, int, offset_t *, size_t); \
        if (hit_fd(WRITE, to)) { \
            if (kind != SHORT) return -1; \
            size = size > 64 ? 64 : size; \
        } \
        return real(to, from, at, size); \
    }
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

// The C library writes what fwrite and fclose have buffered with calls that nobody can replace.
size_t fwrite(const void *data, size_t size, size_t number, FILE *file) {
    REAL(size_t, "fwrite", const void *, size_t, size_t, FILE *);
    if (folder[0] && hit_fd(WRITE, fileno(file))) {
        size_t part = kind == SHORT ? HALF(size * number) : 0;
        if (part) real(data, 1, part, file);
        if (kind == SHORT) errno = ENOSPC;
        return size ? part / size : 0;
    }
    return real(data, size, number, file);
}

int fclose(FILE *file) {
    REAL(int, "fclose", FILE *);
    int failed = folder[0] && kind != SHORT && (fcntl(fileno(file), F_GETFL) & O_ACCMODE) &&
                 hit_fd(WRITE, fileno(file));
    int result = real(file);
    if (failed) errno = kind;
    return failed ? EOF : result;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, #name, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        if ((flags & O_CREAT) && hit(CREATE, path) && kind != SHORT) return -1; \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define FOPEN(name) \
    FILE *name(const char *path, const char *mode) { \
        REAL(FILE *, #name, const char *, const char *); \
        if (strpbrk(mode, "wa") && hit(CREATE, path) && kind != SHORT) return NULL; \
        return real(path, mode); \
    }
FOPEN(fopen)
FOPEN(fopen64)

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    return hit(CREATE, path) && kind != SHORT ? -1 : real(path, mode);
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    return hit(RENAME, to) && kind != SHORT ? -1 : real(from, to);
}

int fsync(int fd) {
    REAL(int, "fsync", int);
    return hit_fd(SYNC, fd) && kind != SHORT ? -1 : real(fd);
}

// The clocks that show the time of day; times of files are the kernel's.
int clock_gettime(clockid_t clock, struct timespec *at) {
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int result = real(clock, at);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) at->tv_sec += jumped;
    return result;
}

int gettimeofday(struct timeval *at, void *zone) {
    REAL(int, "gettimeofday", struct timeval *, void *);
    int result = real(at, zone);
    at->tv_sec += jumped;
    return result;
}

time_t time(time_t *at) {
    REAL(time_t, "time", time_t *);
    time_t now = real(NULL) + jumped;
    if (at) *at = now;
    return now;
}
