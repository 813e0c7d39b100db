/* A directory for one test, that is gone with everything in it when the test is over. */
#ifndef REEVE_TESTS_DIRECTORY_H
#define REEVE_TESTS_DIRECTORY_H

#define DIRECTORY_PATH_MAX 64

/* Below this one: /tmp, or /dev/shm for what shall not wait for a disk. */
void directory_make(const char *parent, char ret_path[DIRECTORY_PATH_MAX]);
void directory_remove(const char *path);

#endif
