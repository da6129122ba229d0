/*
 * url.c: addresses of servers, and names inside them. Called by handle.c and by whoever builds a path.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib.h"

static int
bad(char *why, size_t size, const char *text, const char *what)
{
	char shown[120];

	snprintf(why, size, "the server's address '%s' %s; wanted http://HOST:PORT, https://..., unix:PATH or HOST:PORT",
		 text_clip(shown, sizeof(shown), text, strlen(text)), what);
	return -1;
}

static char *
joined(const char *a, const char *b, const char *c)
{
	char *p = NULL;

	return asprintf(&p, "%s%s%s", a, b, c) < 0 ? NULL : p;
}

/* Everything of the address as curl's parser normalises it, without what has no meaning here. */
static int
check_url(CURLU *u, const char *text, struct lib_url *url, char *why, size_t size)
{
	char *part = NULL, *whole = NULL;
	int rc = -2;
	size_t n;

	if (curl_url_get(u, CURLUPART_SCHEME, &part, 0) || (strcmp(part, "http") != 0 && strcmp(part, "https") != 0)) {
		rc = bad(why, size, text, "is neither http nor https");
		goto out;
	}
	for (int i = 0; i < 4; i++) {
		static const CURLUPart unwanted[] = {CURLUPART_QUERY, CURLUPART_FRAGMENT, CURLUPART_USER,
						     CURLUPART_PASSWORD};
		static const char *const names[] = {"has a query", "has a fragment",
						    "has a user's name (a key goes into AITERD_KEY)",
						    "has a password (a key goes into AITERD_KEY)"};
		char *p = NULL;

		if (curl_url_get(u, unwanted[i], &p, 0) == CURLUE_OK) {
			curl_free(p);
			rc = bad(why, size, text, names[i]);
			goto out;
		}
	}
	if (curl_url_get(u, CURLUPART_URL, &whole, 0))
		goto out;
	n = strlen(whole);
	while (n && whole[n - 1] == '/')
		n--;
	url->base = strndup(whole, n);
	rc = url->base ? 0 : -2;
out:
	curl_free(part);
	curl_free(whole);
	return rc;
}

int
lib_url_parse(const char *text, struct lib_url *url, char *why, size_t size)
{
	CURLU *u;
	char *with_scheme;
	CURLUcode code;
	int rc;

	*url = (struct lib_url){NULL, NULL};
	if (strncmp(text, "unix:", 5) == 0) {
		if (!text[5])
			return bad(why, size, text, "names no socket");
		if (strlen(text + 5) > 107)
			return bad(why, size, text, "has a path of more than 107 bytes");
		url->unix_path = strdup(text + 5);
		url->base = strdup("http://localhost");
		if (url->unix_path && url->base)
			return 0;
		free(url->unix_path);
		free(url->base);
		return -2;
	}
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f)
			return bad(why, size, text, "has a blank or a control character");
	with_scheme = strstr(text, "://") ? strdup(text) : joined("http://", text, "");
	u = curl_url();
	if (!with_scheme || !u) {
		free(with_scheme);
		curl_url_cleanup(u);
		return -2;
	}
	code = curl_url_set(u, CURLUPART_URL, with_scheme, 0);
	if (code == CURLUE_OUT_OF_MEMORY)
		rc = -2;
	else if (code)
		rc = bad(why, size, text, "cannot be read");
	else
		rc = check_url(u, text, url, why, size);
	curl_url_cleanup(u);
	free(with_scheme);
	return rc;
}

char *
aiterd_escape(const char *name)
{
	static const char hex[] = "0123456789ABCDEF";
	char *out = malloc(3 * strlen(name) + 1), *o = out;

	if (!out)
		return NULL;
	for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
		if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
		    strchr("-._~:", *p)) {
			*o++ = (char)*p;
		} else {
			*o++ = '%';
			*o++ = hex[*p >> 4];
			*o++ = hex[*p & 15];
		}
	}
	*o = '\0';
	return out;
}
