/* One binary: `reeve serve` is the daemon, everything else is a client of its socket. */
#include <string.h>

#include "frontends/cli/cli.h"
#include "frontends/daemon/daemon.h"

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "serve") == 0)
        return daemon_main(argc - 1, argv + 1);
    return cli_main(argc, argv);
}
