// Image: replacing the header with its extensions and the backing file's name, which take several
// sectors, so that a power cut leaves a whole header.
//
// The first sector decides what a reader sees. In turn, each followed by a flush:
//   1. the new name is written where neither the old header nor the old name is;
//   2. the first sector becomes a "bridge": the new header with no more extensions than the sector
//      has room for. It leaves out the names of features, which are for people;
//   3. the sectors behind the first, which nothing refers to now but for the name;
//   4. the first sector of the new header.
// When nothing behind the first sector changes but the name, 2 and 3 are not needed.
//
// Where other extensions alone are longer than a sector, or a small cluster has no second place for
// the name, the header is written without a bridge: a power cut in between can damage it.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/page_cache.h"

namespace cairn::qcow2 {
namespace {

// Where a new name does not hit the old header or the old name; 0: nowhere.
uint64_t free_name_place(const Header& before, const Header& after) {
  const uint64_t length = after.backing_file.size();
  const uint64_t cluster = after.geometry().cluster_size();
  if (before.backing_file == after.backing_file &&
      before.backing_file_offset >= extensions_end(after)) {
    return before.backing_file_offset;
  }
  const uint64_t old_end = before.backing_file_offset + before.backing_file.size();
  const uint64_t first = std::max(extensions_end(before), extensions_end(after));
  const bool hits = !before.backing_file.empty() && first + length > before.backing_file_offset &&
                    first < old_end;
  const uint64_t place = hits ? std::max(first, align_up(old_end, 8)) : first;
  return place + length <= cluster ? place : 0;
}

// The new header as its first sector alone; empty when it does not fit.
std::vector<std::byte> bridge_sector(Header header, uint64_t name_offset) {
  std::erase_if(header.extensions, [](const HeaderExtension& extension) {
    return extension.type == static_cast<uint32_t>(ExtensionType::kFeatureNames);
  });
  if (extensions_end(header) > Image::kHeaderSector) {
    return {};
  }
  auto bytes = serialize_header(header, name_offset);
  if (!bytes) {
    return {};
  }
  bytes->resize(Image::kHeaderSector);
  return std::move(*bytes);
}

}  // namespace

io::Task<Result<void>> Image::replace_header(std::function<void(Header&)> change) {
  const auto lock = co_await header_mutex_.lock();
  Header changed = header_;
  change(changed);
  const uint64_t place = free_name_place(header_, changed);
  Result<std::vector<std::byte>> bytes = serialize_header(changed, place);
  if (!bytes) {
    co_return fail(ENOSPC, "{}", bytes.error().message());
  }
  changed.backing_file_offset =
      changed.backing_file.empty() ? 0 : std::max(place, extensions_end(changed));
  bytes->resize(cluster_size_);
  std::vector<std::byte> old_bytes(cluster_size_);
  Result<void> result = co_await read_metadata(file_, 0, old_bytes);
  if (!result) {
    co_return result;
  }
  const bool safe = place != 0 || changed.backing_file.empty();
  std::vector<std::byte> bridge = safe ? bridge_sector(changed, place) : std::vector<std::byte>();
  result = co_await switch_header(old_bytes, std::move(*bytes), std::move(bridge));
  if (result) {
    header_ = std::move(changed);
    co_return result;
  }
  Result<void> restored = co_await write_header_bytes(old_bytes, 0, cluster_size_);
  if (!restored) {
    broken_ = true;
    header_unknown_ = true;
  }
  co_return pass(result, "Could not update the qcow2 header: ");
}

io::Task<Result<void>> Image::switch_header(std::vector<std::byte> old_bytes,
                                            std::vector<std::byte> new_bytes,
                                            std::vector<std::byte> bridge) {
  // The name alone.
  const auto name_offset = load_be<uint64_t>(new_bytes.data() + 8);
  const auto name_length = load_be<uint32_t>(new_bytes.data() + 16);
  std::vector<std::byte> named = old_bytes;
  std::copy_n(new_bytes.begin() + static_cast<std::ptrdiff_t>(name_offset),
              name_offset == 0 ? 0 : name_length,
              named.begin() + static_cast<std::ptrdiff_t>(name_offset));
  Result<void> result;
  const uint64_t rest = std::min<uint64_t>(kHeaderSector, cluster_size_);
  if (!std::equal(named.begin() + kHeaderSector, named.end(), old_bytes.begin() + kHeaderSector)) {
    result = co_await write_header_bytes(named, rest, cluster_size_);
  }
  const bool same_rest =
      std::equal(named.begin() + kHeaderSector, named.end(), new_bytes.begin() + kHeaderSector);
  if (result && !same_rest && !bridge.empty()) {
    result = co_await write_header_bytes(bridge, 0, rest);
  }
  if (result && !same_rest) {
    result = co_await write_header_bytes(new_bytes, rest, cluster_size_);
  }
  if (result) {
    result = co_await write_header_bytes(new_bytes, 0, rest);
  }
  co_return result;
}

io::Task<Result<void>> Image::write_header_bytes(const std::vector<std::byte>& bytes,
                                                 uint64_t begin, uint64_t end) {
  if (begin < end) {
    Result<void> written = co_await file_.write(begin, bytes.data() + begin, end - begin);
    if (!written) {
      co_return written;
    }
  }
  co_return co_await file_.flush();
}

}  // namespace cairn::qcow2
