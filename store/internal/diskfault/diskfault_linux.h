#include <stdint.h>

/*
 * diskfault_arm makes SQLite's writes to files whose path ends with suffix fail with the error number writes. Only
 * writes that end after the offset from fail. It returns 0, or another number if SQLite does not accept the calls.
 */
int diskfault_arm(const char *suffix, int writes, int64_t from);

/* diskfault_disarm ends the failures. */
void diskfault_disarm(void);
