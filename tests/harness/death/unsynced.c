/* See unsynced.h. Calls the system directly, so that nothing here is taken for a change by the program.
 *
 * Each change is kept with what undoes it, by inode and not by path: files move. A file system that loses power keeps any part of what
 * was not synced; all of it lost is the part that promises made too early are found by. */
#define _GNU_SOURCE
#include "unsynced.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum kind { CONTENT, MADE, MOVED, REMOVED };

/* A file or folder that changes are of, open for as long as any is remembered. */
struct node {
  dev_t device;
  ino_t inode;
  int file, uses;
  struct node *next;
};

struct change {
  enum kind kind;
  long number;
  struct node *node; /* the file whose content it is, or the folder whose entry */
  struct node *from; /* MOVED: the folder it came from */
  char *name, *from_name;
  char *kept; /* MOVED, REMOVED: what was under `name` before, in the folder of removed files */
  mode_t folder_mode; /* REMOVED: of a folder */
  off_t at, length;   /* CONTENT: where `bytes` were, and how long the file was */
  size_t size;
  char *bytes;
  struct change *before;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *root, *removed;
static int with_names;
static long number;
static struct change *last;
static struct node *nodes;

static void must(int is_well, const char *what) {
  if (!is_well) {
    fprintf(stderr, "unsynced.c: cannot %s: %s\n", what, strerror(errno));
    abort();
  }
}

static char *copy_of(const char *text) {
  char *copy = strdup(text);
  must(copy != NULL, "remember a name");
  return copy;
}

/* The node of an open file, which is opened again by `path` if it is new. */
static struct node *node_of(const struct stat *found, const char *path, int flags) {
  struct node *node = nodes;
  while (node && (node->device != found->st_dev || node->inode != found->st_ino)) node = node->next;
  if (!node) {
    node = calloc(1, sizeof *node);
    must(node != NULL, "remember a file");
    node->device = found->st_dev, node->inode = found->st_ino;
    node->file = syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC);
    must(0 <= node->file, path);
    node->next = nodes, nodes = node;
  }
  node->uses++;
  return node;
}

static void release(struct node *node) {
  if (!node || --node->uses) return;
  struct node **link = &nodes;
  while (*link != node) link = &(*link)->next;
  *link = node->next;
  close(node->file);
  free(node);
}

/* Whether an open file is a regular one, or a folder, below the root. */
static int concerns(int file, mode_t kind, struct stat *found) {
  char name[64], path[PATH_MAX + 1];
  if (!root || fstat(file, found) || (found->st_mode & S_IFMT) != kind) return 0;
  snprintf(name, sizeof name, "/proc/self/fd/%d", file);
  ssize_t length = readlink(name, path, PATH_MAX);
  if (length <= 0) return 0;
  path[length] = 0;
  return strncmp(path, root, strlen(root)) == 0;
}

/* The folder of a path if it is below the root, and the name in it. */
static struct node *folder_of(const char *path, char **name) {
  char parent[PATH_MAX], last_part[PATH_MAX], whole[PATH_MAX];
  struct stat found;
  snprintf(parent, sizeof parent, "%s", path);
  snprintf(last_part, sizeof last_part, "%s", path);
  char *folder = dirname(parent);
  if (!root || !realpath(folder, whole) || strncmp(whole, root, strlen(root)) || stat(whole, &found)) return NULL;
  *name = copy_of(basename(last_part));
  return node_of(&found, whole, O_RDONLY | O_DIRECTORY);
}

static struct change *remember(enum kind kind, struct node *node, char *name) {
  struct change *change = calloc(1, sizeof *change);
  must(change != NULL, "remember a change");
  change->kind = kind, change->number = ++number, change->node = node, change->name = name;
  change->before = last, last = change;
  return change;
}

static void forget(struct change *change) {
  release(change->node);
  release(change->from);
  if (change->kept) syscall(SYS_unlinkat, AT_FDCWD, change->kept, 0);
  free(change->name), free(change->from_name), free(change->kept), free(change->bytes);
  free(change);
}

/* Another name for the file, under which it outlives its own. */
static char *kept(int folder, const char *name) {
  char path[PATH_MAX];
  static long files;
  snprintf(path, sizeof path, "%s/%d-%ld", removed, getpid(), ++files);
  if (syscall(SYS_linkat, folder, name, AT_FDCWD, path, 0) == 0) return copy_of(path);
  return NULL;
}

void unsynced_begin(const char *below, const char *graveyard, int names) {
  char whole[PATH_MAX];
  must(realpath(below, whole) != NULL, below);
  root = copy_of(whole), removed = copy_of(graveyard), with_names = names;
}

static void content(int file, off_t at, size_t size, int is_resize) {
  struct stat found;
  char path[64];
  if (!concerns(file, S_IFREG, &found)) return;
  if (at < 0) at = fcntl(file, F_GETFL) & O_APPEND ? found.st_size : lseek(file, 0, SEEK_CUR);
  if (is_resize) at = 0, size = found.st_size;
  if (found.st_size < at) size = 0;
  else if (found.st_size - at < (off_t)size) size = found.st_size - at;
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  pthread_mutex_lock(&lock);
  struct change *change = remember(CONTENT, node_of(&found, path, O_RDWR), NULL);
  change->at = at, change->length = found.st_size, change->size = size;
  change->bytes = malloc(size + 1);
  must(change->bytes != NULL, "remember bytes");
  must(pread(change->node->file, change->bytes, size, at) == (ssize_t)size, "read what is about to be written over");
  pthread_mutex_unlock(&lock);
}

void unsynced_write(int file, off_t at, size_t size) { content(file, at, size, 0); }

void unsynced_resize(int file) { content(file, 0, 0, 1); }

void unsynced_made(const char *path) {
  char *name;
  pthread_mutex_lock(&lock);
  struct node *folder = with_names ? folder_of(path, &name) : NULL;
  if (folder) remember(MADE, folder, name);
  pthread_mutex_unlock(&lock);
}

long unsynced_rename(const char *from, const char *to) {
  char *name, *from_name;
  pthread_mutex_lock(&lock);
  struct node *folder = with_names ? folder_of(to, &name) : NULL;
  struct node *source = folder ? folder_of(from, &from_name) : NULL;
  long told = 0;
  if (source) {
    struct change *change = remember(MOVED, folder, name);
    change->from = source, change->from_name = from_name;
    change->kept = kept(folder->file, name);
    told = change->number;
  } else if (folder) {
    release(folder), free(name);
  }
  pthread_mutex_unlock(&lock);
  return told;
}

long unsynced_remove(int folder, const char *path, int flags) {
  char *name, whole[PATH_MAX + 64];
  struct stat found;
  long told = 0;
  snprintf(whole, sizeof whole, "%s", path);
  if (folder != AT_FDCWD && *path != '/') snprintf(whole, sizeof whole, "/proc/self/fd/%d/%s", folder, path);
  pthread_mutex_lock(&lock);
  struct node *parent = with_names && lstat(whole, &found) == 0 ? folder_of(whole, &name) : NULL;
  if (parent) {
    struct change *change = remember(REMOVED, parent, name);
    if (flags & AT_REMOVEDIR) change->folder_mode = found.st_mode & 07777;
    else change->kept = kept(parent->file, name);
    told = change->number;
  }
  pthread_mutex_unlock(&lock);
  return told;
}

void unsynced_failed(long told) {
  pthread_mutex_lock(&lock);
  struct change **link = &last;
  while (*link && (*link)->number != told) link = &(*link)->before;
  if (*link) {
    struct change *change = *link;
    *link = change->before;
    forget(change);
  }
  pthread_mutex_unlock(&lock);
}

long unsynced_now(void) {
  pthread_mutex_lock(&lock);
  long now = number;
  pthread_mutex_unlock(&lock);
  return now;
}

void unsynced_synced(int file, long before) {
  struct stat found;
  if (!root || fstat(file, &found)) return;
  pthread_mutex_lock(&lock);
  for (struct change **link = &last; *link;) {
    struct change *change = *link;
    int is_of_it = change->node->device == found.st_dev && change->node->inode == found.st_ino;
    if (is_of_it && change->number <= before) {
      *link = change->before;
      forget(change);
    } else {
      link = &change->before;
    }
  }
  pthread_mutex_unlock(&lock);
}

static void take_back(struct change *change) {
  int folder = change->node->file;
  switch (change->kind) {
    case CONTENT:
      must(syscall(SYS_pwrite64, folder, change->bytes, change->size, change->at) == (long)change->size, "write back");
      must(syscall(SYS_ftruncate, folder, change->length) == 0, "shorten");
      break;
    case MADE:
      if (syscall(SYS_unlinkat, folder, change->name, 0) && errno == EISDIR)
        must(syscall(SYS_unlinkat, folder, change->name, AT_REMOVEDIR) == 0, "remove a folder");
      break;
    case MOVED:
      syscall(SYS_renameat2, folder, change->name, change->from->file, change->from_name, 1 /* RENAME_NOREPLACE */);
      break;
    case REMOVED:
      if (!change->kept) syscall(SYS_mkdirat, folder, change->name, change->folder_mode);
      break;
  }
  if (change->kept) syscall(SYS_linkat, AT_FDCWD, change->kept, folder, change->name, 0);
}

void unsynced_take_back(void) {
  for (; last; last = last->before) take_back(last);
}
