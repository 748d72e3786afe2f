"""An RTSP server for the tests, on GStreamer's library: H.264 at a rate, with the frame's number in the picture.

Run by the system's Python, which has the bindings. Prints "ready" once it listens; ends when its standard input does.
"""

import argparse
import random
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    parser.add_argument("--damage", type=float, default=0.0, help="Share of the H.264 packets with a byte changed.")
    parser.add_argument("--codec", choices=("h264", "hevc", "mjpeg"), default="h264")
    options = parser.parse_args()
    Gst.init(None)
    width, height = options.size.split("x")
    encode = {
        "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! identity name=damage ! "
        "rtph264pay name=pay0 pt=96 config-interval=1",
        "hevc": "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! identity name=damage ! "
        "rtph265pay name=pay0 pt=96 config-interval=1",
        "mjpeg": "jpegenc ! identity name=damage ! rtpjpegpay name=pay0 pt=26",
    }[options.codec]
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( videotestsrc is-live=true pattern=ball ! video/x-raw,width={width},height={height},"
        f"framerate={options.fps}/1,format=I420 ! {encode} )"
    )
    factory.set_shared(True)
    if options.damage:
        factory.connect("media-configure", lambda _, media: damage(media, options.damage))
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(options.port))
    if options.user:
        protect(server, factory, options.user, options.password)
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        sys.exit("the port is taken")
    loop = GLib.MainLoop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    loop.run()


def protect(server, factory, user, password):
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", user)
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    factory.add_role_from_structure(
        Gst.Structure.new_from_string(
            f"{user}, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
        )
    )


def damage(media, share):
    element = media.get_element().get_by_name("damage")
    element.get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, lambda _, info: spoil(info, share))


def spoil(info, share):
    buffer = info.get_buffer()
    size = buffer.get_size()
    if size > 200 and random.random() < share:
        where = random.randrange(60, size)
        buffer.fill(where, bytes(random.randrange(256) for _ in range(min(20, size - where))))
    return Gst.PadProbeReturn.OK


main()
