// SPDX-License-Identifier: GPL-2.0-only
/*
 * The test module: runs its suites when it is loaded.
 *
 * Not by kunit_test_suites(): some kernels run the suites of a module before
 * its parameters are set and its sysfs folder is there. Built into the kernel
 * that is no matter, and kunit.py expects it.
 */

#include <linux/glob.h>
#include <linux/module.h>

#include "compat.h"
#include "guest.h"
#include "suites.h"

#ifdef MODULE
static char *suites = "*";
module_param(suites, charp, 0444);
MODULE_PARM_DESC(suites, "names of the suites to run, with * and ?");

static char *cases = "*";
module_param(cases, charp, 0444);
MODULE_PARM_DESC(cases, "names of the cases to run, with *, ? and commas");
#endif

unsigned long test_seed = 1;
module_param_named(seed, test_seed, ulong, 0444);
MODULE_PARM_DESC(seed, "of what is random, 1 or more (default 1)");

unsigned long test_steps = 20000;
module_param_named(steps, test_steps, ulong, 0444);
MODULE_PARM_DESC(steps, "of the fuzzing host (default 20000)");

#ifdef MODULE
static struct kunit_suite *all[] = { SUITES };
static struct kunit_suite *chosen[ARRAY_SIZE(all)];
static int nr_chosen;

/* @globs: with commas between them */
static bool __init is_of(const char *globs, const char *name)
{
	char glob[128];
	size_t n;

	do {
		n = strcspn(globs, ",");
		snprintf(glob, sizeof(glob), "%.*s", (int)n, globs);
		if (glob_match(glob, name))
			return true;
		globs += n;
	} while (*globs++);
	return false;
}

/* Leaves only the cases that were asked for. Return: whether there are any */
static bool __init choose_cases(struct kunit_suite *suite)
{
	struct kunit_case *to = suite->test_cases, *from;

	for (from = to; from->run_case; from++)
		if (is_of(cases, from->name))
			*to++ = *from;
	*to = *from;
	return to > suite->test_cases;
}

static int __init tests_init(void)
{
	unsigned int i;
	int rc;

	for (i = 0; i < ARRAY_SIZE(all); i++)
		if (glob_match(suites, all[i]->name) && choose_cases(all[i]))
			chosen[nr_chosen++] = all[i];
	if (!nr_chosen) {
		pr_err("suites=%s cases=%s: there is none of that name\n",
		       suites, cases);
		return -EINVAL;
	}
	pr_info("KTAP version 1\n");
	pr_info("1..%d\n", nr_chosen);
	guest_enter();
	rc = compat_run_suites(chosen, nr_chosen);
	if (rc)
		guest_leave();
	return rc;
}
module_init(tests_init);

static void __exit tests_exit(void)
{
	__kunit_test_suites_exit(chosen, nr_chosen);
	guest_leave();
}
module_exit(tests_exit);
#else
kunit_test_suites(SUITES);
#endif

MODULE_DESCRIPTION("Tests of the virtio balloon driver");
MODULE_AUTHOR("The virtio-balloon authors");
MODULE_LICENSE("GPL");
