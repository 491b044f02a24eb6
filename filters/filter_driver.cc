#include "filters/filter_driver.h"

#include <utility>

namespace cairn::filters {

io::Task<Result<void>> FilterDriver::read(uint64_t offset, io::IoVector data) {
  return child_.read(offset, std::move(data));
}

io::Task<Result<void>> FilterDriver::write(uint64_t offset, io::IoVector data,
                                           block::WriteFlags flags) {
  return child_.write(offset, std::move(data), flags);
}

io::Task<Result<void>> FilterDriver::write_zeroes(uint64_t offset, uint64_t length,
                                                  block::ZeroFlags flags) {
  return child_.write_zeroes(offset, length, flags);
}

io::Task<Result<void>> FilterDriver::discard(uint64_t offset, uint64_t length) {
  return child_.discard(offset, length);
}

io::Task<Result<void>> FilterDriver::flush() { return child_.flush(); }

io::Task<Result<void>> FilterDriver::resize(uint64_t length, block::ResizeOptions options) {
  return child_.resize(length, options);
}

io::Task<Result<block::BlockStatus>> FilterDriver::status(uint64_t offset, uint64_t length) {
  return child_.status(offset, length);
}

// Of a node with other children beside, the disk is not in the filtered one alone.
Result<std::vector<block::Snapshot>> FilterDriver::snapshots() const {
  return node_->children().size() == 1 ? child_.snapshots() : RequestDriver::snapshots();
}

io::Task<Result<void>> FilterDriver::create_snapshot(block::Snapshot snapshot) {
  return node_->children().size() == 1 ? child_.create_snapshot(std::move(snapshot))
                                       : RequestDriver::create_snapshot(std::move(snapshot));
}

io::Task<Result<void>> FilterDriver::apply_snapshot(std::string id) {
  return node_->children().size() == 1 ? child_.apply_snapshot(std::move(id))
                                       : RequestDriver::apply_snapshot(std::move(id));
}

io::Task<Result<void>> FilterDriver::delete_snapshot(std::string id) {
  return node_->children().size() == 1 ? child_.delete_snapshot(std::move(id))
                                       : RequestDriver::delete_snapshot(std::move(id));
}

}  // namespace cairn::filters
