// For a format above, which makes its file longer with every cluster, and file systems on which
// that is slow: a write beyond the end of the file makes it longer by far more, in one step.
//
// Invariants, while users may write and resize
// - data_end_ is where the file ends for those above; file_end_ is where it really ends. What lies
//   between reads as zeroes.
// - No write beyond file_end_ is on its way: who wants that waits for its turn, and makes the file
//   longer first or, where that can not be, moves file_end_ to where its write will end. So the
//   zeroes of one never fall on the data of another.
// - The surplus goes when the users do: when they give up writing, when the node is closed, and
//   before another driver or program takes over.
#include "filters/preallocate.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string_view>
#include <utility>
#include <variant>

#include "block/graph.h"
#include "filters/filter_driver.h"
#include "io/mutex.h"
#include "schema/types_block_options.h"

namespace cairn::filters {

namespace {

using block::PermissionSet;

constexpr PermissionSet kGrowing = PermissionSet::kWrite | PermissionSet::kResize;

struct PreallocateSettings {
  uint64_t align = 1 << 20;
  uint64_t size = 128 << 20;
};

Result<uint64_t> parse_preallocate_number(std::string_view name,
                                          const std::optional<int64_t>& given, uint64_t otherwise) {
  if (!given) {
    return otherwise;
  }
  if (*given < 0) {
    return fail(EINVAL, "Parameter '{}' expects a non-negative number below 2^64", name);
  }
  return static_cast<uint64_t>(*given);
}

Result<PreallocateSettings> parse_preallocate_settings(const schema::BlockdevOptions& options) {
  const auto& own = std::get<schema::BlockdevOptionsPreallocate>(options.branch);
  const PreallocateSettings usual;
  auto align = parse_preallocate_number("prealloc-align", own.prealloc_align, usual.align);
  if (!align) {
    return pass(align);
  }
  auto size = parse_preallocate_number("prealloc-size", own.prealloc_size, usual.size);
  if (!size) {
    return pass(size);
  }
  if (*align % 512 != 0) {
    return fail(EINVAL, "prealloc-align parameter of preallocate filter is not aligned to 512");
  }
  return PreallocateSettings{.align = std::max<uint64_t>(*align, 1), .size = *size};
}

// Options may change while the node is in use; not given any more they would have to, too.
Result<void> check_not_reset(const schema::BlockdevOptions& before,
                             const schema::BlockdevOptions& wanted) {
  const auto& old = std::get<schema::BlockdevOptionsPreallocate>(before.branch);
  const auto& now = std::get<schema::BlockdevOptionsPreallocate>(wanted.branch);
  const bool align = old.prealloc_align && !now.prealloc_align;
  if (align || (old.prealloc_size && !now.prealloc_size)) {
    return fail(EINVAL, "Option '{}' cannot be reset to its default value",
                align ? "prealloc-align" : "prealloc-size");
  }
  return {};
}

class PreallocateDriver final : public FilterDriver {
 public:
  PreallocateDriver(block::Edge& child, PreallocateSettings settings)
      : FilterDriver(child), settings_(settings) {}

  uint64_t length() const override { return growing_ ? data_end_ : file_length(); }
  io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                               block::WriteFlags flags) override {
    if (offset + data.size() <= length()) {
      return FilterDriver::write(offset, std::move(data), flags);
    }
    return write_beyond(offset, std::move(data), flags);
  }
  io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                      block::ZeroFlags flags) override {
    if (offset + length <= this->length()) {
      return FilterDriver::write_zeroes(offset, length, flags);
    }
    return zero_beyond(offset, length, flags);
  }
  io::Task<Result<void>> resize(uint64_t length, block::ResizeOptions options) override;

  io::Task<Result<void>> close() override { return trim(); }
  io::Task<Result<void>> quiesce() override;
  bool has_leftovers() const override { return surplus() && !wanted_; }
  io::Task<Result<void>> clear_leftovers() override { return trim(); }

  Result<bool> adopt_options(const block::NodeOptions& /*node*/,
                             const schema::BlockdevOptions& options) override {
    if (auto kept = check_not_reset(node_->opened_with(), options); !kept) {
      return pass(kept);
    }
    auto settings = parse_preallocate_settings(options);
    if (!settings) {
      return pass(settings);
    }
    settings_ = *settings;
    return true;
  }

  block::Permissions child_permissions(block::ChildRole /*role*/, block::Permissions parents,
                                       bool /*writable*/) const override {
    if (surplus()) {
      parents.used |= kGrowing;
    }
    if (parents.used.contains(kGrowing)) {
      parents.shared = parents.shared.without(kGrowing);  // nobody else moves the end
    }
    return parents;
  }
  Result<void> prepare_permissions(block::Permissions permissions) override {
    next_wanted_ = permissions.used.contains(kGrowing);
    return {};
  }
  void commit_permissions() override {
    wanted_ = next_wanted_;
    growing_ = growing_ && (wanted_ || surplus());
  }

 private:
  [[nodiscard]] bool surplus() const { return growing_ && file_end_ > data_end_; }
  [[nodiscard]] uint64_t file_length() const { return child().node().driver().length(); }

  io::Task<Result<void>> write_beyond(uint64_t offset, io::IoVector data, block::WriteFlags flags);
  io::Task<Result<void>> zero_beyond(uint64_t offset, uint64_t length, block::ZeroFlags flags);
  io::Task<void> make_room(uint64_t end);
  io::Task<Result<void>> trim();
  void written(uint64_t end) { data_end_ = std::max(data_end_, end); }

  PreallocateSettings settings_;
  io::AsyncMutex end_moves_;
  bool growing_ = false;  // the two below are kept
  uint64_t data_end_ = 0;
  uint64_t file_end_ = 0;
  bool wanted_ = false;  // somebody may write and resize
  bool next_wanted_ = false;
};

// The file ends at `end` or later afterwards, or ends there once that was written to.
io::Task<void> PreallocateDriver::make_room(uint64_t end) {
  const auto turn = co_await end_moves_.lock();
  if (!growing_) {
    growing_ = true;
    data_end_ = file_length();
    file_end_ = data_end_;
  }
  if (end <= file_end_) {
    co_return;
  }
  const uint64_t target = end + settings_.size + settings_.align - 1;
  if (target < end || target > INT64_MAX) {
    file_end_ = end;
    co_return;
  }
  const uint64_t aligned = target - target % settings_.align;
  const block::ZeroFlags flags{.no_fallback = true};
  const Result<void> grown = co_await child().write_zeroes(file_end_, aligned - file_end_, flags);
  // A file system that can not, or has no room for it, is no reason to fail.
  file_end_ = grown ? aligned : std::max(end, file_length());
}

io::Task<Result<void>> PreallocateDriver::write_beyond(uint64_t offset, io::IoVector data,
                                                       block::WriteFlags flags) {
  const uint64_t end = offset + data.size();
  co_await make_room(end);
  Result<void> result = co_await FilterDriver::write(offset, std::move(data), flags);
  if (result) {
    written(end);
  }
  co_return result;
}

io::Task<Result<void>> PreallocateDriver::zero_beyond(uint64_t offset, uint64_t length,
                                                      block::ZeroFlags flags) {
  co_await make_room(offset + length);
  Result<void> result = co_await FilterDriver::write_zeroes(offset, length, flags);
  if (result) {
    written(offset + length);
  }
  co_return result;
}

io::Task<Result<void>> PreallocateDriver::trim() {
  const auto turn = co_await end_moves_.lock();
  if (!surplus()) {
    co_return Result<void>{};
  }
  Result<void> result = co_await child().resize(data_end_);
  if (result) {
    growing_ = false;
  }
  co_return result;
}

io::Task<Result<void>> PreallocateDriver::quiesce() {
  Result<void> flushed = co_await flush();
  Result<void> trimmed = co_await trim();
  co_return flushed ? trimmed : flushed;
}

io::Task<Result<void>> PreallocateDriver::resize(uint64_t length, block::ResizeOptions options) {
  Result<void> result = co_await trim();
  if (!result) {
    co_return result;
  }
  const auto turn = co_await end_moves_.lock();
  growing_ = false;
  co_return co_await FilterDriver::resize(length, options);
}

// `options` lives until the graph has opened the node.
io::Task<Result<std::unique_ptr<block::Driver>>> open_preallocate(
    block::OpenContext& context, const schema::BlockdevOptions& options) {
  const auto& own = std::get<schema::BlockdevOptionsPreallocate>(options.branch);
  const auto settings = parse_preallocate_settings(options);
  if (!settings) {
    co_return std::unexpected(settings.error());
  }
  const Result<block::Edge*> file =
      co_await context.open_child("file", own.file, block::ChildRole::kFiltered);
  if (!file) {
    co_return std::unexpected(file.error());
  }
  co_return std::make_unique<PreallocateDriver>(**file, *settings);
}

constexpr std::string_view kPreallocateReopenOptions[] = {"prealloc-align", "prealloc-size"};

}  // namespace

const block::DriverInfo kPreallocateDriver = {
    .name = "preallocate",
    .kind = block::DriverInfo::Kind::kFilter,
    .open = open_preallocate,
    .reopen_options = kPreallocateReopenOptions,
};

}  // namespace cairn::filters
