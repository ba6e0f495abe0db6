/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef COMPAT_VIRTIO_H
#define COMPAT_VIRTIO_H

#include <linux/version.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>

/*
 * 6.11 replaced the two arrays of virtio_find_vqs() by one of struct
 * virtqueue_info, which no macro announces.
 */
static inline int vb_find_vqs(struct virtio_device *vdev, unsigned int nr,
			      struct virtqueue *vqs[],
			      vq_callback_t *callbacks[],
			      const char * const names[])
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
	struct virtqueue_info info[8] = {};
	unsigned int i;

	if (WARN_ON_ONCE(nr > ARRAY_SIZE(info)))
		return -EINVAL;
	for (i = 0; i < nr; i++) {
		info[i].name = names[i];
		info[i].callback = callbacks[i];
	}
	return virtio_find_vqs(vdev, nr, vqs, info, NULL);
#else
	return virtio_find_vqs(vdev, nr, vqs, callbacks, names, NULL);
#endif
}

/* A function of that name since 5.17 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 17, 0)
#define virtio_reset_device(vdev)	((vdev)->config->reset(vdev))
#endif

/*
 * Members of struct virtio_driver: those for a reset of the function by the
 * user came with 6.16, the others were there with CONFIG_PM only.
 */
#ifdef CONFIG_PM_SLEEP
#define VB_SLEEP_OPS(sleep, wake)	.freeze = sleep, .restore = wake,
#else
#define VB_SLEEP_OPS(sleep, wake)
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
#define VB_RESET_OPS(before, after)	.reset_prepare = before, \
					.reset_done = after,
#else
#define VB_RESET_OPS(before, after)
#endif

#endif /* COMPAT_VIRTIO_H */
