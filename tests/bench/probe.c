// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a program in the guest notices.
 *
 * usage: probe stream MIB           add two arrays into a third one, over and
 *                                   over; MIB is the sum of the three
 *        probe timer                sleep a millisecond, over and over
 *        probe loop MIB SECONDS     map, write and unmap memory, over and over
 *        probe holes MIB KIB        write twice as much, free holes of KIB in it,
 *                                   MIB in sum, and keep the rest until SIGTERM
 *        probe low                  watch MemAvailable until SIGTERM
 *
 * Without SECONDS: until SIGTERM. Prints "start MS" when it begins, and at the
 * end a line for each sample:
 * "MS VALUE". MS is on the guest's monotonic clock; VALUE is MB/s, microseconds
 * late, or milliseconds a turn. "low" prints one line, "low KIB".
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE		4096UL
#define MIB		1048576UL
#define CHUNK		(MIB / sizeof(uint64_t))	/* words */
#define MAX_SAMPLES	131072UL

struct sample {
	double ms;
	double value;
};

static struct sample samples[MAX_SAMPLES];
static size_t count;
static volatile sig_atomic_t stopped;

static void stop(int sig)
{
	(void)sig;
	stopped = 1;
}

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e3 + ts.tv_nsec / 1e6;
}

static double begin(void)
{
	double now = now_ms();

	printf("start %.3f\n", now);
	fflush(stdout);
	return now;
}

static void add(double ms, double value)
{
	if (count < MAX_SAMPLES)
		samples[count++] = (struct sample){ ms, value };
}

static void *get_memory(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED) {
		perror("probe: mmap");
		exit(2);
	}
	return mem;
}

static void triad(uint64_t *a, const uint64_t *b, const uint64_t *c)
{
	for (size_t i = 0; i < CHUNK; i++)
		a[i] = b[i] + 3 * c[i];
}

static void stream(size_t mib)
{
	size_t chunks = mib / 3, i = 0;
	uint64_t *mem = get_memory(3 * chunks * MIB);
	double last;

	memset(mem, 1, 3 * chunks * MIB);
	last = begin();
	while (!stopped) {
		uint64_t *a = mem + i * CHUNK, *b = a + chunks * CHUNK;
		double now;

		triad(a, b, b + chunks * CHUNK);
		i = (i + 1) % chunks;
		now = now_ms();
		add(now, 3 * MIB / 1e3 / (now - last));
		last = now;
	}
}

static void timer(void)
{
	struct timespec next;

	begin();
	clock_gettime(CLOCK_MONOTONIC, &next);
	while (!stopped) {
		double now, due;

		next.tv_nsec += 1000000;
		if (next.tv_nsec >= 1000000000) {
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
		now = now_ms();
		due = next.tv_sec * 1e3 + next.tv_nsec / 1e6;
		add(now, (now - due) * 1e3);
		/* What it has missed it leaves out. */
		if (now > due + 1)
			clock_gettime(CLOCK_MONOTONIC, &next);
	}
}

static void loop(size_t mib, double seconds)
{
	double last = begin(), end = last + seconds * 1e3;

	while (last < end) {
		char *mem = get_memory(mib * MIB);
		double now;

		for (size_t i = 0; i < mib * MIB; i += PAGE)
			mem[i] = 1;
		munmap(mem, mib * MIB);
		now = now_ms();
		add(now, now - last);
		last = now;
	}
}

static void holes(size_t mib, size_t hole)
{
	char *mem = get_memory(2 * mib * MIB);

	if (madvise(mem, 2 * mib * MIB, MADV_NOHUGEPAGE))
		perror("probe: MADV_NOHUGEPAGE");
	for (size_t i = 0; i < 2 * mib * MIB; i += PAGE)
		mem[i] = 1;
	for (size_t i = 0; i < 2 * mib * MIB; i += 2 * hole)
		madvise(mem + i, hole, MADV_DONTNEED);
	begin();
	while (!stopped)
		pause();
}

static long available(void)
{
	char text[4096], *line;
	int fd = open("/proc/meminfo", O_RDONLY);
	ssize_t length = read(fd, text, sizeof(text) - 1);

	close(fd);
	if (length <= 0)
		return -1;
	text[length] = 0;
	line = strstr(text, "MemAvailable:");
	return line ? atol(line + strlen("MemAvailable:")) : -1;
}

static void protect(void)
{
	FILE *f = fopen("/proc/self/oom_score_adj", "w");

	mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
	if (!f)
		return;
	fputs("-1000", f);
	fclose(f);
}

static void watch_available(void)
{
	long least, now;

	protect();
	least = available();
	begin();
	while (!stopped) {
		usleep(5000);
		now = available();
		if (now >= 0 && now < least)
			least = now;
	}
	printf("low %ld\n", least);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	signal(SIGTERM, stop);
	if (!strcmp(mode, "stream") && argc == 3)
		stream(atol(argv[2]));
	else if (!strcmp(mode, "timer") && argc == 2)
		timer();
	else if (!strcmp(mode, "loop") && argc == 4)
		loop(atol(argv[2]), atof(argv[3]));
	else if (!strcmp(mode, "holes") && argc == 4)
		holes(atol(argv[2]), atol(argv[3]) * 1024);
	else if (!strcmp(mode, "low") && argc == 2)
		watch_available();
	else
		return 2;
	for (size_t i = 0; i < count; i++)
		printf("%.2f %.2f\n", samples[i].ms, samples[i].value);
	return 0;
}
