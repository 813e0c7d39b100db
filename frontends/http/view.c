#include "view.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "codec.h"
#include "frontends/http/json.h"

enum item_form {
    FORM_FIELD,
    FORM_LIST,     /* one word in a list */
    FORM_CONSTANT, /* the same for all records */
};

struct view_item {
    enum item_form form;
    const struct field *field;
    bool always;
    char *name, *constant;
};

struct view {
    const struct record_type *type;
    const char *texts[2];
    struct view_item *items[2];
    unsigned counts[2];
};

static struct view views[] = {
#define VIEW(record, plain, cloud) {.type = &record_type_##record, .texts = {plain, cloud}},
#include "views.def"
};
#define VIEW_COUNT (sizeof views / sizeof views[0])

/* ---- The table, read ---- */

static const struct field *find_field(const struct record_type *type, const char *name, size_t size)
{
    for (unsigned i = 0; i < type->count; i++) {
        if (bytes_equal(type->fields[i].name, strlen(type->fields[i].name), name, size))
            return &type->fields[i];
    }
    return NULL;
}

static bool is_shown(const struct field *field)
{
    return field->use != USE_STORED && field->kind != FIELD_BIN;
}

static bool is_always(const struct field *field)
{
    return field->use == USE_ALWAYS || field->use == USE_SHOWN_ALWAYS;
}

static bool read_item(const struct record_type *type, const char *word, size_t size, struct view_item *item)
{
    size_t name_size = strcspn(word, "!<= ");
    const char mark = name_size < size ? word[name_size] : '\0';
    const char *rest = word + name_size + 1;
    item->name = strndup(word, name_size);
    if (mark == '=') {
        item->form = FORM_CONSTANT;
        item->constant = strndup(rest, size - name_size - 1);
        return item->name && item->constant;
    }
    item->form = mark == '<' ? FORM_LIST : FORM_FIELD;
    item->field = mark == '<' ? find_field(type, rest, size - name_size - 1) : find_field(type, word, name_size);
    item->always = mark == '!' || (item->field && is_always(item->field));
    return item->name && item->field;
}

static bool read_all(struct view *view, unsigned dialect)
{
    view->items[dialect] = calloc(view->type->count, sizeof(struct view_item));
    if (!view->items[dialect])
        return false;
    for (unsigned i = 0; i < view->type->count; i++) {
        const struct field *field = &view->type->fields[i];
        if (is_shown(field))
            view->items[dialect][view->counts[dialect]++] = (struct view_item){
                .field = field, .always = is_always(field), .name = (char *)(uintptr_t)field->name};
    }
    return true;
}

static bool read_view(struct view *view, unsigned dialect)
{
    const char *text = view->texts[dialect];
    if (strcmp(text, "*") == 0)
        return read_all(view, dialect);
    unsigned words = 1;
    for (const char *at = text; *at; at++)
        words += *at == ' ';
    view->items[dialect] = calloc(words, sizeof(struct view_item));
    if (!view->items[dialect])
        return false;
    while (*text) {
        const size_t size = strcspn(text, " ");
        if (!read_item(view->type, text, size, &view->items[dialect][view->counts[dialect]++]))
            return false;
        text += size + (text[size] == ' ');
    }
    return true;
}

bool view_init(void)
{
    static bool done;
    for (size_t i = 0; i < VIEW_COUNT && !done; i++) {
        if (!read_view(&views[i], HTTP_PLAIN) || !read_view(&views[i], HTTP_CLOUD))
            return false;
    }
    done = true;
    return true;
}

static const struct view *view_of(const struct record_type *type)
{
    for (size_t i = 0; i < VIEW_COUNT; i++) {
        if (views[i].type == type)
            return &views[i];
    }
    return NULL;
}

bool view_name_at(enum http_dialect dialect, const struct record_type *type, unsigned index, struct view_name *ret_name)
{
    const struct view *view = view_of(type);
    if (view && index >= view->counts[dialect])
        return false;
    if (view) {
        const struct view_item *item = &view->items[dialect][index];
        *ret_name = (struct view_name){item->name, item->field, item->form == FORM_LIST, item->always};
        return true;
    }
    for (unsigned i = 0; i < type->count; i++) {
        const struct field *field = &type->fields[i];
        if (!is_shown(field) || index-- > 0)
            continue;
        *ret_name = (struct view_name){field->name, field, false, is_always(field)};
        return true;
    }
    return false;
}

/* ---- Values ---- */

/* Clients of the cloud dialect know this state by another name; it is the only one they do not know as it is. */
static const char *word_of(enum http_dialect dialect, const struct field *field, unsigned number)
{
    if (dialect == HTTP_CLOUD && number == REEVE_SERVICE_STATE_DELETING &&
        strcmp(field->words->name, "service_state") == 0)
        return "terminating";
    return enum_name(field->words, number);
}

static void put_list(struct buffer *out, enum http_dialect dialect, const struct field *field, const void *value)
{
    struct reeve_endpoint_list list; /* every list has this shape, see codec.c */
    memcpy(&list, value, sizeof list);
    buffer_append(out, "[", 1);
    for (size_t i = 0; i < list.count; i++) {
        if (i)
            buffer_append(out, ",", 1);
        view_put(out, dialect, field->record, (const char *)(const void *)list.items + i * field->record->size);
    }
    buffer_append(out, "]", 1);
}

static void put_word_list(struct buffer *out, enum http_dialect dialect, const struct field *field, uint64_t mask)
{
    const char *separator = "[";
    for (unsigned i = 0; i < field->words->count; i++) {
        const unsigned number = field->words->values[i].number;
        if (!(mask >> number & 1))
            continue;
        json_put_text(out, separator);
        separator = ",";
        const char *name = word_of(dialect, field, number);
        json_put_string(out, name, strlen(name));
    }
    json_put_text(out, mask ? "]" : "[]");
}

static void put_time(struct buffer *out, uint64_t ms, bool milliseconds)
{
    char text[25];
    codec_format_time(ms, milliseconds, text);
    json_put_string(out, text, strlen(text));
}

static void put_uuid(struct buffer *out, const void *value)
{
    char text[37];
    reeve_uuid_format(value, text);
    json_put_string(out, text, 36);
}

static void put_value(struct buffer *out, enum http_dialect dialect, const struct field *field, const void *record)
{
    const void *value = (const char *)record + field->offset;
    uint64_t number;
    unsigned word;
    const struct reeve_str *text = value;
    switch (field->kind) {
    case FIELD_BOOL:
        json_put_text(out, *(const bool *)value ? "true" : "false");
        return;
    case FIELD_U64:
        memcpy(&number, value, sizeof number);
        json_put_u64(out, number);
        return;
    case FIELD_TIME:
    case FIELD_STAMP:
        memcpy(&number, value, sizeof number);
        put_time(out, number, field->kind == FIELD_STAMP);
        return;
    case FIELD_UUID:
        put_uuid(out, value);
        return;
    case FIELD_STR:
    case FIELD_BIN:
        json_put_string(out, text->data, text->size);
        return;
    case FIELD_ENUM:
        memcpy(&word, value, sizeof word);
        const char *name = word_of(dialect, field, word);
        json_put_string(out, name ? name : "", name ? strlen(name) : 0);
        return;
    case FIELD_WORDS:
        memcpy(&number, value, sizeof number);
        put_word_list(out, dialect, field, number);
        return;
    case FIELD_OBJ:
        view_put(out, dialect, field->record, value);
        return;
    case FIELD_LIST:
        put_list(out, dialect, field, value);
        return;
    }
}

static void put_item(struct buffer *out, enum http_dialect dialect, const struct view_item *item, const void *record,
                     bool *first)
{
    if (item->form != FORM_CONSTANT && !item->always && codec_is_empty(item->field, record))
        return;
    json_put_name(out, item->name, *first);
    *first = false;
    if (item->form == FORM_CONSTANT) {
        json_put_text(out, item->constant);
        return;
    }
    if (item->form == FORM_LIST)
        buffer_append(out, "[", 1);
    put_value(out, dialect, item->field, record);
    if (item->form == FORM_LIST)
        buffer_append(out, "]", 1);
}

/* A record without a view (an endpoint, a tag) is shown as over IPC. */
static void put_whole(struct buffer *out, enum http_dialect dialect, const struct record_type *type, const void *record)
{
    bool first = true;
    for (unsigned i = 0; i < type->count; i++) {
        const struct view_item item = {.field = &type->fields[i],
                                       .always = is_always(&type->fields[i]),
                                       .name = (char *)(uintptr_t)type->fields[i].name};
        if (is_shown(item.field))
            put_item(out, dialect, &item, record, &first);
    }
}

void view_put(struct buffer *out, enum http_dialect dialect, const struct record_type *type, const void *record)
{
    const struct view *view = view_of(type);
    bool first = true;
    buffer_append(out, "{", 1);
    if (!view)
        put_whole(out, dialect, type, record);
    for (unsigned i = 0; view && i < view->counts[dialect]; i++)
        put_item(out, dialect, &view->items[dialect][i], record, &first);
    buffer_append(out, "}", 1);
}
