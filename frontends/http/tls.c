/* Certificate and key, which can be read again while serving: new connections get the new ones. */
#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontends/common/refuse.h"
#include "frontends/http/server_private.h"

#define CHAIN_MAX 16

struct http_tls {
    char *certificate_path, *key_path;
    gnutls_pcert_st chain[CHAIN_MAX];
    unsigned chain_count;
    gnutls_privkey_t key;
};

/* libmicrohttpd's callback has no argument of its own, so that there can be one per process. */
static struct http_tls *current;

static int on_handshake(gnutls_session_t session, const gnutls_datum_t *names, int names_count,
                        const gnutls_pk_algorithm_t *algorithms, int algorithms_count, gnutls_pcert_st **ret_chain,
                        unsigned *ret_count, gnutls_privkey_t *ret_key)
{
    (void)session;
    (void)names;
    (void)names_count;
    (void)algorithms;
    (void)algorithms_count;
    if (!current)
        return -1;
    *ret_chain = current->chain;
    *ret_count = current->chain_count;
    *ret_key = current->key;
    return 0;
}

void *tls_callback(void)
{
    return (void *)(uintptr_t)on_handshake;
}

static int refuse_file(struct reeve_error *ret_error, const char *field, const char *path, const char *reason)
{
    return refuse_field(ret_error, field, "cannot use %.150s: %s", path, reason);
}

static int load_certificate(struct http_tls *tls, const char *path, struct reeve_error *ret_error)
{
    gnutls_datum_t data;
    tls->chain_count = CHAIN_MAX;
    int r = gnutls_load_file(path, &data);
    if (r < 0)
        return refuse_file(ret_error, "http-cert", path, strerror(errno));
    r = gnutls_pcert_list_import_x509_raw(tls->chain, &tls->chain_count, &data, GNUTLS_X509_FMT_PEM, 0);
    gnutls_free(data.data);
    if (r >= 0)
        return 0;
    tls->chain_count = 0;
    return refuse_file(ret_error, "http-cert", path, gnutls_strerror(r));
}

static int load_key(struct http_tls *tls, const char *path, struct reeve_error *ret_error)
{
    gnutls_datum_t data;
    int r = gnutls_load_file(path, &data);
    if (r < 0)
        return refuse_file(ret_error, "http-key", path, strerror(errno));
    r = gnutls_privkey_init(&tls->key);
    if (r >= 0)
        r = gnutls_privkey_import_x509_raw(tls->key, &data, GNUTLS_X509_FMT_PEM, NULL, 0);
    gnutls_memset(data.data, 0, data.size);
    gnutls_free(data.data);
    return r >= 0 ? 0 : refuse_file(ret_error, "http-key", path, gnutls_strerror(r));
}

/* Is it the key of the certificate? Both must give the same public key. */
static bool belong_together(const struct http_tls *tls)
{
    gnutls_pubkey_t public;
    unsigned char of_key[64], of_certificate[64];
    size_t key_size = sizeof of_key, certificate_size = sizeof of_certificate;
    if (gnutls_pubkey_init(&public) < 0)
        return false;
    const bool same = gnutls_pubkey_import_privkey(public, tls->key, 0, 0) >= 0 &&
                      gnutls_pubkey_get_key_id(public, GNUTLS_KEYID_USE_SHA256, of_key, &key_size) >= 0 &&
                      gnutls_pubkey_get_key_id(tls->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, of_certificate,
                                               &certificate_size) >= 0 &&
                      key_size == certificate_size && memcmp(of_key, of_certificate, key_size) == 0;
    gnutls_pubkey_deinit(public);
    return same;
}

static void unload(struct http_tls *tls)
{
    for (unsigned i = 0; i < tls->chain_count; i++)
        gnutls_pcert_deinit(&tls->chain[i]);
    if (tls->key)
        gnutls_privkey_deinit(tls->key);
    tls->chain_count = 0;
    tls->key = NULL;
}

static int load(struct http_tls *tls, struct reeve_error *ret_error)
{
    int r = load_certificate(tls, tls->certificate_path, ret_error);
    if (r == 0)
        r = load_key(tls, tls->key_path, ret_error);
    if (r == 0 && !belong_together(tls))
        r = refuse_file(ret_error, "http-key", tls->key_path, "it is not the key of the certificate");
    if (r < 0)
        unload(tls);
    return r;
}

int tls_open(const char *certificate_path, const char *key_path, struct http_tls **ret_tls,
             struct reeve_error *ret_error)
{
    struct http_tls *tls = calloc(1, sizeof *tls);
    if (!certificate_path || !key_path) {
        free(tls);
        return refuse_field(ret_error, certificate_path ? "http-key" : "http-cert",
                            "is required: TLS needs a certificate and its key");
    }
    if (tls) {
        tls->certificate_path = strdup(certificate_path);
        tls->key_path = strdup(key_path);
    }
    const bool memory = tls && tls->certificate_path && tls->key_path;
    const int r = memory ? load(tls, ret_error)
                         : refuse_file(ret_error, "http-cert", certificate_path, "out of memory");
    if (r < 0) {
        tls_close(tls);
        return r;
    }
    *ret_tls = current = tls;
    return 0;
}

/* What was there stays where the new files are no good. Handshakes under way hold no reference: libgnutls uses what the
 * callback gave at once, on this thread. */
int tls_reload(struct http_tls *tls, struct reeve_error *ret_error)
{
    struct http_tls fresh = {.certificate_path = tls->certificate_path, .key_path = tls->key_path};
    const int r = load(&fresh, ret_error);
    if (r < 0)
        return r;
    unload(tls);
    *tls = fresh;
    return 0;
}

void tls_close(struct http_tls *tls)
{
    if (!tls)
        return;
    unload(tls);
    free(tls->certificate_path);
    free(tls->key_path);
    if (current == tls)
        current = NULL;
    free(tls);
}
