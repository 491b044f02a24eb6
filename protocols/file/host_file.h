// HostFile: the leaf that does I/O on a file or block device of the host.
//
// Invariants
// - `file_` is the descriptor that new requests use. When permissions change between reading and
//   writing it is replaced; requests that run keep the old one open (see open_file.h).
// - The locks on `file_` are those that the node's parents need, and between prepare_permissions()
//   and its end also those that they ask for.
// - Once a flush has failed all later ones fail: the kernel forgets failed pages, so that a second
//   fsync() would succeed over data that is lost.
// - Nothing makes the file shorter but resize(), which runs alone: writes may extend the file at
// any
//   time, and a truncation in between would drop what they wrote.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "block/driver.h"
#include "protocols/file/alignment.h"
#include "protocols/file/open_file.h"
#include "protocols/file/segment_cache.h"

namespace cairn::schema {
struct BlockdevOptionsFile;
}

namespace cairn::file {

enum class Locking : uint8_t { kOff, kOn, kAuto };

struct HostFileOptions {
  std::string path;
  bool device = false;          // a block or character device, else a regular file
  bool writable = false;        // may be written to at all
  bool open_on_demand = false;  // writable: only while a parent writes (auto-read-only)
  bool direct = false;          // O_DIRECT
  bool force_share = false;     // lock nobody out
  Locking locking = Locking::kAuto;
};

// EINVAL when the option `aio` does not go with how the file is opened.
[[nodiscard]] Result<void> check_aio(const schema::BlockdevOptionsFile& options, bool direct);

class HostFile : public block::RequestDriver {
 public:
  // Opens the file and checks that it is of the right kind.
  [[nodiscard]] static Result<std::unique_ptr<HostFile>> open(HostFileOptions options);

  [[nodiscard]] uint64_t length() const override { return length_; }
  [[nodiscard]] block::Limits limits() const override;
  [[nodiscard]] int64_t allocated_size() const override;
  [[nodiscard]] io::Task<Result<std::unique_ptr<schema::ImageInfoSpecific>>> specific_info()
      override;
  [[nodiscard]] std::unique_ptr<schema::BlockStatsSpecific> specific_statistics() const override;

  // Whether it is written to, and how, takes effect with the permissions.
  [[nodiscard]] Result<bool> adopt_options(const block::NodeOptions& node,
                                           const schema::BlockdevOptions& options) override;
  [[nodiscard]] Result<void> refresh() override;

  [[nodiscard]] Result<void> prepare_permissions(block::Permissions permissions) override;
  void commit_permissions() override;
  void abort_permissions() override;

  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override;
  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) final;
  [[nodiscard]] io::Task<Result<void>> flush() override;
  [[nodiscard]] io::Task<Result<void>> close() override;

 protected:
  // Gives the range back to the file system or the device; ENOTSUP when it can not take it.
  [[nodiscard]] virtual io::Task<Result<void>> give_back(uint64_t offset, uint64_t length) = 0;

  HostFile(HostFileOptions options, std::unique_ptr<OpenFile> file, uint64_t length);

  [[nodiscard]] const std::string& path() const { return options_.path; }
  [[nodiscard]] OpenFile& current() const { return *file_; }
  [[nodiscard]] SegmentCache& segments() { return segments_; }
  // No other program may write while this holds.
  [[nodiscard]] bool exclusive() const {
    return file_->lock.held().unshared.has(block::PermissionSet::kWrite);
  }
  void set_length(uint64_t length) { length_ = length; }
  void grow_to(uint64_t end) { length_ = end > length_ ? end : length_; }
  [[nodiscard]] Error io_error(const Error& error, std::string_view what, uint64_t offset) const;

 private:
  struct PermissionChange {
    LockSet before;
    LockSet wanted;
    std::unique_ptr<OpenFile> replacement;  // null: the descriptor stays
  };

  [[nodiscard]] Result<void> lock(LockSet wanted);
  [[nodiscard]] Result<std::unique_ptr<OpenFile>> reopen(bool writable, LockSet locks);

  HostFileOptions options_;
  std::unique_ptr<OpenFile> file_;
  std::optional<PermissionChange> change_;
  DirectAlignment alignment_;
  SegmentCache segments_;
  struct {
    uint64_t succeeded = 0;
    uint64_t failed = 0;
    uint64_t bytes = 0;  // of those that succeeded
  } discards_;
  uint64_t length_;      // bytes, not rounded
  int flush_error_ = 0;  // errno of the first flush that failed
};

}  // namespace cairn::file
