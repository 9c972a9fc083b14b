/*
 * Records what a process does to the files of one folder, in the order in which it was done, so that a test can work out
 * what a disk would hold if the power had gone at any moment. Preloaded; it changes nothing that the process does.
 *
 *   POWER_CUT_FOLDER  the folder, absolute and without symbolic links
 *   POWER_CUT_LOG     the file that entries are appended to, outside of the folder
 *
 * A call that changes a file or a folder is made and logged under one mutex, so the log has the order in which they were
 * done, and an entry is in the log before its caller goes on. A sync is not made under it: its entry comes when it has
 * returned, and says where the log ended when it was called, since it need not cover what came later. operation-log.ts
 * reads the entries. What cannot be recorded is logged as "unsupported", which the reader refuses.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { CREATE = 1, OPEN, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, LINK, MKDIR, RMDIR, MAP, UNSUPPORTED };
enum { FSYNC = 1, FDATASYNC, SYNCED_WRITE };

struct header {
  uint32_t bytes; /* of the whole entry */
  uint8_t operation;
  uint8_t kind; /* of a sync */
  uint16_t path_bytes;
  uint64_t time; /* nanoseconds since 1970 */
  uint64_t inode;
  uint64_t value; /* offset, size, or position in the log */
};

enum { DESCRIPTORS = 65536 };

static struct {
  uint64_t inode; /* 0: not of the folder */
  int append, synced;
} files[DESCRIPTORS];

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static size_t folder_bytes; /* 0: nothing is recorded */
static dev_t device;
static int log_descriptor = -1;
static uint64_t log_bytes;

/* The function of the same name that comes after this library's. */
#define REAL(name)                                          \
  static __typeof__(&name) real;                            \
  if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, #name)

static void fail(const char *what) {
  fprintf(stderr, "power-cut shim: %s: %s\n", what, strerror(errno));
  abort();
}

__attribute__((constructor)) static void start(void) {
  const char *root = getenv("POWER_CUT_FOLDER"), *log = getenv("POWER_CUT_LOG");
  /* Processes that this one starts are not recorded: a mutex of theirs would be another one. */
  unsetenv("LD_PRELOAD");
  if (root == NULL || log == NULL) return;
  log_descriptor = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  struct stat status;
  if (log_descriptor < 0 || fstat(log_descriptor, &status) != 0) fail(log);
  log_bytes = status.st_size;
  if (strlen(root) >= sizeof folder || stat(root, &status) != 0) fail(root);
  device = status.st_dev;
  strcpy(folder, root);
  folder_bytes = strlen(folder);
}

/* ---- the log; under the mutex ---- */

static void append(struct header header, const char *path, const struct iovec *data, int count, size_t data_bytes) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  header.time = now.tv_sec * 1000000000ull + now.tv_nsec;
  header.path_bytes = path == NULL ? 0 : strlen(path);
  header.bytes = sizeof header + header.path_bytes + data_bytes;
  /* One buffer and one call, so that a process that is killed leaves a whole entry or a tail that is too short. */
  char *entry = malloc(header.bytes), *end = entry;
  if (entry == NULL) fail("no memory");
  end = mempcpy(end, &header, sizeof header);
  if (path != NULL) end = mempcpy(end, path, header.path_bytes);
  for (int i = 0; i < count && data_bytes > 0; i++) {
    size_t bytes = data[i].iov_len < data_bytes ? data[i].iov_len : data_bytes;
    end = mempcpy(end, data[i].iov_base, bytes);
    data_bytes -= bytes;
  }
  for (char *from = entry; from < end;) {
    ssize_t written = syscall(SYS_write, log_descriptor, from, end - from);
    if (written < 0 && errno != EINTR) fail("the log");
    if (written > 0) from += written;
  }
  log_bytes += header.bytes;
  free(entry);
}

static void append_path(int operation, const char *path, uint64_t inode) {
  append((struct header){.operation = operation, .inode = inode}, path, NULL, 0, 0);
}

static void append_two_paths(int operation, const char *path, const char *other) {
  struct iovec data = {(void *)other, strlen(other)};
  append((struct header){.operation = operation}, path, &data, 1, data.iov_len);
}

static void unsupported(const char *call) {
  int error = errno;
  pthread_mutex_lock(&mutex);
  append_path(UNSUPPORTED, call, 0);
  pthread_mutex_unlock(&mutex);
  errno = error;
}

/* ---- paths and descriptors ---- */

/* 0: not of the folder. Asks anew, since libc and libuv also close by ways that are not seen here. */
static uint64_t inode_of(int fd) {
  if (fd < 0 || fd >= DESCRIPTORS || files[fd].inode == 0) return 0;
  int error = errno;
  struct stat status;
  if (fstat(fd, &status) != 0 || status.st_ino != files[fd].inode || status.st_dev != device) files[fd].inode = 0;
  errno = error;
  return files[fd].inode;
}

static void forget(int fd) {
  if (fd >= 0 && fd < DESCRIPTORS) files[fd].inode = 0;
}

/* The path from the folder, "" for the folder itself. Returns 0 for what lies elsewhere. */
static int within(int at, const char *path, char *result) {
  if (folder_bytes == 0 || path == NULL) return 0;
  char whole[2 * PATH_MAX], clean[2 * PATH_MAX];
  if (path[0] == '/') {
    if (snprintf(whole, sizeof whole, "%s", path) >= PATH_MAX) return 0;
  } else {
    char base[PATH_MAX];
    if (at == AT_FDCWD) {
      if (syscall(SYS_getcwd, base, sizeof base) < 0) return 0;
    } else {
      char link[64];
      snprintf(link, sizeof link, "/proc/self/fd/%d", at);
      ssize_t bytes = syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 1);
      if (bytes < 0) return 0;
      base[bytes] = 0;
    }
    snprintf(whole, sizeof whole, "%s/%s", base, path);
  }
  char *end = clean;
  for (char *rest, *part = strtok_r(whole, "/", &rest); part != NULL; part = strtok_r(NULL, "/", &rest)) {
    if (strcmp(part, ".") == 0) continue;
    if (strcmp(part, "..") == 0) {
      while (end > clean && *--end != '/') {
      }
      continue;
    }
    *end++ = '/';
    end = stpcpy(end, part);
  }
  *end = 0;
  if (strncmp(clean, folder, folder_bytes) != 0) return 0;
  if (clean[folder_bytes] == 0) return *result = 0, 1;
  if (clean[folder_bytes] != '/') return 0;
  snprintf(result, PATH_MAX, "%s", clean + folder_bytes + 1);
  return 1;
}

static int exists(int at, const char *path) {
  struct stat status;
  return fstatat(at, path, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

static int open_recorded(int (*open_it)(int, const char *, int, ...), int at, const char *path, int flags, mode_t mode) {
  char name[PATH_MAX];
  if ((flags & O_PATH) || !within(at, path, name)) {
    int fd = open_it(at, path, flags, mode);
    forget(fd);
    return fd;
  }
  pthread_mutex_lock(&mutex);
  int existed = !(flags & O_CREAT) || exists(at, path);
  int fd = open_it(at, path, flags, mode);
  int error = errno;
  struct stat status;
  if (fd >= 0 && fstat(fd, &status) == 0) {
    if (fd >= DESCRIPTORS) fail("too many open files");
    files[fd].append = (flags & O_APPEND) != 0;
    files[fd].synced = (flags & O_DSYNC) != 0; /* a bit of O_SYNC too */
    files[fd].inode = status.st_ino;
    if ((flags & O_TMPFILE) == O_TMPFILE) append_path(UNSUPPORTED, "O_TMPFILE", 0);
    append_path(existed ? OPEN : CREATE, name, status.st_ino);
    if (existed && (flags & O_TRUNC)) {
      append((struct header){.operation = TRUNCATE, .inode = status.st_ino}, NULL, NULL, 0, 0);
    }
  }
  pthread_mutex_unlock(&mutex);
  errno = error;
  return fd;
}

#define OPEN_ARGUMENTS                                  \
  mode_t mode = 0;                                      \
  if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) { \
    va_list list;                                       \
    va_start(list, flags);                              \
    mode = va_arg(list, mode_t);                        \
    va_end(list);                                       \
  }

int openat(int at, const char *path, int flags, ...) {
  OPEN_ARGUMENTS
  REAL(openat);
  return open_recorded(real, at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
  OPEN_ARGUMENTS
  REAL(openat64);
  return open_recorded(real, at, path, flags, mode);
}

int open(const char *path, int flags, ...) {
  OPEN_ARGUMENTS
  REAL(openat);
  return open_recorded(real, AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  OPEN_ARGUMENTS
  REAL(openat64);
  return open_recorded(real, AT_FDCWD, path, flags, mode);
}

int creat(const char *path, mode_t mode) { return open(path, O_WRONLY | O_CREAT | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open64(path, O_WRONLY | O_CREAT | O_TRUNC, mode); }

int close(int fd) {
  REAL(close);
  forget(fd); /* before another thread can be given the number */
  return real(fd);
}

static int duplicated(int fd, int from) {
  if (fd >= 0 && fd < DESCRIPTORS && from >= 0 && from < DESCRIPTORS) files[fd] = files[from];
  return fd;
}

int dup(int from) {
  REAL(dup);
  return duplicated(real(from), from);
}

int dup2(int from, int to) {
  REAL(dup2);
  return duplicated(real(from, to), from);
}

int dup3(int from, int to, int flags) {
  REAL(dup3);
  return duplicated(real(from, to, flags), from);
}

#define FCNTL(name)                                                                    \
  int name(int fd, int command, ...) {                                                 \
    va_list list;                                                                      \
    va_start(list, command);                                                           \
    void *argument = va_arg(list, void *);                                             \
    va_end(list);                                                                      \
    REAL(name);                                                                        \
    int result = real(fd, command, argument);                                          \
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? duplicated(result, fd) : result; \
  }
FCNTL(fcntl)
FCNTL(fcntl64)

/* ---- contents ---- */

/* After `call`, under the mutex. `offset` is -1 for a write where the descriptor stands. */
static void append_write(int fd, off_t offset, const struct iovec *data, int count, ssize_t bytes) {
  if (offset < 0) {
    offset = lseek(fd, 0, SEEK_CUR) - bytes;
  } else if (files[fd].append) {
    struct stat status;
    if (fstat(fd, &status) != 0) fail("fstat");
    offset = status.st_size - bytes; /* Linux appends, whatever the offset */
  }
  uint64_t position = log_bytes;
  append((struct header){.operation = WRITE, .inode = files[fd].inode, .value = offset}, NULL, data, count, bytes);
  if (files[fd].synced) {
    append((struct header){.operation = SYNC, .kind = SYNCED_WRITE, .inode = files[fd].inode, .value = position}, NULL,
           NULL, 0, 0);
  }
}

#define WRITE_RECORDED(call, fd, offset, data, count)           \
  REAL(call);                                                   \
  if (inode_of(fd) == 0) return real CALL;                      \
  pthread_mutex_lock(&mutex);                                   \
  ssize_t result = real CALL;                                   \
  int error = errno;                                            \
  if (result > 0) append_write(fd, offset, data, count, result); \
  pthread_mutex_unlock(&mutex);                                 \
  errno = error;                                                \
  return result;

#define CALL (fd, bytes, count)
ssize_t write(int fd, const void *bytes, size_t count) {
  struct iovec data = {(void *)bytes, count};
  WRITE_RECORDED(write, fd, -1, &data, 1)
}
#undef CALL
#define CALL (fd, bytes, count, offset)
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
  struct iovec data = {(void *)bytes, count};
  WRITE_RECORDED(pwrite, fd, offset, &data, 1)
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
  struct iovec data = {(void *)bytes, count};
  WRITE_RECORDED(pwrite64, fd, offset, &data, 1)
}
#undef CALL
#define CALL (fd, data, count)
ssize_t writev(int fd, const struct iovec *data, int count) { WRITE_RECORDED(writev, fd, -1, data, count) }
#undef CALL
#define CALL (fd, data, count, offset)
ssize_t pwritev(int fd, const struct iovec *data, int count, off_t offset) {
  WRITE_RECORDED(pwritev, fd, offset, data, count)
}
ssize_t pwritev64(int fd, const struct iovec *data, int count, off64_t offset) {
  WRITE_RECORDED(pwritev64, fd, offset, data, count)
}
#undef CALL

#define TRUNCATE_RECORDED(name)                                                                                   \
  int name(int fd, off_t size) {                                                                                  \
    REAL(name);                                                                                                   \
    if (inode_of(fd) == 0) return real(fd, size);                                                                 \
    pthread_mutex_lock(&mutex);                                                                                   \
    int result = real(fd, size), error = errno;                                                                   \
    if (result == 0) {                                                                                            \
      append((struct header){.operation = TRUNCATE, .inode = files[fd].inode, .value = size}, NULL, NULL, 0, 0);  \
    }                                                                                                             \
    pthread_mutex_unlock(&mutex);                                                                                 \
    errno = error;                                                                                                \
    return result;                                                                                                \
  }
TRUNCATE_RECORDED(ftruncate)
TRUNCATE_RECORDED(ftruncate64)

#define SYNC_RECORDED(name, sync_kind)                                                                             \
  int name(int fd) {                                                                                               \
    REAL(name);                                                                                                    \
    uint64_t inode = inode_of(fd);                                                                                 \
    if (inode == 0) return real(fd);                                                                               \
    pthread_mutex_lock(&mutex);                                                                                    \
    uint64_t covered = log_bytes;                                                                                  \
    pthread_mutex_unlock(&mutex);                                                                                  \
    int result = real(fd), error = errno;                                                                          \
    pthread_mutex_lock(&mutex);                                                                                    \
    if (result == 0) {                                                                                             \
      append((struct header){.operation = SYNC, .kind = sync_kind, .inode = inode, .value = covered}, NULL, NULL, 0, 0); \
    }                                                                                                              \
    pthread_mutex_unlock(&mutex);                                                                                  \
    errno = error;                                                                                                 \
    return result;                                                                                                 \
  }
SYNC_RECORDED(fsync, FSYNC)
SYNC_RECORDED(fdatasync, FDATASYNC)

/* ---- names ---- */

#define NAMED(call, operation, at, path)                          \
  char name[PATH_MAX];                                            \
  REAL(call);                                                     \
  if (!within(at, path, name)) return real CALL;                  \
  pthread_mutex_lock(&mutex);                                     \
  int result = real CALL, error = errno;                          \
  if (result == 0) append_path(operation, name, 0);               \
  pthread_mutex_unlock(&mutex);                                   \
  errno = error;                                                  \
  return result;

#define CALL (path)
int unlink(const char *path) { NAMED(unlink, UNLINK, AT_FDCWD, path) }
int rmdir(const char *path) { NAMED(rmdir, RMDIR, AT_FDCWD, path) }
#undef CALL
#define CALL (at, path, flags)
int unlinkat(int at, const char *path, int flags) { NAMED(unlinkat, flags &AT_REMOVEDIR ? RMDIR : UNLINK, at, path) }
#undef CALL
#define CALL (path, mode)
int mkdir(const char *path, mode_t mode) { NAMED(mkdir, MKDIR, AT_FDCWD, path) }
#undef CALL
#define CALL (at, path, mode)
int mkdirat(int at, const char *path, mode_t mode) { NAMED(mkdirat, MKDIR, at, path) }
#undef CALL

#define NAMED_TWICE(call, operation, from_at, from, to_at, to)                          \
  char name[PATH_MAX], other[PATH_MAX];                                                 \
  REAL(call);                                                                           \
  int known = within(from_at, from, name) + within(to_at, to, other);                   \
  if (known == 0) return real CALL;                                                     \
  pthread_mutex_lock(&mutex);                                                           \
  int result = real CALL, error = errno;                                                \
  if (result == 0) {                                                                    \
    if (known == 2) append_two_paths(operation, name, other);                           \
    else append_path(UNSUPPORTED, #call " across the folder's border", 0);              \
  }                                                                                     \
  pthread_mutex_unlock(&mutex);                                                         \
  errno = error;                                                                        \
  return result;

#define CALL (from, to)
int rename(const char *from, const char *to) { NAMED_TWICE(rename, RENAME, AT_FDCWD, from, AT_FDCWD, to) }
int link(const char *from, const char *to) { NAMED_TWICE(link, LINK, AT_FDCWD, from, AT_FDCWD, to) }
#undef CALL
#define CALL (from_at, from, to_at, to)
int renameat(int from_at, const char *from, int to_at, const char *to) {
  NAMED_TWICE(renameat, RENAME, from_at, from, to_at, to)
}
#undef CALL
#define CALL (from_at, from, to_at, to, flags)
int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
  NAMED_TWICE(renameat2, flags & RENAME_EXCHANGE ? UNSUPPORTED : RENAME, from_at, from, to_at, to)
}
int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
  NAMED_TWICE(linkat, LINK, from_at, from, to_at, to)
}
#undef CALL

/* ---- what is not recorded, and said ---- */

#define MAP_RECORDED(name, offset_type)                                                                  \
  void *name(void *address, size_t bytes, int protection, int flags, int fd, offset_type offset) {       \
    REAL(name);                                                                                          \
    void *result = real(address, bytes, protection, flags, fd, offset);                                  \
    uint64_t inode = (flags & MAP_ANONYMOUS) ? 0 : inode_of(fd);                                         \
    if (inode != 0 && result != MAP_FAILED && (protection & PROT_WRITE) && (flags & MAP_SHARED)) {       \
      int error = errno;                                                                                 \
      pthread_mutex_lock(&mutex);                                                                        \
      append((struct header){.operation = MAP, .inode = inode}, NULL, NULL, 0, 0);                       \
      pthread_mutex_unlock(&mutex);                                                                      \
      errno = error;                                                                                     \
    }                                                                                                    \
    return result;                                                                                       \
  }
MAP_RECORDED(mmap, off_t)
MAP_RECORDED(mmap64, off64_t)

#define REFUSED_FILE(call, fd)                      \
  REAL(call);                                       \
  if (inode_of(fd) != 0) unsupported(#call);        \
  return real CALL;

#define CALL (to, from, offset, count)
ssize_t sendfile64(int to, int from, off64_t *offset, size_t count) { REFUSED_FILE(sendfile64, to) }
ssize_t sendfile(int to, int from, off_t *offset, size_t count) { REFUSED_FILE(sendfile, to) }
#undef CALL
#define CALL (from, from_offset, to, to_offset, count, flags)
ssize_t copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t count, unsigned flags) {
  REFUSED_FILE(copy_file_range, to)
}
#undef CALL
#define CALL (fd, data, count, offset, flags)
ssize_t pwritev2(int fd, const struct iovec *data, int count, off_t offset, int flags) { REFUSED_FILE(pwritev2, fd) }
ssize_t pwritev64v2(int fd, const struct iovec *data, int count, off64_t offset, int flags) {
  REFUSED_FILE(pwritev64v2, fd)
}
#undef CALL
#define CALL (fd, mode, offset, bytes)
int fallocate(int fd, int mode, off_t offset, off_t bytes) { REFUSED_FILE(fallocate, fd) }
int fallocate64(int fd, int mode, off64_t offset, off64_t bytes) { REFUSED_FILE(fallocate64, fd) }
#undef CALL
#define CALL (fd, offset, bytes)
int posix_fallocate(int fd, off_t offset, off_t bytes) { REFUSED_FILE(posix_fallocate, fd) }
int posix_fallocate64(int fd, off64_t offset, off64_t bytes) { REFUSED_FILE(posix_fallocate64, fd) }
#undef CALL

#define REFUSED_PATH(call, at, path)                   \
  char name[PATH_MAX];                                 \
  REAL(call);                                          \
  if (within(at, path, name)) unsupported(#call);      \
  return real CALL;

#define CALL (path, size)
int truncate(const char *path, off_t size) { REFUSED_PATH(truncate, AT_FDCWD, path) }
int truncate64(const char *path, off64_t size) { REFUSED_PATH(truncate64, AT_FDCWD, path) }
#undef CALL
#define CALL (path, mode)
FILE *fopen(const char *path, const char *mode) {
  REAL(fopen);
  char name[PATH_MAX];
  if (mode[strcspn(mode, "wa+")] != 0 && within(AT_FDCWD, path, name)) unsupported("fopen");
  return real CALL;
}
FILE *fopen64(const char *path, const char *mode) {
  REAL(fopen64);
  char name[PATH_MAX];
  if (mode[strcspn(mode, "wa+")] != 0 && within(AT_FDCWD, path, name)) unsupported("fopen64");
  return real CALL;
}
#undef CALL
#define CALL (target, path)
int symlink(const char *target, const char *path) { REFUSED_PATH(symlink, AT_FDCWD, path) }
#undef CALL
#define CALL (path)
char *mkdtemp(char *path) { REFUSED_PATH(mkdtemp, AT_FDCWD, path) }
#undef CALL

/* Node and libuv reach some calls by their number. */
long syscall(long number, ...) {
  long a[6];
  va_list list;
  va_start(list, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  REAL(syscall);
  if (number == SYS_close) forget(a[0]);
  if (folder_bytes > 0) {
    if (number == SYS_copy_file_range && inode_of(a[2]) != 0) unsupported("copy_file_range");
    if (number == SYS_io_uring_setup) unsupported("io_uring");
    if ((number == SYS_pwritev2 || number == SYS_fallocate || number == SYS_fsync) && inode_of(a[0]) != 0) unsupported("syscall");
  }
  return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
