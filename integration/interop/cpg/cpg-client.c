/*
 * A member of one process group of corosync, for the interop tests.
 *
 *   cpg-client follow GROUP
 *       joins, prints what it sees, one line per event, and obeys lines on standard input:
 *           send SIZE SEED COUNT    COUNT messages of SIZE bytes, made from SEED, SEED + 1, ...
 *       The end of the input leaves the group.
 *   cpg-client drain GROUP
 *       the same, but it prints nothing
 *   cpg-client round-trip GROUP MEMBERS COUNT WINDOW SIZE
 *       joins, waits for MEMBERS processes, sends COUNT messages with at most WINDOW of them under way, and
 *       prints how long each took until it came back.
 *
 * Events: "local NODE PID", "members NODE:PID...", "message NODE PID LENGTH HASH".
 * The bytes of a message and its hash are those of src/payload.rs.
 */
#define _POSIX_C_SOURCE 200809L
#include <corosync/corotypes.h>
#include <corosync/cpg.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static cpg_handle_t cpg;
static uint32_t own_node, own_pid;
static size_t group_size, own_returned;
static int quiet;

static void fail(const char *what, cs_error_t error)
{
	fprintf(stderr, "%s: error %d\n", what, error);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void fill(uint8_t *bytes, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < size; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		bytes[i] = seed >> 56;
	}
}

static uint64_t hash(const uint8_t *bytes, size_t size)
{
	uint64_t value = 0xcbf29ce484222325u;

	for (size_t i = 0; i < size; i++)
		value = (value ^ bytes[i]) * 0x100000001b3u;
	return value;
}

static void on_message(cpg_handle_t handle, const struct cpg_name *group, uint32_t node, uint32_t pid, void *bytes,
		       size_t size)
{
	(void)handle;
	(void)group;
	if (node == own_node && pid == own_pid)
		own_returned++;
	if (!quiet)
		printf("message %u %u %zu %016" PRIx64 "\n", node, pid, size, hash(bytes, size));
}

static void on_members(cpg_handle_t handle, const struct cpg_name *group, const struct cpg_address *members,
		       size_t count, const struct cpg_address *left, size_t left_count,
		       const struct cpg_address *joined, size_t joined_count)
{
	(void)handle;
	(void)group;
	(void)left;
	(void)left_count;
	(void)joined;
	(void)joined_count;
	group_size = count;
	if (quiet)
		return;
	printf("members");
	for (size_t i = 0; i < count; i++)
		printf(" %u:%u", members[i].nodeid, members[i].pid);
	printf("\n");
}

static void join(const char *name)
{
	cpg_model_v1_data_t callbacks = { .cpg_deliver_fn = on_message, .cpg_confchg_fn = on_members };
	struct timespec pause = { .tv_nsec = 10000000 };
	struct cpg_name group = { .length = strlen(name) };
	cs_error_t error;

	memcpy(group.value, name, group.length);
	while ((error = cpg_model_initialize(&cpg, CPG_MODEL_V1, (cpg_model_data_t *)&callbacks, NULL)) != CS_OK) {
		if (error != CS_ERR_TRY_AGAIN)
			fail("cpg_model_initialize", error);
		nanosleep(&pause, NULL);
	}
	own_pid = getpid();
	if ((error = cpg_local_get(cpg, &own_node)) != CS_OK)
		fail("cpg_local_get", error);
	while ((error = cpg_join(cpg, &group)) != CS_OK) {
		if (error != CS_ERR_TRY_AGAIN)
			fail("cpg_join", error);
		nanosleep(&pause, NULL);
	}
}

static void dispatch(void)
{
	cs_error_t error = cpg_dispatch(cpg, CS_DISPATCH_ALL);

	if (error != CS_OK && error != CS_ERR_TRY_AGAIN)
		fail("cpg_dispatch", error);
	fflush(stdout);
}

/* Whether it was taken: if not, flow control or a synchronisation is in the way for a moment. */
static int try_send(uint8_t *bytes, size_t size)
{
	struct iovec vector = { .iov_base = bytes, .iov_len = size };
	cs_error_t error = cpg_mcast_joined(cpg, CPG_TYPE_AGREED, &vector, 1);

	if (error == CS_ERR_TRY_AGAIN)
		return 0;
	if (error != CS_OK)
		fail("cpg_mcast_joined", error);
	return 1;
}

static int descriptor(void)
{
	int fd;
	cs_error_t error = cpg_fd_get(cpg, &fd);

	if (error != CS_OK)
		fail("cpg_fd_get", error);
	return fd;
}

static void send_all(size_t size, uint64_t seed, size_t count)
{
	struct pollfd wait = { .fd = descriptor(), .events = POLLIN };
	uint8_t *bytes = malloc(size ? size : 1);

	for (size_t i = 0; i < count; i++) {
		fill(bytes, size, seed + i);
		while (!try_send(bytes, size)) {
			poll(&wait, 1, 1);
			dispatch();
		}
	}
	free(bytes);
}

static void follow(void)
{
	struct pollfd wait[2] = { { .fd = descriptor(), .events = POLLIN }, { .fd = 0, .events = POLLIN } };
	char line[256];
	size_t size, count;
	uint64_t seed;

	/* One line at a time is asked for, so that none is hidden in a buffer. */
	setvbuf(stdin, NULL, _IONBF, 0);
	if (!quiet)
		printf("local %u %u\n", own_node, own_pid);
	for (;;) {
		dispatch();
		poll(wait, 2, -1);
		if (!wait[1].revents)
			continue;
		if (!fgets(line, sizeof line, stdin))
			break;
		if (sscanf(line, "send %zu %" SCNu64 " %zu", &size, &seed, &count) != 3) {
			fprintf(stderr, "not understood: %s", line);
			exit(2);
		}
		send_all(size, seed, count);
	}
}

static int by_value(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static void round_trip(size_t members, size_t count, size_t window, size_t size)
{
	struct pollfd wait = { .fd = descriptor(), .events = POLLIN };
	uint64_t *begun = malloc(count * sizeof *begun), start;
	uint8_t *bytes = calloc(1, size);
	size_t sent = 0, seen = 0;

	quiet = 1;
	while (group_size < members) {
		poll(&wait, 1, 100);
		dispatch();
	}
	start = now_ns();
	while (seen < count) {
		int refused = 0;

		while (sent < count && sent - own_returned < window && !refused) {
			begun[sent] = now_ns();
			if (try_send(bytes, size))
				sent++;
			else
				refused = 1;
		}
		poll(&wait, 1, refused ? 1 : 1000);
		dispatch();
		for (uint64_t now = now_ns(); seen < own_returned; seen++)
			begun[seen] = now - begun[seen];
	}
	double seconds = (now_ns() - start) / 1e9;
	qsort(begun, count, sizeof *begun, by_value);
	printf("%zu messages of %zu bytes, %zu under way: %.0f/s, p50 %.0f us, p99 %.0f us, max %.0f us\n", count, size,
	       window, count / seconds, begun[count / 2] / 1e3, begun[count * 99 / 100] / 1e3,
	       begun[count - 1] / 1e3);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "follow")) {
		join(argv[2]);
		follow();
	} else if (argc == 3 && !strcmp(argv[1], "drain")) {
		quiet = 1;
		join(argv[2]);
		follow();
	} else if (argc == 7 && !strcmp(argv[1], "round-trip")) {
		join(argv[2]);
		round_trip(atol(argv[3]), atol(argv[4]), atol(argv[5]), atol(argv[6]));
	} else {
		fprintf(stderr, "usage: cpg-client follow GROUP | drain GROUP | round-trip GROUP MEMBERS COUNT WINDOW SIZE\n");
		return 2;
	}
	cpg_finalize(cpg);
	return 0;
}
