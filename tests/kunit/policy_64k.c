// SPDX-License-Identifier: GPL-2.0-only
#define COPY_PAGE_SHIFT	16
#include "policy.h"

struct kunit_suite policy_64k_suite = {
	.name = "virtio_balloon_policy_64k",
	.test_cases = policy_cases,
};
