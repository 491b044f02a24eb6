#include "formats/qcow2/image.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/bytes.h"
#include "block/graph.h"
#include "block/node.h"
#include "formats/qcow2/page_cache.h"

namespace cairn::qcow2 {

std::string c_hex(uint64_t value) { return value == 0 ? "0" : fmt::format("{:#x}", value); }

namespace {

// Header fields that change while an image is open, from the size to the width of refcounts.
constexpr uint32_t kFieldsBegin = header_offset::kSize;
constexpr uint32_t kFieldsEnd = header_offset::kAutoclear + 12;

}  // namespace

Image::Image(block::Edge& file, block::Node& node, Header header, bool writable,
             const OverlapChecks& checks, block::Edge* data)
    : file_(file),
      data_(data != nullptr ? *data : file),
      node_(node),
      header_(std::move(header)),
      geometry_(header_.geometry()),
      cluster_size_(geometry_.cluster_size()),
      writable_(writable),
      guard_(header_.cluster_bits, checks) {}

io::Task<Result<void>> Image::flush_data() {
  if (!geometry_.external_data) {
    co_return Result<void>{};
  }
  co_return co_await data_.flush();
}

io::Task<Result<void>> Image::prepare_write() {
  if (broken_) {
    co_return fail(EIO, "qcow2: '{}' takes no more writes after an error in its metadata",
                   node_.name());
  }
  if (prepared_) {
    co_return Result<void>{};
  }
  uint64_t kept = kept_autoclear_;
  if (header_.extension(ExtensionType::kBitmaps) == nullptr) {
    kept &= ~kAutoclearBitmaps;  // it vouches for nothing
  }
  if ((header_.autoclear_features & ~kept) != 0) {
    std::function<void(Header&)> clear = [kept](Header& header) {
      header.autoclear_features &= kept;
    };
    Result<void> cleared = co_await update_header(std::move(clear));
    if (!cleared) {
      co_return cleared;
    }
  }
  if (before_first_write_) {
    Result<void> told = co_await before_first_write_();
    if (!told) {
      co_return told;
    }
  }
  prepared_ = writable_;
  co_return Result<void>{};
}

io::Task<Result<void>> Image::write_sector(const Header& header) {
  std::array<std::byte, kHeaderSector> sector{};
  Result<void> read = co_await read_metadata(file_, 0, sector);
  if (!read) {
    co_return read;
  }
  const std::vector<std::byte> bytes = serialize_fields(header);
  // Only the fields: extensions and names stay byte for byte as they were found.
  const uint32_t end = header.version == 2 ? kHeaderLengthV2 : kFieldsEnd;
  std::copy(bytes.begin() + kFieldsBegin, bytes.begin() + end, sector.begin() + kFieldsBegin);
  Result<void> written = co_await file_.write(0, sector.data(), sector.size());
  if (!written) {
    co_return written;
  }
  co_return co_await file_.flush();
}

Result<void> Image::header_known() const {
  if (header_unknown_) {
    return fail(EIO, "qcow2: '{}' can not be written out after an error in its header",
                node_.name());
  }
  return {};
}

io::Task<Result<void>> Image::update_header(std::function<void(Header&)> change) {
  const auto lock = co_await header_mutex_.lock();
  if (auto known = header_known(); !known) {
    co_return known;
  }
  Header changed = header_;
  change(changed);
  Result<void> written = co_await write_sector(changed);
  if (written) {
    header_ = std::move(changed);
    co_return written;
  }
  Result<void> restored = co_await write_sector(header_);
  if (!restored) {
    broken_ = true;
    header_unknown_ = true;
  }
  co_return pass(written, "Could not update the qcow2 header: ");
}

void Image::announce(const std::string& message, std::optional<Access> access, bool fatal) const {
  block::Corruption found{.node_name = node_.name(), .message = message, .fatal = fatal};
  if (access) {
    found.offset = access->offset;
    found.size = access->size;
  }
  node_.graph().report_corruption(found);
}

io::Task<Error> Image::overlap(uint64_t host_offset, uint64_t length, MetadataKind writing) {
  uint64_t hit = host_offset;
  const auto is_hit = [&](uint64_t at) {
    return writing == MetadataKind::kNone ? guard_.protects(at, 1) : guard_.contested(at, 1);
  };
  while (!is_hit(hit) && hit + cluster_size_ < host_offset + length) {
    hit += cluster_size_;
  }
  const std::string what = describe_ ? describe_(hit, writing) : "metadata";
  std::string message =
      fmt::format("Preventing invalid write on metadata (overlaps with {})", what);
  const Access access{.offset = host_offset, .size = length};
  co_return co_await mark_corrupt(std::move(message), access);
}

io::Task<Result<void>> Image::may_write(MetadataKind kind, uint64_t host_offset, uint64_t length) {
  if (guard_.contested(host_offset, length)) [[unlikely]] {
    co_return std::unexpected(co_await overlap(host_offset, length, kind));
  }
  co_return Result<void>{};
}

Error Image::damaged(std::string message) {
  if (!reported_) {
    reported_ = true;
    fmt::print(stderr,
               "qcow2: Image is corrupt: {}; further non-fatal corruption events will be "
               "suppressed\n",
               message);
    announce(message, std::nullopt, false);
  }
  return {EIO, "Input/output error"};
}

io::Task<Error> Image::corrupt(std::string message) {
  co_return co_await mark_corrupt(std::move(message), std::nullopt);
}

io::Task<Error> Image::mark_corrupt(std::string message, std::optional<Access> access) {
  if (!writable_) {
    co_return damaged(std::move(message));
  }
  if (!broken_) {
    broken_ = true;
    fmt::print(stderr,
               "qcow2: Marking image as corrupt: {}; further corruption events will be "
               "suppressed\n",
               message);
    announce(message, access, true);
    // Version 2 has no such mark. When it can not be written, refusing writes is all there is.
    if (header_.version >= 3) {
      std::function<void(Header&)> mark = [](Header& header) {
        header.incompatible_features |= kIncompatibleCorrupt;
      };
      const Result<void> marked = co_await update_header(std::move(mark));
      static_cast<void>(marked);
    }
  }
  co_return Error(EIO, "Input/output error");
}

io::Task<Result<Header>> read_header(block::Edge& file, OpenedFor purpose) {
  std::array<std::byte, kHeaderLengthKnown> head{};
  Result<void> read = co_await read_metadata(file, 0, head);
  if (!read) {
    co_return pass(read, "Could not read qcow2 header: ");
  }
  const Result<uint64_t> length = header_area_length(head);
  if (!length) {
    co_return std::unexpected(length.error());
  }
  std::vector<std::byte> cluster(*length);
  read = co_await read_metadata(file, 0, cluster);
  if (!read) {
    co_return pass(read, "Could not read qcow2 header: ");
  }
  co_return parse_header(cluster, purpose);
}

}  // namespace cairn::qcow2
