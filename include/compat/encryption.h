/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef COMPAT_ENCRYPTION_H
#define COMPAT_ENCRYPTION_H

/*
 * Whether the memory of this guest is encrypted. <linux/cc_platform.h> came with
 * 5.16, and to some of the kernels before that. sparse cannot look for files.
 */
#ifndef __CHECKER__
#if !__has_include("linux/cc_platform.h")
#define VB_NO_CC_PLATFORM
#endif
#endif

#ifndef VB_NO_CC_PLATFORM
#include <linux/cc_platform.h>

static inline bool vb_is_encrypted(void)
{
	/* The first is x86's; realms (arm64) have the second alone. */
	return cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT) ||
	       cc_platform_has(CC_ATTR_MEM_ENCRYPT);
}
#else
#include <linux/mem_encrypt.h>

static inline bool vb_is_encrypted(void)
{
	return mem_encrypt_active();
}
#endif

#endif /* COMPAT_ENCRYPTION_H */
