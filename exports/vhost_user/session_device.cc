// Session: messages about the device as a whole.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "exports/vhost_user/session.h"
#include "exports/vhost_user/virtio.h"

namespace cairn::vhost_user {
namespace {

// What rings and messages can do; the device adds its own.
constexpr uint64_t kRingFeatures = bit(kFeatureLogAll) | bit(kFeatureIndirect) |
                                   bit(kFeatureEventIndex) | bit(kFeatureProtocol) |
                                   bit(kFeatureVersion1) | bit(kFeaturePacked);
constexpr uint64_t kProtocolFeatures =
    bit(ProtocolFeature::kMultipleQueues) | bit(ProtocolFeature::kLogMemory) |
    bit(ProtocolFeature::kReplyAck) | bit(ProtocolFeature::kBackendRequests) |
    bit(ProtocolFeature::kConfig) | bit(ProtocolFeature::kInflight) |
    bit(ProtocolFeature::kResetDevice) | bit(ProtocolFeature::kMemorySlots) |
    bit(ProtocolFeature::kStatus);
// The space that virtio has for a device's configuration, and messages may ask for.
constexpr uint32_t kConfigSpace = 256;

template <typename T>
std::vector<std::byte> bytes_of(const T& value, std::size_t size = sizeof(T)) {
  std::vector<std::byte> bytes(size);
  std::memcpy(bytes.data(), &value, size);
  return bytes;
}

Result<void> expect_descriptors(const Message& message, std::size_t count) {
  if (message.descriptors.size() != count) {
    return fail(EPROTO, "message {} brings {} descriptors instead of {}",
                static_cast<uint32_t>(message.kind), message.descriptors.size(), count);
  }
  return {};
}

}  // namespace

bool Session::is_query(MessageKind kind) const {
  switch (kind) {
    case MessageKind::kGetFeatures:
    case MessageKind::kGetProtocolFeatures:
    case MessageKind::kSetProtocolFeatures:
    case MessageKind::kSetOwner:
    case MessageKind::kGetQueueNum:
    case MessageKind::kGetMaxMemSlots:
    case MessageKind::kGetConfig:
    case MessageKind::kSetConfig:
    case MessageKind::kGetInflightFd:
    case MessageKind::kGetStatus:
    case MessageKind::kSetBackendReqFd:
    case MessageKind::kSetLogFd:
      return true;
    default:
      return false;
  }
}

Session::Outcome Session::handle_query(Message& message) {
  const auto number = [](uint64_t value) { return Answer{.body = bytes_of(value)}; };
  switch (message.kind) {
    case MessageKind::kGetFeatures:
      return number(device_.features() | kRingFeatures);
    case MessageKind::kGetProtocolFeatures:
      return number(kProtocolFeatures);
    case MessageKind::kGetQueueNum:
      return number(device_.settings().queues);
    case MessageKind::kGetMaxMemSlots:
      return number(kMostRegions);
    case MessageKind::kGetStatus:
      return number(status_);
    case MessageKind::kGetConfig:
      return get_config(message);
    case MessageKind::kSetConfig:
      return set_config(message);
    case MessageKind::kGetInflightFd:
      return get_inflight(message);
    case MessageKind::kSetProtocolFeatures:
      return outcome_of(set_protocol_features(message));
    case MessageKind::kSetBackendReqFd:
      return outcome_of(set_request_descriptor(message));
    default:
      return Answer{};
  }
}

Session::Outcome Session::outcome_of(Result<void> result) {
  return result ? Outcome(Answer{}) : pass(result);
}

Session::Outcome Session::get_config(const Message& message) const {
  ConfigAccess access;
  if (message.payload.size() < sizeof access) {
    return fail(EPROTO, "a message about the configuration has {} bytes", message.payload.size());
  }
  std::memcpy(&access, message.payload.data(), sizeof access);
  if (access.offset > kConfigSpace || access.size > kConfigSpace - access.offset) {
    // Nothing at all is how this is refused.
    return Answer{.body = std::vector<std::byte>(), .refused = true};
  }
  const BlockDevice::Config config = device_.config();
  std::vector<std::byte> body = bytes_of(access);
  body.resize(sizeof access + access.size);
  if (access.offset < config.size()) {
    const auto part = std::span(config).subspan(access.offset);
    std::ranges::copy(part.first(std::min<std::size_t>(part.size(), access.size)),
                      body.begin() + sizeof access);
  }
  return Answer{.body = std::move(body)};
}

Session::Outcome Session::set_config(const Message& message) {
  ConfigAccess access;
  if (message.payload.size() < sizeof access) {
    return fail(EPROTO, "a message about the configuration has {} bytes", message.payload.size());
  }
  std::memcpy(&access, message.payload.data(), sizeof access);
  const auto bytes = std::span(message.payload).subspan(sizeof access);
  if (access.size != bytes.size() || access.offset > kConfigSpace ||
      access.size > kConfigSpace - access.offset) {
    return fail(EPROTO, "a message sets {} bytes of the configuration at {} with {}", access.size,
                access.offset, bytes.size());
  }
  const bool migration = access.flags == kConfigMigration;
  const Result<void> set = device_.set_config(access.offset, bytes, migration);
  return Answer{.refused = !set};
}

// A guest that survives this program needs memory that does: it is the front-end's from now on, and
// comes back by kSetInflightFd.
Session::Outcome Session::get_inflight(const Message& message) const {
  if (message.payload.size() < kInflightAreaBytes) {
    return fail(EPROTO, "a message about requests in flight has {} bytes", message.payload.size());
  }
  InflightArea area{};
  std::memcpy(&area, message.payload.data(), kInflightAreaBytes);
  if (area.queues == 0 || area.queues > kMostQueues || area.queue_size == 0 ||
      area.queue_size > Queue::kLargestSize) {
    return fail(EPROTO, "memory for {} queues of {} requests in flight is asked for", area.queues,
                area.queue_size);
  }
  area.size = region_bytes(area.queue_size) * area.queues;
  area.offset = 0;
  io::Fd memory(memfd_create("vhost-user-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory.valid() || ftruncate(memory.get(), static_cast<off_t>(area.size)) != 0) {
    return fail_errno(errno, "there is no memory for requests in flight");
  }
  fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  // Front-ends have it with and without the padding at its end, and expect what they use.
  const std::size_t size = std::min(message.payload.size(), sizeof area);
  return Answer{.body = bytes_of(area, size), .descriptor = std::move(memory)};
}

Session::Outcome Session::change_device(Message& message) {
  Result<void> done;
  switch (message.kind) {
    case MessageKind::kSetFeatures:
      done = set_features(message);
      break;
    case MessageKind::kSetMemTable:
      done = set_memory_table(message);
      break;
    case MessageKind::kAddMemReg:
      done = add_region(message);
      break;
    case MessageKind::kRemMemReg:
      done = remove_region(message);
      break;
    case MessageKind::kSetLogBase:
      done = set_log(message);
      break;
    case MessageKind::kSetInflightFd:
      done = set_inflight(message);
      break;
    case MessageKind::kSetStatus:
      done = set_status(message);
      break;
    case MessageKind::kResetOwner:
      for (const auto& [index, queue] : queues_) {
        queue->set_enabled(false);
      }
      break;
    case MessageKind::kResetDevice:
      reset_device();
      break;
    default:
      return fail(EOPNOTSUPP, "message {} is none that is known here",
                  static_cast<uint32_t>(message.kind));
  }
  if (!done) {
    return pass(done);
  }
  // This one is always answered, where the log is memory that is passed.
  return message.kind == MessageKind::kSetLogBase ? Answer{.body = bytes_of(uint64_t{0})}
                                                  : Answer{};
}

Result<void> Session::set_protocol_features(const Message& message) {
  auto features = message.body<uint64_t>();
  if (!features) {
    return pass(features);
  }
  if ((*features & ~kProtocolFeatures) != 0) {
    return fail(EPROTO, "features {:#x} of the protocol were not offered",
                *features & ~kProtocolFeatures);
  }
  protocol_features_ = *features;
  return {};
}

// Where it takes messages of ours.
Result<void> Session::set_request_descriptor(Message& message) {
  if (auto right = expect_descriptors(message, 1); !right) {
    return right;
  }
  struct stat status{};
  if (fstat(message.descriptors.front().get(), &status) != 0 || !S_ISSOCK(status.st_mode)) {
    return fail(EINVAL, "the descriptor for messages to the front-end is no socket");
  }
  frontend_requests_ = std::move(message.descriptors.front());
  message.descriptors.clear();
  return {};
}

Result<void> Session::set_features(const Message& message) {
  auto features = message.body<uint64_t>();
  if (!features) {
    return pass(features);
  }
  const uint64_t offered = device_.features() | kRingFeatures;
  if ((*features & ~offered) != 0) {
    return fail(EPROTO, "features {:#x} were not offered", *features & ~offered);
  }
  features_ = *features;
  device_.set_features(features_);
  return {};
}

Result<void> Session::set_memory_table(const Message& message) {
  MemoryTableHead head;
  if (message.payload.size() < sizeof head) {
    return fail(EPROTO, "a table of memory has {} bytes", message.payload.size());
  }
  std::memcpy(&head, message.payload.data(), sizeof head);
  const auto regions = std::span(message.payload).subspan(sizeof head);
  // Front-ends may send the room for more regions than there are.
  if (head.count > kMostRegions || regions.size() / sizeof(MemoryRegion) < head.count) {
    return fail(EPROTO, "a table of {} regions of memory has {} bytes", head.count,
                message.payload.size());
  }
  if (auto right = expect_descriptors(message, head.count); !right) {
    return right;
  }
  memory_.clear();
  for (uint32_t i = 0; i < head.count; ++i) {
    MemoryRegion region;
    std::memcpy(&region, regions.data() + i * sizeof region, sizeof region);
    if (auto added = memory_.add(region, message.descriptors[i].get()); !added) {
      return added;
    }
  }
  return {};
}

Result<void> Session::add_region(const Message& message) {
  auto single = message.body<SingleRegion>();
  if (!single) {
    return pass(single);
  }
  if (auto right = expect_descriptors(message, 1); !right) {
    return right;
  }
  return memory_.add(single->region, message.descriptors.front().get());
}

Result<void> Session::remove_region(const Message& message) {
  auto single = message.body<SingleRegion>();
  if (!single) {
    return pass(single);
  }
  return memory_.remove(single->region);
}

Result<void> Session::set_log(const Message& message) {
  auto area = message.body<LogArea>();
  if (!area) {
    return pass(area);
  }
  if (auto right = expect_descriptors(message, 1); !right) {
    return right;
  }
  auto bits = MappedFile::map(message.descriptors.front().get(), area->offset, area->size);
  if (!bits) {
    return pass(bits, "the log: ");
  }
  log_.emplace(std::move(*bits));
  return {};
}

Result<void> Session::set_inflight(const Message& message) {
  if (message.payload.size() < kInflightAreaBytes) {
    return fail(EPROTO, "a message about requests in flight has {} bytes", message.payload.size());
  }
  if (auto right = expect_descriptors(message, 1); !right) {
    return right;
  }
  InflightArea area{};
  std::memcpy(&area, message.payload.data(), kInflightAreaBytes);
  if (area.queue_size == 0 || area.queue_size > Queue::kLargestSize ||
      area.size / region_bytes(area.queue_size) < area.queues) {
    return fail(EPROTO, "memory for {} queues of {} requests in flight has {} bytes", area.queues,
                area.queue_size, area.size);
  }
  auto memory = MappedFile::map(message.descriptors.front().get(), area.offset, area.size);
  if (!memory) {
    return pass(memory, "memory for requests in flight: ");
  }
  if (reinterpret_cast<uintptr_t>(memory->data()) % sizeof(uint64_t) != 0) {
    return fail(EINVAL, "memory for requests in flight is not aligned");
  }
  inflight_ = std::move(*memory);
  inflight_area_ = area;
  return {};
}

Result<void> Session::set_status(const Message& message) {
  auto status = message.body<uint64_t>();
  if (!status) {
    return pass(status);
  }
  status_ = *status;
  if (status_ == 0) {
    reset_device();
  }
  return {};
}

// Its memory and its owner stay.
void Session::reset_device() {
  queues_.clear();
  features_ = 0;
  device_.set_features(0);
  status_ = 0;
  log_.reset();
  inflight_ = MappedFile();
  inflight_area_ = {};
}

uint64_t Session::region_bytes(uint16_t queue_size) const {
  return (features_ & bit(kFeaturePacked)) != 0 ? PackedTracker::region_bytes(queue_size)
                                                : SplitTracker::region_bytes(queue_size);
}

void Session::update_context() {
  context_.features = features_;
  const bool logs = (features_ & bit(kFeatureLogAll)) != 0;
  context_.log = logs && log_ ? &*log_ : nullptr;
  for (const auto& [index, queue] : queues_) {
    track(index, *queue);
  }
}

}  // namespace cairn::vhost_user
