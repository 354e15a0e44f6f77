#!/usr/bin/python3
"""GStreamer's RTSP server with files as cameras, for tests against a server that is not ours.

Usage: gst_rtsp_server.py NAME=FILE.mkv...
Each NAME is served at rtsp://127.0.0.1:PORT/NAME, paced in real time from the file's start for each client.
Prints "port PORT" when it listens, and ends when its standard input closes, so that no test leaves it behind.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def pipeline(path):
    codec = "h265" if "h265" in path else "h264"
    return (
        f'( filesrc location="{path}" ! matroskademux ! {codec}parse ! '
        f"rtp{codec}pay name=pay0 pt=96 mtu=1400 config-interval=0 )"
    )


def main():
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")
    for argument in sys.argv[1:]:
        name, path = argument.split("=", 1)
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(pipeline(path))
        factory.set_shared(False)
        server.get_mount_points().add_factory(f"/{name}", factory)
    server.attach(None)
    print("port", server.get_bound_port(), flush=True)
    loop = GLib.MainLoop()
    GLib.io_add_watch(0, GLib.IO_HUP | GLib.IO_ERR, lambda *_: loop.quit())
    loop.run()


if __name__ == "__main__":
    main()
