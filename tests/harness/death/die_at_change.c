/* Ends its process at the n-th change to files below a path, or its disk is full from then on: preloaded into a real program.
 *
 *   FOEDUS_DIE_AT=N          before the N-th change, counted from 1 in each process
 *   FOEDUS_DIE_BELOW=TEXT    counts changes of files whose path contains this
 *   FOEDUS_DIE_BY=WHAT       `kill`: by SIGKILL; what was written stays, as the system has it
 *                            `power-cut`: so does the machine; what was not synced is lost, names in folders too
 *                            `torn-names`: the same, but names are there at once, before what is under them
 *                            `full-disk`: nothing below the path takes room any more, and the program is to die by itself
 *   FOEDUS_DIE_ROOT=FOLDER   what may be lost lies below it
 *   FOEDUS_DIE_REMOVED=FOLDER  keeps what was removed until that is synced; on the same file system
 *   FOEDUS_DIE_UNSYNCED=TEXT   for trying whether a death is worth its name: syncs of paths that end with this do nothing
 *
 * Changes are what Rust's standard library calls to write, resize, sync, rename and remove files.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "unsynced.h"

static const char *below, *never_synced;
static long left;
static int loses, fills, is_full;
/* Changes share it, and death has it alone: none is half made when others are taken back. */
static pthread_rwlock_t changing = PTHREAD_RWLOCK_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
  const char *at = getenv("FOEDUS_DIE_AT"), *by = getenv("FOEDUS_DIE_BY");
  below = getenv("FOEDUS_DIE_BELOW"), never_synced = getenv("FOEDUS_DIE_UNSYNCED");
  left = at && below ? atol(at) : 0;
  fills = by && strcmp(by, "full-disk") == 0;
  if (0 < left && by && !fills && strcmp(by, "kill")) {
    unsynced_begin(getenv("FOEDUS_DIE_ROOT"), getenv("FOEDUS_DIE_REMOVED"), strcmp(by, "torn-names"));
    loses = 1;
  }
}

static void say_full(void) {
  static const char said[] = "from now on the disk is full\n";
  if (write(STDERR_FILENO, said, sizeof said - 1) < 0) abort();
}

/* Programs also name files from the folder that they work in. */
static int is_below(const char *path) {
  if (!below) return 0;
  return strstr(path, below) || (*below == '/' && !strncmp(path, below + 1, strlen(below + 1)));
}

/* Whether there is room for a change. */
static int change_of(const char *path) {
  if (!is_below(path)) return 1;
  if (0 < __atomic_load_n(&left, __ATOMIC_SEQ_CST) && __atomic_sub_fetch(&left, 1, __ATOMIC_SEQ_CST) == 0) {
    if (fills) {
      __atomic_store_n(&is_full, 1, __ATOMIC_SEQ_CST);
      say_full();
      return 0;
    }
    if (loses) {
      pthread_rwlock_wrlock(&changing);
      unsynced_take_back();
    }
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
  return !__atomic_load_n(&is_full, __ATOMIC_SEQ_CST);
}

/* Whether an open file has a path. */
static int path_of(int file, char path[PATH_MAX + 1]) {
  char name[64];
  snprintf(name, sizeof name, "/proc/self/fd/%d", file);
  ssize_t length = readlink(name, path, PATH_MAX);
  path[0 < length ? length : 0] = 0;
  return 0 < length;
}

static int change(int file) {
  char path[PATH_MAX + 1];
  return !path_of(file, path) || change_of(path);
}

static int resize(int file, off_t size) {
  struct stat now;
  int has_room = change(file);
  return has_room || (fstat(file, &now) == 0 && size <= now.st_size);
}

static void synced(int file, long before) {
  char path[PATH_MAX + 1];
  size_t length = never_synced ? strlen(never_synced) : 0;
  int is_lie = length && path_of(file, path) && length <= strlen(path) &&
               strcmp(path + strlen(path) - length, never_synced) == 0;
  if (!is_lie) unsynced_synced(file, before);
}

static size_t size_of(const struct iovec *from, int count) {
  size_t size = 0;
  for (int i = 0; i < count; i++) size += from[i].iov_len;
  return size;
}

/* `dies` is where death may come, and says whether there is room; `before` and `after` are what a power cut is to know. */
#define CHANGE(result, name, parameters, arguments, dies, before, after) \
  result name parameters {                                               \
    static result(*next) parameters;                                     \
    if (!next) next = dlsym(RTLD_NEXT, #name);                           \
    if (!(dies)) return errno = ENOSPC, -1;                              \
    if (!loses) return next arguments;                                   \
    pthread_rwlock_rdlock(&changing);                                    \
    before;                                                              \
    result given = next arguments;                                       \
    after;                                                               \
    pthread_rwlock_unlock(&changing);                                    \
    return given;                                                        \
  }

CHANGE(ssize_t, write, (int file, const void *from, size_t size), (file, from, size), change(file),
       unsynced_write(file, -1, size), )
CHANGE(ssize_t, writev, (int file, const struct iovec *from, int count), (file, from, count), change(file),
       unsynced_write(file, -1, size_of(from, count)), )
CHANGE(ssize_t, pwrite64, (int file, const void *from, size_t size, off_t at), (file, from, size, at), change(file),
       unsynced_write(file, at, size), )
CHANGE(int, ftruncate64, (int file, off_t size), (file, size), resize(file, size), unsynced_resize(file), )
CHANGE(int, fsync, (int file), (file), (change(file), 1), long now = unsynced_now(),
       if (given == 0) synced(file, now))
CHANGE(int, fdatasync, (int file), (file), (change(file), 1), long now = unsynced_now(),
       if (given == 0) synced(file, now))
CHANGE(int, rename, (const char *from, const char *to), (from, to), (change_of(from), 1),
       long told = unsynced_rename(from, to), if (given) unsynced_failed(told))
CHANGE(int, unlink, (const char *path), (path), (change_of(path), 1),
       long told = unsynced_remove(AT_FDCWD, path, 0), if (given) unsynced_failed(told))
CHANGE(int, rmdir, (const char *path), (path), (change_of(path), 1),
       long told = unsynced_remove(AT_FDCWD, path, AT_REMOVEDIR), if (given) unsynced_failed(told))
CHANGE(int, unlinkat, (int folder, const char *path, int flags), (folder, path, flags), (change(folder), 1),
       long told = unsynced_remove(folder, path, flags), if (given) unsynced_failed(told))
CHANGE(int, mkdir, (const char *path, mode_t mode), (path, mode), change_of(path), , if (given == 0) unsynced_made(path))

/* Making a file is no change of its own, since nothing is in it, but the name may be lost, and takes room. */
int open64(const char *path, int flags, ...) {
  static int (*next)(const char *, int, ...);
  mode_t mode = 0;
  if (!next) next = dlsym(RTLD_NEXT, "open64");
  if (flags & O_CREAT) {
    va_list rest;
    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
  }
  if (!(loses || fills) || !(flags & (O_CREAT | O_TRUNC))) return next(path, flags, mode);
  int was_there = faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
  if (is_full && !was_there && is_below(path)) return errno = ENOSPC, -1;
  if (!loses) return next(path, flags, mode);
  pthread_rwlock_rdlock(&changing);
  int file = next(path, flags & ~O_TRUNC, mode);
  if (0 <= file && !was_there) unsynced_made(path);
  if (0 <= file && was_there && flags & O_TRUNC) {
    unsynced_resize(file);
    if (ftruncate(file, 0)) abort();
  }
  pthread_rwlock_unlock(&changing);
  return file;
}
