#include "exports/node_access.h"

namespace cairn::exports {
namespace {

// At home.
io::Task<Result<bool>> read_unless_zero(block::Edge& root, uint64_t offset, io::IoVector data) {
  if (root.try_read_zeroes(offset, data.size())) {
    co_return true;
  }
  Result<void> done = co_await root.read(offset, std::move(data));
  if (!done) {
    co_return pass(done);
  }
  co_return false;
}

}  // namespace

io::Task<Result<void>> NodeAccess::read(uint64_t offset, io::IoVector data) const {
  if (!away()) {
    return root_.read(offset, std::move(data));
  }
  return at_home([&root = root_, offset, data = std::move(data)]() mutable {
    return root.read(offset, std::move(data));
  });
}

io::Task<Result<void>> NodeAccess::write(uint64_t offset, io::IoVector data,
                                         block::WriteFlags flags) const {
  if (!away()) {
    return root_.write(offset, std::move(data), flags);
  }
  return at_home([&root = root_, offset, flags, data = std::move(data)]() mutable {
    return root.write(offset, std::move(data), flags);
  });
}

io::Task<Result<void>> NodeAccess::write_zeroes(uint64_t offset, uint64_t length,
                                                block::ZeroFlags flags) const {
  return at_home(
      [&root = root_, offset, length, flags] { return root.write_zeroes(offset, length, flags); });
}

io::Task<Result<void>> NodeAccess::discard(uint64_t offset, uint64_t length) const {
  return at_home([&root = root_, offset, length] { return root.discard(offset, length); });
}

io::Task<Result<void>> NodeAccess::flush() const {
  return at_home([&root = root_] { return root.flush(); });
}

io::Task<Result<bool>> NodeAccess::read_or_zeroes(uint64_t offset, io::IoVector data) const {
  return at_home([&root = root_, offset, data = std::move(data)]() mutable {
    return read_unless_zero(root, offset, std::move(data));
  });
}

}  // namespace cairn::exports
