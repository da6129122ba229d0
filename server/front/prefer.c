/* prefer.c: see prefer.h. Prefer = 1#( token [ = word ] *( ; [ parameter ] ) ), word = token or quoted-string. */
#include "front/prefer.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

static const char *
skip_blanks(const char *s)
{
	return s + strspn(s, " \t");
}

/* Past a quoted string that begins here; an unfinished one goes to the end. */
static const char *
skip_quoted(const char *s)
{
	for (s++; *s != '\0' && *s != '"'; s++)
		if (*s == '\\' && s[1] != '\0')
			s++;
	return *s == '"' ? s + 1 : s;
}

/* To the end of this preference: the next comma that is in no quoted string. */
static const char *
skip_rest(const char *s)
{
	while (*s != '\0' && *s != ',')
		s = *s == '"' ? skip_quoted(s) : s + 1;
	return s;
}

static bool
is(const char *s, size_t n, const char *word)
{
	return strlen(word) == n && strncasecmp(s, word, n) == 0;
}

/* Digits and nothing else, with or without quotes; more than fits is the most there is. */
static bool
seconds(const char *s, uint32_t *out)
{
	bool quoted = *s == '"';
	uint64_t v = 0;
	size_t n;

	s += quoted;
	n = strspn(s, "0123456789");
	if (n == 0 || (quoted && s[n] != '"') || (!quoted && s[n] != '\0' && strchr(" \t,;", s[n]) == NULL))
		return false;
	for (size_t i = 0; i < n; i++)
		v = v > UINT32_MAX ? v : v * 10 + (uint64_t)(s[i] - '0');
	*out = v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
	return true;
}

void
prefer_parse(const char *value, struct prefer *p)
{
	const char *s = value, *name;
	bool wait_seen = false;
	size_t n;

	*p = (struct prefer){.respond_async = false};
	while (s != NULL && *s != '\0') {
		name = s = s + strspn(s, " \t,");
		n = strcspn(s, " \t,;=\"");
		s = skip_blanks(s + n);
		if (is(name, n, "respond-async")) {
			p->respond_async = true;
		} else if (is(name, n, "wait") && !wait_seen) {
			wait_seen = true;
			p->wait_given = *s == '=' && seconds(skip_blanks(s + 1), &p->wait_s);
		}
		s = skip_rest(s);
	}
}
