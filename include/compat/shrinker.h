/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef COMPAT_SHRINKER_H
#define COMPAT_SHRINKER_H

#include <linux/err.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/version.h>

/*
 * A shrinker with private data, as 6.7 has them; before, each was embedded in
 * what it shrinks. No macro announces the change.
 */
typedef unsigned long vb_shrinker_fn(struct shrinker *s,
				     struct shrink_control *sc);

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)

static inline void *vb_shrinker_private(struct shrinker *s)
{
	return s->private_data;
}

static inline struct shrinker *
vb_shrinker_register(const char *name, vb_shrinker_fn *count,
		     vb_shrinker_fn *scan, long batch, void *private)
{
	struct shrinker *s = shrinker_alloc(0, "%s", name);

	if (!s)
		return ERR_PTR(-ENOMEM);
	s->count_objects = count;
	s->scan_objects = scan;
	s->batch = batch;
	s->private_data = private;
	shrinker_register(s);
	return s;
}

static inline void vb_shrinker_unregister(struct shrinker *s)
{
	shrinker_free(s);
}

#else

/* Names came with 6.0. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 0, 0)
#define vb_register_shrinker(s, name)	register_shrinker(s, "%s", name)
#else
#define vb_register_shrinker(s, name)	register_shrinker(s)
#endif

struct vb_shrinker {
	struct shrinker shrinker;
	void *private;
};

static inline void *vb_shrinker_private(struct shrinker *s)
{
	return container_of(s, struct vb_shrinker, shrinker)->private;
}

static inline struct shrinker *
vb_shrinker_register(const char *name, vb_shrinker_fn *count,
		     vb_shrinker_fn *scan, long batch, void *private)
{
	struct vb_shrinker *vs = kzalloc(sizeof(*vs), GFP_KERNEL);
	int rc;

	if (!vs)
		return ERR_PTR(-ENOMEM);
	vs->shrinker.count_objects = count;
	vs->shrinker.scan_objects = scan;
	vs->shrinker.batch = batch;
	vs->shrinker.seeks = DEFAULT_SEEKS;
	vs->private = private;
	rc = vb_register_shrinker(&vs->shrinker, name);
	if (rc) {
		kfree(vs);
		return ERR_PTR(rc);
	}
	return &vs->shrinker;
}

static inline void vb_shrinker_unregister(struct shrinker *s)
{
	unregister_shrinker(s);
	kfree(container_of(s, struct vb_shrinker, shrinker));
}

#endif

#endif /* COMPAT_SHRINKER_H */
