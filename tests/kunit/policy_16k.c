// SPDX-License-Identifier: GPL-2.0-only
#define COPY_PAGE_SHIFT	14
#include "policy.h"

struct kunit_suite policy_16k_suite = {
	.name = "virtio_balloon_policy_16k",
	.test_cases = policy_cases,
};
