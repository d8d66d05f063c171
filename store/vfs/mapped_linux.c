#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vfs_linux.h"

/* span is how much of the address space a mapping has. A file may grow into it. */
#define span ((sqlite3_int64)1 << 38)

/* margin is how many bytes SQLite may read behind a page. */
#define margin 256

static sqlite3_int64 least;

int64_t vfs_map_from(int64_t bytes) { return __atomic_exchange_n(&least, bytes, __ATOMIC_RELAXED); }

/*
 * mapping is the memory that a file is seen in by all connections. Its descriptor stays open as long as any of them: to
 * close one gives up all locks that the process has on the file.
 */
typedef struct mapping mapping;
struct mapping {
	mapping *next;
	dev_t device;
	ino_t inode;
	int descriptor;
	char *start;
	int users;
};

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static mapping *all;

static mapping *known(const struct stat *s) {
	for (mapping *m = all; m; m = m->next)
		if (m->device == s->st_dev && m->inode == s->st_ino)
			return m;
	return NULL;
}

/* start maps a file, or returns NULL where there is no room for it. */
static char *start(int descriptor) {
	if (sizeof(void *) < sizeof(sqlite3_int64))
		return NULL;
	void *at = mmap(NULL, span, PROT_READ, MAP_SHARED | MAP_NORESERVE, descriptor, 0);
	if (at == MAP_FAILED)
		return NULL;
	madvise(at, span, MADV_RANDOM);
	return at;
}

static mapping *make(const char *path, const struct stat *s) {
	mapping *m = calloc(1, sizeof *m);
	if (!m)
		return NULL;
	m->device = s->st_dev;
	m->inode = s->st_ino;
	m->descriptor = open(path, O_RDONLY | O_CLOEXEC);
	if (m->descriptor < 0) {
		free(m);
		return NULL;
	}
	m->start = start(m->descriptor);
	m->next = all;
	all = m;
	return m;
}

/* take returns the mapping of a file that is there, NULL if it cannot be had. */
static mapping *take(const char *path) {
	struct stat s;
	if (stat(path, &s))
		return NULL;
	pthread_mutex_lock(&guard);
	mapping *m = known(&s);
	if (!m)
		m = make(path, &s);
	if (m)
		m->users++;
	pthread_mutex_unlock(&guard);
	return m;
}

static void release(mapping *m) {
	pthread_mutex_lock(&guard);
	if (--m->users == 0) {
		mapping **at = &all;
		while (*at != m)
			at = &(*at)->next;
		*at = m->next;
		if (m->start)
			munmap(m->start, span);
		close(m->descriptor);
		free(m);
	}
	pthread_mutex_unlock(&guard);
}

/* file is a database's, in front of that of the system. */
typedef struct file file;
struct file {
	sqlite3_file base;
	mapping *map;
	gathered *log;      /* NULL while none is open */
	sqlite3_int64 size; /* as of the last look, at most span */
	sqlite3_file real;  /* the beginning of it */
};

const int mapped_size = (int)sizeof(file);

static sqlite3_file *real(sqlite3_file *f) { return &((file *)f)->real; }

#define METHOD(f) real(f)->pMethods

/* look sees how large the file is. */
static void look(sqlite3_file *base) {
	file *f = (file *)base;
	struct stat s;
	f->size = 0;
	if (f->map->start && !fstat(f->map->descriptor, &s))
		f->size = s.st_size < span ? s.st_size : span;
}

static int fetch(sqlite3_file *base, sqlite3_int64 at, int n, void **page) {
	file *f = (file *)base;
	*page = NULL;
	if (f->size >= __atomic_load_n(&least, __ATOMIC_RELAXED) && at + n + margin <= f->size)
		*page = f->map->start + at;
	return SQLITE_OK;
}

/*
 * unfetch is told of every page that is needed no longer, and before a transaction that sees what others have written. The
 * file may have another size then, but the mapping is still that of the file.
 */
static int unfetch(sqlite3_file *f, sqlite3_int64 at, void *page) {
	(void)at;
	if (!page)
		look(f);
	return SQLITE_OK;
}

static int control(sqlite3_file *f, int what, void *with) {
	switch (what) {
	case SQLITE_FCNTL_MMAP_SIZE: /* not of the system's own mapping */
		return SQLITE_OK;
	case SQLITE_FCNTL_CKPT_DONE: /* which may have made it larger */
		look(f);
	}
	return METHOD(f)->xFileControl(real(f), what, with);
}

static int truncated(sqlite3_file *f, sqlite3_int64 to) {
	int rc = METHOD(f)->xTruncate(real(f), to);
	look(f);
	return rc;
}

static int closed(sqlite3_file *f) {
	int rc = METHOD(f)->xClose(real(f));
	release(((file *)f)->map);
	return rc;
}

static int readFrom(sqlite3_file *f, void *to, int n, sqlite3_int64 at) { return METHOD(f)->xRead(real(f), to, n, at); }
static int writeTo(sqlite3_file *f, const void *from, int n, sqlite3_int64 at) { return METHOD(f)->xWrite(real(f), from, n, at); }
static int synced(sqlite3_file *f, int flags) { return METHOD(f)->xSync(real(f), flags); }
static int sized(sqlite3_file *f, sqlite3_int64 *size) { return METHOD(f)->xFileSize(real(f), size); }
static int locked(sqlite3_file *f, int level) { return METHOD(f)->xLock(real(f), level); }
static int unlocked(sqlite3_file *f, int level) { return METHOD(f)->xUnlock(real(f), level); }
static int reserved(sqlite3_file *f, int *is) { return METHOD(f)->xCheckReservedLock(real(f), is); }
static int sector(sqlite3_file *f) { return METHOD(f)->xSectorSize(real(f)); }
static int device(sqlite3_file *f) { return METHOD(f)->xDeviceCharacteristics(real(f)); }
static int shmMapped(sqlite3_file *f, int page, int size, int extend, void volatile **at) {
	return METHOD(f)->xShmMap(real(f), page, size, extend, at);
}

/*
 * shmLocked sees when a transaction writes, which has the first of the locks: of one that is committed nothing is left to
 * write when it lets go of that, and to where the rest of another one would go others may write then.
 */
static int shmLocked(sqlite3_file *f, int offset, int n, int flags) {
	gathered *log = ((file *)f)->log;
	if (log && offset == 0 && flags == (SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE))
		gathered_end(log);
	int rc = METHOD(f)->xShmLock(real(f), offset, n, flags);
	if (log && rc == SQLITE_OK && offset == 0 && flags == (SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE))
		gathered_begin(log);
	return rc;
}

/* shmBarrier is between what is written to a log and what tells others of it. */
static void shmBarrier(sqlite3_file *f) {
	if (((file *)f)->log)
		gathered_publish(((file *)f)->log);
	METHOD(f)->xShmBarrier(real(f));
}

static int shmUnmapped(sqlite3_file *f, int remove) { return METHOD(f)->xShmUnmap(real(f), remove); }

static const sqlite3_io_methods methods = {
	3, closed, readFrom, writeTo, truncated, synced, sized, locked, unlocked, reserved, control, sector, device,
	shmMapped, shmLocked, shmBarrier, shmUnmapped, fetch, unfetch,
};

void mapped_log(sqlite3_file *database, gathered *from, gathered *to) {
	if (database->pMethods == &methods && ((file *)database)->log == from)
		((file *)database)->log = to;
}

int mapped_open(const char *path, sqlite3_file *base, int flags, int *got) {
	file *f = (file *)base;
	memset(f, 0, sizeof *f);
	int rc = system_vfs->xOpen(system_vfs, path, &f->real, flags, got);
	if (rc != SQLITE_OK)
		return rc;
	f->map = take(path);
	if (!f->map) { /* a mapping that another one has later would end with a descriptor, and this one's locks with it */
		METHOD(&f->base)->xClose(&f->real);
		return SQLITE_CANTOPEN;
	}
	f->base.pMethods = &methods;
	return SQLITE_OK;
}
