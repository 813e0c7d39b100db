/* The tables of schemas/ as data for loops: what codec, command line, documents and tests walk over. */
#ifndef REEVE_SCHEMA_H
#define REEVE_SCHEMA_H

#include <reeve.h>

enum field_kind {
    FIELD_BOOL,
    FIELD_U64,
    FIELD_TIME,
    FIELD_STAMP,
    FIELD_UUID,
    FIELD_STR,
    FIELD_BIN,
    FIELD_ENUM,
    FIELD_WORDS,
    FIELD_OBJ,
    FIELD_LIST,
};

/* Where a field of a record lives (first five), whether a parameter must be given (last three). */
enum field_use {
    USE_STORED,
    USE_SHOWN,
    USE_SHOWN_ALWAYS,
    USE_BOTH,
    USE_ALWAYS,
    USE_REQUIRED,
    USE_OPTIONAL,
    USE_NULLABLE,
};

struct enum_value {
    unsigned number;
    const char *name;
};

struct enum_type {
    const char *name;
    const struct enum_value *values;
    unsigned count;
};

struct field {
    unsigned tag; /* records: position in the stored array, 0: not stored; parameters: bit in `given` */
    enum field_kind kind;
    enum field_use use;
    const char *name;   /* on the wires */
    const char *c_name; /* in C and, with dashes, as a flag */
    const char *text;
    size_t offset;
    uint64_t min, max;                /* parameters only */
    const struct record_type *record; /* OBJ, LIST */
    const struct enum_type *words;    /* ENUM, WORDS */
};

struct arena;
struct buffer;
struct unpack;

/* The code of one record's stored form, see codec.h. */
struct stored_form {
    void (*encode)(const void *record, unsigned version, struct buffer *out);
    int (*decode)(struct unpack *unpack, uint64_t count, struct arena *arena, void *ret_record);
};

struct record_type {
    const char *name;
    size_t size;
    const struct field *fields;
    unsigned count;
    unsigned tag_max;                 /* length of the stored array, without the version */
    unsigned version;                 /* schema version of the stored form; 0: not stored */
    const struct stored_form *stored; /* records only, and so is */
    void (*wire)(const void *record, unsigned more, struct buffer *out);
    bool is_params; /* starts with `given` and `null` */
};

struct command_type {
    enum reeve_command id;
    const char *name; /* "service.create" */
    enum reeve_command_mode mode;
    const struct record_type *params;
    const struct record_type *answer;
    unsigned input; /* enum lifecycle_input, 0: none */
    const char *help;
};

struct option_type {
    const char *name; /* flag and configuration key: "queue-capacity" */
    size_t offset;    /* in struct reeve_limits */
    uint64_t preset, min, max;
    const char *unit, *text;
};

struct counter_type {
    const char *name; /* on the wires: "batchInputs" */
    size_t offset;    /* in struct reeve_stats */
    bool is_gauge;
    const char *text;
};

extern const struct record_type schema_meta; /* PARAMS(meta) */
extern const struct command_type schema_commands[];
extern const unsigned schema_commands_count;
extern const struct option_type schema_options[];
extern const unsigned schema_options_count;
extern const struct counter_type schema_counters[];
extern const unsigned schema_counters_count;

/* The record type of a name in records.def ("service"), or of a params name ("service_create" with params true). */
const struct record_type *schema_record(const char *name, bool params);
/* The row of a command; NULL if there is none. */
const struct command_type *schema_command(enum reeve_command id);

const char *enum_name(const struct enum_type *type, unsigned number);
unsigned enum_parse(const struct enum_type *type, const char *name, size_t size); /* 0 if there is none */

#define SCHEMA_RECORD(name) record_type_##name
#define RECORD(name)                                                                                                   \
    extern const struct record_type record_type_##name;                                                                \
    extern const struct stored_form stored_form_##name;                                                                \
    void codec_wire_##name(const void *record, unsigned more, struct buffer *out);
#include "records.def"
#define PARAMS(name) extern const struct record_type params_type_##name;
#include "params.def"

#endif
