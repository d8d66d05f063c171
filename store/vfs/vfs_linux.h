#include "sqlite_linux.h"

/* vfs_begin has files be opened by this package from now on. It returns SQLite's code, 0 if that is so, or -1 without SQLite. */
int vfs_begin(void);

/* vfs_map_from sets from how many bytes on a file is read through its mapping, and returns what that was. */
int64_t vfs_map_from(int64_t bytes);

/* system_vfs is SQLite's own, which does all in the end. */
extern sqlite3_vfs *system_vfs;

/* mapped_open opens a database, and gathered_open a file that is mostly written one part behind the other. */
int mapped_open(const char *path, sqlite3_file *, int flags, int *got);
int gathered_open(const char *path, sqlite3_file *, int flags, int *got);

/* mapped_size and gathered_size are how many bytes an open file takes beside the system's. */
extern const int mapped_size, gathered_size;

/*
 * gathered is a file of which what a transaction writes goes to the system in large parts. gathered_begin says that one
 * writes, gathered_publish that others are told of what it has written, and gathered_end that it is over: what was not
 * published is given up. mapped_log has the log of a database known, or not any more.
 */
typedef struct gathered gathered;
void gathered_begin(gathered *);
void gathered_publish(gathered *);
void gathered_end(gathered *);
void mapped_log(sqlite3_file *database, gathered *from, gathered *to);
