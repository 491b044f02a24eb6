// Tests of the list of a server's exports, as a client asks for it.
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "io/socket.h"
#include "protocols/nbd/nbd.h"
#include "protocols/nbd/negotiation.h"
#include "tests/protocols/nbd/scripted_server.h"
#include "tests/support/graph_test.h"

namespace cairn::nbd::client {
namespace {

using testing::big;
using testing::Peer;
using testing::ScriptedServer;
using Listing = Result<std::vector<ListedExport>>;

constexpr uint32_t kAck = 1;
constexpr uint32_t kServer = 2;
constexpr uint32_t kInfo = 3;
constexpr uint32_t kError = 0x80000000U;

void answer(const Peer& peer, uint32_t option, uint32_t type, std::string_view payload = {}) {
  peer.send(big<uint64_t>(0x3e889045565a9) + big(option) + big(type) +
            big(static_cast<uint32_t>(payload.size())) + std::string(payload));
}

std::string entry(std::string_view name, std::string_view description = {}) {
  return big(static_cast<uint32_t>(name.size())) + std::string(name) + std::string(description);
}

// Greets, and has `script` answer each option; false ends the connection.
void serve_options(Peer& peer, const std::function<bool(uint32_t option)>& script) {
  peer.send("NBDMAGICIHAVEOPT" + big<uint16_t>(3));
  (void)peer.receive(4);
  for (;;) {
    const std::string header = peer.receive(16);
    if (header.size() < 16) {
      return;
    }
    const auto number = [&header](size_t at) {
      uint32_t value = 0;
      for (size_t i = at; i < at + 4; ++i) {
        value = value << 8 | static_cast<uint8_t>(header[i]);
      }
      return value;
    };
    (void)peer.receive(number(12));
    if (!script(number(8))) {
      return;
    }
  }
}

io::Task<Listing> ask(std::string path) {
  auto connecting = io::Stream::connect(io::SocketAddress::unix_path(std::move(path)));
  Result<io::Stream> stream = co_await std::move(connecting);
  if (!stream) {
    co_return pass(stream);
  }
  Negotiation negotiation(*stream);
  auto greeting = negotiation.greet();
  Result<void> greeted = co_await std::move(greeting);
  if (!greeted) {
    co_return pass(greeted);
  }
  auto listing = negotiation.list();
  co_return co_await std::move(listing);
}

class ListTest : public testing::GraphTest {
 protected:
  ListTest() : GraphTest({&kNbdDriver}) {}

  Listing list(const std::function<bool(Peer&, uint32_t option)>& script) {
    const ScriptedServer server(path("s"), [&script](Peer& peer) {
      serve_options(peer, [&](uint32_t option) { return script(peer, option); });
    });
    return run(ask(path("s")));
  }
};

TEST_F(ListTest, TakesDescriptionsFromTheListOrElseFromTheExport) {
  const Listing exports = list([](Peer& peer, uint32_t option) {
    if (option == 3) {
      answer(peer, option, kServer, entry("a", "of the list"));
      answer(peer, option, kServer, entry("b"));
      answer(peer, option, kAck);
    } else if (option == 6) {
      answer(peer, option, kInfo, big<uint16_t>(0) + big<uint64_t>(1000) + big<uint16_t>(3));
      answer(peer, option, kInfo, big<uint16_t>(2) + "of the export");
      answer(peer, option, kAck);
    } else {
      answer(peer, option, kError | 1);
    }
    return option != 2;
  });
  ASSERT_TRUE(exports) << exports.error().message();
  ASSERT_EQ(exports->size(), 2U);
  EXPECT_EQ(exports->at(0).description, "of the list");
  EXPECT_EQ(exports->at(1).description, "of the export");
  EXPECT_EQ(exports->at(1).info->size, 1000U);
  EXPECT_TRUE(exports->at(1).contexts.empty());
}

TEST_F(ListTest, ListsExportsThatTheServerCanNotDescribe) {
  const Listing exports = list([](Peer& peer, uint32_t option) {
    if (option == 3) {
      answer(peer, option, kServer, entry("a"));
      answer(peer, option, kAck);
    } else {
      answer(peer, option, kError | 1);
    }
    return option != 2;
  });
  ASSERT_TRUE(exports) << exports.error().message();
  EXPECT_EQ(exports->at(0).name, "a");
  EXPECT_FALSE(exports->at(0).info);
}

TEST_F(ListTest, FindsNothingAtAServerWithoutLists) {
  const Listing exports = list([](Peer& peer, uint32_t option) {
    answer(peer, option, kError | 1);
    return option != 2;
  });
  ASSERT_TRUE(exports) << exports.error().message();
  EXPECT_TRUE(exports->empty());
}

TEST_F(ListTest, PassesOnWhyTheServerRefuses) {
  const Listing exports = list([](Peer& peer, uint32_t option) {
    answer(peer, option, kError | (option == 3 ? 2 : 1), option == 3 ? "no way" : "");
    return true;
  });
  ASSERT_FALSE(exports);
  EXPECT_EQ(exports.error().message(), "Denied by server for option 3 (list)");
  EXPECT_EQ(exports.error().hint(), "server reported: no way");
}

}  // namespace
}  // namespace cairn::nbd::client
