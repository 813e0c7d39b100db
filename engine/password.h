/* Passwords of the engine's own making, and the forms of them that are kept: only hashes are.
 *
 * A password is made where a command is handed in, on the caller's thread, and comes to the core with the command: an
 * input like any other, the same when a batch is made again. There is also where the verifier is derived, because it
 * takes as long as some dozen commands: it must not stand between other callers and their commit. */
#ifndef REEVE_PASSWORD_H
#define REEVE_PASSWORD_H

#include <reeve.h>

#define PASSWORD_SHA256_SIZE 32
#define PASSWORD_SCRAM_SALT_SIZE 16
/* What RFC 7677 asks for at least; fewer are refused by clients. */
#define PASSWORD_SCRAM_ITERATIONS 4096

/* Does this command want a password to be made: does it set one, and name no hash of it? */
bool password_is_wanted(const struct reeve_request *request);
/* Make it, where it is wanted, and what `forms` (bits by enum reeve_password_form) asks for besides its hash. */
void password_prepare(struct reeve_request *request, uint32_t forms);
/* Forget it, once the command is answered. */
void password_forget(struct reeve_request *request);

/* Of a password or the secret of a key. */
void password_sha256(struct reeve_str secret, uint8_t ret_digest[PASSWORD_SHA256_SIZE]);

/* The verifier of a password for SCRAM-SHA-256 (RFC 5802, RFC 7677), as PostgreSQL keeps it:
 * SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY in base64. The password is ASCII: nothing is normalized. */
void password_scram(struct reeve_str password, const uint8_t salt[PASSWORD_SCRAM_SALT_SIZE],
                    char ret_verifier[REEVE_SCRAM_SIZE + 1]);

#endif
