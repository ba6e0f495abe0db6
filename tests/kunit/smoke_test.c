// SPDX-License-Identifier: GPL-2.0-only
/*
 * A little of everything, quickly: what the canaries are run against.
 */

#include <linux/mm.h>
#include <linux/random.h>

#include "fake_host.h"
#include "inside.h"
#include "guest.h"
#include "suites.h"

#define LITTLE	(8 * FH_MIB)

/* Free pages of the guest, when the balloon has nothing to do with it */
static long free_now(void)
{
	return global_zone_page_state(NR_FREE_PAGES);
}

static void inflates_and_deflates(struct kunit *test)
{
	struct fh *host = test->priv;

	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	KUNIT_ASSERT_TRUE(test, fh_bound(host));
	fh_target(host, LITTLE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, LITTLE));
	fh_check(host);
	fh_target(host, 3 * FH_MIB + 7 * FH_PPP);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 3 * FH_MIB + 7 * FH_PPP));
	fh_check(host);
	fh_unplug(host);
	KUNIT_EXPECT_EQ(test, fh_actual(host), 0);
}

/* The same with the host in a hard interrupt, as lockdep sees it */
static void works_with_interrupts(struct kunit *test)
{
	struct fh *host = test->priv;

	host->thread = FH_IRQ;
	inflates_and_deflates(test);
}

static void works_with_a_thread(struct kunit *test)
{
	struct fh *host = test->priv;

	host->thread = FH_WORK;
	inflates_and_deflates(test);
}

/* With MUST_TELL_HOST, a page that the host has not let go of stays unused. */
static void waits_for_the_host(struct kunit *test)
{
	struct fh *host = test->priv;

	host->features |= FH_BIT(MUST_TELL_HOST);
	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	fh_target(host, LITTLE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, LITTLE));
	fh_policy(host, FH_DEFLATE, (struct fh_policy){ .hold = true });
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_count(host, FH_RETURNING)));
	guest_use_memory(16);
	fh_check(host);
	fh_policy(host, FH_DEFLATE, (struct fh_policy){ });
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

/* Pages that each processor keeps for itself, not free, blocks of 2 MiB too */
#define CACHED	(IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) ? 4096L : 300L)

/* Many small balloons lose no memory: more than what is cached anyway. */
static void gives_all_memory_back(struct kunit *test)
{
	const long cached = CACHED * num_online_cpus();
	struct fh *host = test->priv;
	long before;
	int i;

	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	for (i = 0; i < 30; i++) {
		if (i == 5)
			before = free_now();
		fh_target(host, LITTLE + i * FH_PPP);
		KUNIT_ASSERT_TRUE(test, fh_settles(host, LITTLE + i * FH_PPP));
		fh_target(host, 0);
		KUNIT_ASSERT_TRUE(test, fh_settles(host, 0));
	}
	KUNIT_EXPECT_LT_MSG(test, before - free_now(), cached,
			    "memory is not free again");
}

static struct kunit_case cases[] = {
	KUNIT_CASE(inflates_and_deflates),
	KUNIT_CASE(works_with_a_thread),
	KUNIT_CASE(works_with_interrupts),
	KUNIT_CASE(waits_for_the_host),
	KUNIT_CASE(gives_all_memory_back),
	{}
};

struct kunit_suite smoke_suite = {
	.name = "virtio_balloon_smoke",
	.init = fh_suite_init,
	.exit = fh_suite_exit,
	.test_cases = cases,
};
