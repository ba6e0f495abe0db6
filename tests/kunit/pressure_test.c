// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory pressure: the guest runs out of memory, or low on it, while the host is
 * quick, slow, silent or broken, and takes back what the balloon has.
 */

#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/vmstat.h>

#include "fake_host.h"
#include "guest.h"
#include "inside.h"
#include "short.h"
#include "suites.h"

#define OOM		FH_BIT(DEFLATE_ON_OOM)
#define MUST_TELL	FH_BIT(MUST_TELL_HOST)
#define HINT		FH_BIT(FREE_PAGE_HINT)
#define MIB		(SZ_1M / PAGE_SIZE)	/* guest pages */
#define BUFFER		256U			/* pages, 4 KiB each */

/* The guest is out of memory; pages that came free */
static unsigned long oom(struct fh *host)
{
	return inside_oom(&host->dev->vdev);
}

static unsigned long oom_call(void *host)
{
	return oom(host);
}

/* As if so much time had passed since */
static void later(struct fh *host, unsigned long jiffies)
{
	inside_later(&host->dev->vdev, jiffies);
}

/* Time that must not have passed */
static void expect_at_once(struct kunit *test, unsigned long start)
{
	KUNIT_EXPECT_LE(test, jiffies - start, grace());
}

static void expect_took(struct kunit *test, unsigned long took,
			unsigned long want)
{
	KUNIT_EXPECT_GE(test, took, want);
	KUNIT_EXPECT_LE(test, took, want + HZ / 10 + grace());
}

/* Of the pages of that owner, those that mm has as free */
static unsigned long count_free(struct fh *host, enum fh_owner owner)
{
	unsigned long pfn, nr = 0;

	for (pfn = 0; pfn < host->nr_pfns; pfn++)
		nr += fh_owner_of(host, pfn) == owner &&
		      !page_count(pfn_to_page(pfn / FH_PPP));
	return nr;
}

/*
 * How much
 */

static const u64 tellings[] = { OOM, OOM | MUST_TELL };

static void telling_name(const u64 *features, char *name)
{
	strscpy(name, *features & MUST_TELL ? "MUST_TELL_HOST" : "plain",
		KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(telling, tellings, telling_name);

/* 1, 4, 16, 64 and 64 MiB, as long as there is so much */
static void each_oom_gives_more_than_the_last(struct kunit *test)
{
	static const unsigned int steps[] = { 1, 4, 16, 64, 64, 11, 0, 0 };
	struct fh *host = guest_plug(test, *(const u64 *)test->param_value);
	u64 seen = 0;
	unsigned int i;

	if (!time_travels() && host->accepted & MUST_TELL)
		kunit_skip(test, "the host may answer too late");
	resize(test, 160 * FH_MIB);
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		KUNIT_EXPECT_EQ(test, oom(host), steps[i] * MIB);
		seen += steps[i] * FH_MIB / BUFFER;
		KUNIT_EXPECT_EQ(test, buffers(host, FH_DEFLATE), seen);
	}
	KUNIT_EXPECT_EQ(test, look(host).oom_count, 8UL);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
	KUNIT_EXPECT_EQ(test, look(host).returned, 160L * (long)MIB);
}

static void after_ten_quiet_seconds_it_starts_small_again(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM);

	resize(test, 64 * FH_MIB);
	KUNIT_EXPECT_EQ(test, oom(host), 1 * MIB);
	later(host, time_travels() ? 10 * HZ : HZ);
	KUNIT_EXPECT_EQ(test, oom(host), 4 * MIB);
	later(host, 10 * HZ + 1);
	KUNIT_EXPECT_EQ(test, oom(host), 1 * MIB);
}

static void oom_pages_says_how_much(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM);

	KUNIT_ASSERT_EQ(test, guest_set("oom_pages", "1000"), 0);
	resize(test, 32 * FH_MIB);
	KUNIT_EXPECT_EQ(test, oom(host), DIV_ROUND_UP(1000UL, FH_PPP));
	KUNIT_EXPECT_EQ(test, oom(host), DIV_ROUND_UP(1000UL, FH_PPP));
	KUNIT_EXPECT_EQ(test, buffers(host, FH_DEFLATE), 8);
	guest_set("oom_pages", "1");
	KUNIT_EXPECT_EQ(test, oom(host), 1UL);
	guest_set("oom_pages", "1048576");
	KUNIT_EXPECT_EQ(test, oom(host),
			32 * MIB - 1 - 2 * DIV_ROUND_UP(1000UL, FH_PPP));
	KUNIT_EXPECT_EQ(test, oom(host), 0UL);
}

/* Also what mm's list has */
static void pages_come_from_mm_s_list_too(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM);

	resize(test, 8 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).runs));
	fh_target(host, 10 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 10 * FH_MIB));
	guest_set("oom_pages", "1024");
	KUNIT_EXPECT_EQ(test, oom(host), 4 * MIB);
	KUNIT_EXPECT_EQ(test, look(host).held, 6L * (long)MIB);
	KUNIT_EXPECT_EQ(test, look(host).runs, 0UL);
}

/* The pages are not the guest's to take back (B10). */
static void b10_without_deflate_on_oom_it_gives_nothing(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);

	resize(test, 32 * FH_MIB);
	KUNIT_EXPECT_EQ(test, oom(host), 0UL);
	KUNIT_EXPECT_EQ(test, buffers(host, FH_DEFLATE), 0);
	KUNIT_EXPECT_EQ(test, look(host).oom_count, 0UL);
	KUNIT_EXPECT_EQ(test, look(host).hold_off, 0UL);
	resize(test, 40 * FH_MIB);
}

static void what_was_given_is_free_and_told(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM);
	long before;

	resize(test, 64 * FH_MIB);
	guest_set("oom_pages", "8192");
	before = guest_free_pages();
	KUNIT_EXPECT_EQ(test, oom(host), 32 * MIB);
	KUNIT_EXPECT_GE(test, guest_free_pages() - before, 32L * (long)MIB - slack());
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_OWNED), 32UL * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_actual(host) == 32 * FH_MIB));
}

/*
 * While the host does not answer
 */

/* Sizing waits for buffers that the host keeps; the OOM path needs none. */
static void a_stuck_inflation_is_no_hindrance(struct kunit *test)
{
	struct fh *host = guest_plug(test, *(const u64 *)test->param_value);
	unsigned long start;
	unsigned int i;

	resize(test, 32 * FH_MIB);
	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 160 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE) == 64));
	guest_set("oom_pages", "256");
	KUNIT_EXPECT_TRUE(test, in_state(host, "inflating"));
	start = jiffies;
	for (i = 0; i < 32; i++)
		KUNIT_EXPECT_EQ(test, oom(host), MIB);
	KUNIT_EXPECT_EQ(test, oom(host), 0UL);
	expect_at_once(test, start);
	KUNIT_EXPECT_EQ(test, look(host).held, 0L);
	KUNIT_EXPECT_EQ(test, look(host).offered, 64L * (long)MIB);
	fh_policy(host, FH_INFLATE, prompt);
}

static void oom_when_inflate_is_kicked(struct fh *host, enum fh_event_type type,
				       u32 arg)
{
	if (type == FH_EV_NOTIFY && arg == FH_INFLATE && host->hook_data) {
		host->hook_data = NULL;
		oom(host);
	}
}

/* Sizing holds nothing that the OOM path wants when it notifies the host. */
static void an_oom_amid_a_notification_is_no_hindrance(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM);

	resize(test, 32 * FH_MIB);
	host->hook = oom_when_inflate_is_kicked;
	host->hook_data = host;
	fh_target(host, 64 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).oom_count == 1));
	KUNIT_EXPECT_EQ(test, look(host).returned, (long)MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "hold-off")));
	host->hook = NULL;
}

/* What is on its way then still arrives, and no more is sent. */
static void an_oom_stops_inflation(struct kunit *test)
{
	struct fh *host = test->priv;

	host->sizes[FH_INFLATE] = 8;	/* amid a step, that is */
	guest_plug(test, OOM);
	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 160 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE) == 8));
	KUNIT_EXPECT_EQ(test, oom(host), 0UL);
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "hold-off")));
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 8 * FH_MIB));
	KUNIT_EXPECT_EQ(test, buffers(host, FH_INFLATE), 8);
}

/* What it had offered before is there for the next OOM, not five seconds on. */
static void what_the_host_used_meanwhile_is_held(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM);
	unsigned long start;

	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 160 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE) == 64));
	KUNIT_EXPECT_EQ(test, oom(host), 0UL);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "hold-off")));
	guest_sleep(HZ);
	start = jiffies;
	fh_policy(host, FH_INFLATE, (struct fh_policy){ .mute = true });
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 64 * FH_MIB));
	KUNIT_EXPECT_LE(test, jiffies - start, 2 * HZ + grace());
	KUNIT_EXPECT_TRUE(test, in_state(host, "hold-off"));
	KUNIT_EXPECT_GE(test, oom(host), MIB);
}

/* A host that keeps all buffers of the deflateq but those for the OOM path */
static struct fh *silent_deflation(struct kunit *test, u64 features)
{
	struct fh *host = guest_plug(test, features);

	resize(test, 128 * FH_MIB);
	guest_set("oom_pages", "256");
	fh_policy(host, FH_DEFLATE, holding);
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "stalled")));
	KUNIT_ASSERT_EQ(test, fh_fetched(host, FH_DEFLATE), 48U);
	return host;
}

/* A quarter of the buffers is left to it. */
static void the_reserve_is_for_the_oom(struct kunit *test)
{
	struct fh *host = silent_deflation(test, OOM);
	unsigned long start = jiffies;
	unsigned int i;

	for (i = 0; i < 16; i++)
		KUNIT_EXPECT_EQ(test, oom(host), MIB);
	expect_at_once(test, start);
	KUNIT_EXPECT_EQ(test, fh_fetched(host, FH_DEFLATE), 64U);
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

/* Sizing has collected them, and waits until the host is done with others. */
static void the_last_pages_are_there(struct kunit *test)
{
	struct fh *host = guest_plug(test, *(const u64 *)test->param_value);
	struct guest_call call;
	unsigned long freed;
	unsigned int i;

	resize(test, 12 * FH_MIB);
	guest_set("oom_pages", "1024");
	fh_policy(host, FH_DEFLATE, holding);
	fh_target(host, 0);
	KUNIT_ASSERT_TRUE(test, fh_until(buffers(host, FH_DEFLATE) >= 8));
	KUNIT_ASSERT_EQ(test, guest_call(&call, oom_call, host), 0);
	for (i = 0; i < 4; i++) {
		guest_sleep(HZ / 20);
		fh_release(host, FH_DEFLATE, 1);
	}
	KUNIT_EXPECT_TRUE(test, fh_until(buffers(host, FH_DEFLATE) == 12));
	fh_policy(host, FH_DEFLATE, prompt);
	freed = guest_return(&call);
	if (time_travels()) {
		KUNIT_EXPECT_GT(test, freed, 0UL);
		KUNIT_EXPECT_LE(test, call.took, HZ / 10UL);
	}
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).returned ==
					 12L * (long)MIB));
}

/* All that there was is announced, and free when the host answers. */
static void what_is_announced_is_worth_waiting_for(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM | MUST_TELL);
	struct guest_call call;
	unsigned long start;

	resize(test, 8 * FH_MIB);
	fh_policy(host, FH_DEFLATE, holding);
	fh_target(host, 0);
	KUNIT_ASSERT_TRUE(test, fh_until(buffers(host, FH_DEFLATE) == 8));
	KUNIT_ASSERT_TRUE(test, fh_until(!look(host).held));
	KUNIT_ASSERT_EQ(test, guest_call(&call, oom_call, host), 0);
	guest_sleep(HZ / 10);
	fh_release(host, FH_DEFLATE, 1);
	KUNIT_EXPECT_EQ(test, guest_return(&call), MIB);
	KUNIT_EXPECT_LE(test, call.took, HZ / 5 + grace());

	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "stalled")));
	start = jiffies;
	KUNIT_EXPECT_EQ(test, oom(host), 0UL);
	expect_at_once(test, start);
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

/* With three buffers left it gives what they carry, and waits for no more. */
static void something_at_once_is_better_than_all_later(struct kunit *test)
{
	struct fh *host = silent_deflation(test, OOM);
	unsigned long start = jiffies;

	guest_set("oom_pages", "3328");
	KUNIT_EXPECT_EQ(test, oom(host), 13 * MIB);
	guest_set("oom_pages", "1024");
	KUNIT_EXPECT_EQ(test, oom(host), 3 * MIB);
	expect_at_once(test, start);
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

static struct fh *no_buffer_left(struct kunit *test)
{
	struct fh *host = silent_deflation(test, OOM);
	unsigned int i;

	for (i = 0; i < 16; i++)
		KUNIT_EXPECT_EQ(test, oom(host), MIB);
	KUNIT_ASSERT_EQ(test, fh_fetched(host, FH_DEFLATE), 64U);
	return host;
}

static void without_a_buffer_it_waits_for_one(struct kunit *test)
{
	struct fh *host = no_buffer_left(test);
	struct guest_call call;

	KUNIT_ASSERT_EQ(test, guest_call(&call, oom_call, host), 0);
	guest_sleep(HZ);
	fh_release(host, FH_DEFLATE, 1);
	KUNIT_EXPECT_EQ(test, guest_return(&call), MIB);
	expect_took(test, call.took, HZ);
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

static void but_for_two_seconds_only(struct kunit *test)
{
	struct fh *host = no_buffer_left(test);
	unsigned long start = jiffies;

	KUNIT_EXPECT_EQ(test, oom(host), 0UL);
	expect_took(test, jiffies - start, 2 * HZ);
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

/*
 * MUST_TELL_HOST
 */

static void b13_pages_are_free_when_the_host_knows(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM | MUST_TELL);
	struct guest_call call;

	resize(test, 32 * FH_MIB);
	fh_policy(host, FH_DEFLATE, holding);
	KUNIT_ASSERT_EQ(test, guest_call(&call, oom_call, host), 0);
	guest_sleep(HZ);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_RETURNING), 1UL * FH_MIB);
	KUNIT_EXPECT_EQ(test, count_free(host, FH_RETURNING), 0UL);
	KUNIT_EXPECT_EQ(test, look(host).returned, 0L);
	fh_release(host, FH_DEFLATE, 1);
	KUNIT_EXPECT_EQ(test, guest_return(&call), MIB);
	expect_took(test, call.took, HZ);
	fh_policy(host, FH_DEFLATE, prompt);
}

static void it_waits_two_seconds_for_the_host_to_know(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM | MUST_TELL);
	unsigned long start;

	resize(test, 32 * FH_MIB);
	fh_policy(host, FH_DEFLATE, holding);
	start = jiffies;
	KUNIT_EXPECT_EQ(test, oom(host), 0UL);
	expect_took(test, jiffies - start, 2 * HZ);
	KUNIT_EXPECT_EQ(test, count_free(host, FH_RETURNING), 0UL);
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 31 * FH_MIB));
}

/* What the host has let go of by then is what came free. */
static void a_part_is_better_than_nothing(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM | MUST_TELL);
	struct guest_call call;

	resize(test, 32 * FH_MIB);
	guest_set("oom_pages", "1024");
	fh_policy(host, FH_DEFLATE, holding);
	KUNIT_ASSERT_EQ(test, guest_call(&call, oom_call, host), 0);
	guest_sleep(HZ);
	fh_release(host, FH_DEFLATE, 3);
	KUNIT_EXPECT_EQ(test, guest_return(&call), 3 * MIB);
	expect_took(test, call.took, 2 * HZ);
	KUNIT_EXPECT_EQ(test, count_free(host, FH_RETURNING), 0UL);
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 28 * FH_MIB));
}

/* Nobody waits any more, and no interrupt comes: sizing looks all the same. */
static void an_answer_that_comes_late_frees_pages(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM | MUST_TELL);

	resize(test, 32 * FH_MIB);
	fh_policy(host, FH_DEFLATE, holding);
	KUNIT_EXPECT_EQ(test, oom(host), 0UL);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "hold-off")));
	KUNIT_EXPECT_EQ(test, look(host).returned, 0L);
	fh_policy(host, FH_DEFLATE, (struct fh_policy){ .mute = true });
	guest_sleep(HZ / 4);
	KUNIT_EXPECT_TRUE(test, in_state(host, "hold-off"));
	KUNIT_EXPECT_EQ(test, look(host).returned, (long)MIB);
}

/*
 * Not to take it again at once
 */

static void it_does_not_grow_for_five_seconds(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM);
	unsigned long start;

	resize(test, 64 * FH_MIB);
	start = jiffies;
	KUNIT_EXPECT_EQ(test, oom(host), MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "hold-off")));
	KUNIT_EXPECT_TRUE(test, fh_until(buffers(host, FH_INFLATE) > 64));
	KUNIT_EXPECT_GE(test, jiffies - start, 5UL * HZ);
	if (time_travels())
		KUNIT_EXPECT_LE(test, jiffies - start, 5UL * HZ + HZ / 2);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 64 * FH_MIB));
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "idle")));
}

static void the_hold_off_doubles_up_to_five_minutes(struct kunit *test)
{
	static const unsigned int seconds[] = {
		5, 10, 20, 40, 80, 160, 300, 300, 300
	};
	struct fh *host = guest_plug(test, OOM);
	unsigned int i;

	resize(test, 64 * FH_MIB);
	for (i = 0; i < ARRAY_SIZE(seconds); i++) {
		oom(host);
		KUNIT_EXPECT_EQ(test, look(host).hold_off, seconds[i] * HZ);
		oom(host);	/* the same trouble */
		KUNIT_EXPECT_EQ(test, look(host).hold_off, seconds[i] * HZ);
		later(host, seconds[i] * HZ + 1);
	}
	later(host, 300 * HZ);
	oom(host);
	KUNIT_EXPECT_EQ(test, look(host).hold_off, 5UL * HZ);
}

static void another_target_ends_the_hold_off(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM);
	unsigned long start;

	resize(test, 64 * FH_MIB);
	oom(host);
	later(host, 5 * HZ + 1);
	oom(host);
	KUNIT_EXPECT_EQ(test, look(host).hold_off, 10UL * HZ);
	start = jiffies;
	resize(test, 65 * FH_MIB);
	KUNIT_EXPECT_EQ(test, look(host).hold_off, 0UL);
	if (time_travels())
		KUNIT_EXPECT_LE(test, jiffies - start, HZ / 5UL);
	oom(host);
	KUNIT_EXPECT_EQ(test, look(host).hold_off, 5UL * HZ);
}

static void the_same_target_does_not(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM);

	resize(test, 64 * FH_MIB);
	oom(host);
	fh_target(host, 64 * FH_MIB);
	guest_sleep(HZ);
	KUNIT_EXPECT_EQ(test, look(host).hold_off, 5UL * HZ);
	KUNIT_EXPECT_EQ(test, buffers(host, FH_INFLATE), 64);
	KUNIT_EXPECT_TRUE(test, in_state(host, "hold-off"));
}

/* Pages that the host saw on the inflateq at one time, from event *@n on */
static unsigned long next_step(struct fh *host, long *n, unsigned long *when)
{
	const struct fh_event *ev;
	unsigned long pages = 0;

	while ((*n = fh_find_event(host, *n, FH_EV_SEEN, FH_INFLATE, -1)) >= 0) {
		ev = fh_event_at(host, *n);
		if (pages && ev->when != *when)
			return pages;
		*when = ev->when;
		pages += ev->a / sizeof(u32);
		++*n;
	}
	return pages;
}

/* The first step: an eighth of what is there above twice the floor */
static void the_way_back_is_slow(struct kunit *test)
{
	unsigned long when = 0, last = 0, step, most;
	unsigned int steps = 0;
	struct fh *host;
	long n;

	test_is_slow(test);
	host = guest_plug(test, OOM);
	resize(test, 128 * FH_MIB);
	guest_set("oom_pages", "32768");
	KUNIT_EXPECT_EQ(test, oom(host), 128 * MIB);
	most = (si_mem_available() -
		2 * inside_floor(&host->dev->vdev)) / 8 + MIB;
	n = host->nr_events;
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 128 * FH_MIB));
	while ((step = next_step(host, &n, &when))) {
		KUNIT_EXPECT_LE(test, step / FH_PPP, most);
		if (last)
			expect_took(test, when - last, HZ);
		steps++;
		last = when;
		if (n < 0)
			break;
	}
	KUNIT_EXPECT_GE(test, steps, 128 * MIB / most);
}

/* It takes minutes in large guests, and mm may need to move pages meanwhile. */
static void what_is_held_on_the_way_back_can_be_moved(struct kunit *test)
{
	struct fh *host;

	test_is_slow(test);
	host = guest_plug(test, OOM);
	resize(test, 128 * FH_MIB);
	guest_set("oom_pages", "32768");
	KUNIT_EXPECT_EQ(test, oom(host), 128 * MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).runs));
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).runs));
	KUNIT_EXPECT_TRUE(test, in_state(host, "inflating"));
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 128 * FH_MIB));
}

/* What the guest needed once it will need again. */
static void the_way_back_ends_at_twice_the_floor(struct kunit *test)
{
	struct fh *host;
	long floor;

	test_is_slow(test);
	host = guest_plug(test, OOM);
	floor = inside_floor(&host->dev->vdev);
	fh_target(host, U32_MAX);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "floor")));
	KUNIT_EXPECT_LE(test, si_mem_available(), floor + 2 * slack());
	guest_set("oom_pages", "16384");
	KUNIT_EXPECT_EQ(test, oom(host), 64 * MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "inflating")));
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "floor")));
	KUNIT_EXPECT_GE(test, si_mem_available(), 2 * floor - slack());
	KUNIT_EXPECT_LE(test, si_mem_available(), 2 * floor + 2 * slack());
	resize(test, 16 * FH_MIB);
	fh_target(host, U32_MAX);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "floor")));
	KUNIT_EXPECT_LE(test, si_mem_available(), floor + 2 * slack());
}

/*
 * A broken device, which has all pages until a reset
 */

/* Also those that the host must be asked for */
static void a_broken_device_gives_all_pages_back(struct kunit *test)
{
	struct fh *host = guest_plug(test, *(const u64 *)test->param_value);

	resize(test, 64 * FH_MIB);
	virtio_break_device(&host->dev->vdev);
	KUNIT_EXPECT_EQ(test, oom(host), 64 * MIB);
	KUNIT_EXPECT_TRUE(test, look(host).was_reset);
	KUNIT_EXPECT_EQ(test, look(host).held, 0L);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "broken")));
}

/* It has not reached the host's wish, and never will. */
static void without_deflate_on_oom_a_broken_one_does_too(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	unsigned long total = totalram_pages();

	resize(test, 64 * FH_MIB);
	virtio_break_device(&host->dev->vdev);
	KUNIT_EXPECT_EQ(test, oom(host), 64 * MIB);
	KUNIT_EXPECT_TRUE(test, look(host).was_reset);
	KUNIT_EXPECT_EQ(test, totalram_pages(), total);
}

/* With pages offered, returning and held when it broke */
static void a_device_that_breaks_amid_an_oom_gives_all(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM | MUST_TELL);
	struct guest_call call;

	resize(test, 64 * FH_MIB);
	fh_policy(host, FH_DEFLATE, holding);
	KUNIT_ASSERT_EQ(test, guest_call(&call, oom_call, host), 0);
	guest_sleep(HZ);
	virtio_break_device(&host->dev->vdev);
	guest_return(&call);
	KUNIT_EXPECT_LE(test, call.took, HZ + HZ / 5 + grace());
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "broken")));
	KUNIT_EXPECT_EQ(test, look(host).held, 0L);
	KUNIT_EXPECT_EQ(test, look(host).returned, 64L * (long)MIB);
}

/*
 * Many at once
 */

static unsigned long oom_often(void *host)
{
	unsigned long freed = 0;
	unsigned int i;

	for (i = 0; i < 10; i++) {
		freed += oom(host);
		guest_sleep(1);
	}
	return freed;
}

static void ooms_may_come_from_everywhere(struct kunit *test)
{
	struct fh *host = test->priv;
	struct guest_call calls[4];
	unsigned long freed = 0;
	unsigned int i;

	host->thread = FH_IRQ;
	guest_plug(test, *(const u64 *)test->param_value);
	resize(test, 128 * FH_MIB);
	guest_set("oom_pages", "300");
	for (i = 0; i < ARRAY_SIZE(calls); i++)
		KUNIT_EXPECT_EQ(test, guest_call(&calls[i], oom_often, host),
				0);
	for (i = 0; i < ARRAY_SIZE(calls); i++)
		freed += guest_return(&calls[i]);
	KUNIT_EXPECT_GE(test, freed, 40 * 300UL / FH_PPP);
	KUNIT_EXPECT_EQ(test, look(host).returned, 40 * 300L / FH_PPP);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 128 * FH_MIB - 40 * 300));
	resize(test, 100 * FH_MIB);
}

/* Uses so much memory as is to be had without a kill. */
static unsigned long use_memory(void *mib)
{
	unsigned long nr = *(unsigned long *)mib * MIB;
	struct page *page, *next;
	LIST_HEAD(pages);
	unsigned long got;

	for (got = 0; got < nr; got++) {
		page = alloc_page(GFP_KERNEL);
		if (!page)
			break;
		list_add(&page->lru, &pages);
		cond_resched();
	}
	list_for_each_entry_safe(page, next, &pages, lru)
		put_page(page);
	return got / MIB;
}

static unsigned long kills(void)
{
	unsigned long *ev = kcalloc(NR_VM_EVENT_ITEMS, sizeof(*ev), GFP_KERNEL);
	unsigned long nr = 0;

	if (ev) {
		all_vm_events(ev);
		nr = ev[OOM_KILL];
	}
	kfree(ev);
	return nr;
}

/* The whole way, by mm */
static void memory_runs_out_and_nobody_is_killed(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM);
	unsigned long before = kills(), mib = 160;

	fh_target(host, U32_MAX);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "floor")));
	KUNIT_EXPECT_EQ(test, use_memory(&mib), mib);
	KUNIT_EXPECT_EQ(test, kills(), before);
	KUNIT_EXPECT_GE(test, look(host).returned, 90L * (long)MIB);
	KUNIT_EXPECT_GE(test, look(host).oom_count + look(host).shrunk, 1UL);
	resize(test, 0);
}

/*
 * Shrinker
 */

static unsigned long shrinkable(struct fh *host)
{
	return inside_shrink_count(&host->dev->vdev);
}

static unsigned long shrink(struct fh *host, unsigned long nr)
{
	return inside_shrink(&host->dev->vdev, nr);
}

static bool shrinks_balloon(void)
{
	return guest_has("deflate_mode", "shrinker");
}

static struct fh *plug_shrinking(struct kunit *test, u64 features)
{
	if (!shrinks_balloon())
		kunit_skip(test, "needs deflate_mode=shrinker");
	return guest_plug(test, features);
}

static void reclaim_does_not_take_from_the_balloon(struct kunit *test)
{
	struct fh *host;

	if (shrinks_balloon())
		kunit_skip(test, "deflate_mode=shrinker");
	host = guest_plug(test, OOM);
	resize(test, 32 * FH_MIB);
	KUNIT_EXPECT_EQ(test, shrinkable(host), 0UL);
	KUNIT_EXPECT_EQ(test, shrink(host, 128), SHRINK_STOP);
	KUNIT_EXPECT_EQ(test, look(host).held, 32L * (long)MIB);
	KUNIT_EXPECT_EQ(test, look(host).hold_off, 0UL);
}

/* A round of hinting that the host has ended its part of */
static unsigned long hint(struct kunit *test, struct fh *host)
{
	fh_hint(host, 7);
	KUNIT_ASSERT_TRUE(test, fh_until(look(host).hinted &&
					 !look(host).hinting &&
					 !host->hint_open));
	return look(host).hinted;
}

/* Before the balloon's own, which are not asked for then */
static void reclaim_takes_hinted_blocks(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM | HINT);
	unsigned long hinted, done;
	long held = 32 * MIB;

	resize(test, 32 * FH_MIB);
	hinted = hint(test, host);
	KUNIT_EXPECT_GE(test, hinted, 64 * MIB);
	KUNIT_EXPECT_EQ(test, shrinkable(host),
			hinted + (shrinks_balloon() ? held : 0));
	done = shrink(host, 1);
	KUNIT_EXPECT_GE(test, done, 1UL);
	KUNIT_EXPECT_LE(test, done, 4 * MIB);
	KUNIT_EXPECT_EQ(test, look(host).hinted, hinted - done);
	hinted -= done;
	done = shrink(host, 20 * MIB);
	KUNIT_EXPECT_GE(test, done, 20 * MIB);
	KUNIT_EXPECT_LT(test, done, 24 * MIB);
	KUNIT_EXPECT_EQ(test, look(host).hinted, hinted - done);
	KUNIT_EXPECT_EQ(test, look(host).held, held);
	KUNIT_EXPECT_EQ(test, look(host).shrunk, 0UL);
	KUNIT_EXPECT_EQ(test, look(host).hold_off, 0UL);
}

static void an_oom_takes_hinted_blocks_first(struct kunit *test)
{
	struct fh *host = guest_plug(test, OOM | HINT);
	unsigned long hinted, freed;

	resize(test, 32 * FH_MIB);
	hinted = hint(test, host);
	while (hinted) {
		freed = oom(host);
		KUNIT_EXPECT_GE(test, freed, min(hinted, 64 * MIB));
		KUNIT_EXPECT_LT(test, freed, 64 * MIB + 4 * MIB);
		KUNIT_EXPECT_EQ(test, look(host).hinted, hinted - freed);
		KUNIT_ASSERT_NE(test, freed, 0UL);
		hinted = look(host).hinted;
	}
	KUNIT_EXPECT_EQ(test, look(host).oom_count, 0UL);
	KUNIT_EXPECT_EQ(test, look(host).held, 32L * (long)MIB);
	KUNIT_EXPECT_EQ(test, oom(host), MIB);
}

/* Those are the guest's, whatever was agreed on for the balloon. */
static void an_oom_takes_hinted_blocks_without_deflate_on_oom(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);
	unsigned long hinted;

	resize(test, 32 * FH_MIB);
	hinted = hint(test, host);
	KUNIT_EXPECT_GE(test, oom(host), min(hinted, 64 * MIB));
	while (look(host).hinted)
		KUNIT_ASSERT_NE(test, oom(host), 0UL);
	KUNIT_EXPECT_EQ(test, oom(host), 0UL);
	KUNIT_EXPECT_EQ(test, look(host).held, 32L * (long)MIB);
}

static void reclaim_takes_as_much_as_it_wants(struct kunit *test)
{
	struct fh *host = plug_shrinking(test, OOM);

	resize(test, 64 * FH_MIB);
	KUNIT_EXPECT_EQ(test, shrinkable(host), 64 * MIB);
	KUNIT_EXPECT_EQ(test, shrink(host, 1), 1UL);
	KUNIT_EXPECT_EQ(test, shrink(host, 127), 127UL);
	KUNIT_EXPECT_EQ(test, shrink(host, 3 * MIB - 128), 3 * MIB - 128);
	KUNIT_EXPECT_EQ(test, shrinkable(host), 61 * MIB);
	KUNIT_EXPECT_EQ(test, look(host).shrunk, 3 * MIB);
	KUNIT_EXPECT_EQ(test, look(host).oom_count, 0UL);
	KUNIT_EXPECT_EQ(test, shrink(host, 64 * MIB), 61 * MIB);
	KUNIT_EXPECT_EQ(test, shrink(host, 1), SHRINK_STOP);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

static void b10_reclaim_takes_nothing_without_deflate_on_oom(struct kunit *test)
{
	struct fh *host = plug_shrinking(test, 0);

	resize(test, 32 * FH_MIB);
	KUNIT_EXPECT_EQ(test, shrinkable(host), 0UL);
	KUNIT_EXPECT_EQ(test, shrink(host, 128), SHRINK_STOP);
	KUNIT_EXPECT_EQ(test, look(host).held, 32L * (long)MIB);
}

/* Each time for five seconds, which do not double */
static void after_reclaim_it_does_not_grow_either(struct kunit *test)
{
	struct fh *host = plug_shrinking(test, OOM);

	resize(test, 32 * FH_MIB);
	KUNIT_EXPECT_EQ(test, shrink(host, 128), 128UL);
	KUNIT_EXPECT_EQ(test, look(host).hold_off, 5UL * HZ);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "hold-off")));
	later(host, 5 * HZ + 1);
	KUNIT_EXPECT_EQ(test, shrink(host, 128), 128UL);
	KUNIT_EXPECT_EQ(test, look(host).hold_off, 5UL * HZ);
	KUNIT_EXPECT_EQ(test, buffers(host, FH_INFLATE), 32);
}

/* Reclaim has others to ask: it takes what is there, but for the reserve. */
static void reclaim_waits_for_nobody(struct kunit *test)
{
	struct fh *host = plug_shrinking(test, OOM);
	unsigned long start;

	resize(test, 128 * FH_MIB);
	fh_policy(host, FH_DEFLATE, holding);
	start = jiffies;
	KUNIT_EXPECT_EQ(test, shrink(host, 128 * MIB), 48 * MIB);
	KUNIT_EXPECT_EQ(test, shrink(host, 128), SHRINK_STOP);
	expect_at_once(test, start);
	KUNIT_EXPECT_EQ(test, fh_fetched(host, FH_DEFLATE), 48U);
	fh_policy(host, FH_DEFLATE, prompt);
}

/* Told, and free as soon as the host says so, though nobody waits for it */
static void b13_reclaimed_pages_are_free_when_the_host_knows(struct kunit *test)
{
	struct fh *host = plug_shrinking(test, OOM | MUST_TELL);
	unsigned long start;

	resize(test, 32 * FH_MIB);
	fh_policy(host, FH_DEFLATE, holding);
	start = jiffies;
	KUNIT_EXPECT_EQ(test, shrink(host, 4 * MIB), 4 * MIB);
	expect_at_once(test, start);
	KUNIT_EXPECT_EQ(test, look(host).returned, 0L);
	KUNIT_EXPECT_EQ(test, count_free(host, FH_RETURNING), 0UL);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "hold-off")));
	fh_policy(host, FH_DEFLATE, (struct fh_policy){ .mute = true });
	guest_sleep(HZ / 4);
	KUNIT_EXPECT_TRUE(test, in_state(host, "hold-off"));
	KUNIT_EXPECT_EQ(test, look(host).returned, 4L * (long)MIB);

	/* And those of the next time, within the same hold-off */
	fh_policy(host, FH_DEFLATE, holding);
	KUNIT_EXPECT_EQ(test, shrink(host, 4 * MIB), 4 * MIB);
	guest_sleep(HZ / 4);
	fh_policy(host, FH_DEFLATE, (struct fh_policy){ .mute = true });
	guest_sleep(HZ / 4);
	KUNIT_EXPECT_TRUE(test, in_state(host, "hold-off"));
	KUNIT_EXPECT_EQ(test, look(host).returned, 8L * (long)MIB);
}

static unsigned long count_as_kswapd(void *host)
{
	unsigned long nr;

	current->flags |= PF_KSWAPD;
	nr = shrinkable(host);
	current->flags &= ~PF_KSWAPD;
	return nr;
}

static void count_when_inflate_is_kicked(struct fh *host,
					 enum fh_event_type type, u32 arg)
{
	unsigned long *nr = host->hook_data;

	if (type == FH_EV_NOTIFY && arg == FH_INFLATE)
		*nr = shrinkable(host);
}

/* Nor by way of kswapd, while the balloon is what asks for memory */
static void the_balloon_does_not_take_from_itself(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long nr = ULONG_MAX;
	struct guest_call call;

	host->sizes[FH_INFLATE] = 8;	/* a step waits for the host */
	plug_shrinking(test, OOM);
	resize(test, 32 * FH_MIB);
	host->hook_data = &nr;
	host->hook = count_when_inflate_is_kicked;
	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 160 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE) == 8));
	host->hook = NULL;
	KUNIT_EXPECT_EQ(test, nr, 0UL);
	KUNIT_EXPECT_EQ(test, shrinkable(host), 32 * MIB);
	KUNIT_ASSERT_EQ(test, guest_call(&call, count_as_kswapd, host), 0);
	KUNIT_EXPECT_EQ(test, guest_return(&call), 0UL);
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 160 * FH_MIB));
	KUNIT_ASSERT_EQ(test, guest_call(&call, count_as_kswapd, host), 0);
	KUNIT_EXPECT_EQ(test, guest_return(&call), 160 * MIB);
}

static void reclaim_takes_nothing_of_a_broken_device(struct kunit *test)
{
	struct fh *host = plug_shrinking(test, OOM);

	resize(test, 32 * FH_MIB);
	virtio_break_device(&host->dev->vdev);
	KUNIT_EXPECT_EQ(test, shrinkable(host), 0UL);
	KUNIT_EXPECT_EQ(test, shrink(host, 128), SHRINK_STOP);
}

static struct kunit_case cases[] = {
	KUNIT_CASE_PARAM(each_oom_gives_more_than_the_last, telling_gen_params),
	KUNIT_CASE(after_ten_quiet_seconds_it_starts_small_again),
	KUNIT_CASE(oom_pages_says_how_much),
	KUNIT_CASE(pages_come_from_mm_s_list_too),
	KUNIT_CASE(b10_without_deflate_on_oom_it_gives_nothing),
	KUNIT_CASE(what_was_given_is_free_and_told),
	KUNIT_CASE_PARAM(a_stuck_inflation_is_no_hindrance, telling_gen_params),
	KUNIT_CASE(an_oom_amid_a_notification_is_no_hindrance),
	KUNIT_CASE(an_oom_stops_inflation),
	KUNIT_CASE(what_the_host_used_meanwhile_is_held),
	KUNIT_CASE(the_reserve_is_for_the_oom),
	KUNIT_CASE_PARAM(the_last_pages_are_there, telling_gen_params),
	KUNIT_CASE(what_is_announced_is_worth_waiting_for),
	KUNIT_CASE(something_at_once_is_better_than_all_later),
	KUNIT_CASE(without_a_buffer_it_waits_for_one),
	KUNIT_CASE(but_for_two_seconds_only),
	KUNIT_CASE(b13_pages_are_free_when_the_host_knows),
	KUNIT_CASE(it_waits_two_seconds_for_the_host_to_know),
	KUNIT_CASE(a_part_is_better_than_nothing),
	KUNIT_CASE(an_answer_that_comes_late_frees_pages),
	KUNIT_CASE(it_does_not_grow_for_five_seconds),
	KUNIT_CASE(the_hold_off_doubles_up_to_five_minutes),
	KUNIT_CASE(another_target_ends_the_hold_off),
	KUNIT_CASE(the_same_target_does_not),
	KUNIT_CASE(the_way_back_is_slow),
	KUNIT_CASE(what_is_held_on_the_way_back_can_be_moved),
	KUNIT_CASE(the_way_back_ends_at_twice_the_floor),
	KUNIT_CASE_PARAM(a_broken_device_gives_all_pages_back,
			 telling_gen_params),
	KUNIT_CASE(without_deflate_on_oom_a_broken_one_does_too),
	KUNIT_CASE(a_device_that_breaks_amid_an_oom_gives_all),
	KUNIT_CASE_PARAM(ooms_may_come_from_everywhere, telling_gen_params),
	KUNIT_CASE(memory_runs_out_and_nobody_is_killed),
	KUNIT_CASE(reclaim_does_not_take_from_the_balloon),
	KUNIT_CASE(reclaim_takes_hinted_blocks),
	KUNIT_CASE(an_oom_takes_hinted_blocks_first),
	KUNIT_CASE(an_oom_takes_hinted_blocks_without_deflate_on_oom),
	KUNIT_CASE(reclaim_takes_as_much_as_it_wants),
	KUNIT_CASE(b10_reclaim_takes_nothing_without_deflate_on_oom),
	KUNIT_CASE(after_reclaim_it_does_not_grow_either),
	KUNIT_CASE(reclaim_waits_for_nobody),
	KUNIT_CASE(b13_reclaimed_pages_are_free_when_the_host_knows),
	KUNIT_CASE(the_balloon_does_not_take_from_itself),
	KUNIT_CASE(reclaim_takes_nothing_of_a_broken_device),
	{}
};

static void pressure_exit(struct kunit *test)
{
	guest_reset();
	fh_suite_exit(test);
}

struct kunit_suite pressure_suite = {
	.name = "virtio_balloon_pressure",
	.init = fh_suite_init,
	.exit = pressure_exit,
	.test_cases = cases,
};
