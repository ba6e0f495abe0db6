#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Init of the test guest (PID 1) and, started by it as "init agent", the
# other end of guest.py's control channel.
#
# The channel is a virtio-serial port named "agent". The host sends a line
# "ID $'COMMAND'"; the agent runs COMMAND in a subshell and answers with lines
# of base64, which hold the output, a newline and the exit status in decimal,
# and then with "= ID". After each start the agent says "! up".

PATH=/bin
# What the host asked for on the kernel's command line arrives as environment.
: "${vb_driver:=}" "${vb_params:=}" "${vb_shell:=}"

say() {
	echo "init: $*" >/dev/console
}

mounts() {
	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t devtmpfs devtmpfs /dev
	mount -t debugfs debugfs /sys/kernel/debug
	mount -t tracefs tracefs /sys/kernel/tracing
	mount -t tmpfs tmpfs /run
	mkdir -p /dev/shm
	mount -t tmpfs -o size=100% tmpfs /dev/shm
}

transports() {
	while read -r module; do
		insmod "/modules/$module" || say "insmod $module failed"
	done </modules/order
}

port() {
	for name in /sys/class/virtio-ports/*/name; do
		[ "$(cat "$name" 2>/dev/null)" = agent ] || continue
		name=${name%/name}
		echo "/dev/${name##*/}"
		return
	done
}

# The device may turn up a while after its driver did.
wait_for_port() {
	until [ -n "$(port)" ]; do
		sleep 0.05
	done
}

answer() {
	{ (eval "$2"); printf '\n%d' $?; } </dev/null 2>&1 3>&- | base64 >&3
	echo "= $1" >&3
}

agent() {
	echo -1000 >/proc/self/oom_score_adj
	wait_for_port
	exec 3<>"$(port)"
	printf '\n! up\n' >&3
	while read -r id quoted <&3; do
		command=
		eval "command=$quoted"
		answer "$id" "$command"
	done
}

driver() {
	status=0
	if [ -n "$vb_driver" ]; then
		# shellcheck disable=SC2086 # one word a parameter
		insmod "/$vb_driver/virtio_balloon.ko" $vb_params 2>/run/insmod
		status=$?
	fi
	echo "$status" >/run/driver.new
	mv /run/driver.new /run/driver
}

# A shell on the virtio console, with job control.
shell() {
	until [ -c /dev/hvc0 ]; do
		sleep 0.1
	done
	while :; do
		setsid sh -c 'exec sh -il </dev/hvc0 >/dev/hvc0 2>&1'
		sleep 1
	done
}

if [ "$1" = agent ]; then
	agent
	exit
fi

mounts
transports
(while :; do /init agent; sleep 0.2; done) &
driver
# In the foreground, as a shell's background jobs ignore Ctrl-C for good.
[ -z "$vb_shell" ] || shell
while :; do
	wait
	sleep 1
done
