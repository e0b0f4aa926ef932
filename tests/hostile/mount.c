/* Preloaded into a process, it makes one kind of file operation fail below one folder, as mounts of
 * object stores do. Environment variables, read at every call, so that a process can change them:
 *   HOSTILE_FOLDER  the folder
 *   HOSTILE_CALL    fsync, rename, truncate, append, seek, chmod or statvfs; or "all"
 *   HOSTILE_ERRNO   the number of the error
 * Refusals are counted in the file HOSTILE_COUNT, one byte each. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_inside(const char *path) {
    const char *folder = getenv("HOSTILE_FOLDER");
    size_t n = folder ? strlen(folder) : 0;
    return n && path && strncmp(path, folder, n) == 0 && (path[n] == '/' || path[n] == 0);
}

static int is_inside_at(int dir, const char *path) {
    char link[64], folder[PATH_MAX];
    if (path[0] == '/' || dir == AT_FDCWD) return is_inside(path);
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    ssize_t n = readlink(link, folder, sizeof folder - 1);
    if (n < 0) return 0;
    folder[n] = 0;
    return is_inside(folder);
}

static int is_inside_fd(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return is_inside(path);
}

static int refuses(const char *call) {
    const char *chosen = getenv("HOSTILE_CALL");
    return chosen && (strcmp(chosen, call) == 0 || strcmp(chosen, "all") == 0);
}

static int refuse(void) {
    const char *count = getenv("HOSTILE_COUNT"), *number = getenv("HOSTILE_ERRNO");
    if (count) {
        int fd = NEXT(open)(count, O_WRONLY | O_CREAT | O_APPEND, 0600);
        if (fd >= 0) { NEXT(write)(fd, "x", 1); close(fd); }
    }
    errno = number ? atoi(number) : ENOSYS;
    return -1;
}

#define REFUSE(call, inside) if (refuses(call) && (inside)) return refuse()

int fsync(int fd) { REFUSE("fsync", is_inside_fd(fd)); return NEXT(fsync)(fd); }
int fdatasync(int fd) { REFUSE("fsync", is_inside_fd(fd)); return NEXT(fdatasync)(fd); }
int ftruncate(int fd, off_t n) { REFUSE("truncate", is_inside_fd(fd)); return NEXT(ftruncate)(fd, n); }
int ftruncate64(int fd, off64_t n) { REFUSE("truncate", is_inside_fd(fd)); return NEXT(ftruncate64)(fd, n); }
int truncate(const char *p, off_t n) { REFUSE("truncate", is_inside(p)); return NEXT(truncate)(p, n); }
int truncate64(const char *p, off64_t n) { REFUSE("truncate", is_inside(p)); return NEXT(truncate64)(p, n); }
int fallocate(int fd, int mode, off_t at, off_t n) { REFUSE("truncate", is_inside_fd(fd)); return NEXT(fallocate)(fd, mode, at, n); }
int fchmod(int fd, mode_t m) { REFUSE("chmod", is_inside_fd(fd)); return NEXT(fchmod)(fd, m); }
int chmod(const char *p, mode_t m) { REFUSE("chmod", is_inside(p)); return NEXT(chmod)(p, m); }
int fchmodat(int d, const char *p, mode_t m, int f) { REFUSE("chmod", is_inside_at(d, p)); return NEXT(fchmodat)(d, p, m, f); }
int rename(const char *a, const char *b) { REFUSE("rename", is_inside(a) || is_inside(b)); return NEXT(rename)(a, b); }
int renameat(int c, const char *a, int d, const char *b) { REFUSE("rename", is_inside_at(c, a) || is_inside_at(d, b)); return NEXT(renameat)(c, a, d, b); }
int renameat2(int c, const char *a, int d, const char *b, unsigned f) { REFUSE("rename", is_inside_at(c, a) || is_inside_at(d, b)); return NEXT(renameat2)(c, a, d, b, f); }
int link(const char *a, const char *b) { REFUSE("rename", is_inside(a) || is_inside(b)); return NEXT(link)(a, b); }

/* A write anywhere but at the end of the file. */
static int is_random(int fd, off_t at) {
    struct stat status;
    if (!is_inside_fd(fd) || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) return 0;
    return at != status.st_size;
}
ssize_t write(int fd, const void *b, size_t n) { REFUSE("seek", is_random(fd, lseek(fd, 0, SEEK_CUR))); return NEXT(write)(fd, b, n); }
ssize_t writev(int fd, const struct iovec *v, int n) { REFUSE("seek", is_random(fd, lseek(fd, 0, SEEK_CUR))); return NEXT(writev)(fd, v, n); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) { REFUSE("seek", is_random(fd, at)); return NEXT(pwrite)(fd, b, n, at); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at) { REFUSE("seek", is_random(fd, at)); return NEXT(pwrite64)(fd, b, n, at); }

static void *fail_mmap(void) { refuse(); return MAP_FAILED; }
#define IS_WRITE(p, f) (((p) & PROT_WRITE) && ((f) & MAP_SHARED))
void *mmap(void *a, size_t n, int p, int f, int fd, off_t at) { if (refuses("seek") && fd >= 0 && IS_WRITE(p, f) && is_inside_fd(fd)) return fail_mmap(); return NEXT(mmap)(a, n, p, f, fd, at); }
void *mmap64(void *a, size_t n, int p, int f, int fd, off64_t at) { if (refuses("seek") && fd >= 0 && IS_WRITE(p, f) && is_inside_fd(fd)) return fail_mmap(); return NEXT(mmap64)(a, n, p, f, fd, at); }

/* Opening a file that exists for truncation counts as truncation. */
static int is_refused_open(const char *path, int flags, int inside) {
    struct stat status;
    if (!inside) return 0;
    if ((flags & O_APPEND) && refuses("append")) return 1;
    return (flags & O_TRUNC) && refuses("truncate") && stat(path, &status) == 0 && status.st_size;
}
#define MODE(flags) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
int open(const char *p, int flags, ...) { MODE(flags) if (is_refused_open(p, flags, is_inside(p))) return refuse(); return NEXT(open)(p, flags, mode); }
int open64(const char *p, int flags, ...) { MODE(flags) if (is_refused_open(p, flags, is_inside(p))) return refuse(); return NEXT(open64)(p, flags, mode); }
int openat(int d, const char *p, int flags, ...) { MODE(flags) if (is_refused_open(p, flags, is_inside_at(d, p))) return refuse(); return NEXT(openat)(d, p, flags, mode); }
int openat64(int d, const char *p, int flags, ...) { MODE(flags) if (is_refused_open(p, flags, is_inside_at(d, p))) return refuse(); return NEXT(openat64)(d, p, flags, mode); }

int statvfs(const char *p, struct statvfs *s) { if (refuses("statvfs") && is_inside(p)) { memset(s, 0, sizeof *s); return 0; } return NEXT(statvfs)(p, s); }
int statvfs64(const char *p, struct statvfs64 *s) { if (refuses("statvfs") && is_inside(p)) { memset(s, 0, sizeof *s); return 0; } return NEXT(statvfs64)(p, s); }
