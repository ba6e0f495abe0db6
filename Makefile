# SPDX-License-Identifier: GPL-2.0-only
#
# make                    build virtio_balloon.ko for the running kernel
# make KVER=6.1.0-1-amd64 ... for another installed one
# make KDIR=/path/build   ... for a kernel build or header tree anywhere
# make install            as root: install it above the kernel's own module
# make uninstall          as root: the kernel's own module again
# make dkms               as root: put the sources where DKMS finds them
# make deb                the package virtio-balloon-dkms, in this folder
#
# make check              all that can be said of the sources without a boot
# make test               scripts/test: the driver in guests under QEMU
# make matrix             build it for every supported kernel and boot each
# make arch               build and boot it with other page sizes and byte orders
# make kunit              scripts/kunit: the driver in a kernel with all checks on
# make canaries           scripts/canaries: broken drivers, which those must find
# make coverage           scripts/coverage: what of the driver they reach
# make bench              measure it beside the kernel's own module (hours)
# make fuzz SEED=N STEPS=N ... with a host that does as it likes
# make soak MINUTES=N SEED=N everything at random in one guest (2 hours)
#
# DESTDIR is for packages: nothing outside of it is touched.

VERSION = $(shell sed -n 's/^MODULE_VERSION("\(.*\)");/\1/p' virtio_balloon.c)
KVER ?= $(shell uname -r)
KDIR ?= /lib/modules/$(KVER)/build
# The name that modules of that kernel go by; kernel.release may be another one.
KREL = $(or $(shell sed -n 's/.*UTS_RELEASE "\(.*\)".*/\1/p' \
	$(KDIR)/include/generated/utsrelease.h 2>/dev/null),$(KVER))
MODULES = $(DESTDIR)/lib/modules/$(KREL)
UPDATES = $(MODULES)/updates
SOURCES = virtio_balloon.c Kbuild Makefile dkms.conf \
	scripts/refresh-initramfs $(shell find include -name '*.h')
DKMS = $(DESTDIR)/usr/src/virtio-balloon-$(VERSION)

# After modules have come or gone; whoever installs a package does the same.
define renew
	$(if $(DESTDIR),,depmod $(KREL))
	$(if $(DESTDIR),,scripts/refresh-initramfs $(KREL))
endef

# Whether this machine loads signed modules only, and nobody has signed ours.
define warn-of-signatures
	@if [ -z "$(DESTDIR)" ] && { \
		grep -qsv '\[none\]' /sys/kernel/security/lockdown || \
		grep -qs Y /sys/module/module/parameters/sig_enforce; }; then \
		echo "this kernel loads signed modules only: sign it, or there" \
			"will be no balloon at all (docs/manual.rst)" >&2; fi
endef

modules: headers
	$(MAKE) -C $(KDIR) M=$(CURDIR) modules

headers:
	@test -e $(KDIR)/Makefile || { echo "no kernel headers in $(KDIR):" \
		"install linux-headers-$(KVER), or set KVER or KDIR" >&2; exit 1; }

clean: headers
	$(MAKE) -C $(KDIR) M=$(CURDIR) clean

no-dkms: headers
	@! ls $(UPDATES)/dkms/virtio_balloon.ko* >/dev/null 2>&1 || { \
		echo "DKMS has installed a virtio_balloon for $(KREL):" \
		"remove that first (apt-get remove virtio-balloon-dkms)" >&2; exit 1; }

no-builtin: headers
	@! grep -qs '/virtio_balloon\.ko$$' $(MODULES)/modules.builtin || { \
		echo "$(KREL) has its virtio_balloon built in, and no module can" \
		"take its place: see scripts/into-tree --help" >&2; exit 1; }

# depmod searches updates/ before kernel/: nothing is overwritten, nothing
# needs a blacklist, and removing one file brings the stock module back.
install: no-dkms no-builtin modules
	install -D -m 644 virtio_balloon.ko $(UPDATES)/virtio_balloon.ko
	$(CROSS_COMPILE)strip --strip-debug $(UPDATES)/virtio_balloon.ko
	$(renew)
	$(warn-of-signatures)
	@echo "installed for $(KREL); load it with: modprobe -r virtio_balloon; modprobe virtio_balloon"

uninstall:
	rm -f $(UPDATES)/virtio_balloon.ko
	@rmdir --ignore-fail-on-non-empty $(UPDATES) 2>/dev/null || true
	$(renew)
	@echo "the kernel's own module is in place again for $(KREL)"

dkms:
	for f in $(SOURCES); do \
		install -D -m "$$(stat -c %a $$f)" $$f $(DKMS)/$$f || exit; \
	done
	sed -i 's/#MODULE_VERSION#/$(VERSION)/' $(DKMS)/dkms.conf
	$(if $(DESTDIR),,@echo "now: dkms install virtio-balloon/$(VERSION)")

deb:
	scripts/deb

check:
	scripts/check

test:
	scripts/test

kunit:
	scripts/kunit

canaries:
	scripts/canaries

coverage:
	scripts/coverage

fuzz:
	scripts/kunit --suite '*fuzz*' $(if $(SEED),--seed $(SEED)) \
		$(if $(STEPS),--steps $(STEPS))

soak:
	scripts/soak $(if $(SEED),--seed $(SEED)) \
		$(if $(MINUTES),--minutes $(MINUTES))

bench:
	scripts/bench

matrix:
	scripts/kernels --test

arch:
	scripts/arch

.PHONY: modules headers no-dkms no-builtin clean install uninstall dkms deb check test \
	kunit canaries coverage fuzz soak bench matrix arch
