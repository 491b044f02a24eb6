#include "tests/exports/ublk/pretended_driver.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include <gtest/gtest.h>

#include "base/sector.h"
#include "io/timer.h"

namespace cairn::ublk {
namespace {

constexpr auto kPause = std::chrono::microseconds(100);
constexpr int kPatience = 100000;  // pauses

std::size_t places_of(const DeviceInfo& info) {
  return std::size_t{info.queues} * info.queue_depth;
}

}  // namespace

class PretendedRing final : public io::CommandRing {
 public:
  PretendedRing(PretendedKernel& kernel, uint32_t device) : kernel_(kernel), device_(device) {}
  ~PretendedRing() override {
    const std::lock_guard lock(kernel_.mutex_);
    if (const auto found = kernel_.devices_.find(device_); found != kernel_.devices_.end()) {
      found->second.memory.clear();  // places that were offered go back
    }
  }

  [[nodiscard]] int descriptor() const override { return kernel_.event_.get(); }

  void add(const Command& command) override {
    PlaceBody body{};
    ASSERT_EQ(command.body.size(), sizeof body);
    std::memcpy(&body, command.body.data(), sizeof body);
    added_.push_back({command.operation, body, command.tag});
  }

  void submit() override {
    const std::lock_guard lock(kernel_.mutex_);
    PretendedKernel::Device& device = kernel_.devices_.at(device_);
    const bool encoded = (device.info.flags & kCommandEncoding) != 0;
    for (const auto& [operation, body, tag] : std::exchange(added_, {})) {
      ASSERT_EQ(tag, body.queue * device.info.queue_depth + body.place);
      auto* memory = std::bit_cast<std::byte*>(body.address);
      if (operation == number_of(PlaceCommand::kCommitAndFetch, encoded)) {
        take_answer(device, tag, body.result, memory);
      } else {
        ASSERT_EQ(operation, number_of(PlaceCommand::kFetch, encoded));
      }
      ASSERT_TRUE(device.memory.emplace(tag, memory).second);
    }
  }

  [[nodiscard]] std::optional<Completion> take() override {
    const std::lock_guard lock(kernel_.mutex_);
    uint64_t count = 0;
    static_cast<void>(::read(kernel_.event_.get(), &count, sizeof count));
    auto& done = kernel_.devices_.at(device_).done;
    if (done.empty()) {
      return std::nullopt;
    }
    const Completion first = done.front();
    done.pop_front();
    return first;
  }

 private:
  static void take_answer(PretendedKernel::Device& device, uint64_t tag, int32_t result,
                          const std::byte* memory) {
    ASSERT_TRUE(device.under_way.contains(tag));
    PretendedKernel::Answer& answer = device.answers[device.under_way.at(tag)];
    answer.result = result;
    answer.data.assign(memory, memory + std::max(result, 0));
    device.under_way.erase(tag);
  }

  struct Added {
    uint32_t operation;
    PlaceBody body;
    uint64_t tag;
  };
  PretendedKernel& kernel_;
  const uint32_t device_;
  std::vector<Added> added_;
};

class PretendedChannel final : public Channel {
 public:
  PretendedChannel(PretendedKernel& kernel, const DeviceInfo& info) : kernel_(kernel), info_(info) {
    kernel_.devices_.at(info.device).open = true;
  }
  ~PretendedChannel() override {
    const std::lock_guard lock(kernel_.mutex_);
    if (const auto found = kernel_.devices_.find(info_.device); found != kernel_.devices_.end()) {
      found->second.open = false;
    }
  }

  [[nodiscard]] RequestDescription description(uint16_t queue, uint16_t place) const override {
    const std::lock_guard lock(kernel_.mutex_);
    return kernel_.devices_.at(info_.device)
        .descriptions.at(std::size_t{queue} * info_.queue_depth + place);
  }
  [[nodiscard]] Result<std::unique_ptr<io::CommandRing>> make_ring(unsigned entries) override {
    EXPECT_EQ(entries, places_of(info_));
    if (kernel_.refuses_rings) {
      return fail(EPERM, "no rings here");
    }
    return std::make_unique<PretendedRing>(kernel_, info_.device);
  }

 private:
  PretendedKernel& kernel_;
  const DeviceInfo info_;
};

class PretendedDriver final : public Driver {
 public:
  explicit PretendedDriver(PretendedKernel& kernel) : kernel_(kernel) {}

  [[nodiscard]] uint64_t features() const override { return kernel_.features; }

  // Some wait, as in the kernel: starting for all places to be offered, stopping for what is asked
  // to be answered.
  [[nodiscard]] io::Task<Result<void>> control(Control command, ControlBody body) override {
    for (int i = 0; i < kPatience && must_wait(command, body); ++i) {
      (void)co_await io::sleep_for(kPause);
    }
    const std::lock_guard lock(kernel_.mutex_);
    co_return kernel_.carry_out(command, body);
  }

  [[nodiscard]] io::Task<Result<std::unique_ptr<Channel>>> open_channel(
      const DeviceInfo& device) override {
    const std::lock_guard lock(kernel_.mutex_);
    co_return std::make_unique<PretendedChannel>(kernel_, device);
  }

  [[nodiscard]] bool is_held(uint32_t /*device*/) const override { return kernel_.held; }

 private:
  bool must_wait(Control command, const ControlBody& body) {
    const std::lock_guard lock(kernel_.mutex_);
    const auto found = kernel_.devices_.find(body.device);
    if (found == kernel_.devices_.end()) {
      return false;
    }
    const PretendedKernel::Device& device = found->second;
    if (command == Control::kStartDevice || command == Control::kEndRecovery) {
      return device.memory.size() < places_of(device.info);
    }
    return command == Control::kStopDevice && !device.under_way.empty();
  }

  PretendedKernel& kernel_;
};

PretendedKernel::PretendedKernel() : event_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

void PretendedKernel::complete(Device& device, io::CommandRing::Completion completion) {
  device.memory.erase(completion.tag);
  device.done.push_back(completion);
  const uint64_t one = 1;
  EXPECT_EQ(::write(event_.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
}

Result<void> PretendedKernel::carry_out(Control command, const ControlBody& body) {
  commands_.push_back(command);
  if (const auto wrong = errors.find(command); wrong != errors.end()) {
    return std::unexpected(Error::from_errno(wrong->second));
  }
  auto* memory = std::bit_cast<std::byte*>(body.address);
  if (command == Control::kAddDevice) {
    EXPECT_FALSE(devices_.contains(body.device));
    Device& made = devices_[body.device];
    std::memcpy(&made.info, memory, sizeof made.info);
    made.info.flags &= knows_recovery ? UINT64_MAX : ~(kUserRecovery | kUserRecoveryReissue);
    std::memcpy(memory, &made.info, sizeof made.info);
    made.descriptions.resize(places_of(made.info));
    return {};
  }
  const auto found = devices_.find(body.device);
  if (found == devices_.end()) {
    return std::unexpected(Error::from_errno(ENODEV));
  }
  Device& device = found->second;
  switch (command) {
    case Control::kGetDeviceInfo:
      if (looks_until_quiesced > 0) {
        --looks_until_quiesced;
        device.info.state = looks_until_quiesced == 0 ? DeviceState::kQuiesced : device.info.state;
      }
      std::memcpy(memory, &device.info, sizeof device.info);
      break;
    case Control::kSetParameters:
      std::memcpy(&device.parameters, memory, sizeof device.parameters);
      break;
    case Control::kGetParameters:
      std::memcpy(memory, &device.parameters, sizeof device.parameters);
      break;
    case Control::kStartDevice:
    case Control::kEndRecovery:
      device.info.server = static_cast<int32_t>(body.value);
      device.info.state = DeviceState::kLive;
      break;
    case Control::kStopDevice:
      device.info.state = DeviceState::kDead;
      for (auto places = device.memory; const auto& [tag, unused] : places) {
        complete(device, {.tag = tag, .result = -ENODEV});
      }
      break;
    case Control::kDeleteDevice:
      EXPECT_FALSE(device.open) << "deleting would wait for ever";
      devices_.erase(found);
      break;
    case Control::kUpdateSize:
      device.parameters.sectors = body.value;
      break;
    case Control::kStartRecovery:
      EXPECT_EQ(device.info.state, DeviceState::kQuiesced);
      break;
    case Control::kAddDevice:
    case Control::kGetFeatures:
      break;
  }
  return {};
}

uint64_t PretendedKernel::ask(uint32_t number, RequestDescription asked,
                              std::span<const std::byte> data) {
  const std::lock_guard lock(mutex_);
  Device& device = devices_.at(number);
  EXPECT_FALSE(device.memory.empty()) << "no place is offered";
  const auto [tag, memory] = *device.memory.begin();
  std::ranges::copy(data, memory);
  device.descriptions[tag] = asked;
  device.under_way[tag] = next_request_;
  complete(device, {.tag = tag, .result = 0});
  return next_request_++;
}

std::optional<PretendedKernel::Answer> PretendedKernel::answer(uint32_t number, uint64_t request) {
  const std::lock_guard lock(mutex_);
  const auto& answers = devices_.at(number).answers;
  const auto found = answers.find(request);
  return found == answers.end() ? std::nullopt : std::optional(found->second);
}

std::optional<PretendedKernel::Device> PretendedKernel::device(uint32_t number) {
  const std::lock_guard lock(mutex_);
  const auto found = devices_.find(number);
  return found == devices_.end() ? std::nullopt : std::optional(found->second);
}

void PretendedKernel::leave_behind(Device device) {
  const std::lock_guard lock(mutex_);
  device.info.state = looks_until_quiesced > 0 ? DeviceState::kLive : DeviceState::kQuiesced;
  device.memory.clear();
  device.open = false;
  devices_[device.info.device] = std::move(device);
}

std::vector<Control> PretendedKernel::commands() {
  const std::lock_guard lock(mutex_);
  return commands_;
}

std::unique_ptr<Driver> make_pretended_driver(PretendedKernel& kernel) {
  return std::make_unique<PretendedDriver>(kernel);
}

}  // namespace cairn::ublk
