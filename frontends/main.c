/* One binary: `reeve serve` is the daemon, `reeve exec-run` stands beside each program that it runs, `reeve
 * provisioner` tries out such programs, everything else is a client of its socket. */
#include <string.h>

#include "frontends/cli/cli.h"
#include "frontends/daemon/daemon.h"
#include "provisioners/exec/check.h"
#include "provisioners/exec/wrapper.h"

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "serve") == 0)
        return daemon_main(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "exec-run") == 0)
        return wrapper_main(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "provisioner") == 0)
        return provisioner_main(argc - 1, argv + 1);
    return cli_main(argc, argv);
}
