/* The floor: what the kernel alone costs. One write for each client and event, and nothing else.
 *
 *     gcc -O2 -o floor floor.c && ./floor PORT
 *
 * It reads requests only as far as their end, answers each with an endless chunked stream, and
 * broadcasts when standard input says "publish COUNT SIZE". A client that cannot take an event
 * whole is closed. Single-threaded, epoll, loopback.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CLIENTS = 20000, MAX_READY = 1024, MAX_SIZE = 65536, STDIN = 0 };

static const char HEAD[] =
    "HTTP/1.1 200 \r\n"
    "content-type: text/event-stream\r\n"
    "cache-control: no-cache, no-transform\r\n"
    "x-accel-buffering: no\r\n"
    "transfer-encoding: chunked\r\n\r\n";

static int clients[MAX_CLIENTS]; /* descriptors of those that stream */
static int place[MAX_CLIENTS];   /* of a descriptor among them, or -1 */
static int client_count;
static long long number;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll_ctl");
}

static int listen_at(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
    if (listen(fd, 4096) < 0) fail("listen");
    return fd;
}

static void accept_all(int epoll, int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MAX_CLIENTS) {
            close(fd);
            continue;
        }
        place[fd] = -1;
        watch(epoll, fd);
    }
}

static void leave(int fd) {
    if (place[fd] >= 0) {
        int last = clients[--client_count];
        clients[place[fd]] = last;
        place[last] = place[fd];
    }
    close(fd);
}

static void answer(int fd) {
    char request[8192];
    ssize_t length = read(fd, request, sizeof request);
    if (length <= 0) {
        leave(fd);
    } else if (place[fd] < 0 && memmem(request, length, "\r\n\r\n", 4)) {
        if (write(fd, HEAD, sizeof HEAD - 1) < 0) {
            close(fd);
            return;
        }
        place[fd] = client_count;
        clients[client_count++] = fd;
    }
}

static int make_chunk(char *chunk, int size) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long long time = now.tv_sec * 1000000000LL + now.tv_nsec;
    int start = sprintf(chunk, "%x\r\ndata: ", size + 8);
    int stamp = sprintf(chunk + start, "%010lld %020lld ", number++, time);
    memset(chunk + start + stamp, 'x', size - stamp);
    return start + size - 1 + sprintf(chunk + start + size - 1, "~\n\n\r\n");
}

static void broadcast(int size) {
    static char chunk[MAX_SIZE + 64];
    int length = make_chunk(chunk, size);
    for (int i = client_count - 1; i >= 0; i--)
        if (write(clients[i], chunk, length) != length) leave(clients[i]);
}

static void obey(void) {
    char lines[4096];
    ssize_t length = read(STDIN, lines, sizeof lines - 1);
    if (length <= 0) exit(0);
    lines[length] = 0;
    for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n")) {
        int count, size;
        if (sscanf(line, "publish %d %d", &count, &size) != 2 || size < 33 || size > MAX_SIZE)
            exit(2);
        while (count-- > 0) broadcast(size);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    int epoll = epoll_create1(0), listener = listen_at(atoi(argv[1]));
    watch(epoll, STDIN);
    watch(epoll, listener);
    for (;;) {
        struct epoll_event ready[MAX_READY];
        int count = epoll_wait(epoll, ready, MAX_READY, -1);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd == STDIN) obey();
            else if (fd == listener) accept_all(epoll, listener);
            else answer(fd);
        }
    }
}
