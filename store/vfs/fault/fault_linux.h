#include "../sqlite_linux.h"

/* SET_SYSTEM_CALL is the place of xSetSystemCall among the methods of a sqlite3_vfs that follow xOpen. */
#define SET_SYSTEM_CALL 12

/*
 * fault_arm has the system calls fail by which SQLite reads and writes files whose path ends so: with the error numbers
 * reads and writes, if these are not 0, and of writes only those that end behind a place. It returns 0 if it can.
 */
int fault_arm(const char *suffix, int reads, int writes, int64_t from);

/* fault_disarm has none fail any more. */
void fault_disarm(void);
