// Fuzzes a whole connection: a handshake that is right, then whatever the input makes of requests.
//
// The input is a list of records. Most become requests with a right magic number and fields that
// stay near the limits of the disk; some go out as raw bytes. The client reads everything, then
// the connection must end by itself and leave nothing behind (TaskGroup, pool and graph assert it).
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>

#include "base/bytes.h"
#include "exports/nbd/connection.h"
#include "io/reactor.h"
#include "tests/exports/nbd/harness.h"
#include "tests/fuzz/input.h"

namespace {

using namespace cairn;  // NOLINT(google-build-using-namespace): a program of one page
using testing::Input;
using testing::wire;

constexpr std::size_t kDiskSize = 256 * 1024;

struct World {
  World() : harness(kDiskSize) {
    harness.start();
    if (!harness.add("e")) {
      std::abort();
    }
  }
  testing::NbdHarness harness;
};

std::string handshake(uint8_t form) {
  std::string text = wire(uint32_t{3});
  if ((form & 3) != 0) {
    text += wire(nbd::kOptionMagic, (form & 3) == 3 ? uint32_t{11} : uint32_t{8}, uint32_t{0});
    const std::string query = "base:allocation";
    text += wire(nbd::kOptionMagic, uint32_t{10}, uint32_t{28}, uint32_t{1}) + "e" +
            wire(uint32_t{1}, uint32_t{15}) + query;
  }
  return text + wire(nbd::kOptionMagic, uint32_t{7}, uint32_t{7}, uint32_t{1}) + "e" +
         wire(uint16_t{0});
}

std::string requests(Input& input, bool extended) {
  std::string out;
  while (!input.empty() && out.size() < 4 * kDiskSize) {
    const uint32_t control = input.number(1);
    if (control >= 0xf0) {
      out += input.text(control & 0x0f);
      continue;
    }
    const auto flags = static_cast<uint16_t>(input.number(1));
    const auto command = static_cast<uint16_t>(control & 0x0f);
    const uint64_t offset = uint64_t{input.number(2)} * ((control & 0x10) != 0 ? 16 : 1);
    const uint32_t length = input.number(2) * ((control & 0x20) != 0 ? 16 : 1);
    const uint64_t cookie = out.size();
    out += extended
               ? wire(nbd::kExtendedRequestMagic, flags, command, cookie, offset, uint64_t{length})
               : wire(nbd::kRequestMagic, flags, command, cookie, offset, length);
    // Some payloads are missing, so that what follows is taken for them.
    if (command == 7 && extended && (flags & nbd::kFlagPayloadLength) != 0) {
      out += input.text(length);
    }
    if (command == 1 && (control & 0x40) == 0) {
      out += std::string(length, 'd');
    }
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World world;
  Input input(data, size);
  const auto form = static_cast<uint8_t>(input.number(1));
  std::string bytes = handshake(form);
  bytes += requests(input, (form & 3) == 3);
  world.harness.disk().read_error = (form & 4) != 0 ? EIO : 0;

  testing::NbdClient client(world.harness);
  std::string_view unsent = bytes;
  std::array<char, 65536> scratch;
  bool over = false;
  const bool ended = world.harness.until([&] {
    const ssize_t sent =
        send(client.fd(), unsent.data(), unsent.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      unsent.remove_prefix(static_cast<std::size_t>(sent));
    }
    if (unsent.empty() && !over) {
      client.shut_down_writing();
      over = true;
    }
    const ssize_t got = recv(client.fd(), scratch.data(), scratch.size(), MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN);
  });
  if (!ended) {
    std::abort();  // the server neither answers nor leaves
  }
  return 0;
}
