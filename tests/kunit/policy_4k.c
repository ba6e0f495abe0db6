// SPDX-License-Identifier: GPL-2.0-only
#define COPY_PAGE_SHIFT	12
#include "policy.h"

struct kunit_suite policy_4k_suite = {
	.name = "virtio_balloon_policy_4k",
	.test_cases = policy_cases,
};
