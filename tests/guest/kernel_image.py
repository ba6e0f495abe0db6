# SPDX-License-Identifier: GPL-2.0-only
"""The kernel to boot.

Unpacking a bzImage in the guest takes longer than all the rest of the boot
without KVM. So what QEMU starts is the ELF file in it, if that has the note
that QEMU's PVH entry needs.
"""

import functools
import hashlib
import lzma
import pathlib
import shutil
import struct
import subprocess
import zlib

from provided import cache_folder, environment, prune, publish

PVH_NOTE = struct.pack('<III', 4, 4, 18) + b'Xen\0'
PVH_NOTE_64 = struct.pack('<III', 4, 8, 18) + b'Xen\0'


def _payload(image):
    """The compressed kernel in a bzImage; see the kernel's x86 boot.rst."""
    setup_size = ((image[0x1f1] or 4) + 1) * 512
    offset, length = struct.unpack_from('<II', image, 0x248)
    return image[setup_size + offset:][:length]


def _unpack(payload):
    """PAYLOAD decompressed, or b'' if this is not known here."""
    if payload.startswith(b'\xfd7zXZ'):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b'\x1f\x8b'):
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(payload)
    return _unpack_with_tool(payload)


def _unpack_with_tool(payload):
    for magic, tool in ((b'\x28\xb5\x2f\xfd', 'zstd'),
                        (b'\x02\x21\x4c\x18', 'lz4')):
        if payload.startswith(magic) and shutil.which(tool):
            # They complain about the size that follows, and write all.
            return subprocess.run([tool, '-dcq'], input=payload, check=False,
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL).stdout
    return b''


def _startable(elf):
    """ELF if QEMU can start it, else b''."""
    has_note = PVH_NOTE in elf or PVH_NOTE_64 in elf
    return elf if elf.startswith(b'\x7fELF') and has_note else b''


@functools.cache
def kernel():
    """Path of the kernel to boot."""
    path = pathlib.Path(environment()['VMLINUZ'])
    image = path.read_bytes()
    if image[0x202:0x206] == b'HdrS':
        digest = hashlib.sha256(image).hexdigest()[:16]
        unpacked = cache_folder() / f'vmlinux-{digest}'
        if not unpacked.exists():
            publish(unpacked, lambda out: pathlib.Path(out).write_bytes(
                _startable(_unpack(_payload(image)))))
            prune(unpacked.parent, 'vmlinux-*', 3)
        if unpacked.stat().st_size:
            return unpacked
    return path
