/* Stands between a program and libc (LD_PRELOAD): numbers every call that changes files below one folder, logs it,
 * and kills the process group or injects an error at a chosen number.
 *
 * What it is to do stands in a control block, a file that MSDN_SHIM_CONTROL names and that the program and all its
 * children share; shim.py has the same layout. While it is not armed, every call goes straight on.
 *
 * Flushes are numbered and logged, but not done: what a killed process has written stays in the kernel, and order.py
 * reads from the log whether a power cut would have found everything in its order.
 *
 * The date stands still, so that two runs write the same bytes.
 *
 * Not seen: writes of glibc's own stdio (an fopen for writing is logged, so that nobody relies on it), and stores
 * through a shared memory map (its mmap is logged). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FICLONE_CODE 0x40049409UL
#define FICLONERANGE_CODE 0x4020940dUL
#define PATH 1024
#define NOW 1767225600 /* 2026-01-01 00:00:00 UTC */

enum kind { OPEN = 1, WRITE = 2, FLUSH = 4, NAME = 8, REMOVE = 16, FOLDER = 32, SIZE = 64, COPY = 128, CLOSE = 256 };
enum action { NOTHING = 0, KILL = 1, FAIL = 2, SHORT = 3 };
enum when { BEFORE = 0, INSIDE = 1, AFTER = 2 };

struct control {
    char magic[8];
    _Atomic int armed, calls, hits;
    int first, last, action, when, error, kinds; /* the action is for calls first..last of these kinds */
    char folder[PATH], log[PATH];
};

static struct control *control;

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("MSDN_SHIM_CONTROL");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0) : -1;
    if (fd < 0) return;
    void *block = (void *)syscall(SYS_mmap, NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (block != MAP_FAILED && !memcmp(((struct control *)block)->magic, "msdnshim", 8)) control = block;
}

static void *real(void **place, const char *name) {
    if (!*place) *place = dlsym(RTLD_NEXT, name);
    return *place;
}
#define REAL(name, type) ((type)({ static void *place; real(&place, #name); }))

static int is_armed(void) { return control && atomic_load(&control->armed); }

/* The absolute path of a name below a folder's descriptor, or of a descriptor alone; whether it is watched. */
static int find_path(char *out, int fd, const char *name) {
    size_t used = 0, watched;
    if (!is_armed()) return 0;
    if (!name || name[0] != '/') {
        char link[64];
        snprintf(link, sizeof link, fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", fd);
        ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, out, PATH - 2);
        if (n <= 0) return 0;
        used = (size_t)n;
        if (!name && used > 10 && !memcmp(out + used - 10, " (deleted)", 10)) used -= 10;
        if (name) out[used++] = '/';
        out[used] = 0;
    }
    if (name) snprintf(out + used, PATH - used, "%s", name);
    watched = strlen(control->folder);
    return !strncmp(out, control->folder, watched) && (out[watched] == '/' || !out[watched]);
}

static void note(int number, const char *name, const char *path, const char *other, long long bytes,
                 long long offset, long long result, const char *mark) {
    char line[3 * PATH];
    int n = snprintf(line, sizeof line, "%d\t%d\t%s\t%s\t%s\t%lld\t%lld\t%lld\t%s\n", number, (int)syscall(SYS_getpid), name,
                     path, other, bytes, offset, result, mark);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, control->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) return;
    syscall(SYS_write, fd, line, n < (int)sizeof line ? n : (int)sizeof line - 1);
    syscall(SYS_close, fd);
}

static int is_meant(int number, enum kind kind) {
    return control->action && number >= control->first && number <= control->last && (control->kinds & kind);
}

static void end_all(void) {
    syscall(SYS_kill, 0, SIGKILL);
    for (;;) pause();
}

/* Around a call: `call` may use `part`, which says whether only half of the bytes are meant. */
#define AROUND(kind, name, path, other, bytes, offset, mark, type, call)                                     \
    do {                                                                                                     \
        int number = atomic_fetch_add(&control->calls, 1) + 1, meant = is_meant(number, kind), part = 0;     \
        if (meant) atomic_fetch_add(&control->hits, 1);                                                      \
        if (meant && control->action == KILL && control->when == BEFORE) {                                   \
            note(number, name, path, other, bytes, offset, 0, "killed before");                              \
            end_all();                                                                                       \
        }                                                                                                    \
        if (meant && control->action == FAIL) {                                                              \
            note(number, name, path, other, bytes, offset, -control->error, "failed");                       \
            if ((kind) == CLOSE) { (void)(call); }                                                           \
            errno = control->error;                                                                          \
            return (type)-1;                                                                                 \
        }                                                                                                    \
        part = meant && (kind & (WRITE | COPY)) && (bytes) > 1 &&                                            \
               (control->action == SHORT || (control->action == KILL && control->when == INSIDE));           \
        type result = (call);                                                                                \
        int saved = errno;                                                                                   \
        note(number, name, path, other, bytes, offset, (long long)result,                                    \
             meant ? (part ? "half" : control->action == KILL ? "killed after" : mark) : mark);              \
        if (meant && control->action == KILL) end_all();                                                     \
        errno = saved;                                                                                       \
        return result;                                                                                       \
    } while (0)

static int writes(int flags) { return (flags & (O_CREAT | O_TRUNC)) || (flags & O_ACCMODE) != O_RDONLY; }

static int open_watched(const char *name, int fd, const char *given, int flags, mode_t mode, int (*go)(int, const char *, int, ...)) {
    char path[PATH];
    if (!writes(flags) || !find_path(path, fd, given)) return go(fd, given, flags, mode);
    struct stat stat;
    int is_new = syscall(SYS_newfstatat, fd, given, &stat, 0) != 0;
    AROUND(OPEN, name, path, "", 0LL, 0LL, is_new ? "new" : flags & O_TRUNC ? "emptied" : "", int, go(fd, given, flags, mode));
}

#define OPEN_LIKE(name, real_at)                                                                             \
    int name(const char *path, int flags, ...) {                                                             \
        va_list rest; va_start(rest, flags);                                                                 \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; va_end(rest);                \
        return open_watched(#name, AT_FDCWD, path, flags, mode, REAL(real_at, int (*)(int, const char *, int, ...))); \
    }
OPEN_LIKE(open, openat)
OPEN_LIKE(open64, openat64)
#define OPENAT_LIKE(name)                                                                                    \
    int name(int fd, const char *path, int flags, ...) {                                                     \
        va_list rest; va_start(rest, flags);                                                                 \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; va_end(rest);                \
        return open_watched(#name, fd, path, flags, mode, REAL(name, int (*)(int, const char *, int, ...))); \
    }
OPENAT_LIKE(openat)
OPENAT_LIKE(openat64)
int __open_2(const char *path, int flags) { return open(path, flags); }
int __open64_2(const char *path, int flags) { return open64(path, flags); }
int creat(const char *path, mode_t mode) { return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open64(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

#define FOPEN_LIKE(name)                                                                                     \
    FILE *name(const char *given, const char *mode) {                                                        \
        char path[PATH];                                                                                     \
        FILE *file = REAL(name, FILE *(*)(const char *, const char *))(given, mode);                         \
        if (file && strpbrk(mode, "wa+") && find_path(path, AT_FDCWD, given))                                \
            note(atomic_fetch_add(&control->calls, 1) + 1, "fopen", path, "", 0, 0, 0, "stdio");             \
        return file;                                                                                         \
    }
FOPEN_LIKE(fopen)
FOPEN_LIKE(fopen64)

ssize_t write(int fd, const void *data, size_t size) {
    char path[PATH];
    if (!find_path(path, fd, NULL)) return syscall(SYS_write, fd, data, size);
    long long at = syscall(SYS_lseek, fd, 0, SEEK_CUR);
    AROUND(WRITE, "write", path, "", (long long)size, at, "", ssize_t, syscall(SYS_write, fd, data, part ? size / 2 : size));
}

#define PWRITE_LIKE(name)                                                                                    \
    ssize_t name(int fd, const void *data, size_t size, off_t at) {                                          \
        char path[PATH];                                                                                     \
        if (!find_path(path, fd, NULL)) return syscall(SYS_pwrite64, fd, data, size, at);                    \
        AROUND(WRITE, #name, path, "", (long long)size, (long long)at, "", ssize_t,                          \
               syscall(SYS_pwrite64, fd, data, part ? size / 2 : size, at));                                 \
    }
PWRITE_LIKE(pwrite)
PWRITE_LIKE(pwrite64)

static long long total_of(const struct iovec *parts, int count) {
    long long total = 0;
    for (int i = 0; i < count; i++) total += (long long)parts[i].iov_len;
    return total;
}

static ssize_t write_half(int fd, const struct iovec *parts, int count, off_t at) { /* of the first part that has bytes */
    for (int i = 0; i < count; i++)
        if (parts[i].iov_len) {
            size_t half = (parts[i].iov_len + 1) / 2;
            return at < 0 ? syscall(SYS_write, fd, parts[i].iov_base, half)
                          : syscall(SYS_pwrite64, fd, parts[i].iov_base, half, at);
        }
    return 0;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[PATH];
    if (!find_path(path, fd, NULL)) return syscall(SYS_writev, fd, parts, count);
    long long at = syscall(SYS_lseek, fd, 0, SEEK_CUR), size = total_of(parts, count);
    AROUND(WRITE, "writev", path, "", size, at, "", ssize_t,
           part ? write_half(fd, parts, count, -1) : syscall(SYS_writev, fd, parts, count));
}

#define PWRITEV_LIKE(name)                                                                                   \
    ssize_t name(int fd, const struct iovec *parts, int count, off_t at) {                                   \
        char path[PATH];                                                                                     \
        ssize_t (*go)(int, const struct iovec *, int, off_t) = REAL(name, ssize_t (*)(int, const struct iovec *, int, off_t)); \
        if (!find_path(path, fd, NULL)) return go(fd, parts, count, at);                                     \
        long long size = total_of(parts, count);                                                             \
        AROUND(WRITE, #name, path, "", size, (long long)at, "", ssize_t,                                     \
               part ? write_half(fd, parts, count, at) : go(fd, parts, count, at));                          \
    }
PWRITEV_LIKE(pwritev)
PWRITEV_LIKE(pwritev64)

#define FLUSH_LIKE(name, code)                                                                               \
    int name(int fd) {                                                                                       \
        char path[PATH];                                                                                     \
        if (!find_path(path, fd, NULL)) return (int)syscall(code, fd);                                       \
        AROUND(FLUSH, #name, path, "", 0LL, 0LL, "", int, 0);                           \
    }
FLUSH_LIKE(fsync, SYS_fsync)
FLUSH_LIKE(fdatasync, SYS_fdatasync)
FLUSH_LIKE(syncfs, SYS_syncfs)

void sync(void) { /* cannot fail */
    if (!is_armed()) { syscall(SYS_sync); return; }
    note(atomic_fetch_add(&control->calls, 1) + 1, "sync", control->folder, "", 0, 0, 0, "");
}

static int rename_watched(const char *name, int from, const char *old, int to, const char *new, unsigned flags) {
    char path[PATH], other[PATH];
    int watched = find_path(path, from, old) | find_path(other, to, new);
    if (!watched) return (int)syscall(SYS_renameat2, from, old, to, new, flags);
    AROUND(NAME, name, path, other, 0LL, 0LL, "", int, (int)syscall(SYS_renameat2, from, old, to, new, flags));
}
int rename(const char *old, const char *new) { return rename_watched("rename", AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int from, const char *old, int to, const char *new) { return rename_watched("renameat", from, old, to, new, 0); }
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    return rename_watched("renameat2", from, old, to, new, flags);
}

int linkat(int from, const char *old, int to, const char *new, int flags) {
    char path[PATH], other[PATH];
    int watched = find_path(other, to, new);
    if (!watched) return (int)syscall(SYS_linkat, from, old, to, new, flags);
    find_path(path, from, old);
    AROUND(NAME, "linkat", path, other, 0LL, 0LL, "", int, (int)syscall(SYS_linkat, from, old, to, new, flags));
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

int symlinkat(const char *target, int fd, const char *given) {
    char path[PATH];
    if (!find_path(path, fd, given)) return (int)syscall(SYS_symlinkat, target, fd, given);
    AROUND(NAME, "symlinkat", target, path, 0LL, 0LL, "", int, (int)syscall(SYS_symlinkat, target, fd, given));
}
int symlink(const char *target, const char *given) { return symlinkat(target, AT_FDCWD, given); }

static int remove_watched(const char *name, int fd, const char *given, int flags) {
    char path[PATH];
    if (!find_path(path, fd, given)) return (int)syscall(SYS_unlinkat, fd, given, flags);
    AROUND(REMOVE, name, path, "", 0LL, 0LL, "", int, (int)syscall(SYS_unlinkat, fd, given, flags));
}
int unlink(const char *path) { return remove_watched("unlink", AT_FDCWD, path, 0); }
int unlinkat(int fd, const char *path, int flags) { return remove_watched(flags & AT_REMOVEDIR ? "rmdir" : "unlink", fd, path, flags); }
int rmdir(const char *path) { return remove_watched("rmdir", AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    int done = unlink(path);
    return done && errno == EISDIR ? rmdir(path) : done;
}

int mkdirat(int fd, const char *given, mode_t mode) {
    char path[PATH];
    struct stat stat; /* one that is there already changes nothing */
    if (!find_path(path, fd, given) || !syscall(SYS_newfstatat, fd, given, &stat, AT_SYMLINK_NOFOLLOW))
        return (int)syscall(SYS_mkdirat, fd, given, mode);
    AROUND(FOLDER, "mkdir", path, "", 0LL, 0LL, "", int, (int)syscall(SYS_mkdirat, fd, given, mode));
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

#define SIZE_LIKE(name)                                                                                      \
    int name(int fd, off_t size) {                                                                           \
        char path[PATH];                                                                                     \
        if (!find_path(path, fd, NULL)) return (int)syscall(SYS_ftruncate, fd, size);                        \
        AROUND(SIZE, "ftruncate", path, "", (long long)size, 0LL, "", int, (int)syscall(SYS_ftruncate, fd, size)); \
    }
SIZE_LIKE(ftruncate)
SIZE_LIKE(ftruncate64)
#define SIZE_BY_NAME_LIKE(name)                                                                              \
    int name(const char *given, off_t size) {                                                                \
        char path[PATH];                                                                                     \
        if (!find_path(path, AT_FDCWD, given)) return (int)syscall(SYS_truncate, given, size);               \
        AROUND(SIZE, "truncate", path, "", (long long)size, 0LL, "", int, (int)syscall(SYS_truncate, given, size)); \
    }
SIZE_BY_NAME_LIKE(truncate)
SIZE_BY_NAME_LIKE(truncate64)
#define ALLOCATE_LIKE(name)                                                                                  \
    int name(int fd, int mode, off_t at, off_t size) {                                                       \
        char path[PATH];                                                                                     \
        if (!find_path(path, fd, NULL)) return (int)syscall(SYS_fallocate, fd, mode, at, size);              \
        AROUND(SIZE, "fallocate", path, "", (long long)size, (long long)at, "", int,                         \
               (int)syscall(SYS_fallocate, fd, mode, at, size));                                             \
    }
ALLOCATE_LIKE(fallocate)
ALLOCATE_LIKE(fallocate64)
int posix_fallocate(int fd, off_t at, off_t size) { return fallocate(fd, 0, at, size) ? errno : 0; }
int posix_fallocate64(int fd, off_t at, off_t size) { return fallocate(fd, 0, at, size) ? errno : 0; }

ssize_t copy_file_range(int in, off_t *from, int out, off_t *at, size_t size, unsigned flags) {
    char path[PATH];
    if (!find_path(path, out, NULL)) return syscall(SYS_copy_file_range, in, from, out, at, size, flags);
    AROUND(COPY, "copy_file_range", path, "", (long long)size, at ? (long long)*at : 0LL, "", ssize_t,
           syscall(SYS_copy_file_range, in, from, out, at, part ? size / 2 : size, flags));
}
#define SENDFILE_LIKE(name)                                                                                  \
    ssize_t name(int out, int in, off_t *from, size_t size) {                                                \
        char path[PATH];                                                                                     \
        if (!find_path(path, out, NULL)) return syscall(SYS_sendfile, out, in, from, size);                  \
        AROUND(COPY, "sendfile", path, "", (long long)size, 0LL, "", ssize_t,                                \
               syscall(SYS_sendfile, out, in, from, part ? size / 2 : size));                                \
    }
SENDFILE_LIKE(sendfile)
SENDFILE_LIKE(sendfile64)

int ioctl(int fd, unsigned long code, ...) {
    char path[PATH];
    va_list rest; va_start(rest, code);
    void *argument = va_arg(rest, void *); va_end(rest);
    if ((code != FICLONE_CODE && code != FICLONERANGE_CODE) || !find_path(path, fd, NULL))
        return (int)syscall(SYS_ioctl, fd, code, argument);
    AROUND(COPY, "ficlone", path, "", 0LL, 0LL, "", int, (int)syscall(SYS_ioctl, fd, code, argument));
}

#define MMAP_LIKE(name)                                                                                      \
    void *name(void *where, size_t size, int protection, int flags, int fd, off_t at) {                      \
        char path[PATH];                                                                                     \
        if (fd >= 0 && (protection & PROT_WRITE) && (flags & MAP_SHARED) && find_path(path, fd, NULL))       \
            note(atomic_fetch_add(&control->calls, 1) + 1, "mmap", path, "", (long long)size, at, 0, "shared"); \
        return (void *)syscall(SYS_mmap, where, size, protection, flags, fd, at);                            \
    }
MMAP_LIKE(mmap)
MMAP_LIKE(mmap64)

int close(int fd) { /* numbered for files open for writing: some file systems tell of a full disk only here */
    char path[PATH];
    int flags;
    if (!is_armed() || (flags = (int)syscall(SYS_fcntl, fd, F_GETFL)) < 0 || (flags & O_ACCMODE) == O_RDONLY ||
        !find_path(path, fd, NULL))
        return (int)syscall(SYS_close, fd);
    AROUND(CLOSE, "close", path, "", 0LL, 0LL, "", int, (int)syscall(SYS_close, fd));
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    int failed = (int)syscall(SYS_clock_gettime, clock, out);
    if (!failed && control && clock == CLOCK_REALTIME) *out = (struct timespec){NOW, 0};
    return failed;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    int failed = (int)syscall(SYS_gettimeofday, out, zone);
    if (!failed && control) *out = (struct timeval){NOW, 0};
    return failed;
}

time_t time(time_t *out) {
    time_t now = control ? NOW : (time_t)syscall(SYS_time, NULL);
    if (out) *out = now;
    return now;
}
