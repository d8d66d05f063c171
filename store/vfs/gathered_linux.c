#include <stdlib.h>
#include <string.h>

#include "vfs_linux.h"

/*
 * room is how many bytes are written at once. SQLite's files take less than 128 KiB: of more, they believe that nothing was
 * written.
 */
#define room (124 << 10)

struct gathered {
	sqlite3_file base;
	char *bytes; /* that are not written yet, NULL before there were any */
	int n;
	sqlite3_int64 at;       /* where they belong */
	int failed;             /* why some could not be written, or 0 */
	int begun;              /* a transaction writes */
	int synced;             /* nothing was written since it was synced last */
	int syncs;              /* what was committed last was synced before */
	sqlite3_file *database; /* whose log this is, NULL for another file */
	sqlite3_file real;      /* the beginning of it */
};

const int gathered_size = (int)sizeof(gathered);

static sqlite3_file *real(sqlite3_file *f) { return &((gathered *)f)->real; }

#define METHOD(f) real(f)->pMethods

/* flush writes what is gathered. After an error all else fails, too, until the transaction is over. */
static int flush(sqlite3_file *base) {
	gathered *f = (gathered *)base;
	if (f->failed == SQLITE_OK && f->n > 0)
		f->failed = METHOD(base)->xWrite(real(base), f->bytes, f->n, f->at);
	f->n = 0;
	return f->failed;
}

void gathered_begin(gathered *f) { f->begun = 1; }

/*
 * gathered_publish has nothing left to write where commits are synced. Where they were until now and are not any more, it
 * has no way to tell an error, and nobody must be told of what is not there.
 */
void gathered_publish(gathered *f) {
	if (f->begun && flush(&f->base) != SQLITE_OK)
		abort();
	f->syncs = f->synced;
}

void gathered_end(gathered *f) {
	f->n = f->begun = 0;
	f->failed = SQLITE_OK;
}

/* add gathers as much as there is room for, and returns how much that is. */
static int add(gathered *f, const char *from, int n, sqlite3_int64 at) {
	if (f->n == 0)
		f->at = at;
	if (n > room - f->n)
		n = room - f->n;
	memcpy(f->bytes + f->n, from, n);
	f->n += n;
	return n;
}

static int gather(gathered *f, const char *from, int n, sqlite3_int64 at) {
	if (!f->bytes && !(f->bytes = malloc(room)))
		return SQLITE_NOMEM;
	for (int done = 0; done < n && f->failed == SQLITE_OK;) {
		if (f->n == room || (f->n > 0 && f->at + f->n != at + done))
			flush(&f->base);
		done += add(f, from + done, n - done, at + done);
	}
	return f->failed;
}

/* writeTo gathers what a transaction writes to a log whose commits are synced, and writes all else at once. */
static int writeTo(sqlite3_file *base, const void *from, int n, sqlite3_int64 at) {
	gathered *f = (gathered *)base;
	f->synced = 0;
	if (f->begun && f->syncs)
		return gather(f, from, n, at);
	int rc = SQLITE_OK;
	for (int done = 0; done < n && rc == SQLITE_OK; done += room)
		rc = METHOD(base)->xWrite(real(base), (const char *)from + done, n - done < room ? n - done : room, at + done);
	return rc;
}

static int readFrom(sqlite3_file *f, void *to, int n, sqlite3_int64 at) {
	int rc = flush(f);
	return rc == SQLITE_OK ? METHOD(f)->xRead(real(f), to, n, at) : rc;
}

static int truncated(sqlite3_file *f, sqlite3_int64 to) {
	int rc = flush(f);
	return rc == SQLITE_OK ? METHOD(f)->xTruncate(real(f), to) : rc;
}

static int synced(sqlite3_file *f, int flags) {
	int rc = flush(f);
	if (rc == SQLITE_OK)
		rc = METHOD(f)->xSync(real(f), flags);
	((gathered *)f)->synced = rc == SQLITE_OK;
	return rc;
}

static int sized(sqlite3_file *f, sqlite3_int64 *size) {
	int rc = flush(f);
	return rc == SQLITE_OK ? METHOD(f)->xFileSize(real(f), size) : rc;
}

/* closed does not write what is gathered: it is of a transaction that was not committed. */
static int closed(sqlite3_file *base) {
	gathered *f = (gathered *)base;
	if (f->database)
		mapped_log(f->database, f, NULL);
	free(f->bytes);
	return METHOD(base)->xClose(real(base));
}

static int locked(sqlite3_file *f, int level) { return METHOD(f)->xLock(real(f), level); }
static int unlocked(sqlite3_file *f, int level) { return METHOD(f)->xUnlock(real(f), level); }
static int reserved(sqlite3_file *f, int *is) { return METHOD(f)->xCheckReservedLock(real(f), is); }
static int control(sqlite3_file *f, int what, void *with) { return METHOD(f)->xFileControl(real(f), what, with); }
static int sector(sqlite3_file *f) { return METHOD(f)->xSectorSize(real(f)); }
static int device(sqlite3_file *f) { return METHOD(f)->xDeviceCharacteristics(real(f)); }

static const sqlite3_io_methods methods = {
	.iVersion = 1, .xClose = closed, .xRead = readFrom, .xWrite = writeTo, .xTruncate = truncated, .xSync = synced,
	.xFileSize = sized, .xLock = locked, .xUnlock = unlocked, .xCheckReservedLock = reserved, .xFileControl = control,
	.xSectorSize = sector, .xDeviceCharacteristics = device,
};

int gathered_open(const char *path, sqlite3_file *base, int flags, int *got) {
	gathered *f = (gathered *)base;
	memset(f, 0, sizeof *f);
	int rc = system_vfs->xOpen(system_vfs, path, &f->real, flags, got);
	if (rc != SQLITE_OK)
		return rc;
	if (flags & SQLITE_OPEN_WAL) {
		f->database = sqlite3_database_file_object(path);
		mapped_log(f->database, NULL, f);
	}
	f->base.pMethods = &methods;
	return SQLITE_OK;
}
