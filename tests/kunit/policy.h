/* SPDX-License-Identifier: GPL-2.0-only */
/* Pure functions, for one page size. */
#include "driver_copy.h"
#include "suites.h"

static void target_is_rounded_up(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, vb_target(0, 1000), 0UL);
	KUNIT_EXPECT_EQ(test, vb_target(1, 1000), 1UL);
	KUNIT_EXPECT_EQ(test, vb_target(VB_PPP, 1000), 1UL);
	KUNIT_EXPECT_EQ(test, vb_target(VB_PPP + 1, 1000), 2UL);
}

static struct kunit_case policy_cases[] = {
	KUNIT_CASE(target_is_rounded_up),
	{}
};
