/* helpers.c: see helpers.h. A queue under one mutex: tasks are long, contention is not. */
#include "front/helpers.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct helpers {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct helper_task *head, **tail;
	bool stop;
	int n;
	pthread_t threads[];
};

static void
bring_back(struct loop_task *news)
{
	struct helper_task *t = (struct helper_task *)news;

	t->done(t);
}

static void *
helper_main(void *arg)
{
	struct helpers *h = arg;
	struct helper_task *t;

	pthread_mutex_lock(&h->lock);
	for (;;) {
		while (h->head == NULL && !h->stop)
			pthread_cond_wait(&h->wake, &h->lock);
		if ((t = h->head) == NULL)
			break;
		if ((h->head = t->next) == NULL)
			h->tail = &h->head;
		pthread_mutex_unlock(&h->lock);
		t->work(t);
		t->news.run = bring_back;
		loop_post(t->loop, &t->news);
		pthread_mutex_lock(&h->lock);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

struct helpers *
helpers_new(int threads, struct err *e)
{
	struct helpers *h = calloc(1, sizeof(*h) + (size_t)threads * sizeof(h->threads[0]));
	int r;

	if (h == NULL) {
		err_set(e, ERR_OUT_OF_MEMORY, "no memory for helper threads");
		return NULL;
	}
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->wake, NULL);
	h->tail = &h->head;
	for (; h->n < threads; h->n++) {
		if ((r = pthread_create(&h->threads[h->n], NULL, helper_main, h)) != 0) {
			err_set(e, ERR_INTERNAL, "a helper thread could not be started: %s", strerror(r));
			helpers_free(&h);
			return NULL;
		}
	}
	return h;
}

void
helpers_free(struct helpers **hp)
{
	struct helpers *h = *hp;
	int i;

	if (h == NULL)
		return;
	*hp = NULL;
	pthread_mutex_lock(&h->lock);
	h->stop = true;
	pthread_cond_broadcast(&h->wake);
	pthread_mutex_unlock(&h->lock);
	for (i = 0; i < h->n; i++)
		pthread_join(h->threads[i], NULL);
	pthread_cond_destroy(&h->wake);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

bool
helpers_wanted(struct helpers *h)
{
	bool wanted;

	pthread_mutex_lock(&h->lock);
	wanted = h->head != NULL || h->stop;
	pthread_mutex_unlock(&h->lock);
	return wanted;
}

void
helpers_submit(struct helpers *h, struct helper_task *t)
{
	t->next = NULL;
	pthread_mutex_lock(&h->lock);
	*h->tail = t;
	h->tail = &t->next;
	pthread_cond_signal(&h->wake);
	pthread_mutex_unlock(&h->lock);
}
