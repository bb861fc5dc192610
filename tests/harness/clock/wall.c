/* Moves the wall clock of a program: preloaded into it. The clock that only goes forward, by which it measures time, stays as it is.
 *
 *   FOEDUS_CLOCK=FILE   eight bytes: by how many seconds, in the machine's own form of a 64-bit number; may change at any time
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *moved;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("FOEDUS_CLOCK");
  if (!path) return;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *moved, PROT_READ, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) {
    perror(path);
    abort();
  }
  close(file);
  moved = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = (int)syscall(SYS_clock_gettime, clock, now);
  if (!failed && clock == CLOCK_REALTIME && moved) now->tv_sec += *moved;
  return failed;
}
