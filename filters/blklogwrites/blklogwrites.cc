#include "filters/blklogwrites/blklogwrites.h"

#include <bit>
#include <cerrno>
#include <memory>
#include <utility>
#include <variant>

#include "block/graph.h"
#include "block/zero_source.h"
#include "filters/blklogwrites/log.h"
#include "filters/filter_driver.h"
#include "filters/padding.h"
#include "schema/types_block_options.h"

namespace cairn::filters {

namespace blklogwrites {

namespace {

uint64_t fua_flag(bool fua) { return fua ? uint64_t{WriteLog::kFua} : 0; }

// What has been carried out is written down afterwards: an entry stands for a change that there is.
class BlklogwritesDriver final : public FilterDriver {
 public:
  BlklogwritesDriver(block::Edge& file, std::unique_ptr<WriteLog> log)
      : FilterDriver(file), log_(std::move(log)) {}

  [[nodiscard]] block::Limits limits() const override {
    return {.request_alignment = log_->sector(),
            .zero_alignment = log_->sector(),
            .discard_alignment = log_->sector(),
            .native_fua = true};
  }

  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override {
    const uint64_t length = present(offset, data.size());
    data.fill(std::byte{0}, length, data.size() - length);
    io::IoVector inside = data.slice(0, length);
    return child().read(offset, std::move(inside));
  }

  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags flags) override {
    io::IoVector inside = data.slice(0, present(offset, data.size()));
    Result<void> result = co_await child().write(offset, std::move(inside), flags);
    if (result) {
      result = co_await log_->append(offset, data.size(), fua_flag(flags.fua), data);
    }
    co_return result;
  }

  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override {
    Result<void> result = co_await child().write_zeroes(offset, present(offset, length), flags);
    while (result && length > 0) {
      const io::IoVector zeroes = block::zero_vector(length);
      const uint64_t piece = zeroes.size();
      result = co_await log_->append(offset, piece, fua_flag(flags.fua), zeroes);
      offset += piece;
      length -= piece;
    }
    co_return result;
  }

  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override {
    Result<void> result = co_await child().discard(offset, present(offset, length));
    if (result) {
      result = co_await log_->append(offset, length, WriteLog::kDiscard, {});
    }
    co_return result;
  }

  [[nodiscard]] io::Task<Result<void>> flush() override {
    Result<void> result = co_await child().flush();
    if (result) {
      result = co_await log_->append(0, 0, WriteLog::kFlush, {});
    }
    if (result) {
      result = co_await log_->flush();
    }
    co_return result;
  }

  [[nodiscard]] io::Task<Result<void>> close() override {
    return node_->read_only() ? FilterDriver::close() : log_->flush();
  }

  [[nodiscard]] block::Permissions child_permissions(block::ChildRole role,
                                                     block::Permissions parents,
                                                     bool writable) const override {
    using P = block::PermissionSet;
    if (role != block::ChildRole::kMetadata) {
      return FilterDriver::child_permissions(role, parents, writable);
    }
    P used = P::kConsistentRead;
    if (writable) {
      used |= P::kWrite | P::kResize;
    }
    return {.used = used, .shared = P::kConsistentRead | P::kWriteUnchanged};
  }

 private:
  [[nodiscard]] uint64_t present(uint64_t offset, uint64_t length) const {
    return within_child(child().length(), offset, length, log_->sector());
  }

  std::unique_ptr<WriteLog> log_;
};

// `options` lives until the graph has opened the node.
io::Task<Result<std::unique_ptr<block::Driver>>> open(block::OpenContext& context,
                                                      const schema::BlockdevOptions& all_options) {
  const auto& options = std::get<schema::BlockdevOptionsBlklogwrites>(all_options.branch);
  const Result<block::Edge*> file =
      co_await context.open_child("file", options.file, block::ChildRole::kFiltered);
  if (!file) {
    co_return std::unexpected(file.error());
  }
  const Result<block::Edge*> log =
      co_await context.open_child("log", options.log, block::ChildRole::kMetadata);
  if (!log) {
    co_return std::unexpected(log.error());
  }
  const bool append = options.log_append.value_or(false);
  if (append && options.log_sector_size) {
    co_return fail(EINVAL, "log-append and log-sector-size are mutually exclusive");
  }
  const uint32_t sector = options.log_sector_size.value_or(WriteLog::kDefaultSector);
  if (!std::has_single_bit(sector) || sector > WriteLog::kLargestSector ||
      sector < sizeof(uint64_t) * 4) {
    co_return fail(EINVAL, "Invalid log sector size {}", sector);
  }
  const uint64_t interval = options.log_super_update_interval.value_or(4096);
  if (interval == 0) {
    co_return fail(EINVAL, "Invalid log superblock update interval 0");
  }
  auto writes = std::make_unique<WriteLog>(**log, sector, interval);
  if (append) {
    Result<void> opened = co_await writes->open_existing();
    if (!opened) {
      co_return pass(opened);
    }
  }
  co_return std::make_unique<BlklogwritesDriver>(**file, std::move(writes));
}

}  // namespace

}  // namespace blklogwrites

const block::DriverInfo kBlklogwritesDriver = {
    .name = "blklogwrites",
    .kind = block::DriverInfo::Kind::kProtocol,
    .open = blklogwrites::open,
    .can_reopen = false,
};

}  // namespace cairn::filters
