#include "bench/vhost/front_end.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "exports/vhost_user/protocol.h"
#include "exports/vhost_user/shared_value.h"
#include "exports/vhost_user/virtio.h"

namespace cairn::bench {
namespace {

using vhost_user::load_shared;
using vhost_user::MessageKind;
using vhost_user::store_shared;

constexpr uint64_t kUserBase = 0x7f0000000000;  // where the device thinks that this program has it
constexpr std::size_t kPage = 4096;
constexpr uint64_t kHeader = 16;
constexpr uint32_t kIn = 0;
constexpr uint32_t kOut = 1;

void insist(bool condition, std::string_view what) {
  if (!condition) {
    std::perror(std::string(what).c_str());
    std::exit(EXIT_FAILURE);
  }
}

template <typename T>
std::vector<std::byte> pack(const T& value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

SharedMemory::SharedMemory(std::size_t size)
    : file_(memfd_create("guest", MFD_CLOEXEC)), size_(size) {
  insist(file_.valid() && ftruncate(file_.get(), static_cast<off_t>(size)) == 0, "memory");
  void* const place = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
  insist(place != MAP_FAILED, "memory");
  base_ = static_cast<std::byte*>(place);
  std::memset(base_, 'b', size);  // so that no page is missing when it counts
}

SharedMemory::~SharedMemory() { munmap(base_, size_); }

uint64_t SharedMemory::take(std::size_t bytes) {
  const uint64_t offset = taken_;
  taken_ += align_up(bytes, kPage);
  insist(taken_ <= size_, "too little memory");
  return offset;
}

LoadQueue::LoadQueue(SharedMemory& memory, uint16_t depth, uint32_t bytes, bool writes)
    : memory_(memory),
      depth_(depth),
      bytes_(bytes),
      places_(std::bit_ceil(static_cast<uint16_t>(3 * depth))),
      descriptors_(memory.take(std::size_t{16} * places_)),
      available_(memory.take(6 + std::size_t{2} * places_)),
      used_(memory.take(6 + std::size_t{8} * places_)),
      headers_(memory.take(kHeader * depth)),
      statuses_(memory.take(depth)),
      data_(memory.take(std::size_t{bytes} * depth)),
      kick_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      call_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  std::memset(memory_.at(available_), 0, 6 + std::size_t{2} * places_);
  std::memset(memory_.at(used_), 0, 6 + std::size_t{8} * places_);
  const auto describe = [this](uint16_t index, uint64_t offset, uint32_t length, uint16_t flags) {
    std::byte* const place = memory_.at(descriptors_ + uint64_t{16} * index);
    store_le(place, offset);
    store_le(place + 8, length);
    store_le(place + 12, flags);
    store_le(place + 14, static_cast<uint16_t>(index + 1));
  };
  for (uint16_t slot = 0; slot < depth_; ++slot) {
    store_le(memory_.at(headers_ + kHeader * slot), writes ? kOut : kIn);
    store_le(memory_.at(headers_ + kHeader * slot + 4), uint32_t{0});
    const auto first = static_cast<uint16_t>(3 * slot);
    const auto written = static_cast<uint16_t>(writes ? 0 : vhost_user::kDescriptorWrite);
    describe(first, headers_ + kHeader * slot, kHeader, vhost_user::kDescriptorNext);
    describe(first + 1, data_ + uint64_t{bytes_} * slot, bytes_,
             vhost_user::kDescriptorNext | written);
    describe(first + 2, statuses_ + slot, 1, vhost_user::kDescriptorWrite);
  }
}

std::span<std::byte> LoadQueue::data(uint16_t slot) const {
  return {memory_.at(data_ + uint64_t{bytes_} * slot), bytes_};
}

void LoadQueue::begin(uint16_t slot, uint64_t sector) {
  store_le(memory_.at(headers_ + kHeader * slot + 8), sector);
  *memory_.at(statuses_ + slot) = std::byte{0xff};
  store_shared<uint16_t>(memory_.at(available_ + 4 + uint64_t{2} * (made_ % places_)),
                         static_cast<uint16_t>(3 * slot));
  ++made_;
}

void LoadQueue::submit() {
  store_shared<uint16_t>(memory_.at(available_ + 2), made_, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const auto event = load_shared<uint16_t>(memory_.at(used_ + 4 + uint64_t{8} * places_));
  const auto before = std::exchange(submitted_, made_);
  if (static_cast<uint16_t>(made_ - event - 1) < static_cast<uint16_t>(made_ - before)) {
    insist(eventfd_write(kick_.get(), 1) == 0, "kick");
  }
}

bool LoadQueue::collect() {
  done_.clear();
  while (seen_ != load_shared<uint16_t>(memory_.at(used_ + 2), std::memory_order_acquire)) {
    const uint64_t at = used_ + 4 + uint64_t{8} * (seen_ % places_);
    const auto slot = static_cast<uint16_t>(load_shared<uint32_t>(memory_.at(at)) / 3);
    insist(slot < depth_ && *memory_.at(statuses_ + slot) == std::byte{0}, "a request failed");
    done_.push_back(slot);
    ++seen_;
  }
  return !done_.empty();
}

std::span<const uint16_t> LoadQueue::wait(bool spin) {
  std::byte* const event = memory_.at(available_ + 4 + uint64_t{2} * places_);
  // A place that is far away: the device need not tell.
  store_shared<uint16_t>(event, static_cast<uint16_t>(seen_ + 0x8000));
  while (!collect()) {
    if (spin) {
      continue;
    }
    store_shared<uint16_t>(event, seen_);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (collect()) {
      break;
    }
    pollfd waiting{.fd = call_.get(), .events = POLLIN, .revents = 0};
    insist(poll(&waiting, 1, 30000) == 1, "the device does not answer");
    eventfd_t count = 0;
    eventfd_read(call_.get(), &count);
  }
  return done_;
}

FrontEnd::FrontEnd(const std::string& path)
    : socket_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  insist(path.size() < sizeof address.sun_path, "the path is too long");
  std::ranges::copy(path, address.sun_path);
  insist(connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0,
         path);
  const uint64_t protocol = ask(std::to_underlying(MessageKind::kGetProtocolFeatures)) &
                            (bit(vhost_user::ProtocolFeature::kConfig) |
                             bit(vhost_user::ProtocolFeature::kMultipleQueues));
  send(std::to_underlying(MessageKind::kSetProtocolFeatures), pack(protocol));
  send(std::to_underlying(MessageKind::kSetOwner), {});
  const uint64_t refused = vhost_user::bit(vhost_user::kFeatureLogAll) | vhost_user::bit(24) |
                           vhost_user::bit(vhost_user::kFeaturePacked);
  const uint64_t features = ask(std::to_underlying(MessageKind::kGetFeatures)) & ~refused;
  insist((features & vhost_user::bit(vhost_user::kFeatureEventIndex)) != 0, "no event indices");
  send(std::to_underlying(MessageKind::kSetFeatures), pack(features));
}

void FrontEnd::send(uint32_t kind, std::span<const std::byte> payload, int descriptor) {
  const vhost_user::MessageHeader header{kind, vhost_user::kVersion,
                                         static_cast<uint32_t>(payload.size())};
  std::vector<std::byte> bytes = pack(header);
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  iovec place{bytes.data(), bytes.size()};
  msghdr message{};
  message.msg_iov = &place;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  if (descriptor >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(head), &descriptor, sizeof descriptor);
  }
  insist(sendmsg(socket_.get(), &message, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()),
         "sending a message");
}

std::vector<std::byte> FrontEnd::receive() {
  vhost_user::MessageHeader header{};
  insist(recv(socket_.get(), &header, sizeof header, MSG_WAITALL) == sizeof header, "an answer");
  std::vector<std::byte> payload(header.size);
  insist(payload.empty() || recv(socket_.get(), payload.data(), payload.size(), MSG_WAITALL) ==
                                static_cast<ssize_t>(payload.size()),
         "an answer");
  return payload;
}

uint64_t FrontEnd::ask(uint32_t kind) {
  send(kind, {});
  const auto answer = receive();
  insist(answer.size() == sizeof(uint64_t), "an answer");
  uint64_t value = 0;
  std::memcpy(&value, answer.data(), sizeof value);
  return value;
}

uint64_t FrontEnd::capacity() {
  std::vector<std::byte> payload =
      pack(vhost_user::ConfigAccess{.offset = 0, .size = 60, .flags = 0});
  payload.resize(payload.size() + 60);
  send(std::to_underlying(MessageKind::kGetConfig), payload);
  const auto answer = receive();
  insist(answer.size() == payload.size(), "the configuration");
  return load_le<uint64_t>(answer.data() + sizeof(vhost_user::ConfigAccess)) * 512;
}

void FrontEnd::start(const SharedMemory& memory,
                     const std::vector<std::unique_ptr<LoadQueue>>& queues) {
  std::vector<std::byte> table = pack(vhost_user::MemoryTableHead{.count = 1, .padding = 0});
  const auto region = pack(vhost_user::MemoryRegion{
      .guest_address = 0, .size = memory.size(), .user_address = kUserBase, .offset = 0});
  table.insert(table.end(), region.begin(), region.end());
  send(std::to_underlying(MessageKind::kSetMemTable), table, memory.fd());
  for (uint32_t i = 0; i < queues.size(); ++i) {
    const LoadQueue& queue = *queues[i];
    const auto state = [&](MessageKind kind, uint32_t number) {
      send(std::to_underlying(kind), pack(vhost_user::VringState{.index = i, .number = number}));
    };
    state(MessageKind::kSetVringNum, queue.places());
    state(MessageKind::kSetVringBase, 0);
    send(std::to_underlying(MessageKind::kSetVringAddr),
         pack(vhost_user::VringAddress{.index = i,
                                       .flags = 0,
                                       .descriptors = kUserBase + queue.descriptors(),
                                       .used = kUserBase + queue.used(),
                                       .available = kUserBase + queue.available(),
                                       .log = 0}));
    send(std::to_underlying(MessageKind::kSetVringCall), pack(uint64_t{i}), queue.call());
    send(std::to_underlying(MessageKind::kSetVringKick), pack(uint64_t{i}), queue.kick());
    state(MessageKind::kSetVringEnable, 1);
  }
}

}  // namespace cairn::bench
