// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fill memory in the test guest with a pattern that can be verified.
 *
 * usage: hog [-r] [-n] MIB [HOLD-SECONDS [PASSES]]
 *   -r  fill whole pages with pseudo-random words, instead of one word a page
 *   -n  no transparent huge pages
 *
 * Prints "ready MS", with the time the first pass of writing took, holds the
 * memory (0, the default: not at all; negative: until SIGTERM), then verifies
 * each page. Exit status: 0 intact, 1 not, 2 no memory or wrong usage.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE		4096UL
#define WORDS		(PAGE / sizeof(uint64_t))

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

/* splitmix64: never 0 for the seeds used here, and different for each word */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static uint64_t pattern(uint64_t pass, uint64_t word)
{
	return mix((pass << 48) + word);
}

static void fill(uint64_t *mem, size_t words, size_t step, uint64_t pass)
{
	for (size_t i = 0; i < words && !stopped; i += step)
		mem[i] = pattern(pass, i);
}

static int verify(const uint64_t *mem, size_t words, size_t step,
		  uint64_t pass)
{
	for (size_t i = 0; i < words; i += step) {
		if (mem[i] == pattern(pass, i))
			continue;
		printf("bad word %zu: %016llx\n", i,
		       (unsigned long long)mem[i]);
		return 1;
	}
	return 0;
}

static void hold(double seconds)
{
	double end = now_ms() + seconds * 1e3;

	while (!stopped && (seconds < 0 || now_ms() < end))
		usleep(20000);
}

/* The agent that starts this is not to be killed by mm, but its hogs are. */
static void be_killable(void)
{
	FILE *f = fopen("/proc/self/oom_score_adj", "w");

	if (!f)
		return;
	fputs("0", f);
	fclose(f);
}

static uint64_t *get_memory(size_t size, int nohuge)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (mem == MAP_FAILED) {
		perror("hog: mmap");
		exit(2);
	}
	if (nohuge && madvise(mem, size, MADV_NOHUGEPAGE))
		perror("hog: MADV_NOHUGEPAGE");
	return mem;
}

/* Writes @passes times; tells the time of the first. Returns the last pass. */
static uint64_t write_passes(uint64_t *mem, size_t words, size_t step,
			     uint64_t passes)
{
	double start = now_ms();
	uint64_t pass = 1;

	fill(mem, words, step, pass);
	printf("ready %.1f\n", now_ms() - start);
	fflush(stdout);
	while (pass < passes && !stopped)
		fill(mem, words, step, ++pass);
	return pass;
}

int main(int argc, char **argv)
{
	int opt, nohuge = 0;
	size_t step = WORDS, words;
	uint64_t *mem, pass;

	while ((opt = getopt(argc, argv, "+rn")) != -1) {
		if (opt == 'r')
			step = 1;
		else if (opt == 'n')
			nohuge = 1;
		else
			return 2;
	}
	if (optind >= argc || atol(argv[optind]) <= 0) {
		fputs("usage: hog [-r] [-n] MIB [SECONDS [PASSES]]\n", stderr);
		return 2;
	}
	be_killable();
	words = (size_t)atol(argv[optind]) * ((1UL << 20) / sizeof(*mem));
	mem = get_memory(words * sizeof(*mem), nohuge);
	signal(SIGTERM, stop);
	pass = write_passes(mem, words, step,
			    optind + 2 < argc ? atol(argv[optind + 2]) : 1);
	if (stopped)		/* cut short: nothing to verify */
		return 0;
	hold(optind + 1 < argc ? atof(argv[optind + 1]) : 0);
	return verify(mem, words, step, pass);
}
