/* SPDX-License-Identifier: GPL-2.0-only */
/* All suites, in the order in which they run, and what they share. */
#ifndef SUITES_H
#define SUITES_H

#include <kunit/test.h>
#include <linux/jiffies.h>

#ifdef CONFIG_UML_TIME_TRAVEL_SUPPORT
#include <linux/time-internal.h>
#endif

extern unsigned long test_seed;
extern unsigned long test_steps;

/* Whether waiting takes no time, and work none of what waiting takes */
static inline bool time_travels(void)
{
#ifdef CONFIG_UML_TIME_TRAVEL_SUPPORT
	return time_travel_mode == TT_MODE_INFCPU;
#else
	return false;
#endif
}

/* So many ticks later things may happen where work takes time as well. */
static inline unsigned long grace(void)
{
	return time_travels() ? 0 : 20 * HZ;
}

/* For tests that wait for more than about 20 s */
static inline void test_is_slow(struct kunit *test)
{
	if (!time_travels())
		kunit_skip(test, "waits too long where time is real");
}

extern struct kunit_suite policy_4k_suite;
extern struct kunit_suite policy_16k_suite;
extern struct kunit_suite policy_64k_suite;
extern struct kunit_suite smoke_suite;
extern struct kunit_suite spec_queues_suite;
extern struct kunit_suite spec_free_pages_suite;
extern struct kunit_suite spec_general_suite;
extern struct kunit_suite sizing_suite;
extern struct kunit_suite pressure_suite;
extern struct kunit_suite hint_suite;
extern struct kunit_suite migration_suite;
extern struct kunit_suite lifecycle_suite;
extern struct kunit_suite fault_suite;
extern struct kunit_suite hostile_suite;
extern struct kunit_suite fuzz_suite;

#define SUITES					\
	&policy_4k_suite,			\
	&policy_16k_suite,			\
	&policy_64k_suite,			\
	&smoke_suite,				\
	&spec_queues_suite,			\
	&spec_free_pages_suite,			\
	&spec_general_suite,			\
	&sizing_suite,				\
	&pressure_suite,			\
	&hint_suite,				\
	&migration_suite,			\
	&lifecycle_suite,			\
	&fault_suite,				\
	&hostile_suite,				\
	&fuzz_suite

#endif /* SUITES_H */
