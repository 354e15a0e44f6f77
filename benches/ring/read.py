"""Reads one stream for ever, as fast as it goes: the Python reader of `./tools/bench ring`.

Usage: read.py SOCKET STREAM
"""

import sys

import vms_ring

for unit in vms_ring.attach(sys.argv[1], sys.argv[2]):
    pass
