// What drivers do that do not say otherwise.
#include "block/driver.h"

#include <cerrno>

#include "block/create_options.h"
#include "block/driver_table.h"
#include "block/node.h"
#include "schema/types_block_info.h"
#include "schema/types_block_stats.h"

namespace cairn::block {

io::Task<Result<void>> Driver::flush() {
  Result<void> result;
  for (const auto& child : node_->children()) {
    if (child->role() == ChildRole::kBacking) {
      continue;  // nothing is written there
    }
    Result<void> flushed = co_await child->flush();
    if (!flushed && result) {
      result = std::move(flushed);
    }
  }
  co_return result;
}

io::Task<Result<void>> Driver::close() { co_return Result<void>{}; }

io::Task<Result<void>> Driver::quiesce() { return flush(); }

Result<bool> Driver::adopt_options(const NodeOptions& /*node*/,
                                   const schema::BlockdevOptions& /*options*/) {
  return false;
}

io::Task<Result<bool>> Driver::prepare_growth(uint64_t /*length*/) { co_return false; }

io::Task<Result<void>> Driver::resize(uint64_t /*length*/, ResizeOptions /*options*/) {
  co_return fail(ENOTSUP, "Image format driver does not support resize");
}

Permissions Driver::child_permissions(ChildRole role, Permissions parents, bool writable) const {
  return default_child_permissions(role, parents, writable);
}

Result<void> Driver::prepare_permissions(Permissions /*permissions*/) { return {}; }

io::Task<Result<void>> Driver::clear_leftovers() { co_return Result<void>{}; }

io::Task<Result<CheckResult>> Driver::check(CheckOptions /*options*/) {
  co_return fail(ENOTSUP, "This image format does not support checks");
}

Result<std::vector<Snapshot>> Driver::snapshots() const {
  return fail(ENOTSUP, "Block driver does not support snapshots");
}

io::Task<Result<void>> Driver::create_snapshot(Snapshot /*snapshot*/) {
  co_return fail(ENOTSUP, "Block driver does not support snapshots");
}

io::Task<Result<void>> Driver::apply_snapshot(std::string /*id*/) {
  co_return fail(ENOTSUP, "Block driver does not support snapshots");
}

io::Task<Result<void>> Driver::delete_snapshot(std::string /*id*/) {
  co_return fail(ENOTSUP, "Block driver does not support snapshots");
}

io::Task<Result<void>> Driver::show_snapshot(std::string /*id*/) {
  co_return fail(ENOTSUP,
                 "Block format '{}' used by device '' does not support temporarily loading "
                 "internal snapshots",
                 node_->info().name);
}

io::Task<Result<void>> Driver::change_backing(std::string /*filename*/, std::string /*format*/) {
  co_return std::unexpected(Error::from_errno(ENOTSUP));
}

io::Task<Result<void>> Driver::make_empty() {
  co_return fail(ENOTSUP, "Images of format '{}' can not be emptied", node_->info().name);
}

io::Task<Result<void>> Driver::amend(CreateOptions /*options*/) {
  co_return fail(ENOTSUP, "Format driver '{}' does not support option amendment",
                 node_->info().name);
}

io::Task<Result<void>> Driver::compact(CompactOptions /*options*/) {
  co_return fail(ENOTSUP, "images of format '{}' are as they are", node_->info().name);
}

Result<std::string> Driver::name_new_child() const {
  return fail(ENOTSUP, "The node {} does not support adding a child", node_->name());
}

Result<void> Driver::may_remove_child(const Edge& /*child*/) const {
  return fail(ENOTSUP, "The node {} does not support removing a child", node_->name());
}

std::unique_ptr<schema::BlockStatsSpecific> Driver::specific_statistics() const { return nullptr; }

io::Task<Result<std::unique_ptr<schema::ImageInfoSpecific>>> Driver::specific_info() {
  co_return std::unique_ptr<schema::ImageInfoSpecific>();
}

io::Task<Result<WritePlan>> TranslatingDriver::begin_compressed_write(uint64_t /*offset*/,
                                                                      uint64_t /*stored_length*/) {
  co_return fail(ENOTSUP, "Image format driver can not write compressed data");
}

io::Task<Result<WritePlan>> TranslatingDriver::begin_write(uint64_t /*offset*/,
                                                           uint64_t /*length*/) {
  co_return fail(ENOTSUP, "Image format driver does not support writes");
}

io::Task<Result<void>> TranslatingDriver::end_write(WritePlan /*plan*/, uint64_t /*offset*/,
                                                    bool /*written*/) {
  co_return Result<void>{};
}

io::Task<Result<void>> TranslatingDriver::write_zeroes(uint64_t /*offset*/, uint64_t /*length*/,
                                                       ZeroFlags /*flags*/) {
  co_return fail(ENOTSUP, "Image format driver can not zero by metadata");
}

io::Task<Result<void>> TranslatingDriver::discard(uint64_t /*offset*/, uint64_t /*length*/) {
  co_return fail(ENOTSUP, "Image format driver can not discard");
}

io::Task<Result<void>> RequestDriver::write(uint64_t /*offset*/, io::IoVector /*data*/,
                                            WriteFlags /*flags*/) {
  co_return fail(ENOTSUP, "Block driver does not support writes");
}

io::Task<Result<void>> RequestDriver::write_zeroes(uint64_t /*offset*/, uint64_t /*length*/,
                                                   ZeroFlags /*flags*/) {
  co_return fail(ENOTSUP, "Block driver does not support zeroing");
}

io::Task<Result<void>> RequestDriver::discard(uint64_t /*offset*/, uint64_t /*length*/) {
  co_return fail(ENOTSUP, "Block driver does not support discards");
}

io::Task<Result<BlockStatus>> RequestDriver::status(uint64_t offset, uint64_t length) {
  co_return BlockStatus{
      .length = length, .data = true, .allocated = true, .host = node_, .host_offset = offset};
}

Permissions default_child_permissions(ChildRole role, Permissions parents, bool writable) {
  using P = PermissionSet;
  const PermissionSet growing = P::kWrite | P::kResize;
  switch (role) {
    case ChildRole::kFiltered:
      return parents;
    case ChildRole::kData:
      // The guest's data lies there at other offsets: others may not move or cut it.
      return {.used = parents.used.without(P::kResize),
              .shared = parents.shared.without(P::kResize)};
    case ChildRole::kBacking: {
      // Only read from. It may change below a parent that can live with changing data.
      const PermissionSet quiet = P::kConsistentRead | P::kWriteUnchanged;
      return {.used = parents.used & P::kConsistentRead,
              .shared = parents.shared.has(P::kWrite) ? quiet | growing : quiet};
    }
    case ChildRole::kImage:
    case ChildRole::kMetadata:
      break;
  }
  // Metadata is read at any time, is written whenever the image may be, and is nobody else's.
  PermissionSet used = parents.used | P::kConsistentRead;
  if (writable) {
    used |= growing;
  }
  return {.used = used, .shared = parents.shared.without(growing) | P::kWriteUnchanged};
}

}  // namespace cairn::block
