#define _FILE_OFFSET_BITS 64

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "diskfault_linux.h"

/* sqlite3_vfs is the documented structure (https://sqlite.org/c3ref/vfs.html) up to xSetSystemCall. */
typedef struct sqlite3_vfs sqlite3_vfs;
struct sqlite3_vfs {
	int version, file_size, max_pathname;
	sqlite3_vfs *next;
	const char *name;
	void *app_data;
	void (*before[13])(void); /* xOpen to xCurrentTimeInt64 */
	int (*set_system_call)(sqlite3_vfs *, const char *name, void (*call)(void));
};

/* Weak, because cgo links this package on its own before the program is linked with SQLite. */
extern sqlite3_vfs *sqlite3_vfs_find(const char *) __attribute__((weak));

static struct {
	char suffix[PATH_MAX];
	int writes;
	int64_t from;
} rule;

static volatile int armed;

/* matches is true if the path of an open file ends with the rule's suffix. */
static int matches(int fd) {
	char link[64], path[PATH_MAX];
	if (!armed)
		return 0;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof path - 1);
	size_t end = strlen(rule.suffix);
	if (n < (ssize_t)end)
		return 0;
	return !memcmp(path + n - end, rule.suffix, end);
}

/* refused sets errno and is true if a write that ends at an offset must fail. */
static int refused(int fd, int64_t end) {
	if (end <= rule.from || !matches(fd))
		return 0;
	errno = rule.writes;
	return 1;
}

static ssize_t write_at(int fd, const void *from, size_t n, off_t at) {
	return refused(fd, (int64_t)at + (int64_t)n) ? -1 : pwrite(fd, from, n, at);
}

static int set_size(int fd, off_t size) {
	struct stat s;
	if (armed && !fstat(fd, &s) && size > s.st_size && refused(fd, size))
		return -1;
	return ftruncate(fd, size);
}

int diskfault_arm(const char *suffix, int writes, int64_t from) {
	sqlite3_vfs *vfs = sqlite3_vfs_find ? sqlite3_vfs_find("unix") : NULL;
	if (!vfs || vfs->version < 3 || strlen(suffix) >= sizeof rule.suffix)
		return -1;
	armed = 0;
	strcpy(rule.suffix, suffix);
	rule.writes = writes;
	rule.from = from;
	int rc = vfs->set_system_call(vfs, "pwrite", (void (*)(void))write_at) |
		vfs->set_system_call(vfs, "pwrite64", (void (*)(void))write_at) |
		vfs->set_system_call(vfs, "ftruncate", (void (*)(void))set_size);
	armed = 1;
	return rc;
}

void diskfault_disarm(void) { armed = 0; }
