/* `reeve provisioner check PROGRAM`: does a plugin keep to docs/provisioners.md? Runs it as a daemon would, without
 * one. */
#ifndef REEVE_EXEC_CHECK_H
#define REEVE_EXEC_CHECK_H

/* argv[0] is "provisioner". Returns the exit code: 0 all passed, 1 something failed, 2 usage. */
int provisioner_main(int argc, char **argv);

#endif
