// An echo server with a bare epoll loop: the upper limit for the other servers. It is level-triggered and has one
// thread, and makes one recv and one send per message. Bytes that the socket does not accept at once are kept in a
// buffer of the connection, which is not read until they are sent.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 64 << 10, EVENTS = 256 };

struct conn {
	int fd;
	char *unsent;
	size_t off, len;
};

static char buffer[BUFFER];

static void watch(int ep, struct conn *c, unsigned events) {
	struct epoll_event ev = {.events = events, .data.ptr = c};
	epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
}

static void close_conn(struct conn *c) {
	close(c->fd);
	free(c->unsent);
	free(c);
}

static void on_readable(int ep, struct conn *c) {
	ssize_t n = recv(c->fd, buffer, BUFFER, 0);
	if (n <= 0) {
		close_conn(c);
		return;
	}
	ssize_t m = send(c->fd, buffer, n, MSG_NOSIGNAL);
	if (m < 0)
		m = 0;
	if (m < n) {
		c->len = n - m;
		c->off = 0;
		c->unsent = malloc(c->len);
		memcpy(c->unsent, buffer + m, c->len);
		watch(ep, c, EPOLLOUT);
	}
}

static void on_writable(int ep, struct conn *c) {
	ssize_t m = send(c->fd, c->unsent + c->off, c->len - c->off, MSG_NOSIGNAL);
	if (m < 0)
		return;
	c->off += m;
	if (c->off == c->len) {
		free(c->unsent);
		c->unsent = NULL;
		watch(ep, c, EPOLLIN);
	}
}

static void accept_all(int ep, int l) {
	for (int fd; (fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
		struct conn *c = calloc(1, sizeof *c);
		c->fd = fd;
		struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
		epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	}
}

int main(void) {
	int one = 1, l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof sa;
	setsockopt(l, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (bind(l, (struct sockaddr *)&sa, sizeof sa) || listen(l, 1 << 30) ||
	    getsockname(l, (struct sockaddr *)&sa, &size))
		return 1;
	printf("= 127.0.0.1:%d\n", ntohs(sa.sin_port));
	fflush(stdout);

	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &l}, events[EVENTS];
	epoll_ctl(ep, EPOLL_CTL_ADD, l, &ev);
	ev.data.ptr = &one; // the standard input
	epoll_ctl(ep, EPOLL_CTL_ADD, 0, &ev);
	for (;;) {
		int n = epoll_wait(ep, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			void *p = events[i].data.ptr;
			if (p == &l) {
				accept_all(ep, l);
			} else if (p == &one) {
				if (read(0, buffer, BUFFER) <= 0)
					return 0;
				puts("= 0"); // the heap is not counted
				fflush(stdout);
			} else if (((struct conn *)p)->unsent) {
				on_writable(ep, p);
			} else {
				on_readable(ep, p);
			}
		}
	}
}
