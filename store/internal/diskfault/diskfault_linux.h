#include <stdint.h>

/*
 * diskfault_arm makes the system calls fail by which SQLite writes to files whose path ends with suffix, with the error
 * number writes, if they end behind the offset from. It returns 0, or another number if SQLite does not take the calls.
 */
int diskfault_arm(const char *suffix, int writes, int64_t from);

/* diskfault_disarm lets all calls succeed again. */
void diskfault_disarm(void);
