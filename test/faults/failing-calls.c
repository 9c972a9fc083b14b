/*
 * Calls that change files, made to fail on demand in a running process. Loaded before the C library, this counts the calls
 * on paths below a folder and lets the chosen ones fail with the chosen error; sockets and other files are left alone. What
 * is to fail stands in a small file that this process has mapped and the test writes, so faults come and go while it runs.
 * See support/failing-calls.ts.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { OPEN = 1, WRITE = 2, SYNC = 4, RENAME = 8, TRUNCATE = 16, REMOVE = 32, MKDIR = 64 };

/* The layout is known to support/failing-calls.ts. */
struct control {
  _Atomic uint32_t kinds;   /* those that count, or 0: nothing fails */
  _Atomic uint32_t at;      /* which of them fails, from 0 on */
  _Atomic uint32_t lasting; /* all from that one on fail */
  _Atomic uint32_t error;   /* the errno */
  _Atomic uint32_t torn;    /* half of what a failing call writes is written */
  _Atomic uint32_t calls;   /* how many counted since they were armed */
  _Atomic uint32_t failed;  /* how many of them failed */
};

static struct control *control;
static char folder[PATH_MAX];
static size_t folder_length;

/* Before main, while there is one thread. */
__attribute__((constructor)) static void prepare(void) {
  const char *path = getenv("FAILING_CALLS_CONTROL");
  const char *below = getenv("FAILING_CALLS_FOLDER");
  if (path == NULL || below == NULL || realpath(below, folder) == NULL) return;
  folder_length = strlen(folder);
  int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
  int fd = real_open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return;
  void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (mapped != MAP_FAILED) control = mapped;
}

static int armed(enum kind kind) { return control != NULL && (atomic_load(&control->kinds) & kind) != 0; }

static int below_folder(const char *path) {
  return strncmp(path, folder, folder_length) == 0 && (path[folder_length] == '/' || path[folder_length] == '\0');
}

/* Where the descriptor leads; sockets and pipes have no path. */
static int descriptor_below(int fd) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = '\0';
  return below_folder(path);
}

/* The file need not be there, so it is its folder that is resolved. */
static int path_below(int at, const char *path) {
  char parent[PATH_MAX], whole[PATH_MAX];
  if (path[0] != '/' && at != AT_FDCWD) return descriptor_below(at);
  if (realpath(path, whole) != NULL) return below_folder(whole);
  if (strlen(path) >= sizeof parent) return 0;
  strcpy(parent, path);
  char *slash = strrchr(parent, '/');
  if (slash == NULL) strcpy(parent, ".");
  else if (slash == parent) slash[1] = '\0';
  else *slash = '\0';
  return realpath(parent, whole) != NULL && below_folder(whole);
}

/* Counts a call that matches; whether it is to fail. */
static int fails(void) {
  uint32_t index = atomic_fetch_add(&control->calls, 1);
  uint32_t at = atomic_load(&control->at);
  if (index != at && !(atomic_load(&control->lasting) && index > at)) return 0;
  atomic_fetch_add(&control->failed, 1);
  return 1;
}

static int refuse(void) {
  errno = (int)atomic_load(&control->error);
  return -1;
}

static int descriptor_fails(enum kind kind, int fd) {
  if (!armed(kind)) return 0;
  int saved = errno;
  int result = descriptor_below(fd) && fails();
  errno = saved;
  return result;
}

static int path_fails(enum kind kind, int at, const char *path) {
  if (!armed(kind)) return 0;
  int saved = errno;
  int result = path_below(at, path) && fails();
  errno = saved;
  return result;
}

static int torn(void) { return atomic_load(&control->torn) != 0; }

/* The function of the C library behind the one of this name here. */
#define REAL(name)                                                                                                    \
  static __typeof__(name) *real;                                                                                      \
  if (real == NULL) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *bytes, size_t length) {
  REAL(write);
  if (!descriptor_fails(WRITE, fd)) return real(fd, bytes, length);
  if (torn()) (void)!real(fd, bytes, length / 2);
  return refuse();
}

#define PWRITE(name, offset_type)                                                                                     \
  ssize_t name(int fd, const void *bytes, size_t length, offset_type at) {                                            \
    REAL(name);                                                                                                       \
    if (!descriptor_fails(WRITE, fd)) return real(fd, bytes, length, at);                                             \
    if (torn()) (void)!real(fd, bytes, length / 2, at);                                                               \
    return refuse();                                                                                                  \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(writev);
  if (!descriptor_fails(WRITE, fd)) return real(fd, parts, count);
  if (torn()) (void)!real(fd, parts, (count + 1) / 2);
  return refuse();
}

#define PWRITEV(name, offset_type)                                                                                    \
  ssize_t name(int fd, const struct iovec *parts, int count, offset_type at) {                                        \
    REAL(name);                                                                                                       \
    if (!descriptor_fails(WRITE, fd)) return real(fd, parts, count, at);                                              \
    if (torn()) (void)!real(fd, parts, (count + 1) / 2, at);                                                          \
    return refuse();                                                                                                  \
  }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

#define ON_DESCRIPTOR(name, kind, parameters, arguments)                                                              \
  int name parameters {                                                                                               \
    REAL(name);                                                                                                       \
    return descriptor_fails(kind, fd) ? refuse() : real arguments;                                                    \
  }
ON_DESCRIPTOR(fsync, SYNC, (int fd), (fd))
ON_DESCRIPTOR(fdatasync, SYNC, (int fd), (fd))
ON_DESCRIPTOR(ftruncate, TRUNCATE, (int fd, off_t length), (fd, length))
ON_DESCRIPTOR(ftruncate64, TRUNCATE, (int fd, off64_t length), (fd, length))
ON_DESCRIPTOR(fallocate, TRUNCATE, (int fd, int mode, off_t at, off_t length), (fd, mode, at, length))
ON_DESCRIPTOR(fallocate64, TRUNCATE, (int fd, int mode, off64_t at, off64_t length), (fd, mode, at, length))

#define ON_PATH(name, kind, at, parameters, arguments)                                                                \
  int name parameters {                                                                                               \
    REAL(name);                                                                                                       \
    return path_fails(kind, at, path) ? refuse() : real arguments;                                                    \
  }
ON_PATH(unlink, REMOVE, AT_FDCWD, (const char *path), (path))
ON_PATH(unlinkat, REMOVE, at, (int at, const char *path, int flags), (at, path, flags))
ON_PATH(rmdir, REMOVE, AT_FDCWD, (const char *path), (path))
ON_PATH(mkdir, MKDIR, AT_FDCWD, (const char *path, mode_t mode), (path, mode))
ON_PATH(mkdirat, MKDIR, at, (int at, const char *path, mode_t mode), (at, path, mode))
ON_PATH(link, RENAME, AT_FDCWD, (const char *from, const char *path), (from, path))
ON_PATH(rename, RENAME, AT_FDCWD, (const char *from, const char *path), (from, path))
ON_PATH(renameat, RENAME, to, (int at, const char *from, int to, const char *path), (at, from, to, path))

/* Opened for reading only, a file is not about to change. */
#define OPENED(name, at, parameters, arguments)                                                                       \
  int name parameters {                                                                                               \
    REAL(name);                                                                                                       \
    va_list rest;                                                                                                     \
    va_start(rest, flags);                                                                                            \
    mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;                                  \
    va_end(rest);                                                                                                     \
    int changes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT) != 0;                                          \
    return changes && path_fails(OPEN, at, path) ? refuse() : real arguments;                                         \
  }
OPENED(open, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPENED(open64, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
OPENED(openat, at, (int at, const char *path, int flags, ...), (at, path, flags, mode))
OPENED(openat64, at, (int at, const char *path, int flags, ...), (at, path, flags, mode))
