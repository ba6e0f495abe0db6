// SPDX-License-Identifier: GPL-2.0-only
#include "fake_host.h"
#include "inside.h"
#include "suites.h"

static void inflates_and_deflates(struct kunit *test)
{
	struct fh *host = test->priv;

	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	KUNIT_ASSERT_TRUE(test, fh_bound(host));
	fh_target(host, 64 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 64 * FH_MIB));
	fh_check(host);
	fh_target(host, 3 * FH_MIB + 7);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 3 * FH_MIB + 7));
	fh_check(host);
	fh_unplug(host);
	KUNIT_EXPECT_EQ(test, fh_actual(host), 0);
}

static struct kunit_case cases[] = {
	KUNIT_CASE(inflates_and_deflates),
	{}
};

struct kunit_suite smoke_suite = {
	.name = "virtio_balloon_smoke",
	.init = fh_suite_init,
	.exit = fh_suite_exit,
	.test_cases = cases,
};
