# SPDX-License-Identifier: GPL-2.0-only
#
# make                    build virtio_balloon.ko for the running kernel
# make KVER=6.1.0-1-amd64 ... for another installed one
# make KDIR=/path/build   ... for a kernel build or header tree anywhere
# make install            as root: install it above the kernel's own module
# make uninstall          as root: the kernel's own module again
#
# make test               scripts/test: the driver in guests under QEMU
# make kunit              scripts/kunit: the driver in a kernel with all checks on
# make fuzz SEED=N STEPS=N ... with a host that does as it likes

KVER ?= $(shell uname -r)
KDIR ?= /lib/modules/$(KVER)/build
# The name that modules of that kernel go by; kernel.release may be another one.
KREL = $(shell sed -n 's/.*UTS_RELEASE "\(.*\)".*/\1/p' \
	$(KDIR)/include/generated/utsrelease.h)
UPDATES = $(DESTDIR)/lib/modules/$(KREL)/updates/virtio_balloon.ko

modules: headers
	$(MAKE) -C $(KDIR) M=$(CURDIR) modules

headers:
	@test -e $(KDIR)/Makefile || { echo "no kernel headers in $(KDIR):" \
		"install linux-headers-$(KVER), or set KVER or KDIR" >&2; exit 1; }

clean: headers
	$(MAKE) -C $(KDIR) M=$(CURDIR) clean

# Warnings of every level and sparse with its endian checks, on a fresh build.
check: clean
	$(MAKE) -C $(KDIR) M=$(CURDIR) W=1 C=2 CF="-D__CHECK_ENDIAN__" modules

# depmod searches updates/ before kernel/: nothing is overwritten, nothing
# needs a blacklist, and removing one file brings the stock module back.
install: modules
	install -D -m 644 virtio_balloon.ko $(UPDATES)
	depmod $(if $(DESTDIR),-b $(DESTDIR)) $(KREL)
	@echo "installed for $(KREL); load it with: modprobe -r virtio_balloon; modprobe virtio_balloon"

uninstall: headers
	rm -f $(UPDATES)
	depmod $(if $(DESTDIR),-b $(DESTDIR)) $(KREL)
	@echo "the kernel's own module is in place again for $(KREL)"

test:
	scripts/test

kunit:
	scripts/kunit

fuzz:
	scripts/kunit --suite '*fuzz*' $(if $(SEED),--seed $(SEED)) \
		$(if $(STEPS),--steps $(STEPS))

.PHONY: modules headers clean check install uninstall test kunit fuzz
