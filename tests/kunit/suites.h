/* SPDX-License-Identifier: GPL-2.0-only */
/* All suites, in the order in which they run, and what they share. */
#ifndef SUITES_H
#define SUITES_H

#include <kunit/test.h>

extern unsigned long test_seed;
extern unsigned long test_steps;

extern struct kunit_suite policy_4k_suite;
extern struct kunit_suite policy_16k_suite;
extern struct kunit_suite policy_64k_suite;
extern struct kunit_suite smoke_suite;

#define SUITES					\
	&policy_4k_suite,			\
	&policy_16k_suite,			\
	&policy_64k_suite,			\
	&smoke_suite

#endif /* SUITES_H */
