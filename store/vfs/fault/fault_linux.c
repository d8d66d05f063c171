#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault_linux.h"

/* rule is what fails of files with a name, which ends with suffix. */
static struct {
	char suffix[PATH_MAX];
	int reads, writes; /* the errno that they fail with, 0 for none */
	int64_t from;      /* writes that end behind this place fail */
} rule;

static volatile int armed;

static int concerns(int fd) {
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

static int refused(int fd, int64_t end) {
	if (!armed || !rule.writes || !concerns(fd) || end <= rule.from)
		return 0;
	errno = rule.writes;
	return 1;
}

static ssize_t read_at(int fd, void *to, size_t n, off_t at) {
	if (armed && rule.reads && concerns(fd)) {
		errno = rule.reads;
		return -1;
	}
	return pread(fd, to, n, at);
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

static int set(sqlite3_vfs *unix_vfs, const char *name, void (*fn)(void)) {
	int (*set_call)(sqlite3_vfs *, const char *, void (*)(void)) = (void *)unix_vfs->others[SET_SYSTEM_CALL];
	return set_call(unix_vfs, name, fn);
}

int fault_arm(const char *suffix, int reads, int writes, int64_t from) {
	sqlite3_vfs *unix_vfs = sqlite3_vfs_find("unix");
	if (!unix_vfs || strlen(suffix) >= sizeof rule.suffix)
		return -1;
	armed = 0;
	strcpy(rule.suffix, suffix);
	rule.reads = reads;
	rule.writes = writes;
	rule.from = from;
	int rc = set(unix_vfs, "pread", (void (*)(void))read_at) | set(unix_vfs, "pread64", (void (*)(void))read_at) |
		set(unix_vfs, "pwrite", (void (*)(void))write_at) | set(unix_vfs, "pwrite64", (void (*)(void))write_at) |
		set(unix_vfs, "ftruncate", (void (*)(void))set_size);
	armed = 1;
	return rc;
}

void fault_disarm(void) { armed = 0; }
