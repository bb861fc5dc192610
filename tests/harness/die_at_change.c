/* Kills its process at the n-th change to files below a path, as `kill -9` would: preloaded into a real program.
 *
 *   FOEDUS_DIE_AT=N          dies before the N-th change, counted from 1 in each process
 *   FOEDUS_DIE_BELOW=TEXT    counts changes of files whose path contains this
 *
 * Changes are what Rust's standard library calls to write, resize, sync, rename and remove files.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *below;
static long left;

__attribute__((constructor)) static void begin(void) {
  const char *at = getenv("FOEDUS_DIE_AT");
  below = getenv("FOEDUS_DIE_BELOW");
  left = at && below ? atol(at) : 0;
}

static void change_of(const char *path) {
  if (0 < __atomic_load_n(&left, __ATOMIC_SEQ_CST) && strstr(path, below) &&
      __atomic_sub_fetch(&left, 1, __ATOMIC_SEQ_CST) == 0) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
}

static void change(int file) {
  char name[64], path[PATH_MAX + 1];
  ssize_t length;
  snprintf(name, sizeof name, "/proc/self/fd/%d", file);
  length = readlink(name, path, PATH_MAX);
  if (0 < length) {
    path[length] = 0;
    change_of(path);
  }
}

#define CHANGE(result, name, parameters, arguments, told) \
  result name parameters {                                \
    static result(*next) parameters;                      \
    if (!next) next = dlsym(RTLD_NEXT, #name);            \
    told;                                                 \
    return next arguments;                                \
  }

CHANGE(ssize_t, write, (int file, const void *from, size_t size), (file, from, size), change(file))
CHANGE(ssize_t, writev, (int file, const struct iovec *from, int count), (file, from, count), change(file))
CHANGE(ssize_t, pwrite64, (int file, const void *from, size_t size, off64_t at), (file, from, size, at), change(file))
CHANGE(int, ftruncate64, (int file, off64_t size), (file, size), change(file))
CHANGE(int, fsync, (int file), (file), change(file))
CHANGE(int, fdatasync, (int file), (file), change(file))
CHANGE(int, rename, (const char *from, const char *to), (from, to), change_of(from))
CHANGE(int, unlink, (const char *path), (path), change_of(path))
CHANGE(int, mkdir, (const char *path, mode_t mode), (path, mode), change_of(path))
