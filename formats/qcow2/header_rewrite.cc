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

// The header's cluster as it is step by step: each step changes the first sector or what is behind
// it, and each is a sound header, also when the step to it, or back, is done in part. Without a
// bridge that can not be had when both change.
std::vector<std::vector<std::byte>> steps_between(std::vector<std::byte> old_bytes,
                                                  std::vector<std::byte> new_bytes,
                                                  const std::vector<std::byte>& bridge) {
  const auto sector = static_cast<std::ptrdiff_t>(Image::kHeaderSector);
  std::vector<std::vector<std::byte>> steps;
  // The new name, where it is in nobody's way.
  std::vector<std::byte> named = old_bytes;
  const auto name_offset = load_be<uint64_t>(new_bytes.data() + 8);
  const auto name_end =
      static_cast<std::ptrdiff_t>(name_offset + load_be<uint32_t>(new_bytes.data() + 16));
  const auto name_begin = std::max(static_cast<std::ptrdiff_t>(name_offset), sector);
  if (name_begin < name_end) {  // the part of it that is not in the first sector
    std::copy(new_bytes.begin() + name_begin, new_bytes.begin() + name_end,
              named.begin() + name_begin);
  }
  steps.push_back(std::move(old_bytes));
  if (named != steps.back()) {
    steps.push_back(named);
  }
  if (!std::equal(named.begin() + sector, named.end(), new_bytes.begin() + sector)) {
    if (!bridge.empty()) {
      std::copy(bridge.begin(), bridge.end(), named.begin());
      steps.push_back(named);
    }
    std::copy(new_bytes.begin() + sector, new_bytes.end(), named.begin() + sector);
    steps.push_back(std::move(named));
  }
  steps.push_back(std::move(new_bytes));
  return steps;
}

}  // namespace

io::Task<Result<void>> Image::replace_header(std::function<void(Header&)> change) {
  const auto lock = co_await header_mutex_.lock();
  if (auto known = header_known(); !known) {
    co_return known;
  }
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
  const std::vector<std::byte> bridge =
      safe ? bridge_sector(changed, place) : std::vector<std::byte>();
  auto steps = steps_between(std::move(old_bytes), std::move(*bytes), bridge);
  result = co_await switch_header(std::move(steps));
  if (result) {
    header_ = std::move(changed);
    co_return result;
  }
  co_return pass(result, "Could not update the qcow2 header: ");
}

// When a step fails, the way back is the same: at each point of it, too, the header is a sound one.
io::Task<Result<void>> Image::switch_header(std::vector<std::vector<std::byte>> steps) {
  Result<void> result;
  std::size_t reached = 0;
  while (result && reached + 1 < steps.size()) {
    result = co_await write_header_step(steps[reached], steps[reached + 1]);
    reached += result ? 1 : 0;
  }
  if (result) {
    co_return result;
  }
  for (std::size_t back = reached + 1; back-- > 0;) {
    Result<void> restored = co_await write_header_step(steps[back + 1], steps[back]);
    if (!restored) {
      broken_ = true;
      header_unknown_ = true;
      break;
    }
  }
  co_return result;
}

io::Task<Result<void>> Image::write_header_step(const std::vector<std::byte>& from,
                                                const std::vector<std::byte>& to) {
  const auto sector = static_cast<std::ptrdiff_t>(kHeaderSector);
  Result<void> result;
  if (!std::equal(from.begin() + sector, from.end(), to.begin() + sector)) {
    result = co_await write_header_bytes(to, kHeaderSector, to.size());
  }
  if (result && !std::equal(from.begin(), from.begin() + sector, to.begin())) {
    result = co_await write_header_bytes(to, 0, kHeaderSector);
  }
  co_return result;
}

io::Task<Result<void>> Image::write_header_bytes(const std::vector<std::byte>& bytes,
                                                 uint64_t begin, uint64_t end) {
  Result<void> written = co_await file_.write(begin, bytes.data() + begin, end - begin);
  if (!written) {
    co_return written;
  }
  co_return co_await file_.flush();
}

}  // namespace cairn::qcow2
