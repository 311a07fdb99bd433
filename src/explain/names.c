#include "explain/names.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"

#define NEAR_MAX 3
#define COMPARED_MAX 64 /* bytes of a name that are compared */

/* Levenshtein distance without regard to letter case, of the first COMPARED_MAX bytes. */
static size_t distance(const char *a, const char *b)
{
    const size_t n = strnlen(a, COMPARED_MAX), m = strnlen(b, COMPARED_MAX);
    size_t row[COMPARED_MAX + 1];
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            const bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            size_t best = diagonal + (same ? 0 : 1);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

static bool contains(const char *whole, const char *part)
{
    const size_t n = strlen(whole), m = strlen(part);
    if (m < 2 || m > n)
        return false;
    for (size_t i = 0; i + m <= n; i++) {
        size_t j = 0;
        while (j < m && tolower((unsigned char)whole[i + j]) == tolower((unsigned char)part[j]))
            j++;
        if (j == m)
            return true;
    }
    return false;
}

/* 0 = the same but for letter case; larger is farther. A name that holds the other ranks as one
 * edit. */
static size_t rank_of(const char *name, const char *candidate)
{
    const size_t edits = distance(name, candidate);
    return edits > 1 && (contains(candidate, name) || contains(name, candidate)) ? 1 : edits;
}

static void append_list(text *out, const char *const *names, size_t count, const char *last)
{
    for (size_t i = 0; i < count; i++)
        text_format(out, "%s'%.80s'", i == 0 ? "" : i + 1 == count ? last : ", ", names[i]);
}

xai_status name_not_found(xai_error **error, const char *what, const char *name, name_at at,
                          const void *context, size_t count)
{
    const char *near[NEAR_MAX] = {NULL}, *first[NEAR_MAX] = {NULL};
    size_t ranks[NEAR_MAX], found = 0, listed = 0, all = 0;
    const size_t limit = 1 + strnlen(name, COMPARED_MAX) / 3;
    for (size_t i = 0; i < count; i++) {
        const char *candidate = at(context, i);
        if (candidate == NULL)
            continue;
        all++;
        if (listed < NEAR_MAX)
            first[listed++] = candidate;
        const size_t rank = rank_of(name, candidate);
        if (rank > limit)
            continue;
        size_t place = found;
        while (place > 0 && ranks[place - 1] > rank)
            place--;
        if (place >= NEAR_MAX)
            continue;
        if (found < NEAR_MAX)
            found++;
        for (size_t j = found - 1; j > place; j--) {
            near[j] = near[j - 1];
            ranks[j] = ranks[j - 1];
        }
        near[place] = candidate;
        ranks[place] = rank;
    }
    text hint = {0};
    if (found > 0) {
        text_append(&hint, "did you mean ");
        append_list(&hint, near, found, " or ");
        text_append(&hint, "?");
    } else if (all > 0) {
        text_append(&hint, all > listed ? "the first are " : "there is ");
        append_list(&hint, first, listed, all > listed ? ", " : " and ");
    } else {
        text_append(&hint, "there are none");
    }
    const xai_status status =
        error_set(error, XAI_ERROR_NOT_FOUND, NULL, "no %s named '%.200s'; %s", what, name,
                  hint.bytes != NULL ? hint.bytes : "");
    text_free(&hint);
    return status;
}
