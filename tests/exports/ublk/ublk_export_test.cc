// Block devices that are made, taken over, changed and removed.
#include "exports/ublk/ublk_export.h"

#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "tests/exports/ublk/ublk_fixture.h"

namespace cairn::ublk {
namespace {

using enum Control;
using Commands = std::vector<Control>;

TEST_F(UblkTest, MakesABlockDeviceAndRemovesIt) {
  ASSERT_TRUE(add());
  const auto device = kernel_.device(kNumber);
  ASSERT_TRUE(device);
  EXPECT_EQ(device->info.state, DeviceState::kLive);
  EXPECT_EQ(device->info.server, getpid());
  EXPECT_EQ(device->info.queues, 1);
  EXPECT_EQ(device->info.queue_depth, 64);
  EXPECT_EQ(device->info.flags, 0u);
  EXPECT_EQ(device->parameters.sectors, kLength / 512);
  EXPECT_EQ(device->parameters.attributes, kVolatileCache | kForcedUnitAccess);
  EXPECT_EQ(device->parameters.logical_block_shift, 9);
  EXPECT_EQ(device->parameters.types, kBasicParameters | kDiscardParameters);
  EXPECT_EQ(device->parameters.most_sectors, kLargestTransfer / 512);
  EXPECT_EQ(kernel_.commands(),
            (Commands{kGetDeviceInfo, kAddDevice, kSetParameters, kStartDevice}));
  ASSERT_TRUE(registry_->remove("e", exports::RemoveMode::kSafe));
  EXPECT_TRUE(until([this] { return deleted_ == 1; }));
  EXPECT_FALSE(kernel_.device(kNumber));
}

TEST_F(UblkTest, TellsTheKernelHowItMayBeUsed) {
  ASSERT_TRUE(add([](auto& options, auto& own) {
    options.writable = false;
    options.writethrough = true;
    own.logical_block_size = 4096;
  }));
  const auto device = kernel_.device(kNumber);
  EXPECT_EQ(device->parameters.attributes, kReadOnly);
  EXPECT_EQ(device->parameters.types, kBasicParameters);
  EXPECT_EQ(device->parameters.logical_block_shift, 12);
}

TEST_F(UblkTest, UsesTheEncodingOfNewerKernels) {
  kernel_.features = kCommandEncoding | kUpdatableSize;
  ASSERT_TRUE(add());
  EXPECT_EQ(kernel_.device(kNumber)->info.flags, kCommandEncoding | kUpdatableSize);
  EXPECT_EQ(request(describe(RequestKind::kRead, 0, 1)).result, 512);
}

TEST_F(UblkTest, RefusesOptionsThatMakeNoSense) {
  const auto refusal = [this](auto change) {
    const Result<void> added = add([&](auto&, auto& own) { change(own); });
    return added ? std::string() : added.error().message();
  };
  const std::string block =
      "Parameter 'logical-block-size' must be a power of 2 between 512 and 4096";
  EXPECT_EQ(refusal([](auto& own) { own.logical_block_size = 1000; }), block);
  EXPECT_EQ(refusal([](auto& own) { own.logical_block_size = 256; }), block);
  EXPECT_EQ(refusal([](auto& own) { own.logical_block_size = 8192; }), block);
  const std::string places =
      "Parameters 'num-queues' and 'queue-depth' must be greater than 0, and at most 4096 together";
  EXPECT_EQ(refusal([](auto& own) { own.num_queues = 0; }), places);
  EXPECT_EQ(refusal([](auto& own) { own.queue_depth = 0; }), places);
  EXPECT_EQ(refusal([](auto& own) { own.num_queues = 65; }), places);
  EXPECT_TRUE(kernel_.commands().empty());
}

TEST_F(UblkTest, TakesNoDeviceThatIsServed) {
  PretendedKernel::Device other;
  other.info.device = kNumber;
  kernel_.leave_behind(other);
  const Result<void> added = add();
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().message(), "ublk device 7 exists already");
  EXPECT_TRUE(kernel_.device(kNumber));
}

TEST_F(UblkTest, LeavesNothingBehindWhenTheDeviceCanNotBeMade) {
  const std::pair<Control, const char*> kCases[] = {
      {kAddDevice, "Could not add ublk device 7: Operation not permitted"},
      {kSetParameters, "Could not set up ublk device 7: Operation not permitted"},
      {kStartDevice, "Could not start ublk device 7: Operation not permitted"},
  };
  for (const auto& [command, says] : kCases) {
    kernel_.errors = {{command, EPERM}};
    const Result<void> added = add();
    ASSERT_FALSE(added);
    EXPECT_EQ(added.error().message(), says);
    EXPECT_FALSE(kernel_.device(kNumber)) << says;
  }
  kernel_.errors.clear();
  kernel_.refuses_rings = true;
  EXPECT_FALSE(add());
  EXPECT_FALSE(kernel_.device(kNumber));
  kernel_.refuses_rings = false;
  EXPECT_TRUE(add());
}

TEST_F(UblkTest, NeedsADriver) {
  UblkExports none([]() -> io::Task<Result<std::unique_ptr<Driver>>> {
    co_return fail(ENOENT, "there is no driver");
  });
  registry_.emplace(graph_);
  registry_->add_type(none);
  thread_.reset();
  const Result<void> added = add();
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().message(), "there is no driver");
  registry_.reset();
}

TEST_F(UblkTest, TakesOverWhatAnotherServerLeft) {
  ASSERT_TRUE(add([](auto&, auto& own) {
    own.recoverable = true;
    own.num_queues = 2;
    own.queue_depth = 4;
  }));
  const auto left = *kernel_.device(kNumber);
  EXPECT_EQ(left.info.flags, kUserRecovery | kUserRecoveryReissue);
  run(registry_->remove_all());
  EXPECT_FALSE(kernel_.device(kNumber)) << "an orderly end is none that it waits after";

  kernel_.leave_behind(left);
  ASSERT_TRUE(add([](auto&, auto& own) { own.recoverable = true; }));
  const auto device = kernel_.device(kNumber);
  EXPECT_EQ(device->info.state, DeviceState::kLive);
  EXPECT_EQ(device->info.queue_depth, 4);
  EXPECT_EQ(device->memory.size(), 8u);
  const auto commands = kernel_.commands();
  EXPECT_EQ(Commands(commands.end() - 4, commands.end()),
            (Commands{kGetDeviceInfo, kGetParameters, kStartRecovery, kEndRecovery}));
  EXPECT_EQ(request(describe(RequestKind::kRead, 0, 1)).result, 512);
}

TEST_F(UblkTest, WaitsUntilTheKernelKnowsThatTheServerDied) {
  const auto recoverable = [](auto&, auto& own) { own.recoverable = true; };
  ASSERT_TRUE(add(recoverable));
  auto left = *kernel_.device(kNumber);
  run(registry_->remove_all());
  left.info.server = INT32_MAX;  // no process has this number
  kernel_.looks_until_quiesced = 3;
  kernel_.leave_behind(left);
  ASSERT_TRUE(add(recoverable));
  EXPECT_EQ(kernel_.looks_until_quiesced, 0);
  EXPECT_EQ(kernel_.device(kNumber)->info.server, getpid());
}

TEST_F(UblkTest, TakesOverNoDeviceOfAnotherKind) {
  const auto recoverable = [](auto&, auto& own) { own.recoverable = true; };
  ASSERT_TRUE(add(recoverable));
  const auto left = *kernel_.device(kNumber);
  run(registry_->remove_all());

  auto longer = left;
  longer.parameters.sectors += 1;
  kernel_.leave_behind(longer);
  Result<void> added = add(recoverable);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().message(),
            "ublk device 7 waits for a server with 1049088 bytes, not 1048576");
  auto read_only = left;
  read_only.parameters.attributes |= kReadOnly;
  kernel_.leave_behind(read_only);
  added = add(recoverable);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().message(), "ublk device 7 was made for reading alone");

  // It goes on waiting, too, when it can not be started again.
  kernel_.leave_behind(left);
  kernel_.errors = {{kEndRecovery, EBUSY}};
  EXPECT_FALSE(add(recoverable));
  ASSERT_TRUE(kernel_.device(kNumber));
  EXPECT_EQ(kernel_.device(kNumber)->info.state, DeviceState::kQuiesced);
  kernel_.errors.clear();
  EXPECT_TRUE(add(recoverable));
}

TEST_F(UblkTest, NeedsAKernelThatKeepsDevices) {
  kernel_.knows_recovery = false;
  const Result<void> added = add([](auto&, auto& own) { own.recoverable = true; });
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().message(), "The kernel can not keep ublk devices for recovery");
  EXPECT_FALSE(kernel_.device(kNumber));
}

TEST_F(UblkTest, IsInUseWhileSomebodyHoldsTheDevice) {
  ASSERT_TRUE(add());
  kernel_.held = true;
  EXPECT_FALSE(registry_->remove("e", exports::RemoveMode::kSafe));
  kernel_.held = false;
  EXPECT_TRUE(registry_->remove("e", exports::RemoveMode::kSafe));
}

TEST_F(UblkTest, FollowsTheLengthOfTheNode) {
  kernel_.features = kUpdatableSize;
  ASSERT_TRUE(add());
  disk_.bytes.resize(2 * kLength);
  graph_.report_length_change();
  disk_.bytes.resize(3 * kLength);
  graph_.report_length_change();
  EXPECT_TRUE(
      until([this] { return kernel_.device(kNumber)->parameters.sectors == 3 * kLength / 512; }));
}

}  // namespace
}  // namespace cairn::ublk
