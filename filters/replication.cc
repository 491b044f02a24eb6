// Replication is started by whoever runs the machines on both hosts, from outside of this program
// and by no command of it. Until then the disk shows how long it is, where it has data and which
// snapshots it has, and nothing is read or written: the two sides could not be told apart from ones
// that were never the same.
#include "filters/replication.h"

#include <cerrno>
#include <memory>
#include <utility>
#include <variant>

#include "block/graph.h"
#include "filters/filter_driver.h"
#include "schema/types_block_options.h"

namespace cairn::filters {

namespace {

class ReplicationDriver final : public FilterDriver {
 public:
  using FilterDriver::FilterDriver;

  block::Limits limits() const override { return {.request_alignment = 512, .native_fua = true}; }

  // It is to write as soon as it is started, and others may not move what it writes to.
  block::Permissions child_permissions(block::ChildRole /*role*/, block::Permissions /*parents*/,
                                       bool writable) const override {
    using P = block::PermissionSet;
    const P read = P::kConsistentRead;
    return {.used = writable ? read | P::kWrite : read, .shared = P::all().without(P::kResize)};
  }

  io::Task<Result<void>> read(uint64_t /*offset*/, io::IoVector /*data*/) override {
    co_return not_started();
  }
  io::Task<Result<void>> write(uint64_t /*offset*/, io::IoVector /*data*/,
                               block::WriteFlags flags) override {
    if (flags.compressed) {
      co_return std::unexpected(Error::from_errno(ENOTSUP));
    }
    co_return not_started();
  }
  io::Task<Result<void>> write_zeroes(uint64_t /*offset*/, uint64_t /*length*/,
                                      block::ZeroFlags /*flags*/) override {
    co_return not_started();
  }
  io::Task<Result<void>> discard(uint64_t /*offset*/, uint64_t /*length*/) override {
    co_return not_started();
  }
  io::Task<Result<void>> resize(uint64_t /*length*/, block::ResizeOptions /*options*/) override {
    co_return not_started();
  }

 private:
  [[nodiscard]] Result<void> not_started() const {
    return fail(EIO, "Replication of node '{}' was not started", node_->name());
  }
};

Result<void> check_mode(const schema::BlockdevOptionsReplication& options) {
  const bool secondary = options.mode == schema::ReplicationMode::kSecondary;
  if (secondary && !options.top_id) {
    return fail(EINVAL, "Missing the option top-id");
  }
  if (!secondary && options.top_id) {
    return fail(EINVAL, "The primary side does not support option top-id");
  }
  return {};
}

// `all_options` live until the graph has opened the node.
io::Task<Result<std::unique_ptr<block::Driver>>> open_replication(
    block::OpenContext& context, const schema::BlockdevOptions& all_options) {
  const auto& options = std::get<schema::BlockdevOptionsReplication>(all_options.branch);
  const Result<block::Edge*> file =
      co_await context.open_child("file", options.file, block::ChildRole::kFiltered);
  if (!file) {
    co_return std::unexpected(file.error());
  }
  if (auto checked = check_mode(options); !checked) {
    co_return pass(checked);
  }
  co_return std::make_unique<ReplicationDriver>(**file);
}

}  // namespace

const block::DriverInfo kReplicationDriver = {
    .name = "replication",
    .kind = block::DriverInfo::Kind::kFilter,
    .open = open_replication,
    .can_reopen = false,
};

}  // namespace cairn::filters
