// SPDX-License-Identifier: GPL-2.0-only
/* See inside.h. */

#include "compat.h"
#include "driver_copy.h"
#include "inside.h"

static unsigned long inside_runs(struct vb *vb)
{
	unsigned long nr = 0;
	struct page *run;

	spin_lock(&vb->runs_lock);
	list_for_each_entry(run, &vb->runs, lru)
		nr += vb_run_pages(run);
	spin_unlock(&vb->runs_lock);
	return nr;
}

struct inside inside(struct virtio_device *vdev)
{
	struct vb *vb = vdev->priv;

	return (struct inside){
		.state = vb_states[READ_ONCE(vb->state)].name,
		.num_pages = READ_ONCE(vb->num_pages),
		.target = READ_ONCE(vb->target),
		.offered = atomic_long_read(&vb->offered),
		.held = atomic_long_read(&vb->held),
		.returning = vb_returning(vb),
		.returned = atomic_long_read(&vb->returned),
		.spares = READ_ONCE(vb->nr_spares),
		.runs = inside_runs(vb),
		.heard = !READ_ONCE(vb->check_hint),
		.hinting = atomic_long_read(&vb->hinting),
		.hinted = READ_ONCE(vb->nr_hinted),
		.rounds = READ_ONCE(vb->nr_rounds),
		.shrunk = atomic_long_read(&vb->shrunk),
		.oom_count = READ_ONCE(vb->oom_count),
		.oom_step = READ_ONCE(vb->oom_step),
		.hold_off = READ_ONCE(vb->hold_off),
		.retries = READ_ONCE(vb->retries),
		.migrated = atomic_long_read(&vb->migrated),
		.nr_published = READ_ONCE(vb->nr_published),
		.nr_stats = READ_ONCE(vb->nr_stats),
		.nr_reports = READ_ONCE(vb->nr_reports),
		.reported = READ_ONCE(vb->reported),
		.report_error = READ_ONCE(vb->report_error),
		.reporting = READ_ONCE(vb->reporting),
		.said = vb->logged & BIT(READ_ONCE(vb->state)),
		.broken = READ_ONCE(vb->broken),
		.was_reset = READ_ONCE(vb->was_reset),
		.wakeup = device_can_wakeup(&vdev->dev),
		.buffers = vb->inflateq.nr_bufs + vb->deflateq.nr_bufs,
		.pooled = vb->inflateq.nr_free + vb->deflateq.nr_free,
		.in_flight = vb->inflateq.in_flight + vb->deflateq.in_flight,
	};
}

long inside_lent(struct virtio_device *vdev)
{
	struct vb *vb = vdev->priv;

	if (!vb->inflateq.vq || vb_is_broken(vb) || READ_ONCE(vb->was_reset))
		return -1;
	return atomic_long_read(&vb->offered) + atomic_long_read(&vb->held);
}

bool inside_is(struct virtio_device *vdev, const char *state)
{
	return !strcmp(inside(vdev).state, state);
}

unsigned long inside_floor(struct virtio_device *vdev)
{
	struct vb *vb = vdev->priv;

	return vb_floor(vb_total(vb), -1);
}

unsigned long inside_oom(struct virtio_device *vdev)
{
	struct vb *vb = vdev->priv;
	unsigned long freed = 0;

	vb->oom_nb.notifier_call(&vb->oom_nb, 0, &freed);
	return freed;
}

void inside_later(struct virtio_device *vdev, unsigned long jiffies)
{
	struct vb *vb = vdev->priv;

	vb->oom_last -= jiffies;
	vb->hold_until -= jiffies;
}

unsigned long inside_shrink_count(struct virtio_device *vdev)
{
	struct vb *vb = vdev->priv;
	struct shrink_control sc = { .gfp_mask = GFP_KERNEL };

	return vb->shrinker->count_objects(vb->shrinker, &sc);
}

unsigned long inside_shrink(struct virtio_device *vdev, unsigned long nr)
{
	struct vb *vb = vdev->priv;
	struct shrink_control sc = {
		.gfp_mask = GFP_KERNEL,
		.nr_to_scan = nr,
	};

	return vb->shrinker->scan_objects(vb->shrinker, &sc);
}

void inside_memory(struct virtio_device *vdev, unsigned long action)
{
	struct vb *vb = vdev->priv;

	vb->memory_nb.notifier_call(&vb->memory_nb, action, NULL);
}

void inside_pm(struct virtio_device *vdev, unsigned long action)
{
	struct vb *vb = vdev->priv;

	vb->pm_nb.notifier_call(&vb->pm_nb, action, NULL);
}

void inside_reboot(struct virtio_device *vdev)
{
	struct vb *vb = vdev->priv;

	vb->reboot_nb.notifier_call(&vb->reboot_nb, SYS_RESTART, NULL);
}

#ifdef VB_MIGRATION
struct page *inside_isolate(struct virtio_device *vdev)
{
	struct vb *vb = vdev->priv;
	struct page *page = compat_first(&vb->info);
	bool done;

	if (!page)
		return NULL;
	lock_page(page);
	done = compat_isolate(&vb->info, page);
	unlock_page(page);
	if (done)
		return page;
	put_page(page);
	return NULL;
}

void inside_putback(struct virtio_device *vdev, struct page *page)
{
	struct vb *vb = vdev->priv;

	lock_page(page);
	compat_putback(&vb->info, page);
	unlock_page(page);
	put_page(page);
}

int inside_migrate(struct virtio_device *vdev, struct page *page)
{
	struct vb *vb = vdev->priv;
	struct page *newpage = alloc_page(GFP_HIGHUSER_MOVABLE | __GFP_NOWARN);
	int rc = -ENOMEM;

	if (newpage) {
		lock_page(page);
		lock_page(newpage);
		rc = compat_move(&vb->info, newpage, page);
		unlock_page(newpage);
		unlock_page(page);
		put_page(newpage);
	}
	if (rc)
		inside_putback(vdev, page);
	else
		put_page(page);
	return rc;
}
#endif
