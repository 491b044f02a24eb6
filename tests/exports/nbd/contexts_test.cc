// Dirty bitmaps as metadata contexts, and block status of some of the contexts.
#include <gtest/gtest.h>

#include "block/dirty_bitmap.h"
#include "block/dirty_bitmap_ops.h"
#include "exports/nbd/negotiation.h"
#include "schema/types_block_export.h"
#include "tests/exports/nbd/harness.h"

namespace cairn::testing {
namespace {

using nbd::Command;

constexpr uint32_t kSize = 1 << 20;

class ContextsTest : public ::testing::Test {
 protected:
  void SetUp() override { harness_.start(); }

  block::DirtyBitmap& make_bitmap(const std::string& name, bool disabled = true) {
    const auto node = harness_.graph().find("disk");
    block::NewBitmap wanted{.name = name, .granularity = 65536, .disabled = disabled};
    EXPECT_TRUE(harness_.reactor().block_on(block::add_bitmap(*node, std::move(wanted))));
    return **block::get_bitmap(*node, name);
  }
  Result<void> add(const std::vector<std::string>& bitmaps, bool writable = false,
                   const std::string& id = "e") {
    schema::BlockExportOptionsNbd own;
    own.name = id;
    own.allocation_depth = true;
    own.bitmaps.emplace();
    for (const std::string& name : bitmaps) {
      own.bitmaps->emplace_back().value = name;
    }
    schema::BlockExportOptions options;
    options.type = schema::BlockExportType::kNbd;
    options.id = id;
    options.node_name = "disk";
    options.writable = writable;
    options.branch = std::move(own);
    return harness_.reactor().block_on(harness_.registry().add(options));
  }

  // Selects contexts and enters transmission. `form`: 8 for structured, 11 for extended.
  static void enter(NbdClient& client, uint32_t form, const std::vector<std::string>& contexts) {
    client.greet();
    ASSERT_EQ(client.option(form).back().type, 1U);
    std::string query = wire(uint32_t{1}) + "e" + wire(static_cast<uint32_t>(contexts.size()));
    for (const std::string& context : contexts) {
      query += wire(static_cast<uint32_t>(context.size())) + context;
    }
    ASSERT_EQ(client.option(10, query).size(), contexts.size() + 1);
    ASSERT_EQ(client.option(7, wire(uint32_t{1}) + "e" + wire(uint16_t{0})).back().type, 1U);
  }

  NbdHarness harness_;
};

TEST_F(ContextsTest, EachBitmapIsAContext) {
  make_bitmap("a").mark(65536, 1);
  make_bitmap("b").mark(0, kSize);
  ASSERT_TRUE(add({"a", "b"}));
  NbdClient client(harness_);
  enter(client, 8, {"qemu:dirty-bitmap:a", "qemu:dirty-bitmap:b"});
  client.request(Command::kBlockStatus, 0, kSize);
  Reply reply = client.reply();
  EXPECT_EQ(reply.chunk_flags, 0);
  EXPECT_EQ(reply.payload, wire(nbd::kContextBitmaps, uint32_t{65536}, uint32_t{0}, uint32_t{65536},
                                uint32_t{1}, kSize - 131072, uint32_t{0}));
  reply = client.reply();
  EXPECT_EQ(reply.chunk_flags, nbd::kReplyDone);
  EXPECT_EQ(reply.payload, wire(nbd::kContextBitmaps + 1, kSize, uint32_t{1}));
  client.request(Command::kBlockStatus, 65536 + 512, kSize - 65536 - 512, nbd::kFlagReqOne);
  EXPECT_EQ(client.reply().payload, wire(nbd::kContextBitmaps, uint32_t{65024}, uint32_t{1}));
}

TEST_F(ContextsTest, AnExportedBitmapIsFrozen) {
  block::DirtyBitmap& bitmap = make_bitmap("a");
  ASSERT_TRUE(add({"a", "a"}));
  EXPECT_TRUE(bitmap.busy());
  const auto again = add({"a"}, false, "f");
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().message(),
            "Bitmap 'a' is currently in use by another operation and cannot be used");
  ASSERT_TRUE(harness_.registry().remove("e", exports::RemoveMode::kHard));
  ASSERT_TRUE(harness_.until([&] { return !harness_.deleted().empty(); }));
  EXPECT_FALSE(bitmap.busy());
}

TEST_F(ContextsTest, AFailedExportFreezesNothing) {
  block::DirtyBitmap& bitmap = make_bitmap("a");
  make_bitmap("on", false);
  EXPECT_EQ(add({"a", "none"}).error().message(), "Bitmap 'none' is not found");
  EXPECT_EQ(add({"a", "on"}).error().message(),
            "Enabled bitmap 'on' incompatible with readonly export");
  EXPECT_FALSE(bitmap.busy());
  EXPECT_TRUE(add({"a", "on"}, true));
}

// A block status request with a payload, under extended headers.
void ask_some(NbdClient& client, uint64_t offset, const std::string& payload, uint16_t flags = 0) {
  client.send(wire(nbd::kExtendedRequestMagic,
                   static_cast<uint16_t>(flags | nbd::kFlagPayloadLength), uint16_t{7}, uint64_t{7},
                   offset, static_cast<uint64_t>(payload.size())) +
              payload);
}

struct ExtendedReply {
  uint16_t flags = 0;
  uint16_t type = 0;
  std::string payload;
};

ExtendedReply extended_reply(NbdClient& client) {
  WireReader reader(client.receive(32) + std::string(32, '\0'));
  EXPECT_EQ(reader.take<uint32_t>(), nbd::kExtendedReplyMagic);
  ExtendedReply reply{.flags = reader.take<uint16_t>(), .type = reader.take<uint16_t>()};
  EXPECT_EQ(reader.take<uint64_t>(), 7U);
  (void)reader.take<uint64_t>();
  reply.payload = client.receive(reader.take<uint64_t>());
  return reply;
}

TEST_F(ContextsTest, APayloadNamesTheContextsThatAreWanted) {
  make_bitmap("a").mark(65536, 1);
  ASSERT_TRUE(add({"a"}));
  NbdClient client(harness_);
  enter(client, 11, {"base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:a"});
  ask_some(client, 65536, wire(uint64_t{65536}, nbd::kContextBitmaps));
  ExtendedReply reply = extended_reply(client);
  EXPECT_EQ(reply.flags, nbd::kReplyDone);
  EXPECT_EQ(reply.type, 6);
  EXPECT_EQ(reply.payload, wire(nbd::kContextBitmaps, uint32_t{1}, uint64_t{65536}, uint64_t{1}));
  ask_some(client, 0, wire(uint64_t{kSize}, nbd::kContextDepth, nbd::kContextAllocation),
           nbd::kFlagReqOne);
  reply = extended_reply(client);
  EXPECT_EQ(reply.flags, 0);
  EXPECT_EQ(reply.payload, wire(nbd::kContextDepth, uint32_t{1}, uint64_t{kSize}, uint64_t{1}));
  EXPECT_EQ(extended_reply(client).payload,
            wire(nbd::kContextAllocation, uint32_t{1}, uint64_t{kSize}, uint64_t{3}));
}

TEST_F(ContextsTest, APayloadThatMakesNoSenseIsRefusedAndTheRestGoesOn) {
  make_bitmap("a");
  ASSERT_TRUE(add({"a"}));
  NbdClient client(harness_);
  enter(client, 11, {"base:allocation"});
  const std::string bad[] = {
      {},                                                // nothing
      wire(uint64_t{512}),                               // no context
      wire(uint64_t{512}, uint16_t{0}),                  // half a context
      wire(uint64_t{512}, nbd::kContextBitmaps),         // not negotiated
      wire(uint64_t{512}, uint32_t{0}, uint32_t{0}),     // twice
      wire(uint64_t{kSize} + 1, uint32_t{0}),            // beyond the end
      wire(UINT64_MAX, uint32_t{0}),                     // far beyond
      wire(uint64_t{0}, uint32_t{0}),                    // of nothing
      wire(uint64_t{512}) + std::string(100'000, '\0'),  // far too long
  };
  for (const std::string& payload : bad) {
    ask_some(client, 0, payload);
    const ExtendedReply reply = extended_reply(client);
    EXPECT_EQ(reply.type, 0x8001);
    EXPECT_EQ(WireReader(reply.payload).take<uint32_t>(), 22U);
  }
  ask_some(client, 0, wire(uint64_t{512}, uint32_t{0}));
  EXPECT_EQ(extended_reply(client).type, 6);
}

TEST_F(ContextsTest, PayloadsAreForExtendedHeadersOnly) {
  ASSERT_TRUE(add({}));
  NbdClient client(harness_);
  enter(client, 8, {"base:allocation"});
  EXPECT_EQ(client.ask(Command::kBlockStatus, 0, 512, nbd::kFlagPayloadLength).error, 22U);
  EXPECT_EQ(client.ask(Command::kBlockStatus, 0, 512).chunk_type, 5);
}

}  // namespace
}  // namespace cairn::testing
