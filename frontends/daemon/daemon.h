/* `reeve serve`: options, engine, provisioner and frontends put together on one loop, until a signal ends it. */
#ifndef REEVE_DAEMON_H
#define REEVE_DAEMON_H

/* argv[0] is "serve". Returns the exit code: 0 stopped cleanly, 1 could not start, 2 usage, 130 stopped at once. */
int daemon_main(int argc, char **argv);

#endif
