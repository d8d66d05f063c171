/* What is used of SQLite's documented interface (https://sqlite.org/vfs.html). It is linked into the program by its driver. */

#ifndef SQLITE_LINUX_H
#define SQLITE_LINUX_H

#include <stdint.h>

typedef int64_t sqlite3_int64;
typedef struct sqlite3_vfs sqlite3_vfs;
typedef struct sqlite3_file sqlite3_file;
typedef struct sqlite3_io_methods sqlite3_io_methods;

struct sqlite3_file {
	const sqlite3_io_methods *pMethods;
};

struct sqlite3_io_methods {
	int iVersion;
	int (*xClose)(sqlite3_file *);
	int (*xRead)(sqlite3_file *, void *, int, sqlite3_int64);
	int (*xWrite)(sqlite3_file *, const void *, int, sqlite3_int64);
	int (*xTruncate)(sqlite3_file *, sqlite3_int64);
	int (*xSync)(sqlite3_file *, int);
	int (*xFileSize)(sqlite3_file *, sqlite3_int64 *);
	int (*xLock)(sqlite3_file *, int);
	int (*xUnlock)(sqlite3_file *, int);
	int (*xCheckReservedLock)(sqlite3_file *, int *);
	int (*xFileControl)(sqlite3_file *, int, void *);
	int (*xSectorSize)(sqlite3_file *);
	int (*xDeviceCharacteristics)(sqlite3_file *);
	int (*xShmMap)(sqlite3_file *, int, int, int, void volatile **);
	int (*xShmLock)(sqlite3_file *, int, int, int);
	void (*xShmBarrier)(sqlite3_file *);
	int (*xShmUnmap)(sqlite3_file *, int);
	int (*xFetch)(sqlite3_file *, sqlite3_int64, int, void **);
	int (*xUnfetch)(sqlite3_file *, sqlite3_int64, void *);
};

struct sqlite3_vfs {
	int iVersion;
	int szOsFile;
	int mxPathname;
	sqlite3_vfs *pNext;
	const char *zName;
	void *pAppData;
	int (*xOpen)(sqlite3_vfs *, const char *, sqlite3_file *, int, int *);
	void (*others[15])(void); /* up to version 3, which stay as they are */
};

enum {
	SQLITE_OK = 0,
	SQLITE_NOMEM = 7,
	SQLITE_NOTFOUND = 12,
	SQLITE_CANTOPEN = 14,
	SQLITE_SHM_UNLOCK = 1,
	SQLITE_SHM_LOCK = 2,
	SQLITE_SHM_EXCLUSIVE = 8,
	SQLITE_OPEN_MAIN_DB = 0x100,
	SQLITE_OPEN_SUBJOURNAL = 0x2000,
	SQLITE_OPEN_WAL = 0x80000,
	SQLITE_FCNTL_MMAP_SIZE = 18,
	SQLITE_FCNTL_CKPT_DONE = 37,
	SQLITE_CONFIG_PAGECACHE = 7,
	SQLITE_CONFIG_MEMSTATUS = 9,
	SQLITE_CONFIG_MMAP_SIZE = 22,
	SQLITE_CONFIG_STMTJRNL_SPILL = 26,
};

extern int sqlite3_config(int, ...) __attribute__((weak));
extern int sqlite3_initialize(void) __attribute__((weak));
extern sqlite3_vfs *sqlite3_vfs_find(const char *) __attribute__((weak));
extern int sqlite3_vfs_register(sqlite3_vfs *, int) __attribute__((weak));
extern sqlite3_file *sqlite3_database_file_object(const char *) __attribute__((weak));

#endif
