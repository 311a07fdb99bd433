#include "json/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"

struct json_value {
    int type;
    bool boolean;
    double number;
    const char *text;
    const char *name; /* when a member of an object */
    size_t count;
    json_value **items;
    json_value *next;  /* sibling, while parsing */
    memory_pool *pool; /* of the whole tree; only in the root */
};

typedef struct parser {
    const char *begin, *at, *end;
    memory_pool *pool;
    xai_error **error;
    xai_status status; /* the first failure sticks */
} parser;

static bool fail(parser *self, const char *what)
{
    if (self->status != XAI_OK)
        return false;
    size_t line = 1, column = 1;
    for (const char *at = self->begin; at < self->at; at++) {
        column = *at == '\n' ? 1 : column + 1;
        line += *at == '\n';
    }
    self->status = error_set(self->error, XAI_ERROR_FORMAT, NULL, "JSON line %zu column %zu: %s",
                             line, column, what);
    return false;
}

static void *allocate(parser *self, size_t count, size_t size)
{
    void *block = memory_pool_allocate(self->pool, count, size);
    if (!block && self->status == XAI_OK)
        self->status = error_memory(self->error, "JSON", count * size);
    return block;
}

static void skip_space(parser *self)
{
    while (self->at < self->end &&
           (*self->at == ' ' || *self->at == '\t' || *self->at == '\n' || *self->at == '\r'))
        self->at++;
}

static char peek(const parser *self)
{
    return self->at < self->end ? *self->at : '\0';
}

static bool accept(parser *self, char c)
{
    if (self->at == self->end || *self->at != c)
        return false;
    self->at++;
    return true;
}

/* Strings -------------------------------------------------------------------------------------- */

static bool hex4(parser *self, uint32_t *unit)
{
    uint32_t sum = 0;
    if (self->end - self->at < 4)
        return fail(self, "incomplete \\u escape");
    for (int i = 0; i < 4; i++) {
        const char c = *self->at++;
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0)
            return fail(self, "\\u needs four hexadecimal digits");
        sum = sum << 4 | (uint32_t)digit;
    }
    *unit = sum;
    return true;
}

/* The character of a \u escape, of two for those above U+FFFF, as UTF-8; bytes written, 0 on
 * failure. */
static size_t unicode_escape(parser *self, char *out)
{
    uint32_t code, low;
    if (!hex4(self, &code))
        return 0;
    if (code >= 0xdc00 && code <= 0xdfff)
        return (size_t)fail(self, "lone surrogate");
    if (code >= 0xd800 && code <= 0xdbff) {
        if (!accept(self, '\\') || !accept(self, 'u'))
            return (size_t)fail(self, "lone surrogate");
        if (!hex4(self, &low))
            return 0;
        if (low < 0xdc00 || low > 0xdfff)
            return (size_t)fail(self, "lone surrogate");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    if (code == 0)
        return (size_t)fail(self, "NUL character in a string");
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    const size_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)((size == 2 ? 0xc0 : size == 3 ? 0xe0 : 0xf0) | code);
    return size;
}

/* A string with its quotes; NULL on failure. */
static const char *parse_string(parser *self)
{
    if (!accept(self, '"')) {
        fail(self, "expected a string");
        return NULL;
    }
    const char *close = self->at; /* the text is never longer than its source */
    while (close < self->end && *close != '"')
        close += *close == '\\' ? 2 : 1;
    if (close >= self->end) {
        fail(self, "string without end");
        return NULL;
    }
    char *content = allocate(self, (size_t)(close - self->at) + 1, 1);
    size_t length = 0;
    while (content && self->status == XAI_OK && !accept(self, '"')) {
        const unsigned char c = (unsigned char)*self->at;
        if (c < 0x20)
            fail(self, "control character in a string");
        else if (c != '\\') {
            const size_t step = text_utf8_step(self->at, (size_t)(self->end - self->at));
            if (step == 0)
                fail(self, "not UTF-8");
            memcpy(content + length, self->at, step);
            self->at += step;
            length += step;
        } else {
            static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
            const char escape = self->at[1]; /* within the text: it ends with a quote after this */
            const char *found = escape ? strchr(from, escape) : NULL;
            self->at += 2;
            if (escape == 'u')
                length += unicode_escape(self, content + length);
            else if (found)
                content[length++] = to[found - from];
            else
                fail(self, "unknown escape");
        }
    }
    return self->status == XAI_OK ? content : NULL;
}

/* Numbers -------------------------------------------------------------------------------------- */

static size_t digits(parser *self)
{
    const char *begin = self->at;
    while (self->at < self->end && *self->at >= '0' && *self->at <= '9')
        self->at++;
    return (size_t)(self->at - begin);
}

/* strtod() reads the decimal point of the locale, so it is given a number without one: 0.485 as
 * 0485e-3. */
static bool parse_number(parser *self, double *number)
{
    char plain[160];
    const char *begin = self->at;
    size_t length = 0;
    long exponent = 0;
    accept(self, '-');
    const bool zero = peek(self) == '0';
    const size_t whole = digits(self);
    if (whole == 0 || (zero && whole > 1))
        return fail(self, "not a number");
    size_t fraction = 0;
    if (accept(self, '.') && (fraction = digits(self)) == 0)
        return fail(self, "digits expected after the decimal point");
    if (self->at - begin > 128)
        return fail(self, "number with too many digits");
    for (const char *each = begin; each < self->at; each++)
        if (*each != '.')
            plain[length++] = *each;
    if (accept(self, 'e') || accept(self, 'E')) {
        const bool negative = peek(self) == '-';
        if (!accept(self, '-'))
            accept(self, '+');
        const char *first = self->at;
        const size_t count = digits(self);
        if (count == 0)
            return fail(self, "digits expected in the exponent");
        if (count > 6)
            return fail(self, "number out of range");
        for (; first < self->at; first++)
            exponent = exponent * 10 + (*first - '0');
        exponent = negative ? -exponent : exponent;
    }
    snprintf(plain + length, sizeof plain - length, "e%ld", exponent - (long)fraction);
    *number = strtod(plain, NULL);
    return isfinite(*number) || fail(self, "number out of range");
}

/* Values --------------------------------------------------------------------------------------- */

static json_value *parse_value(parser *self, int depth);

static bool known_name(const json_value *first, const char *name)
{
    for (; first; first = first->next)
        if (strcmp(first->name, name) == 0)
            return true;
    return false;
}

/* Elements or members up to the closing bracket, first as a list, then as an array. */
static void parse_items(parser *self, json_value *into, char close, int depth)
{
    json_value *first = NULL, **last = &first;
    self->at++;
    skip_space(self);
    if (accept(self, close))
        return;
    do {
        const char *name = NULL;
        if (into->type == JSON_OBJECT) {
            skip_space(self);
            name = parse_string(self);
            if (!name)
                return;
            if (known_name(first, name)) {
                fail(self, "this name occurs twice in the object");
                return;
            }
            if (into->count == JSON_MEMBER_LIMIT) {
                fail(self, "too many members in an object");
                return;
            }
            skip_space(self);
            if (!accept(self, ':')) {
                fail(self, "expected ':'");
                return;
            }
        }
        json_value *item = parse_value(self, depth + 1);
        if (!item)
            return;
        item->name = name;
        *last = item;
        last = &item->next;
        into->count++;
        skip_space(self);
    } while (accept(self, ','));
    if (!accept(self, close)) {
        fail(self, close == ']' ? "expected ',' or ']'" : "expected ',' or '}'");
        return;
    }
    into->items = allocate(self, into->count, sizeof *into->items);
    for (size_t i = 0; into->items && first; first = first->next)
        into->items[i++] = first;
}

static bool word(parser *self, const char *expected)
{
    const size_t length = strlen(expected);
    if ((size_t)(self->end - self->at) < length || memcmp(self->at, expected, length) != 0)
        return false;
    self->at += length;
    return true;
}

/* NULL on failure. */
static json_value *parse_value(parser *self, int depth)
{
    json_value *made = allocate(self, 1, sizeof *made);
    skip_space(self);
    if (!made)
        return NULL;
    const char c = peek(self);
    if (depth > JSON_DEPTH_LIMIT)
        fail(self, "nested too deep");
    else if (c == '{' || c == '[') {
        made->type = c == '{' ? JSON_OBJECT : JSON_ARRAY;
        parse_items(self, made, c == '{' ? '}' : ']', depth);
    } else if (c == '"') {
        made->type = JSON_STRING;
        made->text = parse_string(self);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        made->type = JSON_NUMBER;
        parse_number(self, &made->number);
    } else if (word(self, "true") || word(self, "false")) {
        made->type = JSON_BOOLEAN;
        made->boolean = c == 't';
    } else if (!word(self, "null"))
        fail(self, "expected a value");
    return self->status == XAI_OK ? made : NULL;
}

xai_status json_parse(const char *bytes, size_t size, json_value **out, xai_error **error)
{
    if (size > JSON_SIZE_LIMIT)
        return error_set(error, XAI_ERROR_FORMAT, NULL, "JSON of %zu bytes; at most %zu are read",
                         size, JSON_SIZE_LIMIT);
    memory_pool *pool = memory_pool_create();
    if (!pool)
        return error_memory(error, "JSON", 0);
    parser self = {.begin = bytes,
                   .at = bytes,
                   .end = bytes + size,
                   .pool = pool,
                   .error = error,
                   .status = XAI_OK};
    word(&self, "\xef\xbb\xbf");
    json_value *root = parse_value(&self, 1);
    skip_space(&self);
    if (root && self.at != self.end)
        fail(&self, "text after the value");
    if (self.status != XAI_OK) {
        memory_pool_free(pool);
        return self.status;
    }
    root->pool = pool;
    *out = root;
    return XAI_OK;
}

void json_free(json_value *root)
{
    if (root)
        memory_pool_free(root->pool);
}

int json_type(const json_value *value)
{
    return value ? value->type : JSON_NULL;
}

const char *json_type_name(const json_value *value)
{
    static const char *const names[] = {"null",     "a boolean", "a number",
                                        "a string", "a list",    "an object"};
    return names[json_type(value)];
}

const char *json_text(const json_value *value)
{
    return json_type(value) == JSON_STRING ? value->text : NULL;
}

bool json_number(const json_value *value, double *number)
{
    if (json_type(value) != JSON_NUMBER)
        return false;
    *number = value->number;
    return true;
}

bool json_boolean(const json_value *value, bool *boolean)
{
    if (json_type(value) != JSON_BOOLEAN)
        return false;
    *boolean = value->boolean;
    return true;
}

size_t json_count(const json_value *value)
{
    return value ? value->count : 0;
}

const json_value *json_item(const json_value *value, size_t index)
{
    return index < json_count(value) ? value->items[index] : NULL;
}

const char *json_name(const json_value *value, size_t index)
{
    const json_value *item = json_item(value, index);
    return item ? item->name : NULL;
}

const json_value *json_member(const json_value *value, const char *name)
{
    if (json_type(value) != JSON_OBJECT)
        return NULL;
    for (size_t i = 0; i < value->count; i++)
        if (strcmp(value->items[i]->name, name) == 0)
            return value->items[i];
    return NULL;
}
