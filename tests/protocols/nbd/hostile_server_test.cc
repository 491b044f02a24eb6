// Servers that do what they must not, and what becomes of the requests.
#include <functional>
#include <string>
#include <vector>

#include "protocols/nbd/nbd.h"
#include "tests/protocols/nbd/scripted_server.h"
#include "tests/support/graph_test.h"

namespace cairn::nbd::client {
namespace {

using testing::big;
using testing::Peer;
using testing::ScriptedServer;

constexpr uint16_t kDone = 1;

class HostileServerTest : public testing::GraphTest {
 protected:
  HostileServerTest() : GraphTest({&kNbdDriver}) {}

  [[nodiscard]] schema::BlockdevOptions options() const {
    schema::BlockdevOptionsNbd nbd;
    schema::UnixSocketAddress address;
    address.path = path("s");
    nbd.server.type = schema::SocketAddressType::kUnix;
    nbd.server.branch = address;
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kNbd;
    options.branch = nbd;
    return options;
  }

  // What opening a node says when the server follows `script`.
  std::string opening(const std::function<void(Peer&)>& script) {
    const ScriptedServer server(path("s"), script);
    EXPECT_EQ(open(options(), kRead), nullptr);
    std::filesystem::remove(path("s"));
    return error_;
  }

  // What reading the first 16 bytes gives when the server answers with `reply`, a function of the
  // request's cookie, and what it gives the next time.
  struct Outcome {
    std::string first;
    std::string second;
  };
  Outcome reading(const Peer::Offer& offer, const std::function<std::string(uint64_t)>& reply) {
    Outcome outcome;
    {
      const ScriptedServer server(path("s"), [&](Peer& peer) {
        peer.handshake(offer);
        const Peer::Request request = peer.request();
        peer.send(reply(request.cookie));
        // Until the client hangs up, which it has to.
        EXPECT_EQ(peer.request().command, 0xffff);
      });
      block::Edge* edge = open(options(), kRead);
      if (edge != nullptr) {
        outcome.first = read(*edge, 0, 16);
        outcome.second = read(*edge, 0, 16);
        detach(edge);
      }
    }
    std::filesystem::remove(path("s"));
    return outcome;
  }
};

std::string chunk(uint16_t flags, uint16_t type, uint64_t cookie, std::string_view payload) {
  return big(uint32_t{0x668e33ef}) + big(flags) + big(type) + big(cookie) +
         big(static_cast<uint32_t>(payload.size())) + std::string(payload);
}

std::string data(uint64_t offset, std::size_t length) {
  return big(offset) + std::string(length, 'x');
}

TEST_F(HostileServerTest, AReplyThatBreaksTheRulesFailsTheRequestAndEndsTheConnection) {
  struct Case {
    const char* says;
    std::function<std::string(uint64_t)> reply;
  };
  const std::vector<Case> cases = {
      {"bad magic 0x12345678", [](uint64_t) { return big(uint32_t{0x12345678}) + data(0, 64); }},
      {"was not made", [](uint64_t cookie) { return chunk(kDone, 1, cookie + 1, data(0, 16)); }},
      {"was not made", [](uint64_t cookie) { return chunk(kDone, 1, cookie + 64, data(0, 16)); }},
      {"not asked for", [](uint64_t cookie) { return chunk(kDone, 1, cookie, data(0, 17)); }},
      {"not asked for", [](uint64_t cookie) { return chunk(kDone, 1, cookie, data(1, 16)); }},
      {"not asked for",
       [](uint64_t cookie) { return chunk(kDone, 1, cookie, data(UINT64_MAX, 1)); }},
      {"not asked for",
       [](uint64_t cookie) {
         return chunk(0, 1, cookie, data(0, 8)) + chunk(kDone, 1, cookie, data(4, 8));
       }},
      {"not asked for",
       [](uint64_t cookie) {
         return chunk(kDone, 2, cookie, big(uint64_t{0}) + big(uint32_t{0xffffffff}));
       }},
      {"hole in a wrong form", [](uint64_t cookie) { return chunk(kDone, 2, cookie, data(0, 5)); }},
      {"only a part", [](uint64_t cookie) { return chunk(kDone, 1, cookie, data(0, 15)); }},
      {"only a part", [](uint64_t cookie) { return chunk(kDone, 0, cookie, ""); }},
      {"too short", [](uint64_t cookie) { return chunk(kDone, 1, cookie, big(uint64_t{0})); }},
      {"empty chunk", [](uint64_t cookie) { return chunk(kDone, 0, cookie, "x"); }},
      {"empty chunk", [](uint64_t cookie) { return chunk(0, 0, cookie, ""); }},
      {"chunk of type 5", [](uint64_t cookie) { return chunk(kDone, 5, cookie, data(0, 16)); }},
      {"chunk of type 99", [](uint64_t cookie) { return chunk(kDone, 99, cookie, ""); }},
      {"error in a wrong form",
       [](uint64_t cookie) { return chunk(kDone, 0x8001, cookie, "abc"); }},
      {"error in a wrong form",
       [](uint64_t cookie) {
         return chunk(kDone, 0x8001, cookie, big(uint32_t{5}) + big(uint16_t{9}) + "short");
       }},
      {"error in a wrong form",
       [](uint64_t cookie) {
         return chunk(kDone, 0x8001, cookie, big(uint32_t{0}) + big(uint16_t{0}));
       }},
      {"without a structured reply",
       [](uint64_t cookie) {
         return big(uint32_t{0x67446698}) + big(uint32_t{0}) + big(cookie) + std::string(16, 'x');
       }},
  };
  for (const Case& one : cases) {
    const Outcome outcome = reading({}, one.reply);
    EXPECT_NE(outcome.first.find(one.says), std::string::npos) << one.says << ": " << outcome.first;
    EXPECT_NE(outcome.second.find("There is no connection"), std::string::npos) << outcome.second;
  }
}

TEST_F(HostileServerTest, AServerThatHangsUpAmidAReplyFailsTheRequest) {
  const std::string model = chunk(kDone, 1, 0, data(0, 16));
  for (std::size_t length = 0; length < model.size(); ++length) {
    const ScriptedServer server(path("s"), [length](Peer& peer) {
      peer.handshake({});
      const Peer::Request request = peer.request();
      peer.send(chunk(kDone, 1, request.cookie, data(0, 16)).substr(0, length));
    });
    block::Edge* edge = open(options(), kRead);
    ASSERT_NE(edge, nullptr) << error_;
    EXPECT_NE(read(*edge, 0, 16).find("was lost"), std::string::npos);
    detach(edge);
    std::filesystem::remove(path("s"));
  }
}

TEST_F(HostileServerTest, AServerThatHangsUpInTheHandshakeFailsTheOpen) {
  EXPECT_NE(opening([](Peer&) {}).find("greeting"), std::string::npos);
  EXPECT_NE(opening([](Peer& peer) { peer.send("NBDMAGICIHAV"); }).find("greeting"),
            std::string::npos);
  EXPECT_NE(opening([](Peer& peer) { peer.send("NBDMAGICIHAVEOPT"); }).find("flags"),
            std::string::npos);
  EXPECT_NE(opening([](Peer& peer) {
              peer.send("NBDMAGICIHAVEOPT" + big(uint16_t{3}));
              peer.receive(20);
            }).find("reply to an option"),
            std::string::npos);
}

TEST_F(HostileServerTest, ABadHandshakeFailsTheOpen) {
  EXPECT_EQ(opening([](Peer& peer) { peer.send("HTTP/1.1 400 Bad Request\r\n"); }),
            "Bad initial magic received: 0x485454502f312e31");
  EXPECT_EQ(opening([](Peer& peer) { peer.send("NBDMAGIC" + big(uint64_t{0x00420281861253})); }),
            "The NBD server speaks the old style of the protocol only");
  const std::string greeting = "NBDMAGICIHAVEOPT" + big(uint16_t{3});
  EXPECT_NE(opening([&](Peer& peer) {
              peer.send(greeting + std::string(20, 'x'));
              peer.receive(20);
            }).find("Unexpected magic"),
            std::string::npos);
  EXPECT_NE(opening([&](Peer& peer) {
              peer.send(greeting + big(uint64_t{0x3e889045565a9}) + big(uint32_t{11}) +
                        big(uint32_t{1}) + big(uint32_t{0x7fffffff}));
              peer.receive(20);
            }).find("too long"),
            std::string::npos);
  EXPECT_NE(opening([&](Peer& peer) {
              peer.send(greeting + big(uint64_t{0x3e889045565a9}) + big(uint32_t{3}) +
                        big(uint32_t{1}) + big(uint32_t{0}));
              peer.receive(20);
            }).find("replied to option 3"),
            std::string::npos);
}

TEST_F(HostileServerTest, SizesThatMakeNoSenseFailTheOpen) {
  const auto offering = [this](Peer::Offer offer) {
    return opening([offer](Peer& peer) { peer.handshake(offer); });
  };
  EXPECT_NE(offering({.min_block = 3}).find("minimum block size 3"), std::string::npos);
  EXPECT_NE(offering({.min_block = 0}).find("minimum block size 0"), std::string::npos);
  EXPECT_NE(offering({.min_block = 1 << 17}).find("minimum block size"), std::string::npos);
  EXPECT_NE(offering({.min_block = 512, .max_block = 1}).find("maximum block size 1"),
            std::string::npos);
  EXPECT_NE(offering({.size = 1000, .min_block = 512}).find("not a multiple"), std::string::npos);
  EXPECT_NE(offering({.size = UINT64_MAX}).find("too large"), std::string::npos);
}

TEST_F(HostileServerTest, WhatTheServerReportsIsWhatTheRequestSays) {
  const ScriptedServer server(path("s"), [](Peer& peer) {
    peer.handshake({});
    Peer::Request request = peer.request();
    peer.send(
        chunk(kDone, 0x8001, request.cookie, big(uint32_t{28}) + big(uint16_t{8}) + "no\x1b room"));
    request = peer.request();
    peer.send(chunk(0, 1, request.cookie, data(8, 8)) +
              chunk(kDone, 1, request.cookie, data(0, 8)));
    request = peer.request();
  });
  block::Edge* edge = open(options(), kRead);
  ASSERT_NE(edge, nullptr) << error_;
  EXPECT_NE(read(*edge, 0, 16).find("reports: no? room"), std::string::npos);
  // It was a reply by the rules: the connection goes on. Chunks may come in any order.
  EXPECT_EQ(read(*edge, 0, 16), std::string(16, 'x'));
  detach(edge);
}

TEST_F(HostileServerTest, TheEndOfAnExportMayCutASector) {
  std::vector<Peer::Request> seen;
  {
    const ScriptedServer server(path("s"), [&seen](Peer& peer) {
      peer.handshake({.size = 1000});
      for (;;) {
        seen.push_back(peer.request());
        const Peer::Request& request = seen.back();
        if (request.command != 0 && request.command != 1 && request.command != 3) {
          break;
        }
        peer.send(chunk(kDone, request.command == 0 ? 1 : 0, request.cookie,
                        request.command == 0 ? data(request.offset, request.length) : ""));
      }
    });
    block::Edge* edge = open(options(), kReadWrite);
    ASSERT_NE(edge, nullptr) << error_;
    EXPECT_EQ(edge->length(), 1024u);
    EXPECT_EQ(read(*edge, 512, 512), std::string(488, 'x') + std::string(24, '\0'));
    EXPECT_TRUE(write(*edge, 512, std::string(488, 'y') + std::string(24, '\0')));
    EXPECT_FALSE(write(*edge, 512, std::string(512, 'y')));
    detach(edge);
  }
  ASSERT_EQ(seen.size(), 4u);
  EXPECT_EQ(seen[0].length, 488u);
  EXPECT_EQ(seen[1].payload, std::string(488, 'y'));
  EXPECT_EQ(seen[2].command, 3);  // what was written is made durable, and then it takes its leave
  EXPECT_EQ(seen[3].command, 2);
}

// A read of 16 bytes is answered with x, in each of the three forms of replies.
constexpr int kForms = 3;

Peer::Offer offer_of(int form) { return {.structured = form > 0, .extended = form == 2}; }

std::string reply_of(int form, uint64_t cookie) {
  const std::string payload = data(0, 16);
  switch (form) {
    case 0:
      return big(uint32_t{0x67446698}) + big(uint32_t{0}) + big(cookie) + std::string(16, 'x');
    case 1:
      return chunk(kDone, 1, cookie, payload);
    default:
      return big(uint32_t{0x6e8a278c}) + big(kDone) + big(uint16_t{1}) + big(cookie) +
             big(uint64_t{0}) + big(uint64_t{payload.size()}) + payload;
  }
}

// From the greeting to the end of one read.
TEST_F(HostileServerTest, AServerMayHangUpAtEveryByte) {
  for (int form = 0; form < kForms; ++form) {
    std::size_t bytes = 0;
    bool whole = false;
    for (; !whole && bytes < 1000; ++bytes) {
      const ScriptedServer server(path("s"), [&](Peer& peer) {
        peer.hang_up_after(bytes);
        peer.handshake(offer_of(form));
        peer.send(reply_of(form, peer.request().cookie));
      });
      block::Edge* edge = open(options(), kRead);
      if (edge != nullptr) {
        whole = read(*edge, 0, 16) == std::string(16, 'x');
        detach(edge);
      }
      std::filesystem::remove(path("s"));
    }
    EXPECT_TRUE(whole) << form;
    EXPECT_GT(bytes, 100U);
  }
}

TEST_F(HostileServerTest, AServerMayAnswerByteByByte) {
  for (int form = 0; form < kForms; ++form) {
    const ScriptedServer server(path("s"), [&](Peer& peer) {
      peer.trickle();
      peer.handshake(offer_of(form));
      for (Peer::Request request = peer.request(); request.command == 0; request = peer.request()) {
        peer.send(reply_of(form, request.cookie));
      }
    });
    block::Edge* edge = open(options(), kRead);
    ASSERT_NE(edge, nullptr) << error_;
    EXPECT_EQ(read(*edge, 0, 16), std::string(16, 'x')) << form;
    EXPECT_EQ(read(*edge, 0, 16), std::string(16, 'x')) << form;
    detach(edge);
    std::filesystem::remove(path("s"));
  }
}

TEST_F(HostileServerTest, AReplyThatComesTwiceEndsTheConnection) {
  for (int form = 0; form < kForms; ++form) {
    const ScriptedServer server(path("s"), [&](Peer& peer) {
      peer.handshake(offer_of(form));
      const std::string reply = reply_of(form, peer.request().cookie);
      peer.send(reply + reply);
      // Until the client hangs up: it may have asked once more before it saw what came.
      while (peer.request().command != 0xffff) {
      }
    });
    block::Edge* edge = open(options(), kRead);
    ASSERT_NE(edge, nullptr) << error_;
    EXPECT_EQ(read(*edge, 0, 16), std::string(16, 'x')) << form;
    EXPECT_NE(read(*edge, 0, 16).find("was not made"), std::string::npos) << form;
    detach(edge);
    std::filesystem::remove(path("s"));
  }
}

}  // namespace
}  // namespace cairn::nbd::client
