# SPDX-License-Identifier: GPL-2.0-only
#
# Makes of uml.config what the newest kernel takes: options that were renamed.

# 7.0
s/^CONFIG_BALLOON_COMPACTION=/CONFIG_BALLOON_MIGRATION=/
s/^CONFIG_PROC_SYSCTL=/CONFIG_SYSCTL=/

# 6.10: its own default is off, and a test switches it on.
$a CONFIG_MEM_ALLOC_PROFILING=y
