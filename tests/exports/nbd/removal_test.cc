// Exports and the server coming and going, with and without clients.
#include <sys/stat.h>

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

#include "tests/exports/nbd/harness.h"

namespace cairn::testing {
namespace {

using exports::RemoveMode;
using nbd::Command;

class RemovalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    harness_.start();
    ASSERT_TRUE(harness_.add("e"));
  }
  [[nodiscard]] bool gone(std::string_view id) {
    return harness_.until(
        [&] { return std::ranges::find(harness_.deleted(), id) != harness_.deleted().end(); });
  }
  NbdHarness harness_;
};

TEST_F(RemovalTest, AnUnusedExportIsRemovedSafely) {
  ASSERT_TRUE(harness_.registry().remove("e", RemoveMode::kSafe));
  EXPECT_TRUE(gone("e"));
  EXPECT_TRUE(harness_.registry().query().empty());
  NbdClient client(harness_);
  EXPECT_FALSE(client.go("e"));
}

TEST_F(RemovalTest, AnExportInUseIsNotRemovedSafely) {
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  const auto refused = harness_.registry().remove("e", RemoveMode::kSafe);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "export 'e' still in use");
  EXPECT_EQ(client.ask(Command::kRead, 0, 4).error, 0U);
}

TEST_F(RemovalTest, HardRemovalAnswersWhatIsInFlightAndDisconnects) {
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  harness_.disk().open_gate.reset();
  client.request(Command::kRead, 0, 4, 0, 1);
  ASSERT_TRUE(harness_.until([&] { return harness_.disk().waiting == 1; }));
  ASSERT_TRUE(harness_.registry().remove("e", RemoveMode::kHard));
  ASSERT_EQ(harness_.registry().query().size(), 1U);
  EXPECT_TRUE(harness_.registry().query()[0].shutting_down);
  EXPECT_TRUE(harness_.deleted().empty());
  // The id is still taken, the name is not.
  EXPECT_FALSE(harness_.add("e"));
  harness_.disk().open_gate.set();
  EXPECT_EQ(client.reply(4).cookie, 1U);
  EXPECT_TRUE(client.sees_end());
  EXPECT_TRUE(gone("e"));
  EXPECT_TRUE(harness_.add("e"));
}

TEST_F(RemovalTest, HardRemovalDoesNotWaitForAClientThatDoesNotRead) {
  NbdClient client(harness_);
  client.shrink_receive_buffer();
  ASSERT_TRUE(client.go("e"));
  for (int i = 0; i < 100; ++i) {
    client.request(Command::kRead, 0, 65536);
  }
  for (int i = 0; i < 20; ++i) {
    harness_.turn();
  }
  ASSERT_TRUE(harness_.registry().remove("e", RemoveMode::kHard));
  EXPECT_TRUE(gone("e"));
}

TEST_F(RemovalTest, TheOwnerHearsOfClientsThatHaveUsedAnExport) {
  std::vector<std::size_t> remaining;
  harness_.server().set_on_client_left([&](std::size_t count) { remaining.push_back(count); });
  NbdClient shy(harness_);
  EXPECT_FALSE(shy.go("nosuch"));
  shy.shut_down_writing();
  EXPECT_TRUE(shy.sees_end());
  EXPECT_TRUE(remaining.empty());
  NbdClient first(harness_);
  NbdClient second(harness_);
  ASSERT_TRUE(first.go("e"));
  ASSERT_TRUE(second.go("e"));
  first.close();
  ASSERT_TRUE(harness_.until([&] { return remaining.size() == 1; }));
  EXPECT_EQ(remaining.back(), 1U);
  second.close();
  ASSERT_TRUE(harness_.until([&] { return remaining.size() == 2; }));
  EXPECT_EQ(remaining.back(), 0U);
}

TEST_F(RemovalTest, OtherExportsGoOnMeanwhile) {
  ASSERT_TRUE(harness_.add("f"));
  NbdClient other(harness_);
  ASSERT_TRUE(other.go("f"));
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("e"));
  ASSERT_TRUE(harness_.registry().remove("e", RemoveMode::kHard));
  EXPECT_TRUE(client.sees_end());
  EXPECT_EQ(other.ask(Command::kRead, 0, 4).error, 0U);
}

TEST_F(RemovalTest, StoppingTheServerRemovesItsExportsAndItsSocket) {
  ASSERT_TRUE(harness_.add("f"));
  NbdClient client(harness_);
  ASSERT_TRUE(client.go("f"));
  NbdClient silent(harness_);
  EXPECT_EQ(silent.receive(18).size(), 18U);
  ASSERT_TRUE(harness_.stop());
  EXPECT_EQ(harness_.deleted().size(), 2U);
  EXPECT_TRUE(client.sees_end());
  EXPECT_TRUE(silent.sees_end());
  struct stat status{};
  EXPECT_NE(stat(harness_.socket_path().c_str(), &status), 0);
  const auto again = harness_.stop();
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().message(), "NBD server not running");
}

TEST_F(RemovalTest, TheServerStartsOnceAtATime) {
  nbd::ServerOptions options{.address = io::SocketAddress::unix_path(harness_.socket_path() + "2")};
  const auto refused = harness_.reactor().block_on(harness_.server().start(options));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "NBD server already running");
  ASSERT_TRUE(harness_.stop());
  harness_.start();
  ASSERT_TRUE(harness_.add("e"));
  NbdClient client(harness_);
  EXPECT_TRUE(client.go("e"));
}

TEST_F(RemovalTest, ExportsNeedAServerAndFreeNames) {
  const auto message = [this](std::string name) {
    return harness_.add(std::move(name)).error().message();
  };
  EXPECT_EQ(message("e"), "Block export id 'e' is already in use");
  EXPECT_EQ(message("9"), "Invalid block export id");
  EXPECT_EQ(message(""), "Invalid block export id");
  EXPECT_EQ(message("a/b"), "Invalid block export id");
  EXPECT_EQ(message(std::string(4097, 'n')),
            "export name '" + std::string(4097, 'n') + "' too long");
  ASSERT_TRUE(harness_.stop());
  EXPECT_EQ(message("f"), "NBD server not running");
  EXPECT_EQ(harness_.registry().remove("nope", RemoveMode::kSafe).error().message(),
            "Export 'nope' is not found");
}

TEST_F(RemovalTest, TheYoungestExportIsListedFirst) {
  ASSERT_TRUE(harness_.add("f"));
  const auto infos = harness_.registry().query();
  ASSERT_EQ(infos.size(), 2U);
  EXPECT_EQ(infos[0].id, "f");
  EXPECT_EQ(infos[1].id, "e");
  EXPECT_EQ(infos[1].type, "nbd");
  EXPECT_EQ(infos[1].node_name, "disk");
}

}  // namespace
}  // namespace cairn::testing
