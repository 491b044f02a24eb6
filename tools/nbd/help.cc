#include "tools/nbd/help.h"

#include <string_view>

#include <fmt/format.h>

#include "tools/common/report.h"

namespace cairn::tools {
namespace {

constexpr std::string_view kNbdHelp =
    R"(Serves a disk image to NBD clients, or lists what another server serves.

  -h, --help                show this text
  -V, --version             show the version

Devices of the kernel:
  -c, --connect=DEVICE      show FILE as a device (/dev/nbd0), in the background unless
                            with -v; ends when the device is disconnected
  -d, --disconnect          disconnect the device FILE

The connection:
  -p, --port=PORT           TCP port to listen on (default: 10809)
  -b, --bind=ADDRESS        address to listen on (default: 0.0.0.0)
  -k, --socket=PATH         listen on a Unix socket, by an absolute path
  -e, --shared=N            take up to N clients at a time, 0: any number
                            (default: 1)
  -t, --persistent          go on when the last client has left
  -x, --export-name=NAME    the name that clients ask for (default: empty)
  -D, --description=TEXT    a description for people
  --handshake-limit=N       give clients N seconds for the handshake, 0: any time
                            (default: 10)

What is shown:
  -o, --offset=OFFSET       begin OFFSET bytes into the image
  -r, --read-only           let nobody write
  -s, --snapshot            keep what is written in a temporary overlay
  -l, --load-snapshot=WHICH
                            a snapshot inside the image, to be read: an id or a name,
                            or snapshot.id=ID,snapshot.name=NAME
  -A, --allocation-depth    tell clients how deep in the backing chain data lies
  -B, --bitmap=NAME         tell clients what a dirty bitmap of the image says;
                            may be given several times

The image:
  -f, --format=FORMAT       its format; looked for when not given
  --image-opts              FILE is a list of options (driver=...,file.filename=...)
  --cache=MODE              none, writeback (default), writethrough, directsync or
                            unsafe
  -n, --nocache             --cache=none
  --aio=MODE                threads, native or io_uring: checked; CAIRN_IO decides
  --discard=MODE            what becomes of discards: ignore (default) or unmap
  --detect-zeroes=MODE      off (default), on, or unmap after --discard=unmap

The program:
  -L, --list                list the exports of the server at -b and -p, or at -k
  --object TYPE,id=ID[,...]
                            make an object, for example a secret
  --tls-creds=ID            insist on TLS, with these credentials
  --tls-authz=ID            who may connect
  --tls-hostname=NAME       with -L: the name that the certificate must have
  --fork                    go to the background when everything is set up
  --pid-file=PATH           write the process id to a file
  -v, --verbose             with -c: stay in the foreground, and tell of the device
  -T, --trace WHAT          accepted; this version has no trace points

A service manager may pass one listening socket (LISTEN_FDS).

The environment variable CAIRN_IO chooses how files are read and written:
io_uring, epoll (with threads), or auto.
)";

}  // namespace

void print_nbd_help() {
  fmt::print(
      "Usage: {0} [OPTION...] FILE\n  or:  {0} -L [OPTION...]\n"
      "  or:  {0} -c DEVICE [OPTION...] FILE\n  or:  {0} -d DEVICE\n{1}",
      program_name(), kNbdHelp);
}

std::string nbd_version_text() {
  return fmt::format("{} {} (Cairn)\nCopyright (c) 2026 the Cairn authors\n", program_name(),
                     version_number());
}

}  // namespace cairn::tools
