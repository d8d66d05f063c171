#include <stdint.h>

/* mapped_begin has files be mapped that are opened from now on. It returns SQLite's code, 0 if that is so, or -1 without SQLite. */
int mapped_begin(void);

/* mapped_least sets from how many bytes on a file is read through its mapping, and returns what that was. */
int64_t mapped_least(int64_t bytes);
