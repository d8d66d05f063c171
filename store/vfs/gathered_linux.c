#include <stdlib.h>
#include <string.h>

#include "vfs_linux.h"

/*
 * room is how many bytes are gathered. SQLite's files take less than 128 KiB at once: of more, they believe that nothing was
 * written.
 */
#define room (124 << 10)

struct gathered {
	sqlite3_file base;
	char *bytes; /* that are not written yet, NULL before there were any */
	int n;
	sqlite3_int64 at;       /* where they belong */
	int failed;             /* why they could not be written when nobody could be told, or 0 */
	sqlite3_file *database; /* whose log this is, NULL for another file */
	sqlite3_file real;      /* the beginning of it */
};

const int gathered_size = (int)sizeof(gathered);

static sqlite3_file *real(sqlite3_file *f) { return &((gathered *)f)->real; }

#define METHOD(f) real(f)->pMethods

/* flush writes what is gathered. What cannot be written is lost, and is told once. */
static int flush(sqlite3_file *base) {
	gathered *f = (gathered *)base;
	int n = f->n, rc = f->failed;
	f->n = f->failed = 0;
	if (rc == SQLITE_OK && n > 0)
		rc = METHOD(base)->xWrite(real(base), f->bytes, n, f->at);
	return rc;
}

void gathered_flush(gathered *f) { f->failed = flush(&f->base); }

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

static int writeTo(sqlite3_file *base, const void *from, int n, sqlite3_int64 at) {
	gathered *f = (gathered *)base;
	if (!f->bytes && !(f->bytes = malloc(room)))
		return METHOD(base)->xWrite(real(base), from, n, at);
	for (int done = 0; done < n;) {
		if (f->n == room || f->failed || (f->n > 0 && f->at + f->n != at + done)) {
			int rc = flush(base);
			if (rc != SQLITE_OK)
				return rc;
		}
		done += add(f, (const char *)from + done, n - done, at + done);
	}
	return SQLITE_OK;
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
	return rc == SQLITE_OK ? METHOD(f)->xSync(real(f), flags) : rc;
}

static int sized(sqlite3_file *f, sqlite3_int64 *size) {
	int rc = flush(f);
	return rc == SQLITE_OK ? METHOD(f)->xFileSize(real(f), size) : rc;
}

static int closed(sqlite3_file *base) {
	gathered *f = (gathered *)base;
	int lost = flush(base);
	if (f->database)
		mapped_log(f->database, f, NULL);
	free(f->bytes);
	int rc = METHOD(base)->xClose(real(base));
	return lost == SQLITE_OK ? rc : lost;
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
