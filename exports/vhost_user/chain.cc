#include "exports/vhost_user/chain.h"

#include <atomic>
#include <cerrno>

namespace cairn::vhost_user {
namespace {

constexpr uint32_t kDescriptorBytes = 16;

}  // namespace

Result<void> ChainBuilder::add(const Descriptor& descriptor) {
  if (++count_ > kMostDescriptors) {
    return fail(EPROTO, "a request has more than {} descriptors", kMostDescriptors);
  }
  if (!descriptor.writable && (!chain_.writable.empty() || !chain_.written.empty())) {
    return fail(EPROTO, "a request has something to be read after something to be written");
  }
  io::IoVector& vector = descriptor.writable ? chain_.writable : chain_.readable;
  if (!memory_.append(vector, descriptor.address, descriptor.length)) {
    return fail(EFAULT, "a request points to {:#x}, {:#x} bytes, where there is no memory",
                descriptor.address, descriptor.length);
  }
  if (descriptor.writable && logged_) {
    chain_.written.push_back({descriptor.address, descriptor.length});
  }
  return {};
}

Result<void> ChainBuilder::copy_table(uint64_t address, uint32_t length,
                                      std::vector<std::byte>& table) const {
  if (length == 0 || length % kDescriptorBytes != 0 ||
      length / kDescriptorBytes > kMostDescriptors) {
    return fail(EPROTO, "a table of descriptors has {} bytes", length);
  }
  io::IoVector place;
  if (!memory_.append(place, address, length)) {
    return fail(EFAULT, "a table of descriptors is said to be at {:#x}, where there is no memory",
                address);
  }
  table.resize(length);
  place.copy_to(0, table);
  // What was copied is what counts: the guest may change its table meanwhile.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return {};
}

}  // namespace cairn::vhost_user
