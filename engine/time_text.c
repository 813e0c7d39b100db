/* Times as text: RFC 3339 in UTC, by the days of the proleptic Gregorian calendar. */
#include <stdio.h>
#include <string.h>

#include "codec.h"

#define DAY_MS UINT64_C(86400000)

static bool is_leap(unsigned year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static unsigned month_days(unsigned year, unsigned month)
{
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return month == 2 && is_leap(year) ? 29 : days[month - 1];
}

/* Days from 1970-01-01 to the first of January of a year. */
static uint64_t days_before_year(unsigned year)
{
    const uint64_t y = year - 1;
    return y * 365 + y / 4 - y / 100 + y / 400 - (1969 * 365 + 1969 / 4 - 1969 / 100 + 1969 / 400);
}

/* So many digits, and what comes behind them. */
static void put_digits(char **at, unsigned number, unsigned digits, char behind)
{
    for (unsigned i = digits; i > 0; i--, number /= 10)
        (*at)[i - 1] = (char)('0' + number % 10);
    *at += digits;
    *(*at)++ = behind;
}

void codec_format_time(uint64_t ms, bool milliseconds, char ret_text[25])
{
    const uint64_t last = (days_before_year(10000)) * DAY_MS - 1;
    if (ms > last)
        ms = last; /* four digits of year are all there is room for */
    uint64_t days = ms / DAY_MS;
    unsigned year = 1970 + (unsigned)(days / 366);
    while (days_before_year(year + 1) <= days)
        year++;
    days -= days_before_year(year);
    unsigned month = 1;
    for (; days >= month_days(year, month); month++)
        days -= month_days(year, month);
    const unsigned of_day = (unsigned)(ms % DAY_MS);
    char *at = ret_text;
    put_digits(&at, year, 4, '-');
    put_digits(&at, month, 2, '-');
    put_digits(&at, (unsigned)days + 1, 2, 'T');
    put_digits(&at, of_day / 3600000, 2, ':');
    put_digits(&at, of_day / 60000 % 60, 2, ':');
    put_digits(&at, of_day / 1000 % 60, 2, milliseconds ? '.' : 'Z');
    if (milliseconds)
        put_digits(&at, of_day % 1000, 3, 'Z');
    *at = '\0';
}

/* Reads exactly `digits` digits. */
static bool take_number(const char **text, const char *end, int digits, unsigned *ret)
{
    unsigned value = 0;
    for (; digits > 0; digits--, (*text)++) {
        if (*text == end || **text < '0' || **text > '9')
            return false;
        value = value * 10 + (unsigned)(**text - '0');
    }
    *ret = value;
    return true;
}

static bool take_char(const char **text, const char *end, const char *allowed)
{
    if (*text == end || !strchr(allowed, **text))
        return false;
    (*text)++;
    return true;
}

/* ".5", ".123456": thousandths, the rest cut. */
static bool take_fraction(const char **text, const char *end, unsigned *ret_ms)
{
    unsigned weight = 100, digits = 0;
    *ret_ms = 0;
    if (*text == end || **text != '.')
        return true;
    for ((*text)++; *text < end && **text >= '0' && **text <= '9'; (*text)++, digits++, weight /= 10)
        *ret_ms += (unsigned)(**text - '0') * weight;
    return digits > 0;
}

static bool take_offset(const char **text, const char *end, int64_t *ret_ms)
{
    unsigned hours, minutes;
    *ret_ms = 0;
    if (take_char(text, end, "Zz"))
        return true;
    const bool west = *text < end && **text == '-';
    if (!take_char(text, end, "+-") || !take_number(text, end, 2, &hours) || !take_char(text, end, ":") ||
        !take_number(text, end, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *ret_ms = (int64_t)(hours * 3600000 + minutes * 60000) * (west ? -1 : 1);
    return true;
}

bool codec_parse_time(const char *text, size_t size, uint64_t *ret_ms)
{
    const char *end = text + size;
    unsigned year, month, day, hour, minute, second, fraction;
    int64_t offset;
    if (!take_number(&text, end, 4, &year) || !take_char(&text, end, "-") || !take_number(&text, end, 2, &month) ||
        !take_char(&text, end, "-") || !take_number(&text, end, 2, &day) || !take_char(&text, end, "Tt ") ||
        !take_number(&text, end, 2, &hour) || !take_char(&text, end, ":") || !take_number(&text, end, 2, &minute) ||
        !take_char(&text, end, ":") || !take_number(&text, end, 2, &second) || !take_fraction(&text, end, &fraction) ||
        !take_offset(&text, end, &offset) || text != end)
        return false;
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > month_days(year, month) || hour > 23 ||
        minute > 59 || second > 59)
        return false;
    uint64_t days = days_before_year(year) + day - 1;
    for (unsigned m = 1; m < month; m++)
        days += month_days(year, m);
    const int64_t ms = (int64_t)(days * DAY_MS + hour * 3600000ULL + minute * 60000ULL + second * 1000ULL + fraction) -
                       offset;
    if (ms < 0)
        return false;
    *ret_ms = (uint64_t)ms;
    return true;
}
