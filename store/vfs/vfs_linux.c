#include <malloc.h>
#include <stddef.h>

#include "vfs_linux.h"

/*
 * in_memory is how many bytes of what a statement may have to undo are kept in memory, before they go to a file: less than
 * that is what the rows of most transactions take.
 */
#define in_memory (512 << 10)

sqlite3_vfs *system_vfs;
static sqlite3_vfs own_vfs;

static int opened(sqlite3_vfs *vfs, const char *path, sqlite3_file *f, int flags, int *got) {
	(void)vfs;
	if (path && (flags & SQLITE_OPEN_MAIN_DB))
		return mapped_open(path, f, flags, got);
	if (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_SUBJOURNAL))
		return gathered_open(path, f, flags, got);
	return system_vfs->xOpen(system_vfs, path, f, flags, got);
}

/*
 * configured has temporary tables, of which most statements have one, take pages one by one and not 20 at once, which cost
 * more than what is done with them; and has memory not be counted, which nobody asks for. All but no bytes are mapped, so
 * that a mapped file is asked.
 */
static int configured(void) {
	int rc = sqlite3_config(SQLITE_CONFIG_PAGECACHE, NULL, 0, 0);
	if (rc == SQLITE_OK)
		rc = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	if (rc == SQLITE_OK)
		rc = sqlite3_config(SQLITE_CONFIG_STMTJRNL_SPILL, in_memory);
	if (rc == SQLITE_OK)
		rc = sqlite3_config(SQLITE_CONFIG_MMAP_SIZE, (sqlite3_int64)1, (sqlite3_int64)1);
	return rc;
}

int vfs_begin(void) {
	if (!sqlite3_config || !sqlite3_initialize || !sqlite3_vfs_find || !sqlite3_vfs_register || !sqlite3_database_file_object)
		return -1;
#ifdef M_ARENA_MAX /* else each thread that has carried out a statement keeps some memory for the next */
	mallopt(M_ARENA_MAX, 1);
#endif
	int rc = configured();
	if (rc == SQLITE_OK)
		rc = sqlite3_initialize();
	if (rc != SQLITE_OK)
		return rc;
	system_vfs = sqlite3_vfs_find(NULL);
	if (!system_vfs || system_vfs->iVersion < 3)
		return SQLITE_NOTFOUND;
	own_vfs = *system_vfs;
	own_vfs.zName = "agentevents";
	own_vfs.szOsFile = system_vfs->szOsFile + (mapped_size > gathered_size ? mapped_size : gathered_size);
	own_vfs.xOpen = opened;
	return sqlite3_vfs_register(&own_vfs, 1);
}
