/* What a power cut would take back: changes to files and folders that no sync has put on disk. */
#ifndef UNSYNCED_H
#define UNSYNCED_H

#include <sys/stat.h>
#include <sys/types.h>

/* Begins to remember, for files below `root`; removed files are kept in the folder `removed` until they are synced away.
 * Without `names`, folders are taken to be on disk at once, as a journaling file system may have it, and only contents are lost. */
void unsynced_begin(const char *root, const char *removed, int names);

/* Told before the change is made; of files elsewhere, and before `unsynced_begin`, nothing is remembered. */
void unsynced_write(int file, off_t at, size_t size); /* `at` -1: where the file is written next */
void unsynced_resize(int file);

/* The same; they give a number for `unsynced_failed`, should nothing come of the change. */
long unsynced_rename(const char *from, const char *to);
long unsynced_remove(int folder, const char *path, int flags);
void unsynced_failed(long number);

/* Told after the change: `path` was not there before. */
void unsynced_made(const char *path);

/* What was changed before `unsynced_now` and is of this file or folder is on disk. */
long unsynced_now(void);
void unsynced_synced(int file, long before);

/* Takes back whatever is not on disk. Nothing may change meanwhile. */
void unsynced_take_back(void);

#endif
